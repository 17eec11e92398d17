"""Tiles added up to one image: what is final leaves at once, and only what later tiles add to is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from segcore_plugin_predict.tiles import Span

Emit = Callable[[int, int, Tensor], None]
"""Takes final scores (K, h, w) and the row and column at which they lie. They may be overwritten afterwards."""


class Carry(Protocol):
    """Keeps the rows that the next row of tiles adds to, from the first that is not final yet."""

    def view(self, first: int, count: int, columns: slice) -> Tensor:
        """Return `count` kept rows, the first of which is row `first` of the image, to be read and written."""

    def forget(self, rows: int, count: int, columns: slice) -> None:
        """Be told that of `count` kept rows the first `rows` are final in these columns."""


class InPlace:
    """A carry inside the result: the rows lie where they will end.

    Args:
        result: (K, H, W), float32.
    """

    def __init__(self, result: Tensor) -> None:
        self._result = result

    def view(self, first: int, count: int, columns: slice) -> Tensor:
        """Return rows of the result."""
        return self._result[:, first : first + count, columns]

    def forget(self, rows: int, count: int, columns: slice) -> None:
        """Do nothing: the place of a row does not change."""


class Apart:
    """A carry of its own, for results that are no scores: as many rows as tiles overlap, however high the image.

    Args:
        classes: number of scores per pixel.
        rows: most rows that are kept.
        width: of the image.
        device: where the scores are.
    """

    def __init__(self, classes: int, rows: int, width: int, device: torch.device) -> None:
        self._kept = torch.empty(classes, rows, width, device=device)

    def view(self, first: int, count: int, columns: slice) -> Tensor:  # noqa: ARG002
        """Return the first rows that are kept."""
        return self._kept[:, :count, columns]

    def forget(self, rows: int, count: int, columns: slice) -> None:
        """Move the rows that are still needed to the front."""
        self._kept[:, : count - rows, columns] = self._kept[:, rows:count, columns].clone()


class Blender:
    """Adds tiles row by row, each row from left to right.

    A tile is blended along x with what its left neighbours left over, then along y with what the row above left over.
    Pixels that one tile alone covers have weight 1 and are passed on as the model gave them.

    Args:
        carry: keeps the rows between rows of tiles.
        emit: called once for every pixel.
    """

    def __init__(self, carry: Carry, emit: Emit) -> None:
        self._carry = carry
        self._emit = emit
        self._left: Tensor | None = None  # (K, h, w) of the columns that the next tile begins with, weighted along x
        self._memory = [
            torch.empty(0),
            torch.empty(0),
        ]  # in turn: what was used a moment ago is in the cache

    def add(self, rows: Span, columns: Span, scores: Tensor) -> None:
        """Add the scores (K, h, w) of one tile; they are read only."""
        head, keep = columns.head, columns.keep
        weights = columns.weights.to(scores.device)
        blended = None
        if head:
            assert self._left is not None
            blended = self._left.addcmul_(scores[..., :head], weights[:head])
            self._down(rows, columns.start, blended[..., :keep])
        if keep > head:
            self._down(rows, columns.start + head, scores[..., head:keep])
        if columns.length > keep:
            self._left = self._other(scores, columns.length - keep)
            torch.mul(scores[..., keep:], weights[keep:], out=self._left)
            if blended is not None and head > keep:
                self._left[..., : head - keep] = blended[..., keep:]

    def _other(self, scores: Tensor, width: int) -> Tensor:
        """Return memory for `width` columns of a tile other than that of the last call."""
        classes, height, _ = scores.shape
        size = classes * height * width
        self._memory.reverse()
        if len(self._memory[0]) < size:
            self._memory[0] = scores.new_empty(size)
        return self._memory[0][:size].view(classes, height, width)

    def _down(self, rows: Span, x: int, scores: Tensor) -> None:
        head, keep = rows.head, rows.keep
        columns = slice(x, x + scores.shape[-1])
        weights = rows.weights[:, None].to(scores.device)
        if head:
            blended = self._carry.view(rows.start, head, columns)
            blended.addcmul_(scores[:, :head], weights[:head])
            self._emit(rows.start, x, blended[:, :keep])
        if keep > head:
            self._emit(rows.start + head, x, scores[:, head:keep])
        if rows.length > keep:
            if head > keep:
                self._carry.forget(keep, head, columns)
            first = max(head, keep)
            rest = self._carry.view(rows.start + keep, rows.length - keep, columns)[:, first - keep :]
            torch.mul(scores[:, first:], weights[first:], out=rest)


class Cutter:
    """Takes the middle of each tile and forgets the rest.

    Args:
        emit: called once for every pixel.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def add(self, rows: Span, columns: Span, scores: Tensor) -> None:
        """Pass on the part of the scores (K, h, w) that is cut from this tile."""
        (top, bottom), (left, right) = rows.cut, columns.cut
        self._emit(rows.start + top, columns.start + left, scores[:, top:bottom, left:right])
