"""Losses of a batch that several processes share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

_groups: list[Any] = []  # of the contexts that are open; None is the group of all processes


@contextmanager
def across_processes(group: Any = None) -> Iterator[None]:
    """Let losses that are called within count the samples of all processes.

    Their value is then that of one process with all samples, the same everywhere; and so is their gradient, once it is
    averaged over processes, as DDP and FSDP do. This holds for all losses but those that put the pixels of a batch in
    order: ``lovasz`` unless ``per_image=True``, whose values remain those of each process; and ``ohem``, where each
    process chooses its own hard pixels if fewer than `min_kept` are below the threshold. ``reduction="none"`` gives the
    pixels, or images, of this process.

    Every process must call the same losses in the same order and go back through them, whatever its samples are. One
    process alone, or none that torch.distributed knows of, computes as without this.

    Args:
        group: of torch.distributed; None for all processes.
    """
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size(group) > 1
    if not several:
        yield
        return
    _groups.append(group)
    try:
        yield
    finally:
        _groups.pop()


def shared() -> bool:
    """Return whether sums are over several processes."""
    return bool(_groups)


def totals(*sums: Tensor) -> tuple[Tensor, ...]:
    """Return sums over pixels as sums over the pixels of all processes, in one exchange; as they are if not `shared`.

    Args:
        sums: the first has the dtype of all that is returned.
    """
    if not _groups:
        return sums
    flat = torch.cat([value.double().flatten() for value in sums])
    parts = _Sum.apply(flat, _groups[-1]).split([value.numel() for value in sums])  # type: ignore[no-untyped-call]
    return tuple(part.view(value.shape).to(sums[0].dtype) for part, value in zip(parts, sums, strict=True))


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes; backward, the sum of its gradients, of which each process has its part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        """Add up the values."""
        ctx.group = group
        x = x.clone()
        distributed.all_reduce(x, group=group)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Add up the gradients."""
        gradient = gradient.clone()
        distributed.all_reduce(gradient, group=ctx.group)
        return gradient, None
