"""Cross-entropy with smoothing."""

# ruff: noqa: ANN204, RUF012, UP045 - signatures equal SMP's, annotations included

from typing import Optional

import torch.nn.functional as F
from torch import Tensor, nn

from segcore_smp.losses._functional import label_smoothed_nll_loss

__all__ = ["SoftCrossEntropyLoss"]


class SoftCrossEntropyLoss(nn.Module):
    """Cross-entropy of logits (N, C, ...) and labels (N, ...) whose mean is over all pixels, the ignored ones included.

    Args:
        reduction: ``"mean"``, ``"sum"``; anything else gives one value per pixel.
        smooth_factor: probability that is spread evenly over all classes; None for 0.
        ignore_index: label whose loss is 0; None if every pixel counts.
        dim: the dimension of classes.
    """

    __constants__ = ["ignore_index", "reduction", "smooth_factor"]

    def __init__(
        self,
        reduction: str = "mean",
        smooth_factor: Optional[float] = None,
        ignore_index: Optional[int] = -100,
        dim: int = 1,
    ):
        super().__init__()
        self.smooth_factor = smooth_factor
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.dim = dim

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss; see the class."""
        return label_smoothed_nll_loss(
            F.log_softmax(y_pred, dim=self.dim),
            y_true,
            epsilon=self.smooth_factor or 0.0,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            dim=self.dim,
        )
