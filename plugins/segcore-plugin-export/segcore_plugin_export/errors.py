"""What can go wrong while a model is exported."""

from __future__ import annotations

from segcore import SegcoreError


class ExportError(SegcoreError, RuntimeError):
    """A model cannot be exported, or the exported file does not give what the model gives."""
