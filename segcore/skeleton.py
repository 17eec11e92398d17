"""Networks without memory: built on the meta device with random initialisation left out, and filled later."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segcore.model import SegmentationModel
from segcore.weights import misfit

_SKIPPED = frozenset(
    {getattr(nn.init, name) for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_")}
    | {Tensor.normal_, Tensor.uniform_}
)
_MAKERS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.tensor, torch.arange}
)


class Weightless(TorchFunctionMode):
    """Within it tensors are made on the meta device and random initialisation does nothing; per thread."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Redirect what makes or fills tensors."""
        kwargs = kwargs or {}
        if func in _SKIPPED:
            return args[0] if args else kwargs["tensor"]
        if func in _MAKERS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Put off Python's garbage collection: what loading makes stays, and searching it all costs as much as loading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def difference(model: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """Return how names, shapes or dtypes of a state dict differ from what a model needs, or None."""
    own = model.state_dict()
    problem = misfit({name: tuple(tensor.shape) for name, tensor in own.items()}, state)
    if problem:
        return problem
    for name, tensor in own.items():
        given = state[name]
        if given.dtype != tensor.dtype and not (given.is_floating_point() and tensor.is_floating_point()):
            return f"{name} has dtype {given.dtype}, {tensor.dtype} was expected"
    return None


def fill(
    model: SegmentationModel, state: dict[str, Tensor], rebuild: Callable[[], SegmentationModel]
) -> SegmentationModel:
    """Give a model without memory its tensors; buffers that no file holds are computed by an ordinary build."""
    model.load_state_dict(state, strict=True, assign=True)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        model = rebuild()
        model.load_state_dict(state, strict=True, assign=True)
    return model
