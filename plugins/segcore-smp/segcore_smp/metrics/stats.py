"""Counts of right and wrong pixels."""

# ruff: noqa: UP006, UP007, UP035, UP045 - signatures equal SMP's, annotations included

import contextlib
from collections.abc import Sequence
from typing import List, Optional, Tuple, Union

import torch
from segcore_plugin_losses import metrics
from torch import Tensor

from segcore import InputError, OptionValueError

Counts = Tuple[torch.LongTensor, torch.LongTensor, torch.LongTensor, torch.LongTensor]
_MODES = ("binary", "multiclass", "multilabel")


def get_stats(
    output: Union[torch.LongTensor, torch.FloatTensor],
    target: torch.LongTensor,
    mode: str,
    ignore_index: Optional[int] = None,
    threshold: Optional[Union[float, List[float]]] = None,
    num_classes: Optional[int] = None,
) -> Tuple[torch.LongTensor, torch.LongTensor, torch.LongTensor, torch.LongTensor]:
    """Return true positives, false positives, false negatives and true negatives of each image and class.

    Args:
        output: labels (N, ...) in multiclass mode; else (N, C, ...), integer or, with a `threshold`, floating point.
        target: integer, in the shape of `output`.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        ignore_index: label that does not count, outside 0 to ``num_classes - 1``; multiclass mode only.
        threshold: least value that counts as positive, of output and target; not in multiclass mode. A list must
            broadcast to (N, C, ...).
        num_classes: needed in multiclass mode. Labels outside are of no class and count as wrong where the other of
            output and target is of one.

    Returns:
        Four int64 tensors (N, C), of the CPU in multiclass mode. Without a threshold, values other than 0 and 1 in
        binary and multilabel mode are multiplied and added as they are.

    Raises:
        OptionValueError: an option does not fit the mode.
        InputError: dtype or shape of `output` or `target` do not fit.
    """
    if torch.is_floating_point(target):
        raise InputError(f"the target must be integer, got {target.dtype}. Use .long().")
    if torch.is_floating_point(output) and threshold is None:
        raise InputError(f"output of {output.dtype} needs a threshold; without one give integers.")
    if torch.is_floating_point(output) and mode == "multiclass":
        raise InputError(f"multiclass: output holds labels, got {output.dtype}. Use .argmax(1) of the logits.")
    if mode not in _MODES:
        raise OptionValueError(f"mode={mode!r}: it is one of {', '.join(map(repr, _MODES))}.")
    if mode == "multiclass" and threshold is not None:
        raise OptionValueError("threshold: mode='multiclass' takes labels and has none.")
    if output.shape != target.shape:
        raise InputError(
            f"output has shape {tuple(output.shape)} and target {tuple(target.shape)}: one shape is needed."
        )
    if mode != "multiclass":
        if ignore_index is not None:
            raise OptionValueError(f"ignore_index: mode={mode!r} has none here, as in SMP.")
        return _of_masks(output, target, threshold)
    if num_classes is None:
        raise OptionValueError("num_classes is needed for mode='multiclass'.")
    if ignore_index is not None and 0 <= ignore_index < num_classes:
        raise OptionValueError(
            f"ignore_index={ignore_index!r} is one of the classes 0 to {num_classes - 1}: mark such pixels "
            "with another label, such as -1 or 255."
        )
    return _of_labels(output, target, num_classes, ignore_index)


def _of_labels(output: Tensor, target: Tensor, classes: int, ignore_index: int | None) -> Counts:
    """Count labels; those of no class, which `metrics.get_stats` refuses, are counted as one class more."""
    if classes > 1:
        with contextlib.suppress(InputError):
            stats = metrics.get_stats(output, target, "multiclass", ignore_index, num_classes=classes)
            return tuple(count.cpu() for count in stats)  # type: ignore[return-value]
    output, target = output.flatten(1), target.flatten(1)
    seen = torch.full((len(output),), output.shape[1], device=output.device)
    if ignore_index is not None:
        ignored = target == ignore_index
        seen = seen - ignored.sum(1)
        output, target = output.long().masked_fill(ignored, -1), target.long().masked_fill(ignored, -1)
    if classes == 1:  # whatever the labels, all pixels are hits: a fault of SMP's that scores depend on
        tp = torch.full_like(seen, output.shape[1])[:, None].cpu()
        return tp, torch.zeros_like(tp), torch.zeros_like(tp), seen[:, None].cpu() - tp  # type: ignore[return-value]
    stats = metrics.get_stats(_capped(output, classes), _capped(target, classes), "multiclass", num_classes=classes + 1)
    tp, fp, fn, _ = (count[:, :classes] for count in stats)
    return tuple(count.cpu() for count in (tp, fp, fn, seen[:, None] - tp - fp - fn))  # type: ignore[return-value]


def _capped(labels: Tensor, classes: int) -> Tensor:
    """Return labels with the number of classes in place of those outside."""
    if labels.dtype is torch.bool or not labels.numel():
        return labels
    low, high = labels.aminmax()
    if low >= 0 and high < classes:
        return labels
    labels = labels.long()
    return labels.masked_fill((labels < 0) | (labels >= classes), classes)


def _of_masks(output: Tensor, target: Tensor, threshold: float | Sequence[float] | None) -> Counts:
    if threshold is not None:
        output, target = (torch.where(x >= threshold, 1, 0) for x in (output, target))  # type: ignore[operator]
    pixels = torch.tensor(target.shape[2:]).prod()
    output, target = (x.reshape(*x.shape[:2], -1) for x in (output, target))
    tp = (output * target).sum(2)
    fp, fn = output.sum(2) - tp, target.sum(2) - tp
    return tp, fp, fn, pixels - (tp + fp + fn)  # type: ignore[return-value]
