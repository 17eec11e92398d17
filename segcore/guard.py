"""Lets libraries that import torchvision, such as timm and Lightning, be imported beside another build of torch.

The common case of a CPU build of torch with a torchvision wheel compiled for CUDA ends in "operator torchvision::nms
does not exist" while torchvision is being imported: its Python code describes operators that nothing has declared. No
segmentation model calls them, so declaring them is enough.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import torch

_OPERATORS = ("nms", "qnms")
_kept: list[torch.library.Library] = []  # a Library that is collected takes its declarations along


def guard_torchvision() -> None:
    """Make ``import torchvision`` possible; call it before the first import of torchvision, timm or SMP.

    torchvision's own library is tried first, and if it loads, or if torchvision is missing or imported already,
    nothing else happens. Otherwise the schemas of two operators are declared, without kernels, and a warning says so
    once. Whatever is imported afterwards is the real thing.
    """
    if _kept or "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = [file for file in sorted(folder.glob("_C*")) if file.suffix in {".so", ".pyd", ".dylib"}]
    for file in files:
        try:
            torch.ops.load_library(file)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if not files or not missing:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in missing:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _kept.append(library)
    warnings.warn(
        "torchvision's compiled operators do not load with this build of torch: models work, detection operators "
        "such as torchvision.ops.nms do not. Install torch and torchvision from one index to have both.",
        UserWarning,
        stacklevel=2,
    )
