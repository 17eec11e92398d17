"""Prediction: the functions `predict` and `predict_tiled`, and the command ``segcore predict``.

Importing this package loads neither torch, Pillow nor numpy; the functions are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segcore import hookimpl

if TYPE_CHECKING:
    import click

    from segcore_plugin_predict.command import parse_bands
    from segcore_plugin_predict.driver import drive
    from segcore_plugin_predict.engine import keep_memory
    from segcore_plugin_predict.extensions import BackendModel
    from segcore_plugin_predict.inference import predict, predict_tiled
    from segcore_plugin_predict.inputs import Input, find_inputs
    from segcore_plugin_predict.job import Job, Worker
    from segcore_plugin_predict.network import tile_step, trained_size
    from segcore_plugin_predict.pictures import palette
    from segcore_plugin_predict.reading import ReadOptions, read_image
    from segcore_plugin_predict.results import Finished, workplace
    from segcore_plugin_predict.settings import fingerprint

__version__ = "0.1.0"
_HOMES = {
    "BackendModel": "extensions",
    "Finished": "results",
    "Input": "inputs",
    "Job": "job",
    "ReadOptions": "reading",
    "Worker": "job",
    "drive": "driver",
    "find_inputs": "inputs",
    "fingerprint": "settings",
    "keep_memory": "engine",
    "palette": "pictures",
    "parse_bands": "command",
    "predict": "inference",
    "predict_tiled": "inference",
    "read_image": "reading",
    "tile_step": "network",
    "trained_size": "network",
    "workplace": "results",
}
__all__ = [
    "BackendModel",
    "Finished",
    "Input",
    "Job",
    "ReadOptions",
    "Worker",
    "drive",
    "find_inputs",
    "fingerprint",
    "keep_memory",
    "palette",
    "parse_bands",
    "predict",
    "predict_tiled",
    "read_image",
    "tile_step",
    "trained_size",
    "workplace",
]


@hookimpl
def segcore_commands(cli: click.Group) -> None:
    """Add ``predict`` to the command line; torch, Pillow and rich are loaded when it runs."""
    from segcore_plugin_predict.command import predict_command

    cli.add_command(predict_command)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segcore_plugin_predict' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"segcore_plugin_predict.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
