"""Binary cross-entropy with smoothing and ignored pixels."""

# ruff: noqa: ANN204, RUF012, UP045 - signatures equal SMP's, annotations included

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SoftBCEWithLogitsLoss"]


class SoftBCEWithLogitsLoss(nn.Module):
    """Binary cross-entropy of logits whose mean is over all pixels, the ignored ones included.

    Args:
        weight: factor of each value, in a shape that broadcasts to the logits; a buffer.
        ignore_index: value of the target whose loss is 0; None if every pixel counts.
        reduction: ``"mean"``, ``"sum"``; anything else gives one value per element.
        smooth_factor: how far targets of 0 and 1 are moved towards each other.
        pos_weight: factor of positives, in a shape that broadcasts to the logits; a buffer.
    """

    __constants__ = ["ignore_index", "pos_weight", "reduction", "smooth_factor", "weight"]
    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Optional[Tensor] = None,
        ignore_index: Optional[int] = -100,
        reduction: str = "mean",
        smooth_factor: Optional[float] = None,
        pos_weight: Optional[Tensor] = None,
    ):
        super().__init__()
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.smooth_factor = smooth_factor
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss.

        Args:
            y_pred: logits (N, C, ...).
            y_true: 0 to 1 in the same shape, or (N, ...) for one class; of any dtype.
        """
        if y_pred.dim() == y_true.dim() + 1 and y_pred.size(1) == 1:
            y_true = y_true.unsqueeze(1)
        y = y_true.to(y_pred.dtype) if y_true.dtype is torch.bool else y_true
        if self.smooth_factor is not None:
            y = (1 - y) * self.smooth_factor + y * (1 - self.smooth_factor)
        loss = F.binary_cross_entropy_with_logits(
            y_pred,
            y if y.is_floating_point() else y.to(y_pred.dtype),
            self.weight,
            pos_weight=self.pos_weight,
            reduction="none",
        )
        if self.ignore_index is not None:
            loss = torch.where(y_true != self.ignore_index, loss, 0)
        return loss.mean() if self.reduction == "mean" else loss.sum() if self.reduction == "sum" else loss
