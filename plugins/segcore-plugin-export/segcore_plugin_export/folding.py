"""Batch norms folded into the convolution before them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from segcore_plugin_export.captured import NORMS, RESIZES, Captured, aten, first_result, is_sum

CONV = aten.convolution.default


def fold_norms(captured: Captured) -> None:
    """Fold each batch norm into the convolution before it, if nobody else reads what that gives."""
    for node in captured.calls(*NORMS):
        legit = node.target is NORMS[1]
        training = False if legit else node.args[5]
        result = first_result(node)
        if training or result is None:
            continue
        x, weight, bias, mean, var = node.args[:5]
        eps = node.args[6] if legit else node.args[7]
        sources = _sources(captured, x)
        if not sources:
            captured.left["batch norms that no convolution precedes"] += 1
            continue
        for index, source in enumerate(sources):
            kernel, old = source.args[1], source.args[2]
            scaled = captured.constant(_scaled, kernel, weight, var, eps, source.args[6], source.args[8], before=source)
            if index == 0:
                old = captured.constant(_shifted, old, weight, bias, mean, var, eps, before=source)
            elif old is not None:
                old = captured.constant(_scaled_bias, old, weight, var, eps, before=source)
            source.args = (source.args[0], scaled, old, *source.args[3:])
        assert isinstance(x, fx.Node)
        captured.replace(result, x)
        captured.done["batch norms folded"] += 1
    captured.clean()


def _sources(captured: Captured, node: Any) -> list[fx.Node]:
    """Return the convolutions whose sum a node is, resized or not, if nobody else reads what they give."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return []
    if node.target is CONV:
        fixed = captured.value(node.args[1]) is not None
        return [node] if fixed and (node.args[2] is None or captured.value(node.args[2]) is not None) else []
    if node.target in RESIZES:
        return _sources(captured, node.args[0])
    if is_sum(node) and node.args[0] is not node.args[1]:
        left, right = (_sources(captured, item) for item in node.args)
        return [*left, *right] if left and right else []
    return []


def _factor(weight: Tensor | None, var: Tensor, eps: float) -> Tensor:
    factor = torch.rsqrt(var.double() + eps)  # in double precision, so that folding adds one rounding only
    return factor if weight is None else factor * weight.double()


def _scaled(kernel: Tensor, weight: Tensor | None, var: Tensor, eps: float, transposed: bool, groups: int) -> Tensor:
    """Return the kernel times the norm's factor of its output channel."""
    factor = _factor(weight, var, eps)
    if not transposed:
        return (kernel.double() * factor.reshape(-1, *(1,) * (kernel.ndim - 1))).to(kernel.dtype)
    parts: Tensor = kernel.double().reshape(groups, -1, *kernel.shape[1:])  # (groups, in, out, ...)
    parts = parts * factor.reshape(groups, 1, -1, *(1,) * (kernel.ndim - 2))
    return parts.flatten(0, 1).to(kernel.dtype)


def _shifted(
    old: Tensor | None, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """Return the bias of the convolution and the norm together."""
    start = -mean.double() if old is None else old.double() - mean.double()
    shift = start * _factor(weight, var, eps)
    return (shift if bias is None else shift + bias.double()).to(mean.dtype)


def _scaled_bias(old: Tensor, weight: Tensor | None, var: Tensor, eps: float) -> Tensor:
    return (old.double() * _factor(weight, var, eps)).to(old.dtype)
