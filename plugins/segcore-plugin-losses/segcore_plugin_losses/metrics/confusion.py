"""Counts of right and wrong pixels: per image, as a confusion matrix, and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segcore import InputError, OptionValueError
from segcore_plugin_losses.inputs import (
    MODES,
    WIDENED,
    check_choice,
    check_ignore_index,
    check_tensors,
    fit_target,
    where_counted,
)
from segcore_plugin_losses.metrics.scores import score


class Stats(NamedTuple):
    """Numbers of pixels, int64: (N, C) per image and class, or (C,) of a whole; C is 1 in binary mode."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


def get_stats(
    output: Tensor,
    target: Tensor,
    mode: str,
    ignore_index: int | None = None,
    threshold: float | None = None,
    num_classes: int | None = None,
) -> Stats:
    """Return true and false positives and negatives of each image and class.

    Args:
        output: floating point: logits (N, C, ...), of which the greatest counts in multiclass mode and those above
            `threshold` in the others. Integer or bool: labels, (N, ...) in multiclass mode, else 0 and 1 in the shape
            of the target.
        target: labels (N, ...) in multiclass mode, (N, ...) or (N, 1, ...) in binary, (N, C, ...) in multilabel mode.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        ignore_index: value of the target that does not count, in any mode.
        threshold: of floating-point outputs in binary and multilabel mode; None for 0, which is right for logits. Give
            0.5 for probabilities.
        num_classes: in multiclass mode with labels.

    Returns:
        Four int64 tensors (N, C), as segmentation_models_pytorch has them; C is 1 in binary mode.

    Raises:
        InputError: shapes, dtypes or values do not fit.
        OptionValueError: an option has another value.
    """
    check_choice("mode", mode, MODES)
    check_ignore_index(ignore_index)
    if mode == "multiclass":
        if threshold is not None:
            raise OptionValueError("threshold is for mode='binary' and 'multilabel': here the greatest logit counts.")
        matrices = _matrices(*labels_of(output, target, num_classes), ignore_index)
        return stats_of_matrix(matrices)
    output, target = aligned(output, target, mode)
    n, classes = output.shape[:2]
    rows = torch.zeros(n * classes, 4, dtype=torch.int64, device=output.device)
    for row, ours, theirs in zip(rows, output.flatten(2).flatten(0, 1), target.flatten(2).flatten(0, 1), strict=True):
        for a, b in _pieces(ours, theirs):
            predicted, true, valid = masks_of(a, b, threshold, ignore_index)
            sums = (predicted & true, predicted, true, torch.ones_like(true) if valid is None else valid)
            row.add_(torch.stack([mask.sum(dtype=torch.int32) for mask in sums]))
    hit, positive, real, seen = rows.view(n, classes, 4).unbind(2)
    return Stats(hit, positive - hit, real - hit, seen - positive - real + hit)


def confusion_matrix(
    output: Tensor,
    target: Tensor,
    mode: str,
    ignore_index: int | None = None,
    threshold: float | None = None,
    num_classes: int | None = None,
) -> Tensor:
    """Return how many pixels of each class, the row, were taken for each class, the column.

    Arguments and errors are those of `get_stats`.

    Returns:
        int64: (C, C) in multiclass mode, (2, 2) in binary mode, (C, 2, 2) in multilabel mode.
    """
    if mode == "multiclass" and threshold is None:
        check_ignore_index(ignore_index)
        return _matrices(*labels_of(output, target, num_classes), ignore_index).sum(0)
    tp, fp, fn, tn = (value.sum(0) for value in get_stats(output, target, mode, ignore_index, threshold, num_classes))
    matrix = torch.stack([tn, fp, fn, tp], -1).view(-1, 2, 2)
    return matrix[0] if mode == "binary" else matrix


def stats_of_matrix(matrix: Tensor) -> Stats:
    """Return the statistics of confusion matrices (..., C, C), each class against the rest: (..., C)."""
    tp = matrix.diagonal(dim1=-2, dim2=-1)
    fp, fn = matrix.sum(-2) - tp, matrix.sum(-1) - tp
    return Stats(tp, fp, fn, matrix.sum((-2, -1))[..., None] - tp - fp - fn)


