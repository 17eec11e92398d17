"""Focal loss (Lin et al. 2017, arXiv 1708.02002) of the softmax or of sigmoids."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from segcore import OptionValueError
from segcore_plugin_losses.base import Loss
from segcore_plugin_losses.inputs import check_choice, check_number


class FocalLoss(Loss):
    """Cross-entropy times ``(1 - p) ** gamma``, p being the probability of the truth.

    Args:
        mode: any. In multiclass mode p is the softmax of the true class; in binary and multilabel mode, the
            sigmoid of each class or its complement.
        ignore_index: value of the target that does not count.
        weight: per class (the alpha of multiclass formulas); the mean is divided by the sum of the weights.
        reduction: ``"mean"`` over pixels (and over classes where each has a sigmoid), ``"sum"`` or ``"none"``.
        gamma: at least 0; 0 gives cross-entropy.
        alpha: for sigmoids: factor of positive pixels, that of the others being ``1 - alpha``; None for neither.
        activation: ``"sigmoid"`` in multiclass mode tells each class from the rest, as detectors do; None for what
            the mode says.
    """

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        gamma: float = 2.0,
        alpha: float | None = None,
        activation: str | None = None,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        check_choice("activation", activation, (None, "softmax", "sigmoid"))
        if activation == "softmax" and mode != "multiclass":
            raise OptionValueError(f"activation='softmax' is for mode='multiclass', got mode={mode!r}.")
        self.softmax = mode == "multiclass" and activation != "sigmoid"
        self.gamma = check_number("gamma", gamma, 0)
        self.alpha = None if alpha is None else check_number("alpha", alpha, 0, 1)
        if self.softmax and alpha is not None:
            raise OptionValueError("alpha weighs positives against negatives of a sigmoid; for softmax give weight.")

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        if self.softmax:
            loss = F.cross_entropy(x, y, reduction="none")
            return self.reduce_pixels(self._focus(-loss.neg().expm1()) * loss, valid, y)
        y, valid = self.per_class(x, y, valid)
        loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        p = x.sigmoid()
        loss = self._focus(p + y - 2 * p * y) * loss
        if self.alpha is not None:
            loss = loss * (self.alpha * y + (1 - self.alpha) * (1 - y))
        return self.reduce_pixels(loss, valid)

    def _focus(self, miss: Tensor) -> Tensor:
        if self.gamma < 1:
            miss = miss.clamp_min(1e-12)  # where the power has no gradient
        return miss**self.gamma
