"""The base of all losses: options that they share, fp32 accumulation, and how values become one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segcore import InputError, OptionValueError
from segcore_plugin_losses.inputs import MODES, check_choice, check_ignore_index, prepare
from segcore_plugin_losses.processes import totals

REDUCTIONS = ("mean", "sum", "none")


class Loss(nn.Module):
    """A loss of logits (N, C, ...) and a target; a subclass implements `compute`.

    Calling it takes logits of any floating dtype and any number of spatial dimensions, and gives fp32 (fp64 for fp64
    logits), also under autocast. If no pixel counts, the value is 0 and so is the gradient.

    Args:
        mode: ``"binary"``: logits (N, 1, ...), target (N, ...) or (N, 1, ...) of 0 and 1. ``"multiclass"``: target
            (N, ...) of labels 0 to C - 1. ``"multilabel"``: target (N, C, ...) of 0 and 1.
        ignore_index: value of the target that does not count; None if every pixel counts.
        weight: one number of at least 0 per class; None for equal weights. Not for binary mode.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        OptionValueError: an option has another value.
        InputError: when called, if shapes, dtypes, devices or, on the CPU, values do not fit.
    """

    needs_hard_target = False
    weight: Tensor | None

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_choice("mode", mode, MODES)
        check_choice("reduction", reduction, REDUCTIONS)
        check_ignore_index(ignore_index)
        self.mode, self.ignore_index, self.reduction = mode, ignore_index, reduction
        self.register_buffer("weight", class_numbers("weight", weight), persistent=False)
        if self.weight is not None and mode == "binary":
            raise OptionValueError("weight is per class and binary mode has one: use pos_weight of 'bce', or alpha.")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss; see the class for shapes."""
        x, y, valid = prepare(logits, target, self.mode, self.ignore_index, hard=self.needs_hard_target)
        if self.weight is not None and len(self.weight) != x.shape[1]:
            raise InputError(f"weight has {len(self.weight)} numbers and the logits {x.shape[1]} classes.")
        with torch.autocast(x.device.type, enabled=False):
            return self.compute(x, y, valid)

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        raise NotImplementedError

    def probabilities(self, x: Tensor) -> Tensor:
        """Return the probabilities of logits (N, C, ...)."""
        return x.softmax(1) if self.mode == "multiclass" else x.sigmoid()

    def per_class(self, x: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the target as (N, C, ...) in the dtype of the logits, and where it counts in that shape."""
        if self.mode == "multiclass":
            y = one_hot(y, x.shape[1]).to(x.dtype)
            valid = None if valid is None else valid[:, None].expand_as(y)
        return y, valid

    def reduce_pixels(self, loss: Tensor, valid: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Reduce values per pixel; the mean is over the pixels that count, by the weights of their classes.

        Args:
            loss: (N, ...) with `labels`, else (N, C, ...).
            valid: where it counts, in the same shape, or None.
            labels: class of each pixel, (N, ...).
        """
        weight: Tensor | None = None
        if self.weight is not None:
            weight = self.weight.to(loss.dtype)
            weight = weight[labels] if labels is not None else per_channel(weight, loss)
            loss = loss * weight
        if valid is not None:
            loss = loss.masked_fill(~valid, 0)
        if self.reduction == "none":
            return loss
        whole = loss.sum()
        if self.reduction == "sum":
            return totals(whole)[0]
        if weight is None:
            count = whole.new_tensor(loss.numel()) if valid is None else valid.sum().to(loss.dtype)
        else:
            weight = weight.expand_as(loss)
            count = (weight if valid is None else weight.masked_fill(~valid, 0)).sum()
        whole, count = totals(whole, count)
        return whole / at_least_one(count)

    def reduce_classes(self, loss: Tensor, counts: Tensor) -> Tensor:
        """Reduce values per class.

        Args:
            loss: (C,), of the batch, or (N, C), of each image.
            counts: whether each value counts, same shape.
        """
        loss = loss.masked_fill(~counts, 0)
        share = counts.to(loss.dtype)
        if self.weight is not None:
            weight = self.weight.to(loss.dtype)
            loss, share = loss * weight, share * weight
        if self.reduction == "none":
            return loss
        whole, count = loss.sum(), share.sum()
        if loss.ndim > 1:
            whole, count = totals(whole, count)
        return whole if self.reduction == "sum" else whole / at_least_one(count)

    def extra_repr(self) -> str:
        """Return the mode and what differs from the defaults."""
        more = "" if self.ignore_index is None else f", ignore_index={self.ignore_index}"
        return f"{self.mode!r}{more}, reduction={self.reduction!r}"


def class_numbers(name: str, value: float | Sequence[float] | Tensor | None) -> Tensor | None:
    """Return an option with one number per class as an fp32 vector, or None."""
    if value is None:
        return None
    try:
        numbers = torch.as_tensor(value, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionValueError(f"{name}={value!r:.80}: one number per class is needed.") from error
    if numbers.ndim != 1 or not len(numbers) or not bool((numbers >= 0).all() and numbers.isfinite().all()):
        raise OptionValueError(f"{name}={value!r:.80}: one finite number of at least 0 per class is needed.")
    return numbers


def per_channel(numbers: Tensor, x: Tensor) -> Tensor:
    """Return numbers per class in a shape that goes with (N, C, ...)."""
    return numbers.view(1, -1, *[1] * (x.ndim - 2))


def at_least_one(count: Tensor) -> Tensor:
    """Return a divisor: the count, 1 where it is 0."""
    return torch.where(count > 0, count, 1)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return (N, classes, ...) bool of labels (N, ...)."""
    each = torch.arange(classes, device=labels.device)
    return labels[:, None] == per_channel(each, labels[:, None])
