"""What can go wrong while a model is trained."""

from __future__ import annotations

from segcore import SegcoreError


class TrainingError(SegcoreError, RuntimeError):
    """Training cannot go on: the loss is not finite, memory is full, or the run's folder does not fit."""
