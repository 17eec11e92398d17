"""Training: `SegmentationData`, `SegmentationTask`, `train`, `evaluate`, and their commands.

Importing this package loads neither torch nor Lightning; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segcore import hookimpl

if TYPE_CHECKING:
    import click

    from segcore_plugin_train.augment import Augmentation
    from segcore_plugin_train.data import SegmentationData
    from segcore_plugin_train.errors import TrainingError
    from segcore_plugin_train.evaluate import Evaluation, evaluate
    from segcore_plugin_train.masks import LabelMap
    from segcore_plugin_train.run import train
    from segcore_plugin_train.settings import Settings
    from segcore_plugin_train.task import SegmentationTask

__version__ = "0.1.0"

_HOMES = {
    "Augmentation": "augment",
    "Evaluation": "evaluate",
    "LabelMap": "masks",
    "SegmentationData": "data",
    "SegmentationTask": "task",
    "Settings": "settings",
    "TrainingError": "errors",
    "evaluate": "evaluate",
    "train": "run",
}
__all__ = [
    "Augmentation",
    "Evaluation",
    "LabelMap",
    "SegmentationData",
    "SegmentationTask",
    "Settings",
    "TrainingError",
    "evaluate",
    "train",
]


@hookimpl
def segcore_commands(cli: click.Group) -> None:
    """Add ``train`` and ``evaluate`` to the command line; torch and Lightning are loaded when they run."""
    from segcore_plugin_train.command import evaluate_command, train_command

    cli.add_command(train_command)
    cli.add_command(evaluate_command)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segcore_plugin_train' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"segcore_plugin_train.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
