"""A model divided over processes (FSDP2, `torch.distributed.fsdp.fully_shard`), and its tensors made whole again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from segcore import OptionValueError, SegmentationModel

LEAST = 1_000_000  # parameters of a part that is gathered by itself; smaller ones are gathered with the rest

try:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # before torch 2.6
    fully_shard = None  # type: ignore[assignment]


def check_sharding() -> None:
    """Raise OptionValueError where torch is too old."""
    if fully_shard is None:
        raise OptionValueError(
            f"strategy='fsdp' needs torch 2.6 or later; this is {torch.__version__}. Use 'ddp' or upgrade torch."
        )


def units(model: nn.Module, least: int) -> Iterator[nn.Module]:
    """Yield the parts that are gathered one at a time: members of sequences and lists, such as the blocks of a stage.

    Those with fewer parameters than `least` are left out, those that hold another one, and single layers, whose weights
    networks may use without calling them. What is in no part, like layers outside of sequences, belongs to the whole.
    """
    chosen: set[int] = set()
    for container in reversed(list(model.modules())):  # what lies inside comes before what holds it
        if isinstance(container, nn.Sequential | nn.ModuleList):
            for member in container:
                called = type(member).forward is not nn.Module.forward and any(True for _ in member.children())
                if not called or any(id(inner) in chosen for inner in member.modules()):
                    continue
                if sum(parameter.numel() for parameter in member.parameters()) >= least:
                    chosen.add(id(member))
                    yield member


def shard(model: SegmentationModel, mesh: Any) -> SegmentationModel:
    """Divide a model over the processes of a mesh, in place, and return its whole structure without memory.

    Args:
        model: complete and the same in every process.
        mesh: one-dimensional device mesh.
    """
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # all that FSDP can divide
    skeleton = copy.deepcopy(model).to("meta")
    for part in list(units(model, LEAST)):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return skeleton


def is_sharded(tensor: Any) -> bool:
    """Return whether processes hold parts of a tensor."""
    return fully_shard is not None and isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, sharing its memory; the tensor itself if it is whole."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def gathered(values: Any, *, keep: bool) -> Any:
    """Return tensors, also in nested mappings and lists, with those that are divided made whole, on the CPU.

    Every process must call it with the same structure.

    Args:
        values: a state dict, say.
        keep: whether this process wants the whole tensors; else they are forgotten one by one, and are None.
    """
    if isinstance(values, dict):
        return {name: gathered(value, keep=keep) for name, value in values.items()}
    if isinstance(values, list):
        return [gathered(value, keep=keep) for value in values]
    if not is_sharded(values):
        return values
    whole = values.full_tensor()
    return whole.cpu() if keep else None


def divided_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor, the same in every process, divided as a parameter is; or lying in memory as it does."""
    if is_sharded(parameter):
        place = value.to(parameter.device)
        return distribute_tensor(place, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]
    return torch.empty_like(parameter).copy_(value)


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers: norms learn their statistics from each process's own samples."""
    for buffer in model.buffers():
        torch.distributed.broadcast(buffer, 0)


class InStep:
    """Lets processes call a divided model different numbers of times, though each call takes all of them.

    A process that has finished goes on with calls whose result nobody wants, until all have.

    Args:
        model: each process calls it at least once before `finish`.
        device: where processes exchange how many still have something to do.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device = model, device
        self._images: Tensor | None = None
        self._done = False
        self._hook = model.register_forward_pre_hook(self._before, prepend=True)  # before parameters are gathered

    def _before(self, module: nn.Module, given: tuple[Any, ...]) -> None:  # noqa: ARG002
        if not self._done:
            self._images = given[0][:1]
            self._others()

    def _others(self) -> bool:
        busy = torch.tensor(not self._done, dtype=torch.int32, device=self.device)
        torch.distributed.all_reduce(busy)
        return bool(busy)

    def finish(self) -> None:
        """Wait for the other processes, helping them."""
        self._done = True
        while self._others():
            self.model(self._images)
        self._hook.remove()
