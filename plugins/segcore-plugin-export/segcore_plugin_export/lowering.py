"""Convolutions and linear layers of a graph onto oneDNN, together with what follows them."""

from __future__ import annotations

from typing import Any

from torch import fx

from segcore_plugin_export import kernels, spread, winograd
from segcore_plugin_export.captured import Captured, aten, shape
from segcore_plugin_export.folding import CONV
from segcore_plugin_export.kernels import NONE, Fused

RESHAPE = aten.reshape.default
VIEWING = (RESHAPE, aten.transpose.int, aten.permute.default, aten.unsqueeze.default, aten.squeeze.dim)
MOVING = (*VIEWING, kernels.interleave)  # what an activation of single values commutes with
FRESH = {  # operators whose result is memory of its own
    kernels.conv, kernels.conv_add, kernels.conv_add_, kernels.linear, kernels.linear_add, CONV,
    kernels.interleave, winograd.convolve, spread.convolve,
    aten.relu.default, aten.silu.default, aten.gelu.default, aten.sigmoid.default, aten.add.Tensor, aten.mul.Tensor,
    aten.upsample_bilinear2d.default, aten.upsample_nearest2d.default, aten.cat.default, aten.addmm.default,
    aten.relu_.default, aten.silu_.default, aten.add_.Tensor, aten.mul_.Tensor, aten.sigmoid_.default,
}  # fmt: skip
IN_PLACE = {
    aten.relu.default: aten.relu_.default,
    aten.silu.default: aten.silu_.default,
    aten.sigmoid.default: aten.sigmoid_.default,
    aten.add.Tensor: aten.add_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
}


def lower(captured: Captured) -> None:
    """Replace convolutions and linear layers with constant weights by oneDNN's, and fuse what follows them."""
    for node in captured.calls(CONV):
        _lower_conv(captured, node)
    for node in captured.calls(aten.addmm.default, aten.mm.default):
        _lower_linear(captured, node)
    for node in captured.calls(kernels.conv, kernels.linear):
        _fuse_activation(captured, node)
    for node in captured.calls(aten.add.Tensor):
        _fuse_add(captured, node)
    for node in captured.calls(kernels.conv_add, kernels.conv_add_):
        _fuse_activation(captured, node)
    captured.clean()
    _reuse_memory(captured)


def _lower_conv(captured: Captured, node: fx.Node) -> None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
    value = captured.value(weight)
    assert isinstance(x, fx.Node)
    if transposed or value is None or value.ndim != 4:
        return
    hints = padding, stride, dilation, groups, list(shape(x))
    packed = captured.constant(kernels.pack_conv, weight, *hints, before=node, remember=False)
    arguments = (x, packed, bias, padding, stride, dilation, groups, *NONE)
    captured.replace(node, captured.call(kernels.conv, *arguments, like=node, before=node))


def _lower_linear(captured: Captured, node: fx.Node) -> None:
    bias, x, weight = node.args if node.target is aten.addmm.default else (None, *node.args)
    value = captured.value(weight)
    if node.kwargs or value is None or (bias is not None and captured.value(bias) is None) or value.ndim != 2:
        return
    assert isinstance(x, fx.Node)
    if bias is not None and captured.value(bias).ndim != 1:
        return
    packed = captured.constant(kernels.pack_linear, weight, shape(x)[0], before=node, remember=False)
    captured.replace(node, captured.call(kernels.linear, x, packed, bias, *NONE, like=node, before=node))


def _activation(node: fx.Node) -> Fused | None:
    """Return oneDNN's name of an activation."""
    target, rest = node.target, node.args[1:]
    plain = {
        aten.relu.default: "relu",
        aten.sigmoid.default: "sigmoid",
        aten.tanh.default: "tanh",
        aten.silu.default: "swish",
        aten.hardswish.default: "hardswish",
        aten.hardsigmoid.default: "hardsigmoid",
    }
    if target in plain:
        return plain[target], [], ""
    if target is aten.gelu.default:
        return "gelu", [], str(node.kwargs.get("approximate", rest[0] if rest else "none"))
    if target is aten.leaky_relu.default:
        return "leaky_relu", [float(rest[0]) if rest else 0.01], ""  # type: ignore[arg-type]
    if target is aten.hardtanh.default:
        low, high = rest if len(rest) == 2 else (-1.0, 1.0)
        return "hardtanh", [float(low), float(high)], ""  # type: ignore[arg-type]
    return None


def _fuse_activation(captured: Captured, node: fx.Node) -> None:
    """Let an operator apply the activation that follows it, views between them or not."""
    views, last = [], node
    while len(last.users) == 1:
        (user,) = last.users
        found = _activation(user)
        if found is not None and user.args[0] is last:
            if node.target in {kernels.conv_add, kernels.conv_add_} and found[0] != "relu":
                return
            node.args = (*node.args[:-3], *found)
            captured.replace(user, last)
            captured.done["activations fused"] += 1
            return
        if user.target not in MOVING or user.args[0] is not last:
            return
        views.append(user)
        last = user


def _fuse_add(captured: Captured, node: fx.Node) -> None:
    """Let a convolution add its result to another tensor of the same shape."""
    if node.kwargs or len(node.args) != 2 or not all(isinstance(item, fx.Node) for item in node.args):
        return
    left: Any = node.args[0]
    right: Any = node.args[1]
    if shape(left) != shape(right) or left is right:
        return
    order = {other: index for index, other in enumerate(captured.graph.nodes)}
    for source, other in sorted(((left, right), (right, left)), key=lambda pair: -order[pair[0]]):
        if source.target is kernels.conv and len(source.users) == 1 and source.args[7:] == NONE:
            x, weight, bias, padding, stride, dilation, groups = source.args[:7]
            arguments: tuple[Any, ...] = (padding, stride, dilation, groups, "add", 1.0, None, [], None)
            if _ends_here(other, node, order) and other is not x:
                target, inputs = kernels.conv_add_, (other, x, weight, bias)
            else:
                target, inputs = kernels.conv_add, (x, other, weight, bias)
            captured.replace(node, captured.call(target, *inputs, *arguments, like=node, before=node))
            captured.done["additions fused"] += 1
            return


def _ends_here(node: fx.Node, user: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Return whether a result lies in memory of its own that nobody reads after `user`."""
    if node.target not in FRESH:
        return False
    others = [other for other in node.users if other is not user]
    return all(order[other] < order[user] and _copies(other) for other in others)


def _copies(node: fx.Node) -> bool:
    """Return whether a node's result shares no memory with its inputs."""
    return node.target in FRESH


def _reuse_memory(captured: Captured) -> None:
    """Write results over inputs that nobody else reads."""
    order = {node: index for index, node in enumerate(captured.graph.nodes)}
    for node in captured.calls(*IN_PLACE):
        first: Any = node.args[0]
        if not isinstance(first, fx.Node) or shape(first) != shape(node) or first in node.args[1:]:
            continue
        if first.meta["val"].dtype == node.meta["val"].dtype and _ends_here(first, node, order):
            node.target = IN_PLACE[node.target]  # type: ignore[index]
