"""Jaccard loss."""

from collections.abc import Sequence

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
