"""Faster models: the fastest exact form of a model for this machine, and the command ``segcore export``.

Importing this package does not load torch; what it offers is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segcore import hookimpl

if TYPE_CHECKING:
    import click

    from segcore_plugin_export.allocator import keep_memory
    from segcore_plugin_export.errors import ExportError
    from segcore_plugin_export.exporting import Exported, export
    from segcore_plugin_export.optimize import OptimizedModel, optimize_for_inference
    from segcore_plugin_export.report import Report

__version__ = "0.1.0"
__all__ = [
    "ExportError",
    "Exported",
    "OptimizedModel",
    "Report",
    "export",
    "keep_memory",
    "optimize_for_inference",
]

_HOMES = {
    "ExportError": "errors",
    "Exported": "exporting",
    "OptimizedModel": "optimize",
    "Report": "report",
    "export": "exporting",
    "keep_memory": "allocator",
    "optimize_for_inference": "optimize",
}


@hookimpl
def segcore_commands(cli: click.Group) -> None:
    """Add ``export`` to the command line; torch and the runtimes are loaded when it runs."""
    from segcore_plugin_export.command import export_command

    cli.add_command(export_command)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segcore_plugin_export' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"segcore_plugin_export.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
