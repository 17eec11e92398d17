"""A graph in bfloat16 between its inputs and its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from segcore_plugin_export.captured import Captured, aten


def cast(captured: Captured, dtype: torch.dtype) -> None:
    """Let everything be computed in a smaller type; images come and results go as float32."""
    for node in list(captured.graph.nodes):
        if node.op == "get_attr" and _is_float(node.meta["val"]):
            captured.replace(node, captured.constant(_converted, node, dtype, before=node))
        elif node.op == "placeholder":
            following: Any = node.next
            small = captured.call(aten.to.dtype, node, dtype, like=node, before=following)
            node.replace_all_uses_with(small, lambda user, small=small: user is not small)
        elif node.op == "call_function" and node.kwargs.get("dtype") == torch.float32:
            node.kwargs = {**node.kwargs, "dtype": dtype}  # made within the model: ranges, fills
        elif node.op == "output":
            _restore(captured, node)


def _restore(captured: Captured, output: fx.Node) -> None:
    for node in output.all_input_nodes:
        if _is_float(node.meta["val"]):
            large = captured.call(aten.to.dtype, node, torch.float32, like=node, before=output)
            output.replace_input_with(node, large)


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _converted(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype)
