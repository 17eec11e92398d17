"""Focal loss."""

# ruff: noqa: ANN204, UP006, UP035, UP045 - signatures equal SMP's, annotations included

from functools import partial
from typing import List, Optional

import torch
from torch import Tensor
from torch.nn.modules.loss import _Loss

from segcore_smp.losses._checks import check_class_weights, check_mode
from segcore_smp.losses._functional import focal_loss_with_logits, to_tensor
from segcore_smp.losses.constants import BINARY_MODE, MULTICLASS_MODE

__all__ = ["FocalLoss"]


class FocalLoss(_Loss):
    """Focal loss of sigmoids (Lin et al. 2017, arXiv 1708.02002), each class against the rest in multiclass mode.

    Args:
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``, with the shapes of `DiceLoss`.
        alpha: factor of positives, that of negatives being ``1 - alpha``; None for neither.
        gamma: exponent.
        ignore_index: value of the target that does not count.
        from_logits: predictions are logits; False takes probabilities, whose logits, in multiclass mode logarithms,
            are computed.
        eps: distance that probabilities keep from 0 and 1.
        reduction: ``"mean"`` or ``"sum"`` of each class, of which the mean is taken; in binary mode anything else gives
            one value per pixel that counts.
        normalized: divides by the sum of the focal factors.
        reduced_threshold: probabilities of the truth below it keep their whole loss.
        class_weights: one number per class; the mean is divided by their sum. Not for binary mode.

    Raises:
        OptionValueError: an option does not fit the mode; an AssertionError too for a wrong mode.
    """

    def __init__(
        self,
        mode: str,
        alpha: Optional[float] = None,
        gamma: Optional[float] = 2.0,
        ignore_index: Optional[int] = None,
        from_logits: bool = True,
        eps: float = 1e-7,
        reduction: Optional[str] = "mean",
        normalized: bool = False,
        reduced_threshold: Optional[float] = None,
        class_weights: Optional[List[float]] = None,
    ):
        check_mode(mode)
        check_class_weights(class_weights, mode)
        super().__init__()
        self.mode = mode
        self.from_logits = from_logits
        self.ignore_index = ignore_index
        self.reduction = reduction  # type: ignore[assignment]  # torch's base says that it is a string
        self.eps = eps
        self.focal_loss_fn = partial(
            focal_loss_with_logits,
            alpha=alpha,
            gamma=gamma,  # type: ignore[arg-type]  # None is in the signature and fails in SMP too
            reduced_threshold=reduced_threshold,
            reduction=reduction,  # type: ignore[arg-type]  # any other value means none
            normalized=normalized,
        )
        self.class_weights = None if class_weights is None else to_tensor(class_weights, dtype=torch.float)

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss; see the class."""
        if not self.from_logits:
            y_pred = self._logits(y_pred)
        if self.mode == BINARY_MODE:
            return self._value(y_pred.reshape(-1), y_true.reshape(-1))
        if self.mode == MULTICLASS_MODE:
            truths = [(y_true == label).long() for label in range(y_pred.size(1))]
            valid = None if self.ignore_index is None else [y_true != self.ignore_index] * len(truths)
        else:
            truths, valid = list(y_true.unbind(1)), None
        values = [
            self._value(x, y, None if valid is None else valid[label])
            for label, (x, y) in enumerate(zip(y_pred.unbind(1), truths, strict=True))
        ]
        each = torch.stack(values)
        if self.class_weights is None:
            return each.mean()
        weights = self.class_weights.to(each.device)
        return (each * weights).sum() / weights.sum()

    def _value(self, x: Tensor, y: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of one class; `valid` says where it counts, by default what the target itself says."""
        if self.ignore_index is None:
            return self.focal_loss_fn(x, y)
        valid = y != self.ignore_index if valid is None else valid
        value = self.focal_loss_fn(x[valid], y[valid])
        return torch.where(valid.any(), value, 0) if self.reduction == "mean" else value  # of nothing it is NaN

    def _logits(self, p: Tensor) -> Tensor:
        """Return what the focal formula is given for probabilities."""
        if self.mode == MULTICLASS_MODE:
            return p.clamp(self.eps, 1 - self.eps).log()
        gap = max(self.eps, torch.finfo(p.dtype).eps / 2)  # below that, 1 - eps is 1 and its logit infinite
        p = p.clamp(self.eps, 1 - gap)
        return (p / (1 - p)).log()
