"""3x3 convolutions of many channels with 16 products for four pixels in place of 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (https://arxiv.org/abs/1509.09308), F(2x2, 3x3):
tiles of 4x4 pixels, two pixels apart, are transformed by sums, multiplied place by place by the transformed kernel, and
transformed back. The transforms cost memory traffic, so it pays from some 256 channels on. With sums of two values only
it is as precise as the direct way.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from segcore_plugin_export.captured import Captured, shape
from segcore_plugin_export.folding import CONV

CHANNELS = 256  # of both sides; below, the transforms cost more than they save on the machines measured
PIXELS = 256  # of a batch; below, reading 16 values for each 9 of the kernel costs more


def use_winograd(captured: Captured) -> None:
    """Replace the convolutions that gain from it."""
    for node in captured.calls(CONV):
        x, weight, bias, stride, padding, dilation, transposed, _, groups = node.args
        kernel = captured.value(weight)
        if kernel is None or transposed or groups != 1 or stride != [1, 1] or tuple(kernel.shape[2:]) != (3, 3):
            continue
        assert isinstance(x, fx.Node)
        assert isinstance(dilation, list)
        step = 2 * dilation[0]
        if padding != dilation or dilation[0] != dilation[1] or min(kernel.shape[:2]) < CHANNELS:
            continue
        batch, _, height, width = shape(x)
        if height % step or width % step or batch * height * width < PIXELS:
            continue
        transformed = captured.constant(_transformed, weight, before=node)
        new = captured.call(convolve, x, transformed, bias, dilation[0], like=node, before=node)
        captured.replace(node, new)
        captured.done["3x3 convolutions by tiles (Winograd)"] += 1


def _transformed(weight: Tensor) -> Tensor:
    """Return the kernels (16, in, out) of the 4x4 places of a tile, columns before rows."""
    half = 0.5
    rule = weight.new_tensor([[1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]], dtype=torch.float64)
    places = torch.einsum("ra,oiab,cb->crio", rule, weight.double(), rule)
    return places.flatten(0, 1).to(weight.dtype).contiguous()


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Convolve (N, in, H, W) to (N, out, H, W), padded by the dilation; H and W are multiples of twice that."""
    batch, given, height, width = x.shape
    rows, columns = height // dilation, width // dilation  # of the maps that a dilated convolution keeps apart
    tiles = (dilation, dilation, rows // 2, columns // 2)
    padded = x.new_zeros(batch, dilation, dilation, rows + 2, columns + 2, given)
    apart = x.permute(0, 2, 3, 1).reshape(batch, rows, dilation, columns, dilation, given)
    padded[:, :, :, 1:-1, 1:-1] = apart.permute(0, 2, 4, 1, 3, 5)
    padded = padded.flatten(0, 2)  # (M, rows + 2, columns + 2, in)

    maps = padded.shape[0]
    by_rows = x.new_empty(4, maps, rows // 2, columns + 2, given)
    _differences(padded[:, 0::2], padded[:, 1::2], by_rows, 1)
    places = x.new_empty(4, 4, maps, rows // 2, columns // 2, given)
    _differences(by_rows[:, :, :, 0::2], by_rows[:, :, :, 1::2], places, 3)
    products = torch.bmm(places.view(16, -1, given), kernels)  # (16, M * tiles, out)

    out = kernels.shape[2]
    result = x.new_empty(batch, rows // 2, 2, dilation, columns // 2, 2, dilation, out)
    for column, half in enumerate(_sums(products.view(4, 4, -1, out))):
        for row, pixels in enumerate(_sums(half)):
            if bias is not None:
                pixels.add_(bias)
            result[:, :, row, :, :, column] = pixels.view(batch, *tiles, out).permute(0, 3, 1, 4, 2, 5)
    return result.view(batch, height, width, out).permute(0, 3, 1, 2)


def _differences(even: Tensor, odd: Tensor, out: Tensor, dim: int) -> None:
    """Write the four transformed lines of tiles along an axis; `even` and `odd` lines have one more at the end."""
    count = even.shape[dim] - 1
    first, third = even.narrow(dim, 0, count), even.narrow(dim, 1, count)
    second, fourth = odd.narrow(dim, 0, count), odd.narrow(dim, 1, count)
    torch.sub(first, third, out=out[0])
    torch.add(second, third, out=out[1])
    torch.sub(third, second, out=out[2])
    torch.sub(second, fourth, out=out[3])


def _sums(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two lines of pixels of tiles with four lines, which are overwritten."""
    first = lines[1] + lines[2]
    first += lines[0]
    return first, lines[1].sub_(lines[2]).sub_(lines[3])
