"""Georeferenced rasters: the function `predict_raster` and the command ``segcore raster``.

Importing this package loads neither torch nor rasterio; the function is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segcore import hookimpl

if TYPE_CHECKING:
    import click

    from segcore_plugin_raster.windows import predict_raster

__version__ = "0.1.0"
__all__ = ["predict_raster"]


@hookimpl
def segcore_commands(cli: click.Group) -> None:
    """Add ``raster`` to the command line; torch, rasterio and rich are loaded when it runs."""
    from segcore_plugin_raster.command import raster_command

    cli.add_command(raster_command)


def __getattr__(name: str) -> Any:
    if name != "predict_raster":
        raise AttributeError(f"module 'segcore_plugin_raster' has no attribute {name!r}")
    value = importlib.import_module("segcore_plugin_raster.windows").predict_raster
    globals()[name] = value
    return value
