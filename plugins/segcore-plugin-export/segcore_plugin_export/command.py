"""``segcore export`` as a command; what it does is in the modules of the formats, which load torch."""

from __future__ import annotations

import click


@click.group(name="export")
def export_command() -> None:
    """Write a checkpoint in the format of another runtime."""
