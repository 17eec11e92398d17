"""Encoders from timm: any model as ``timm/<name>``, and the classic families by their usual names.

This module imports neither torch nor timm; listing reads a table.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from segcore import EncoderSpec, hookimpl
from segcore_plugin_timm.architectures import MEASURED_WITH
from segcore_plugin_timm.families import classic_specs
from segcore_plugin_timm.specs import find, universal_specs

__version__ = "0.1.0"
__all__ = ["segcore_doctor", "segcore_find", "segcore_specs"]


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
def segcore_doctor() -> Iterator[str]:
    """Say if timm is older than the table of its networks."""
    version = importlib.metadata.version("timm")
    if _numbers(version) < _numbers(MEASURED_WITH):
        yield (
            f"timm {version} is older than the {MEASURED_WITH} that timm's networks were measured with: Swin at other "
            f"sizes, CrossViT, Xception and NASNet fail. Run `pip install 'timm>={MEASURED_WITH}'`."
        )


def _numbers(version: str) -> list[int]:
    return [int(word) for word in version.split(".")[:3] if word.isdecimal()]
