"""Metrics of segmentation: counts of pixels, scores from them, and torchmetrics classes.

`ConfusionMatrix` is what most programs need. `Score` and `BoundaryIoU` need ``pip install
segcore-plugin-losses[metrics]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segcore_plugin_losses.metrics.boundary import boundary_stats
from segcore_plugin_losses.metrics.confusion import (
    ConfusionMatrix,
    Stats,
    confusion_matrix,
    get_stats,
    stats_of_matrix,
)
from segcore_plugin_losses.metrics.scores import score

if TYPE_CHECKING:
    from segcore_plugin_losses.metrics.modules import BoundaryIoU, Score

__all__ = [
    "BoundaryIoU",
    "ConfusionMatrix",
    "Score",
    "Stats",
    "boundary_stats",
    "confusion_matrix",
    "get_stats",
    "score",
    "stats_of_matrix",
]


def __getattr__(name: str) -> Any:
    """Import the classes that need torchmetrics when they are first used."""
    if name not in {"BoundaryIoU", "Score"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.modules"), name)
    except ModuleNotFoundError as error:
        if error.name != "torchmetrics":
            raise
        raise ModuleNotFoundError(
            f"{name} needs torchmetrics: `pip install segcore-plugin-losses[metrics]`. ConfusionMatrix does not.",
            name="torchmetrics",
        ) from error
