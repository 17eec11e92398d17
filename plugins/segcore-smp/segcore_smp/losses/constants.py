"""The three kinds of task, by which every loss and `get_stats` tell what they are given."""

from __future__ import annotations

BINARY_MODE: str = "binary"
"""One class: predictions (N, 1, ...), target (N, ...) or (N, 1, ...) of 0 and 1."""

MULTICLASS_MODE: str = "multiclass"
"""One of C classes per pixel: predictions (N, C, ...), target (N, ...) of labels 0 to C - 1."""

MULTILABEL_MODE: str = "multilabel"
"""Any of C classes per pixel: predictions (N, C, ...), target (N, C, ...) of 0 and 1."""
