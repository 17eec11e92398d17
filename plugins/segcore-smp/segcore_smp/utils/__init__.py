"""SMP's small training loop, `train`, and the losses and metrics made for it. Deprecated there, and so here."""

from __future__ import annotations

import warnings

from segcore_smp.utils import losses, metrics, train

__all__ = ["losses", "metrics", "train"]

warnings.warn(
    "utils is deprecated in segmentation_models_pytorch: use its losses and metrics, and a loop of your own or "
    "segcore-plugin-train.",
    DeprecationWarning,
    stacklevel=2,
)
