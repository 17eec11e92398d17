"""Depthwise convolutions whose taps lie far apart, as sums of shifted maps.

oneDNN's kernel for them is slow (26 ms for 512 channels of 64 x 64 with dilation 12, where the sums take 3), and
computes the taps too that see nothing but padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from segcore_plugin_export.captured import Captured
from segcore_plugin_export.folding import CONV

DILATION = 8  # from here on; below, oneDNN is the faster one


def spread_taps(captured: Captured) -> None:
    """Replace the convolutions that gain from it."""
    for node in captured.calls(CONV):
        x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
        kernel = captured.value(weight)
        if kernel is None or transposed or stride != [1, 1] or tuple(kernel.shape) != (groups, 1, 3, 3):
            continue
        assert isinstance(x, fx.Node)
        assert isinstance(dilation, list)
        if padding != dilation or dilation[0] != dilation[1] or dilation[0] < DILATION:
            continue
        taps = captured.constant(_taps, weight, before=node)
        new = captured.call(convolve, x, taps, bias, dilation[0], like=node, before=node)
        captured.replace(node, new)
        captured.done["depthwise convolutions as sums of shifted maps"] += 1


def _taps(weight: Tensor) -> Tensor:
    """Return the kernel (C, 1, 3, 3) as (3, 3, C, 1, 1)."""
    return weight[:, 0].permute(1, 2, 0)[..., None, None].contiguous()


def convolve(x: Tensor, taps: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Convolve each channel of (N, C, H, W), padded by the dilation."""
    height, width = x.shape[2:]
    out = x * taps[1, 1] if bias is None else torch.addcmul(bias[:, None, None], x, taps[1, 1])
    for row in range(3):
        for column in range(3):
            down, right = (row - 1) * dilation, (column - 1) * dilation
            if (down or right) and abs(down) < height and abs(right) < width:
                seen = x[:, :, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
                here = out[:, :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
                here.addcmul_(seen, taps[row, column])
    return out