class ConfusionMatrix:
    """A confusion matrix of all that it was shown, in any number of batches and processes.

    Args:
        num_classes: at least 2 in multiclass mode; 1, which None stands for, in binary mode.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        ignore_index: value of the target that does not count. If it is a class, that class has no score either.
        threshold: as in `get_stats`.

    Attributes:
        matrix: int64, as `confusion_matrix` gives it; on the device of the latest batch.

    Example:
        >>> seen = ConfusionMatrix(2)
        >>> seen.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 0]])).score("iou").item()
        0.5
    """

    def __init__(
        self,
        num_classes: int | None = None,
        mode: str = "multiclass",
        *,
        ignore_index: int | None = None,
        threshold: float | None = None,
    ) -> None:
        check_choice("mode", mode, MODES)
        check_ignore_index(ignore_index)
        self.num_classes = _class_count(num_classes, mode)
        self.mode, self.ignore_index, self.threshold = mode, ignore_index, threshold
        shape = {"multiclass": (self.num_classes,) * 2, "binary": (2, 2), "multilabel": (self.num_classes, 2, 2)}[mode]
        self.matrix = torch.zeros(shape, dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor) -> ConfusionMatrix:
        """Add a batch, see `get_stats`, and return this."""
        classes = self.num_classes if self.mode == "multiclass" else None
        matrix = confusion_matrix(output, target, self.mode, self.ignore_index, self.threshold, classes)
        if matrix.shape != self.matrix.shape:
            raise InputError(f"the output has {len(matrix)} classes, and num_classes is {self.num_classes}.")
        self.matrix = self.matrix.to(matrix.device) + matrix
        return self

    def __iadd__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        if (self.mode, self.matrix.shape, self.ignore_index) != (other.mode, other.matrix.shape, other.ignore_index):
            raise InputError(f"{self!r} and {other!r} count different things.")
        self.matrix = self.matrix + other.matrix.to(self.matrix.device)
        return self

    def reduce(self, group: Any = None) -> ConfusionMatrix:
        """Return the sum over all processes of a `torch.distributed` group, which all must ask for.

        Without distribution it is a copy. The matrix must lie where the group's backend communicates: on the GPU for
        ``nccl``.
        """
        whole = ConfusionMatrix(self.num_classes, self.mode, ignore_index=self.ignore_index, threshold=self.threshold)
        whole.matrix = self.matrix.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(whole.matrix, group=group)
        return whole

    def reset(self) -> None:
        """Forget everything."""
        self.matrix = torch.zeros_like(self.matrix)

    def stats(self) -> Stats:
        """Return true and false positives and negatives of each class, (C,); C is 1 in binary mode."""
        if self.mode == "multiclass":
            return stats_of_matrix(self.matrix)
        matrix = self.matrix.reshape(-1, 2, 2)
        return Stats(matrix[:, 1, 1], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 0, 0])

    def score(
        self,
        name: str = "iou",
        *,
        average: str | None = "macro",
        absent: str | float = "exclude",
        class_weights: Tensor | None = None,
        beta: float = 1.0,
    ) -> Tensor:
        """Return a score of all batches; see `segcore_plugin_losses.metrics.score`."""
        left_out = self.ignore_index if self.mode == "multiclass" else None
        return score(
            self.stats(),
            name,
            average=average,
            absent=absent,
            class_weights=class_weights,
            beta=beta,
            left_out=left_out,
            multiclass=self.mode == "multiclass",
        )

    def __repr__(self) -> str:
        seen = int(self.matrix.sum()) // (self.num_classes if self.mode == "multilabel" else 1)
        return f"<ConfusionMatrix: {self.mode}, {self.num_classes} classes, {seen} pixels>"


def _class_count(num_classes: int | None, mode: str) -> int:
    if num_classes is None and mode == "binary":
        return 1
    if not isinstance(num_classes, int) or isinstance(num_classes, bool):
        raise OptionValueError(f"num_classes={num_classes!r}: a whole number is needed for mode={mode!r}.")
    if num_classes < 1 + (mode == "multiclass") or (mode == "binary" and num_classes != 1):
        least = {"multiclass": "at least 2", "multilabel": "at least 1", "binary": "1"}[mode]
        raise OptionValueError(f"num_classes={num_classes!r}: {least} is needed for mode={mode!r}.")
    return num_classes


def labels_of(output: Tensor, target: Tensor, num_classes: int | None) -> tuple[Tensor, Tensor, int]:
    """Return predicted and true labels (N, ...) and the number of classes."""
    check_tensors(output, target, ("output", "target"))
    if output.is_floating_point():
        if output.ndim < 3 or (num_classes is not None and output.shape[1] != num_classes):
            raise InputError(
                f"multiclass: logits (N, {num_classes or 'classes'}, ...) are needed, got shape {tuple(output.shape)}."
            )
        num_classes = output.shape[1]
        output = output.max(1).indices  # faster than argmax
    if num_classes is None:
        raise OptionValueError("num_classes is needed where the output holds labels.")
    num_classes = _class_count(num_classes, "multiclass")
    if output.dtype in WIDENED:
        output = output.long()
    target = fit_target(target, (len(output), num_classes, *output.shape[1:]), "multiclass")
    return output, target, num_classes


