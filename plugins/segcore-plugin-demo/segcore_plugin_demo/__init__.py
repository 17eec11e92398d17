"""The command ``segcore demo``: trains on one half of a photograph, tests on the other, and shows the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcore import hookimpl

if TYPE_CHECKING:
    import click

__version__ = "0.1.0"


@hookimpl
def segcore_commands(cli: click.Group) -> None:
    """Add ``demo`` to the command line; torch, Pillow and rich are loaded when it runs."""
    from segcore_plugin_demo.command import demo

    cli.add_command(demo)
