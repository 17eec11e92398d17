"""What a lowered graph calls: oneDNN's convolutions and linear layers with packed weights and fused operators."""

from __future__ import annotations

import torch
from torch import Tensor

mkldnn = torch.ops.mkldnn
Fused = tuple[str, list[float], str]  # oneDNN's name of an operator of one tensor, its numbers, its variant
NONE: Fused = ("none", [], "")


def available(dtype: torch.dtype) -> bool:
    """Return whether torch was built with oneDNN and the processor computes in `dtype` with it."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not built or not hasattr(mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(mkldnn._is_mkldnn_bf16_supported())


def pack_conv(
    weight: Tensor, padding: list[int], stride: list[int], dilation: list[int], groups: int, size: list[int]
) -> Tensor:
    """Return a kernel in the order in which oneDNN reads it for images (N, C, H, W) of one size.

    In the order for another size it is right, but up to ten times slower.
    """
    return mkldnn._reorder_convolution_weight(weight, padding, stride, dilation, groups, size)  # type: ignore[no-any-return]


def pack_linear(weight: Tensor, rows: int) -> Tensor:
    """Return the transposed weight (in, out) of a linear layer in the order in which oneDNN reads it."""
    return mkldnn._reorder_linear_weight(weight.t().contiguous(), rows)  # type: ignore[no-any-return]


conv = mkldnn._convolution_pointwise.default
conv_add = mkldnn._convolution_pointwise.binary
conv_add_ = mkldnn._convolution_pointwise_.binary
linear = mkldnn._linear_pointwise.default
linear_add = mkldnn._linear_pointwise.binary


def interleave(x: Tensor) -> Tensor:
    """Put the four phases of a map together, (N, 4 * C, h + 1, w + 1) to (N, C, 2 * h, 2 * w).

    Phase (p, q) holds the pixels of row 2 * i + p and column 2 * j + q at (i + p, j + q).
    """
    batch, channels, height, width = x.shape[0], x.shape[1] // 4, x.shape[2] - 1, x.shape[3] - 1
    x = x.permute(0, 2, 3, 1)
    out = x.new_empty(batch, height, 2, width, 2, channels)
    for row in (0, 1):
        for column in (0, 1):
            start = (2 * row + column) * channels
            phase = x[:, row : row + height, column : column + width, start : start + channels]
            out[:, :, row, :, column] = phase
    return out.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
