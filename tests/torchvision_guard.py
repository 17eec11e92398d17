"""Lets timm and SMP be imported beside a CPU build of torch, whose torchvision wheel was compiled for CUDA."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_kept: list[torch.library.Library] = []


def guard() -> None:
    """Declare the two operators that importing torchvision needs, if its own library cannot be loaded."""
    spec = importlib.util.find_spec("torchvision")
    if _kept or spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations)))
    libraries = [file for file in sorted(folder.glob("_C*")) if file.suffix in {".so", ".pyd", ".dylib"}]
    for file in libraries:
        try:
            torch.ops.load_library(file)
        except OSError:
            continue
        return
    if libraries:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
