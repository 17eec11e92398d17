"""Lovász losses (Berman et al. 2018, arXiv 1705.08790): the Jaccard index, made convex and exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segcore_plugin_losses.base import Loss, one_hot
from segcore_plugin_losses.inputs import check_choice


class LovaszLoss(Loss):
    """Lovász softmax in multiclass mode, Lovász hinge of each class in binary and multilabel mode.

    Args:
        mode: any; the target is hard.
        ignore_index: value of the target that does not count.
        weight: per class; the mean is divided by the sum of the weights of the classes that count.
        reduction: ``"mean"`` over classes (and images), ``"sum"``, or ``"none"`` for (C,), or (N, C) per image, 0 where
            a class is skipped.
        per_image: orders the errors of each image instead of those of the batch.
        absent: what becomes of a class without pixels: ``"skip"``, or ``"penalise"``: it costs its greatest error.
            None: penalise in binary mode, skip in the others.
    """

    needs_hard_target = True

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        per_image: bool = False,
        absent: str | None = None,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        check_choice("absent", absent, (None, "skip", "penalise"))
        self.per_image, self.absent = per_image, absent or ("penalise" if mode == "binary" else "skip")

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        if self.mode == "multiclass":
            truth = one_hot(y, x.shape[1])
            errors = (x.softmax(1) - truth.to(x.dtype)).abs()
            valid = None if valid is None else valid[:, None]
        else:
            truth = y > 0.5
            errors = (1 - x * (2 * y - 1)).relu()
        if valid is not None:
            errors, truth = errors.masked_fill(~valid, 0), truth & valid  # without an error, so behind all others
        rows = (0, 1) if self.per_image else (1,)
        errors, truth = _rows(errors, rows), _rows(truth, rows)
        counts = truth.any(-1)
        if self.absent == "penalise":
            counts = torch.ones_like(counts)
        return self.reduce_classes(_extension(errors, truth, counts), counts)


def _rows(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return a tensor with these dimensions first and all others as one."""
    return x.movedim(dims, tuple(range(len(dims)))).flatten(len(dims))


def _extension(errors: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Return the Lovász extension of the Jaccard loss at errors (..., P); 0 for rows that do not count."""
    with torch.no_grad():
        slopes = torch.zeros_like(errors)
        flat, flat_truth, flat_slopes = (t.reshape(-1, errors.shape[-1]) for t in (errors, truth, slopes))
        for row in counts.flatten().nonzero()[:, 0].tolist():
            flat_slopes[row] = _slopes(flat[row], flat_truth[row])
    return (errors * slopes).sum(-1)  # linear between changes of the order, so the slopes are constants


def _slopes(errors: Tensor, truth: Tensor) -> Tensor:
    """Return the derivative of the extension by each error: by how much the pixel, in its order, raises the loss.

    The difference of two losses is written as one fraction: near 1 fp32 has few digits left for it.
    """
    order = _descending(errors)
    hit = truth[order]
    found = hit.cumsum(0, dtype=torch.int32)
    union = torch.arange(1, len(hit) + 1, dtype=torch.int32, device=hit.device) - found + found[-1:]
    missed, union = (found[-1:] - found).to(errors.dtype), union.to(errors.dtype)
    before = (union - 1).clamp_min(1)
    step = torch.where(hit, 1, missed / before) / union
    if len(step):
        step[0] = torch.where(found[-1] == 0, 1, step[0])  # no true pixel: the greatest error counts
    return torch.zeros_like(errors).scatter_(0, order, step)


def _descending(errors: Tensor) -> Tensor:
    """Return the order of non-negative numbers, greatest first."""
    if errors.device.type == "cpu" and errors.dtype == torch.float32:
        keys = torch.iinfo(torch.int32).max - errors.contiguous().view(torch.int32)
        return keys.sort(stable=True).indices  # bits of floats order as integers, which torch sorts by radix
    return errors.argsort(descending=True)
