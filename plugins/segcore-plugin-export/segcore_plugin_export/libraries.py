"""Other runtimes' libraries, imported when a format asks for them."""

from __future__ import annotations

import importlib
from typing import Any

from segcore_plugin_export.errors import ExportError


def library(name: str, extra: str) -> Any:
    """Import a library that an extra of this package installs.

    Raises:
        ExportError: it is missing or broken; says what to install.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"{name} is needed and cannot be imported ({error}). Install it: pip install "
            f"'segcore-plugin-export[{extra}]'."
        ) from error
