"""Prediction on many processes and machines: ``segcore predict --engine ray`` and the function `predict_files`.

Importing this package loads neither ray nor torch; the functions are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segcore_plugin_ray.files import predict_files
    from segcore_plugin_ray.manifest import read_manifest

__version__ = "0.1.0"
__all__ = ["predict_files", "read_manifest"]

_HOMES = {"predict_files": "files", "read_manifest": "manifest"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segcore_plugin_ray' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"segcore_plugin_ray.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
