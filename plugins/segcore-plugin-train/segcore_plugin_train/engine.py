"""The one door to Lightning, which also opens where torchvision was made for another build of torch.

Lightning imports torchmetrics, which imports torchvision if it is there. A torchvision whose compiled part does not
load (one for CUDA beside a torch for CPU is common) then stops all of them, although nothing here calls it. Declaring
the operators that its Python part describes is enough.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

_declared: list[torch.library.Library] = []  # declarations last as long as this


def _open_torchvision() -> None:
    spec = None if "torchvision" in sys.modules else importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    for compiled in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(compiled)  # type: ignore[no-untyped-call]
        except OSError:
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
            _declared.append(library)


_open_torchvision()

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # noqa: E402 - after the above
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import TQDMProgressBar  # noqa: E402
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402
from lightning.pytorch.utilities.types import OptimizerLRScheduler  # noqa: E402

__all__ = [
    "Callback",
    "LightningDataModule",
    "LightningModule",
    "OptimizerLRScheduler",
    "SLURMEnvironment",
    "TQDMProgressBar",
    "TensorBoardLogger",
    "Trainer",
]
