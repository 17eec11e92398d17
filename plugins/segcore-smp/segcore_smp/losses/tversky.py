"""Tversky loss."""

# ruff: noqa: ANN204, UP006, UP035, UP045 - signatures equal SMP's, annotations included

from collections.abc import Sequence
from typing import List, Optional

from torch import Tensor

from segcore_smp.losses._functional import power, soft_tversky_score
from segcore_smp.losses.dice import DiceLoss

__all__ = ["TverskyLoss"]


class TverskyLoss(DiceLoss):
    """(1 - Tversky index) ** gamma, the power being of the mean of the classes (Salehi et al. 2017, arXiv 1706.05721).

    Shapes, the part of absent classes and the errors are those of `DiceLoss`.

    Args:
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        classes: those that count; None for all.
        log_loss: gives -log(index) instead of 1 - index.
        from_logits: predictions are logits.
        smooth: added to numerator and denominator, in pixels.
        ignore_index: value of the target that does not count.
        eps: least denominator, and least index of `log_loss`.
        alpha: factor of false positives.
        beta: factor of false negatives.
        gamma: exponent.
        class_weights: one number per class.
    """

    def __init__(
        self,
        mode: str,
        classes: Optional[List[int]] = None,
        log_loss: bool = False,
        from_logits: bool = True,
        smooth: float = 0.0,
        ignore_index: Optional[int] = None,
        eps: float = 1e-7,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        class_weights: Optional[List[float]] = None,
    ):
        super().__init__(mode, classes, log_loss, from_logits, smooth, ignore_index, eps, class_weights)
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def aggregate_loss(self, loss: Tensor) -> Tensor:
        """Return the mean of the losses of classes to the power of gamma."""
        mean = super().aggregate_loss(loss)
        whole = float(self.gamma).is_integer()
        # a mean of 0, or by rounding just below, has no fractional power or no gradient of it
        return mean**self.gamma if whole or self.gamma < 0 else power(mean, self.gamma)

    def compute_score(
        self,
        output: Tensor,
        target: Tensor,
        smooth: float = 0.0,
        eps: float = 1e-7,
        dims: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return the Tversky index of each class."""
        return soft_tversky_score(output, target, self.alpha, self.beta, smooth, eps, dims)
