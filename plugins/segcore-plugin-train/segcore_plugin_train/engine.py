"""The one door to Lightning, which also opens where torchvision was made for another build of torch.

Lightning imports torchmetrics, which imports torchvision if it is there. Nothing here calls torchvision's operators, so
that they are missing is not worth a warning.
"""

from __future__ import annotations

import warnings

from segcore import guard_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    guard_torchvision()

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import DoublePrecision, MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler

__all__ = [
    "Callback",
    "DoublePrecision",
    "LightningDataModule",
    "LightningModule",
    "MisconfigurationException",
    "MixedPrecision",
    "ModelParallelStrategy",
    "OptimizerLRScheduler",
    "SLURMEnvironment",
    "TQDMProgressBar",
    "TensorBoardLogger",
    "Trainer",
]
