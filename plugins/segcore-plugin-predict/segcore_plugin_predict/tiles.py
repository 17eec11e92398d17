"""Where tiles lie along one axis, and with which weights they add up to one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from segcore import OptionValueError

BLENDS = ("gaussian", "linear", "crop")


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in pixels of the image.

    Attributes:
        start: first pixel.
        stop: behind the last pixel.
        head: how many of its first pixels earlier tiles cover too.
        keep: how many of its first pixels no later tile covers; they are final once this tile is added.
        weights: float32 (stop - start,); over all tiles they sum to 1 at every pixel.
        cut: for crops, the pixels inside the tile (first, behind the last) that are taken from it.
    """

    start: int
    stop: int
    head: int
    keep: int
    weights: Tensor
    cut: tuple[int, int]

    @property
    def length(self) -> int:
        """Number of pixels."""
        return self.stop - self.start


def spans(size: int, tile: int, overlap: int, blend: str, step: int = 1) -> list[Span]:
    """Return the tiles that cover `size` pixels of an axis.

    Every tile starts at a multiple of `step`, so that a network of that stride samples the same pixels as in the whole
    image. The last tile ends with the image and is up to ``step - 1`` pixels shorter than the others. Tiles are spread
    evenly, so their overlap is at least `overlap`. An axis that is not longer than a tile is one span.

    Args:
        size: length of the axis, at least 1.
        tile: length of a tile, at least `step`.
        overlap: least number of pixels that neighbours share, less than `tile`.
        blend: ``"gaussian"`` weights fall with the distance from the tile's centre with a standard deviation of an
            eighth of its length, ``"linear"`` ones to the tile's edges; ``"crop"`` cuts in the middle of each overlap.
        step: multiple at which tiles start.

    Raises:
        OptionValueError: for values that cannot work.
    """
    if blend not in BLENDS:
        raise OptionValueError(f"blend={blend!r} is unknown; it is {', '.join(map(repr, BLENDS))}.")
    if tile < 1 or tile < step:
        raise OptionValueError(f"tile={tile!r}: a tile has at least {step} pixels, the stride of the network.")
    if not 0 <= overlap < tile:
        raise OptionValueError(f"overlap={overlap!r}: it is at least 0 and less than the tile, {tile}.")
    starts = _starts(size, tile, overlap, step)
    bounds = [(start, min(start + tile, size)) for start in starts]
    cuts = [0, *((earlier[1] + later[0]) // 2 for earlier, later in pairwise(bounds)), size]
    if blend == "crop":
        windows = [_indicator(bound, cut) for bound, cut in zip(bounds, pairwise(cuts), strict=True)]
    else:
        windows = _normalised(bounds, size, blend)
    found, covered = [], 0
    for index, (start, stop) in enumerate(bounds):
        following = bounds[index + 1][0] if index + 1 < len(bounds) else size
        head, covered = min(max(covered - start, 0), stop - start), stop
        cut = cuts[index] - start, cuts[index + 1] - start
        found.append(Span(start, stop, head, following - start, windows[index], cut))
    return found


def _starts(size: int, tile: int, overlap: int, step: int) -> list[int]:
    if size <= tile:
        return [0]
    stride = max((tile - overlap) // step, 1)  # in units of the step, as all that follows
    last = -(-(size - tile) // step)
    count = -(-last // stride)
    return [index * last // count * step for index in range(count + 1)]


def _indicator(bound: tuple[int, int], cut: tuple[int, int]) -> Tensor:
    weights = torch.zeros(bound[1] - bound[0])
    weights[cut[0] - bound[0] : cut[1] - bound[0]] = 1
    return weights


def _normalised(bounds: list[tuple[int, int]], size: int, blend: str) -> list[Tensor]:
    raw = [_window(stop - start, blend) for start, stop in bounds]
    total = torch.zeros(size, dtype=torch.float64)
    for (start, stop), window in zip(bounds, raw, strict=True):
        total[start:stop] += window
    return [(window / total[start:stop]).float() for (start, stop), window in zip(bounds, raw, strict=True)]


def _window(length: int, blend: str) -> Tensor:
    distance = (torch.arange(length, dtype=torch.float64) + 0.5 - length / 2).abs()
    if blend == "linear":
        return length / 2 - distance
    return torch.exp(-0.5 * (distance / (length / 8)) ** 2)
