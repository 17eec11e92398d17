"""The losses of segmentation_models_pytorch 0.6, number for number, with their faults.

For losses that count absent classes, ignored pixels and several classes as the papers do, see `segcore.create_loss`.
"""

from __future__ import annotations

from segcore_smp.losses.constants import BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE
from segcore_smp.losses.dice import DiceLoss
from segcore_smp.losses.focal import FocalLoss
from segcore_smp.losses.jaccard import JaccardLoss
from segcore_smp.losses.lovasz import LovaszLoss
from segcore_smp.losses.mcc import MCCLoss
from segcore_smp.losses.soft_bce import SoftBCEWithLogitsLoss
from segcore_smp.losses.soft_ce import SoftCrossEntropyLoss
from segcore_smp.losses.tversky import TverskyLoss

__all__ = [
    "BINARY_MODE",
    "MULTICLASS_MODE",
    "MULTILABEL_MODE",
    "DiceLoss",
    "FocalLoss",
    "JaccardLoss",
    "LovaszLoss",
    "MCCLoss",
    "SoftBCEWithLogitsLoss",
    "SoftCrossEntropyLoss",
    "TverskyLoss",
]
