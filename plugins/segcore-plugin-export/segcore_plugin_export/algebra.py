"""The same function with less work: convolutions brought in front of the resize that they follow.

- A 3x3 convolution of a map that was doubled by repeating pixels sees each pixel in two of three rows and columns: per
  phase of the result a 2x2 convolution of the small map, 4 instead of 9 products.
- A 1x1 convolution and a resize commute, and both distribute over sums.
- A 1x1 convolution and a 3x3 one make one 3x3 convolution.

All are equal up to rounding; new kernels are computed in double precision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from segcore_plugin_export import kernels
from segcore_plugin_export.captured import RESIZES, Captured, aten, is_sum, shape
from segcore_plugin_export.folding import CONV

CAT = aten.cat.default
NEAREST = aten.upsample_nearest2d.default
ONE: list[int] = [1, 1]
ZERO: list[int] = [0, 0]


def rewrite(captured: Captured) -> None:
    """Apply all rules, each where it saves products."""
    for node in captured.calls(CONV):
        if _is_plain(captured, node, 1, ZERO):
            _push_pointwise(captured, node)
    captured.clean()
    for node in captured.calls(CONV):
        if _is_plain(captured, node, 3, ONE):
            _convolve_small(captured, node)
    captured.clean()


def _is_plain(captured: Captured, node: fx.Node, size: int, padding: list[int]) -> bool:
    """Return whether a convolution has a constant square kernel, no stride, dilation or groups."""
    kernel = captured.value(node.args[1])
    if kernel is None or tuple(kernel.shape[2:]) != (size, size):
        return False
    if node.args[2] is not None and captured.value(node.args[2]) is None:
        return False
    _, _, _, stride, pad, dilation, transposed, _, groups = node.args
    return bool(stride == ONE and pad == padding and dilation == ONE and not transposed and groups == 1)


def _like(node: fx.Node, *size: int) -> Tensor:
    return torch.empty(size, dtype=node.meta["val"].dtype, device="meta")


def _conv(captured: Captured, x: fx.Node, weight: fx.Node, bias: Any, before: fx.Node) -> fx.Node:
    """Return a convolution of stride 1, padded by half its kernel."""
    out, _, size, _ = captured.value(weight).shape
    pad = size // 2
    batch, _, height, width = shape(x)
    grown = 1 - size % 2  # an even kernel gives one pixel more
    like = _like(x, batch, out, height + grown, width + grown)
    return captured.call(CONV, x, weight, bias, ONE, [pad, pad], ONE, False, ZERO, 1, like=like, before=before)


def _push_pointwise(captured: Captured, node: fx.Node) -> None:
    """Apply a 1x1 convolution to the addends of a sum before they are enlarged."""
    x: Any = node.args[0]
    out, given = captured.value(node.args[1]).shape[:2]
    if out > given or not _enlarges(x):
        return
    biases = [node.args[2]]

    def pushed(item: fx.Node) -> fx.Node:
        if len(item.users) == 1 and item.target in RESIZES:
            small: Any = item.args[0]
            source = pushed(small)
            batch, _, height, width = shape(item)
            like = _like(item, batch, out, height, width)
            return captured.call(item.target, source, *item.args[1:], like=like, before=node)
        if len(item.users) == 1 and is_sum(item):
            left, right = (pushed(part) for part in item.args)  # type: ignore[arg-type]
            return captured.call(aten.add.Tensor, left, right, like=left, before=node)
        weight: Any = node.args[1]
        return _conv(captured, item, weight, biases.pop() if biases else None, node)

    captured.replace(node, pushed(x))
    captured.done["1x1 convolutions before a resize"] += 1


def _enlarges(node: fx.Node) -> bool:
    if len(node.users) != 1:
        return False
    if node.target in RESIZES and isinstance(node.args[0], fx.Node):
        return bool(node.meta["val"].numel() > node.args[0].meta["val"].numel())
    return is_sum(node) and node.args[0] is not node.args[1] and any(_enlarges(item) for item in node.args)  # type: ignore[arg-type]


def _doubled(node: fx.Node) -> fx.Node | None:
    """Return the map of which a node repeats each pixel twice along both axes."""
    small = node.args[0] if node.target is NEAREST else None
    if isinstance(small, fx.Node) and shape(node)[2:] == (2 * shape(small)[2], 2 * shape(small)[3]):
        return small
    return None


def _convolve_small(captured: Captured, node: fx.Node) -> None:
    """Replace a 3x3 convolution of something doubled."""
    x: Any = node.args[0]
    if _doubled(x) is not None:
        parts = [x]
    elif x.target is CAT and len(x.users) == 1 and len(x.args) == 2 and x.args[1] == 1:
        parts = list(x.args[0])
    elif is_sum(x) and len(x.users) == 1:
        _convolve_lateral(captured, node, x)
        return
    else:
        return
    if not any(_doubled(part) is not None for part in parts):
        return
    total: fx.Node | None = None
    start, bias, rest = 0, node.args[2], []
    for part in parts:
        stop = start + shape(part)[1]
        small = _doubled(part)
        if small is None:
            rest.append((part, start, stop))
        else:
            weight = captured.constant(_phases, node.args[1], start, stop, before=node)
            repeated = None if bias is None else captured.constant(_repeated, bias, before=node)
            bias = None
            grown = _conv(captured, small, weight, repeated, node)
            total = _added(captured, total, captured.call(kernels.interleave, grown, like=node, before=node), node)
        start = stop
    for whole, first, last in _joined(captured, rest, node):
        weight = captured.constant(_inputs, node.args[1], first, last, before=node)
        total = _added(captured, total, _conv(captured, whole, weight, None, node), node)
    assert total is not None
    captured.replace(node, total)
    captured.done["3x3 convolutions before a doubling"] += 1


def _joined(captured: Captured, parts: list[tuple[fx.Node, int, int]], node: fx.Node) -> list[tuple[fx.Node, int, int]]:
    """Return neighbouring parts as one concatenated part each."""
    runs: list[list[tuple[fx.Node, int, int]]] = []
    for part in parts:
        if runs and runs[-1][-1][2] == part[1]:
            runs[-1].append(part)
        else:
            runs.append([part])
    joined = []
    for run in runs:
        maps, first, last = [part[0] for part in run], run[0][1], run[-1][2]
        batch, _, height, width = shape(maps[0])
        like = _like(maps[0], batch, last - first, height, width)
        whole = maps[0] if len(maps) == 1 else captured.call(CAT, maps, 1, like=like, before=node)
        joined.append((whole, first, last))
    return joined


def _added(captured: Captured, total: fx.Node | None, part: fx.Node, node: fx.Node) -> fx.Node:
    return part if total is None else captured.call(aten.add.Tensor, total, part, like=node, before=node)


def _convolve_lateral(captured: Captured, node: fx.Node, x: fx.Node) -> None:
    """Replace a 3x3 convolution of the sum of something doubled and a 1x1 convolution, as a feature pyramid has it."""
    for up, lateral in (x.args, x.args[::-1]):
        assert isinstance(up, fx.Node)
        assert isinstance(lateral, fx.Node)
        small = _doubled(up)
        if small is None or lateral.target is not CONV or not _is_plain(captured, lateral, 1, ZERO):
            continue
        if len(lateral.users) != 1 or len(up.users) != 1:
            continue
        middle, given = captured.value(lateral.args[1]).shape[:2]
        out = captured.value(node.args[1]).shape[0]
        if 4 * middle * out + 9 * given * out >= 9 * middle * out + given * middle:
            continue
        if lateral.args[2] is not None:  # added before the padding, since the large convolution pads with zeros
            bias = captured.constant(_channelwise, lateral.args[2], before=node)
            small = captured.call(aten.add.Tensor, small, bias, like=small, before=node)
        phases = captured.constant(_phases, node.args[1], 0, middle, before=node)
        repeated = None if node.args[2] is None else captured.constant(_repeated, node.args[2], before=node)
        grown = _conv(captured, small, phases, repeated, node)
        enlarged = captured.call(kernels.interleave, grown, like=node, before=node)
        composed = captured.constant(_composed, node.args[1], lateral.args[1], before=node)
        source: Any = lateral.args[0]
        captured.replace(node, _added(captured, enlarged, _conv(captured, source, composed, None, node), node))
        captured.done["3x3 convolutions before a doubling"] += 1
        return


def _phases(weight: Tensor, start: int, stop: int) -> Tensor:
    """Return the 2x2 kernels (4 * out, in, 2, 2) of the phases, of inputs from `start` to `stop`."""
    kernel = weight[:, start:stop].double()
    first, middle, last = kernel.unbind(2)
    rows = torch.stack([first, middle + last]), torch.stack([first + middle, last])  # (2, out, in, 3)
    phases = []
    for row in rows:
        first, middle, last = row.unbind(3)
        phases += [torch.stack([first, middle + last], -1), torch.stack([first + middle, last], -1)]
    return torch.cat([phase.permute(1, 2, 0, 3) for phase in phases]).to(weight.dtype).contiguous()


def _repeated(bias: Tensor) -> Tensor:
    return bias.repeat(4)


def _inputs(weight: Tensor, start: int, stop: int) -> Tensor:
    return weight[:, start:stop].contiguous()


def _channelwise(bias: Tensor) -> Tensor:
    return bias[:, None, None]


def _composed(weight: Tensor, pointwise: Tensor) -> Tensor:
    """Return the kernel of a 1x1 convolution followed by another one."""
    return torch.einsum("omhw,mi->oihw", weight.double(), pointwise.double().flatten(1)).to(weight.dtype).contiguous()
