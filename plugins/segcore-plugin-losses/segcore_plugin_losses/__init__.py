"""Losses and metrics of semantic segmentation for segcore. Listing them loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from segcore import LossSpec, hookimpl

if TYPE_CHECKING:
    from segcore_plugin_losses.base import Loss
    from segcore_plugin_losses.boundary import BoundaryLoss
    from segcore_plugin_losses.cldice import SoftClDiceLoss
    from segcore_plugin_losses.compound import CompoundLoss
    from segcore_plugin_losses.focal import FocalLoss
    from segcore_plugin_losses.lovasz import LovaszLoss
    from segcore_plugin_losses.mcc import MCCLoss
    from segcore_plugin_losses.pixel import BCELoss, CrossEntropyLoss, OHEMLoss
    from segcore_plugin_losses.processes import across_processes
    from segcore_plugin_losses.region import DiceLoss, FocalTverskyLoss, JaccardLoss, TverskyLoss

__version__ = "0.1.0"

__all__ = [
    "BCELoss",
    "BoundaryLoss",
    "CompoundLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "JaccardLoss",
    "Loss",
    "LovaszLoss",
    "MCCLoss",
    "OHEMLoss",
    "SoftClDiceLoss",
    "TverskyLoss",
    "across_processes",
]

# name: module, class, paper
_LOSSES = {
    "bce": ("pixel", "BCELoss", None),
    "boundary": ("boundary", "BoundaryLoss", "https://arxiv.org/abs/1812.07032"),
    "ce": ("pixel", "CrossEntropyLoss", None),
    "cldice": ("cldice", "SoftClDiceLoss", "https://arxiv.org/abs/2003.07311"),
    "compound": ("compound", "CompoundLoss", None),
    "dice": ("region", "DiceLoss", "https://arxiv.org/abs/1606.04797"),
    "focal": ("focal", "FocalLoss", "https://arxiv.org/abs/1708.02002"),
    "focal-tversky": ("region", "FocalTverskyLoss", "https://arxiv.org/abs/1810.07842"),
    "jaccard": ("region", "JaccardLoss", None),
    "lovasz": ("lovasz", "LovaszLoss", "https://arxiv.org/abs/1705.08790"),
    "mcc": ("mcc", "MCCLoss", "https://arxiv.org/abs/2010.13454"),
    "ohem": ("pixel", "OHEMLoss", "https://arxiv.org/abs/1604.03540"),
    "tversky": ("region", "TverskyLoss", "https://arxiv.org/abs/1706.05721"),
}
_ALIASES = {"focal-tversky": ("focal_tversky",)}
_HOMES = {title: module for module, title, _ in _LOSSES.values()} | {"Loss": "base", "across_processes": "processes"}


@hookimpl
def segcore_specs() -> Iterator[LossSpec]:
    """Yield one record per loss."""
    for name, (module, title, url) in _LOSSES.items():
        yield LossSpec(
            name,
            factory=f"segcore_plugin_losses.{module}:{title}",
            title=title,
            aliases=_ALIASES.get(name, ()),
            url=url,
        )


def __getattr__(name: str) -> Any:
    """Import a class when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
