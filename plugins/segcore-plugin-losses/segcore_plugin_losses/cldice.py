"""Soft clDice (Shit et al. 2021, arXiv 2003.07311): agreement of centre lines, for vessels, roads and roots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore_plugin_losses.base import Loss
from segcore_plugin_losses.boundary import check_rank
from segcore_plugin_losses.inputs import check_number
from segcore_plugin_losses.processes import totals


class SoftClDiceLoss(Loss):
    """1 - harmonic mean of how much of each centre line lies in the other mask, of each class.

    It says nothing of width: add it to a region loss, ``"dice+cldice"``. Pixels that do not count are background in
    both masks.

    Args:
        mode: any. One, two or three spatial dimensions.
        ignore_index: value of the target that does not count.
        weight: per class; a 0 leaves the background out.
        reduction: ``"mean"`` over the classes that the batch has, ``"sum"``, or ``"none"`` for (C,).
        iterations: erosions until the centre line is reached: at least half the width of the widest line, in pixels.
        smooth: pixels added to numerators and denominators.
    """

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        iterations: int = 3,
        smooth: float = 1.0,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        self.iterations = int(check_number("iterations", iterations, 1))
        self.smooth = check_number("smooth", smooth, 0)

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        check_rank(x, "cldice")
        p = self.probabilities(x)
        y, valid = self.per_class(x, y, valid)
        if valid is not None:
            p, y = p.masked_fill(~valid, 0), y.masked_fill(~valid, 0)
        dims = (0, *range(2, x.ndim))
        p_line, y_line = soft_skeleton(p, self.iterations), soft_skeleton(y, self.iterations)
        of_p, p_length, of_y, y_length, true = totals(
            *(value.sum(dims) for value in (p_line * y, p_line, y_line * p, y_line, y))
        )
        precision, sensitivity = self._share(of_p, p_length), self._share(of_y, y_length)
        both = precision + sensitivity
        mean = 2 * precision * sensitivity / torch.where(both > 0, both, 1)
        return self.reduce_classes(1 - mean, true > 0)

    def _share(self, part: Tensor, whole: Tensor) -> Tensor:
        whole = whole + self.smooth
        return (part + self.smooth) / torch.where(whole > 0, whole, 1)


def soft_skeleton(x: Tensor, iterations: int) -> Tensor:
    """Return the soft skeleton of masks (N, C, ...) with values from 0 to 1."""
    line = (x - _open(x)).relu()
    for _ in range(iterations):
        x = _erode(x)
        more = (x - _open(x)).relu()
        line = line + (more - line * more).relu()
    return line


def _open(x: Tensor) -> Tensor:
    return _pool(_erode(x), [3] * (x.ndim - 2))


def _erode(x: Tensor) -> Tensor:
    """Return the smallest value of each pixel and its neighbours along the axes."""
    rank = x.ndim - 2
    kernels = [[3 if axis == other else 1 for other in range(rank)] for axis in range(rank)]
    return torch.stack([-_pool(-x, kernel) for kernel in kernels]).amin(0) if rank > 1 else -_pool(-x, kernels[0])


def _pool(x: Tensor, kernel: list[int]) -> Tensor:
    pools = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
    return pools[x.ndim - 2](x, kernel, stride=1, padding=[size // 2 for size in kernel])
