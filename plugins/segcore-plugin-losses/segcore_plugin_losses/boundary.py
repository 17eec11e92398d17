"""Boundary loss (Kervadec et al. 2019, arXiv 1812.07032), and the distances it needs."""

from __future__ import annotations

import torch
from torch import Tensor

from segcore import InputError
from segcore_plugin_losses.base import Loss


class BoundaryLoss(Loss):
    """Mean of probability times signed distance to the true boundary, of each class.

    Distances are in pixels, negative inside, so the value is negative for a good prediction; the least possible one
    depends on the target. It orders predictions but does not hold them near the truth by itself: add it to a region
    loss, ``"dice+boundary"``. A class that no pixel of an image has, or every pixel, has no boundary and counts as 0.

    Pixels that do not count are taken as background when distances are measured.

    Args:
        mode: any; the target is hard. One, two or three spatial dimensions.
        ignore_index: value of the target that does not count.
        weight: per class; a 0 leaves the background out.
        reduction: ``"mean"`` over pixels and classes, ``"sum"``, or ``"none"`` for (N, C, ...).
    """

    needs_hard_target = True

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        check_rank(x, "boundary")
        p = self.probabilities(x)
        y, valid = self.per_class(x, y, valid)
        return self.reduce_pixels(p * signed_distance(y > 0.5).to(p.dtype), valid)


def check_rank(x: Tensor, name: str) -> None:
    """Raise InputError unless logits have one to three spatial dimensions."""
    if x.ndim > 5:
        raise InputError(f"{name!r} takes one to three spatial dimensions, got logits of shape {tuple(x.shape)}.")


@torch.no_grad()
def signed_distance(mask: Tensor) -> Tensor:
    """Return the Euclidean distance of each pixel to the boundary of a mask, in pixels, exactly.

    Args:
        mask: (N, C, ...), bool.

    Returns:
        fp32: outside the distance to the nearest pixel of the mask, inside 1 minus the distance to the nearest outside
        of it; 0 everywhere in a mask that is empty or full.
    """
    outside, inside = distance(mask), distance(~mask)
    dims = tuple(range(2, mask.ndim))
    both = (mask.any(dims, keepdim=True)) & (~mask).any(dims, keepdim=True)
    return torch.where(both, torch.where(mask, 1 - inside, outside), 0.0)


def distance(mask: Tensor) -> Tensor:
    """Return the Euclidean distance of each pixel to the nearest pixel of a mask (N, C, ...), fp32.

    Along the last dimension it is counted; each further dimension adds the square of its offset, for one offset after
    the other until none can be nearer. Where a mask is empty the result means nothing.
    """
    far = float(sum(mask.shape[2:]))  # farther than any pixel
    square = _along_last(mask, far) ** 2
    for dim in range(2, mask.ndim - 1):
        square = _add_dimension(square, dim)
    return square.sqrt()


def _along_last(mask: Tensor, far: float) -> Tensor:
    width = mask.shape[-1]
    place = torch.arange(width, dtype=torch.float32, device=mask.device)
    left = torch.where(mask, place, -far).cummax(-1).values
    right = torch.where(mask, place, width + far).flip(-1).cummin(-1).values.flip(-1)
    return torch.minimum(place - left, right - place).clamp_max(far)


def _add_dimension(square: Tensor, dim: int) -> Tensor:
    size, best = square.shape[dim], square.clone()
    for offset in range(1, size):
        if offset % 8 == 1 and offset**2 >= best.max():  # asked rarely: on a device it waits for the result
            break
        rest = size - offset
        for source, goal in ((0, offset), (offset, 0)):
            here = best.narrow(dim, goal, rest)
            torch.minimum(here, square.narrow(dim, source, rest) + offset**2, out=here)
    return best
