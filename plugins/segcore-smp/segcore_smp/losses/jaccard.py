"""Jaccard loss."""

# ruff: noqa: ANN204, UP006, UP035, UP045 - signatures equal SMP's, annotations included

from collections.abc import Sequence
from typing import List, Optional

from torch import Tensor

from segcore_smp.losses._functional import soft_jaccard_score
from segcore_smp.losses._region import RegionLoss

__all__ = ["JaccardLoss"]


class JaccardLoss(RegionLoss):
    """1 - intersection over union of each class over the batch.

    Shapes, options, the part of absent classes and the errors are those of `DiceLoss`.

    Args:
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        classes: those that count; None for all.
        log_loss: gives -log(IoU) instead of 1 - IoU.
        from_logits: predictions are logits.
        smooth: added to numerator and denominator, in pixels.
        ignore_index: value of the target that does not count.
        eps: least denominator, and least IoU of `log_loss`.
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
        class_weights: Optional[List[float]] = None,
    ):
        super().__init__(mode, classes, log_loss, from_logits, smooth, ignore_index, eps, class_weights)

    def compute_score(
        self,
        output: Tensor,
        target: Tensor,
        smooth: float = 0.0,
        eps: float = 1e-7,
        dims: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return the intersection over union of each class."""
        return soft_jaccard_score(output, target, smooth, eps, dims)
