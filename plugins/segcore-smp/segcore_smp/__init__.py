"""segmentation_models_pytorch's interface, version 0.6, on segcore: ``import segcore_smp as smp``.

Names are imported when they are first used, so that listing segcore's plugins loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = ("base", "datasets", "decoders", "encoders", "losses", "metrics", "utils")


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
