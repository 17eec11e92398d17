"""Encoders from timm: any model as ``timm/<name>``, and the classic families by their usual names.

This module imports neither torch nor timm; listing reads a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from segcore import EncoderSpec, Weights, hookimpl
from segcore_plugin_timm.families import classic_specs
from segcore_plugin_timm.specs import find, tag_spec, universal_specs

__version__ = "0.1.0"
__all__ = ["segcore_find", "segcore_open_weights", "segcore_specs", "tag_spec"]


@hookimpl
def segcore_specs() -> Iterator[EncoderSpec]:
    """Yield the classic encoders, then one record per architecture of timm."""
    yield from classic_specs().values()
    yield from universal_specs()


@hookimpl
def segcore_find(kind: str, name: str) -> EncoderSpec | None:
    """Return the record of ``timm/<name>.<tag>``, ``tu-<name>``, or of an architecture that is not in the table."""
    return find(name) if kind == "encoder" else None


@hookimpl
def segcore_open_weights(spec: EncoderSpec, weights: Weights) -> Path | None:
    """Fetch this plugin's weights from the Hugging Face Hub, through the client that timm depends on."""
    if not str(spec.factory).startswith("segcore_plugin_timm."):
        return None
    from segcore_plugin_timm.hub import fetch

    return fetch(weights)
