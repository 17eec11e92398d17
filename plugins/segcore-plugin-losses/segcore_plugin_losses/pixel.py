"""Losses of single pixels: cross-entropy and binary cross-entropy, torch's own, and the same on hard pixels only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore import InputError
from segcore_plugin_losses.base import Loss, at_least_one, class_numbers, per_channel
from segcore_plugin_losses.inputs import check_number
from segcore_plugin_losses.processes import shared, totals


class CrossEntropyLoss(Loss):
    """Cross-entropy: torch's, and 0 instead of NaN if every pixel is ignored.

    Of the softmax in multiclass mode, of the sigmoid of each class in binary and multilabel mode.

    Args:
        mode: any. In binary and multilabel mode a target between 0 and 1 is taken as a probability.
        ignore_index: value of the target that does not count; in multilabel mode for each class by itself.
        weight: per class; the mean is divided by the sum of the weights of the pixels.
        reduction: ``"mean"`` over pixels, ``"sum"``, or ``"none"`` for (N, ...), 0 where ignored; (N, C, ...) where
            each class has a sigmoid.
        label_smoothing: from 0 to 1.
    """

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        if self.mode != "multiclass":
            loss = F.binary_cross_entropy_with_logits(
                x, y.lerp(y.new_tensor(0.5), self.label_smoothing), reduction="none"
            )
            return self.reduce_pixels(loss, valid)
        weight = None if self.weight is None else self.weight.to(x.dtype)
        if valid is not None:
            y = y.masked_fill(~valid, -100)
        counted = self.reduction == "mean" and (valid is not None or shared())
        reduction = "sum" if counted else self.reduction
        loss = F.cross_entropy(
            x, y, weight, ignore_index=-100, reduction=reduction, label_smoothing=self.label_smoothing
        )
        if not counted:
            return totals(loss)[0] if reduction == "sum" else loss
        each = torch.ones_like(y, dtype=loss.dtype) if weight is None else weight[y.clamp_min(0)]
        count = (each if valid is None else each.masked_fill(~valid, 0)).sum()
        loss, count = totals(loss, count)
        return loss / at_least_one(count)


class BCELoss(Loss):
    """Binary cross-entropy of the sigmoid of each class: torch's, with pixels that do not count.

    In multiclass mode each class is told from the rest.

    Args:
        mode: any. In binary and multilabel mode a target between 0 and 1 is taken as a probability.
        ignore_index: value of the target that does not count; in multilabel mode for each class by itself.
        weight: per class; unlike in torch, the mean is divided by the sum of the weights.
        reduction: ``"mean"`` over pixels and classes, ``"sum"``, or ``"none"`` for (N, C, ...), 0 where ignored.
        pos_weight: factor of positive pixels: a number, or one per class.
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        pos_weight: float | Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        if isinstance(pos_weight, int | float):
            pos_weight = [pos_weight]
        self.register_buffer("pos_weight", class_numbers("pos_weight", pos_weight), persistent=False)

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        pos_weight = None
        if self.pos_weight is not None:
            if len(self.pos_weight) not in {1, x.shape[1]}:
                raise InputError(f"pos_weight has {len(self.pos_weight)} numbers and the logits {x.shape[1]} classes.")
            pos_weight = per_channel(self.pos_weight.to(x.dtype), x)
        y, valid = self.per_class(x, y, valid)
        plain = valid is None and self.weight is None and not shared()
        loss = F.binary_cross_entropy_with_logits(
            x, y, pos_weight=pos_weight, reduction=self.reduction if plain else "none"
        )
        return loss if plain else self.reduce_pixels(loss, valid)


class OHEMLoss(Loss):
    """Cross-entropy of the hard pixels of a batch (online hard example mining).

    A pixel is hard if the probability of its true class is below `threshold`; if these are fewer than `min_kept`,
    the `min_kept` hardest are taken. ``threshold=0`` gives the top-k cross-entropy. In binary and multilabel mode each
    class of each pixel is judged by itself, by the probability of its truth.

    Args:
        mode: any.
        ignore_index: value of the target that does not count.
        weight: per class; the mean is over the hard pixels by their weights.
        reduction: ``"mean"`` over hard pixels, ``"sum"``, or ``"none"`` with 0 at the others.
        threshold: probability from 0 to 1.
        min_kept: how many pixels of the batch are kept at least: a number, or a fraction, a float from 0 to 1, of those
            that count.
    """

    needs_hard_target = True

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        threshold: float = 0.7,
        min_kept: float = 0.0625,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        self.threshold = check_number("threshold", threshold, 0, 1)
        check_number("min_kept", min_kept, 0, 1.0 if isinstance(min_kept, float) else None)
        self.min_kept = min_kept

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        labels = y if self.mode == "multiclass" else None
        if labels is not None:
            loss = F.cross_entropy(x, labels, reduction="none")
        else:
            loss = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        hard = self._hard(loss.detach(), valid)
        return self.reduce_pixels(loss, hard, labels)

    def _hard(self, loss: Tensor, valid: Tensor | None) -> Tensor:
        known = loss.flatten() if valid is None else loss[valid]
        kept = self.min_kept
        least = min(len(known), round(kept * len(known)) if isinstance(kept, float) else kept)
        bar = -torch.log(loss.new_tensor(self.threshold))  # the loss of a pixel at the threshold; infinite for 0
        hard = loss > bar
        if least:
            hard = hard | (loss >= known.kthvalue(len(known) - least + 1).values)
        return hard if valid is None else hard & valid
