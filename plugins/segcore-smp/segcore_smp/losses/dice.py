"""Dice loss."""

from collections.abc import Sequence

from torch import Tensor

from segcore_smp.losses._functional import soft_dice_score
from segcore_smp.losses._region import RegionLoss

__all__ = ["DiceLoss"]


class DiceLoss(RegionLoss):
    """1 - Dice of each class over the batch (Milletari et al. 2016, arXiv 1606.04797, without squares).

    The predictions are (N, C, ...), the target (N, ...) or (N, C, ...) by `mode`, the loss a scalar. A class without
    true pixels costs 0 and counts in the mean all the same.

    Args:
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        classes: those that count; None for all. Not for binary mode.
        log_loss: gives -log(Dice) instead of 1 - Dice.
        from_logits: predictions are logits; False takes them for probabilities.
        smooth: added to numerator and denominator, in pixels.
        ignore_index: value of the target that does not count.
        eps: least denominator, and least Dice of `log_loss`.
        class_weights: one number per class; the mean is divided by their sum. Not for binary mode.

    Raises:
        OptionValueError: an option does not fit the mode, or the numbers of images differ. A wrong mode, `classes` in
            binary mode and differing numbers of images raise an AssertionError too, as in SMP.
    """

    def compute_score(
        self,
        output: Tensor,
        target: Tensor,
        smooth: float = 0.0,
        eps: float = 1e-7,
        dims: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return the Dice score of each class."""
        return soft_dice_score(output, target, smooth, eps, dims)