def aligned(output: Tensor, target: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Return both as (N, C, ...)."""
    check_tensors(output, target, ("output", "target"))
    if mode == "binary" and output.shape[1:2] != (1,):
        output = output[:, None]
    return output, fit_target(target, tuple(output.shape), mode)


def masks_of(
    output: Tensor, target: Tensor, threshold: float | None, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return predicted and true masks and where they count, bool, of two tensors of one shape."""
    valid = where_counted(target, ignore_index)
    if valid is not None:
        target = target.masked_fill(~valid, 0)
    check_values("target", target, 2, ignore_index)
    if target.is_floating_point() and not torch.equal(target, target.round()):
        raise InputError("the target must be 0 and 1, got values in between. Threshold it first.")
    if output.is_floating_point():
        output = output > (0.0 if threshold is None else threshold)
    elif threshold is not None:
        raise OptionValueError("threshold is for floating-point outputs; this one holds 0 and 1.")
    else:
        check_values("output", output, 2)
    predicted, true = (x if x.dtype is torch.bool else x.to(torch.uint8).view(torch.bool) for x in (output, target))
    return (predicted if valid is None else predicted & valid), true, valid


def _pieces(output: Tensor, target: Tensor, least: int = 2**15) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield two vectors in pieces.

    What is computed on the way then stays in the CPU's cache and in memory that the process has already: both cost more
    than counting.
    """
    size = least if output.device.type == "cpu" else max(1, len(output))
    for start in range(0, len(output), size):
        yield output[start : start + size], target[start : start + size]


def _matrices(predicted: Tensor, true: Tensor, classes: int, ignore_index: int | None) -> Tensor:
    """Return the confusion matrix of each image, (N, C, C), from labels (N, ...), by bincount."""
    bins = (classes + 1) * classes
    matrices = torch.zeros(len(predicted), bins, dtype=torch.int64, device=predicted.device)
    for matrix, ours, theirs in zip(matrices, predicted.flatten(1), true.flatten(1), strict=True):
        for a, b in _pieces(ours, theirs, max(2**15, bins)):
            matrix.add_(torch.bincount(_cells(a, b, classes, ignore_index), minlength=bins))
    return matrices.view(-1, classes + 1, classes)[:, 1:]


def _cells(predicted: Tensor, true: Tensor, classes: int, ignore_index: int | None) -> Tensor:
    """Return 1 + true label, times classes, plus predicted label, in a small type; ignored pixels count as label -1."""
    kind = next(t for t in (torch.int16, torch.int32, torch.int64) if (classes + 1) * classes <= torch.iinfo(t).max)
    check_values("output", predicted, classes)
    least, most = torch.iinfo(kind).min, torch.iinfo(kind).max
    low, high = _limits(true)
    if not least <= low <= high <= most:
        counted = where_counted(true, ignore_index)
        clean = true if counted is None else true.masked_fill(~counted, 0)
        check_values("target", clean, classes, ignore_index)
        rows = clean.to(kind) if counted is None else clean.to(kind).masked_fill_(~counted, -1)
    else:
        rows = true.to(kind, copy=True)
        if ignore_index is not None and low <= ignore_index <= high:
            ignored = rows == ignore_index
            taken = low < 0 and ignore_index != -1 and bool((rows == -1).any())  # a wrong label, not an ignored pixel
            rows.add_(ignored, alpha=-1 - ignore_index)  # several times as fast as masked_fill_
            low, high = _limits(rows)
            if taken or low < -1 or high >= classes:
                check_values("target", true.masked_fill(ignored, 0), classes, ignore_index)
        elif low < 0 or high >= classes:
            check_values("target", rows, classes, ignore_index)
    return rows.add_(1).mul_(classes).add_(predicted.to(kind))


def _limits(values: Tensor) -> tuple[float, float]:
    """Return the smallest and the greatest value; on a device this waits, as counting does anyway."""
    if values.dtype is torch.bool or values.numel() == 0:
        return 0, 0
    low, high = values.aminmax()
    return low.item(), high.item()


def check_values(name: str, values: Tensor, classes: int, ignore_index: int | None = None) -> None:
    """Raise InputError if labels lie outside 0 to classes - 1."""
    low, high = _limits(values)
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        hint = f" If {wrong} marks pixels that do not count, give ignore_index={wrong}." * (ignore_index is None)
        raise InputError(f"the {name} has the value {wrong}; values from 0 to {classes - 1} are needed.{hint}")
