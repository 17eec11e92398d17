"""The parts of an EfficientNet: padded convolutions and the two kinds of block."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import OptionValueError

PADDINGS = ("static", "same", "symmetric")


class Conv2d(nn.Conv2d):
    """Convolution that keeps the size, initialised as EfficientNets are (normal, fan out per group)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, dilation: int = 1, groups: int = 1, bias: bool = False
    ) -> None:
        padding = kernel // 2 * dilation
        super().__init__(in_channels, out_channels, kernel, 1, padding, dilation, groups, bias)

    def reset_parameters(self) -> None:
        """Draw new weights; biases become zero."""
        fan_out = self.weight.shape[2] * self.weight.shape[3] * self.out_channels // self.groups
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class DownConv2d(Conv2d):
    """Convolution of stride 2 without bias, (N, C, H, W) to (N, out_channels, H/2, W/2).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: 3 or 5.
        groups: of the convolution.
        padding: ``"symmetric"`` pads kernel // 2 on every side; ``"same"`` pads as TensorFlow does, by the size of
            the input, the odd pixel at the bottom and right; ``"static"`` pads as ``"same"`` would at `size`.
        size: height and width of the input that ``"static"`` assumes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, groups: int, padding: str, size: int) -> None:
        super().__init__(in_channels, out_channels, kernel, groups=groups)
        before, after = _edges(kernel, size) if padding == "static" else (kernel // 2, kernel // 2)
        self.by_input = padding == "same"
        self.edges = (before, after, before, after)
        self.pads = self.by_input or before != after
        self.stride = (2, 2)
        self.padding = (0, 0) if self.pads else (before, before)

    def forward(self, x: Tensor) -> Tensor:
        """Pad what the convolution itself cannot, and convolve."""
        if self.by_input:
            height, width = x.shape[-2:]
            kernel = self.weight.shape[-1]
            x = F.pad(x, (*_edges(kernel, width), *_edges(kernel, height)))
        elif self.pads:
            x = F.pad(x, self.edges)
        return super().forward(x)


def _edges(kernel: int, size: int) -> tuple[int, int]:
    """Return the padding before and after `size` pixels that gives ceil(size / 2) outputs at stride 2."""
    total = kernel - 2 + size % 2
    return total // 2, total - total // 2


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all; (N, C, H, W) to the same."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = Conv2d(channels, reduced, 1, bias=True)
        self.act = nn.SiLU()
        self.conv_expand = Conv2d(reduced, channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated feature map."""
        gate = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        gate = self.conv_expand(self.act(self.conv_reduce(gate)))
        return x * torch.sigmoid(gate)


class Block(nn.Module):
    """Depthwise convolution, squeeze-and-excite and projection, with a shortcut where the shapes allow it.

    With an expansion above 1 it is the inverted bottleneck, which widens the input first; with 1 it is the separable
    convolution of the first stage. Parameters are named as in timm, and so depend on the kind.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: of the depthwise convolution.
        stride: 1 or 2.
        dilation: of the depthwise convolution, at stride 1.
        expansion: channels of the depthwise convolution divided by `in_channels`.
        lite: no squeeze-and-excite, and ReLU6 for SiLU.
        norm_eps: of the batch norms.
        norm_momentum: of the batch norms.
        padding: see `DownConv2d`.
        size: see `DownConv2d`.
        drop_path_rate: probability that training skips the block and takes the shortcut alone, per sample.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        dilation: int,
        expansion: int,
        lite: bool,
        norm_eps: float,
        norm_momentum: float,
        padding: str,
        size: int,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        width = in_channels * expansion

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=norm_eps, momentum=norm_momentum)

        depthwise: Conv2d
        if stride == 2:
            depthwise = DownConv2d(width, width, kernel, width, padding, size)
        else:
            depthwise = Conv2d(width, width, kernel, dilation, width)
        self.expands = expansion > 1
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.drop_path_rate = drop_path_rate
        self.act = activation(lite)
        if self.expands:
            self.conv_pw = Conv2d(in_channels, width, 1)
            self.bn1 = norm(width)
            self.conv_dw = depthwise
            self.bn2 = norm(width)
            self.se = nn.Identity() if lite else SqueezeExcite(width, in_channels // 4)
            self.conv_pwl = Conv2d(width, out_channels, 1)
            self.bn3 = norm(out_channels)
        else:
            self.conv_dw = depthwise
            self.bn1 = norm(width)
            self.se = nn.Identity() if lite else SqueezeExcite(width, in_channels // 4)
            self.conv_pw = Conv2d(width, out_channels, 1)
            self.bn2 = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Take (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""
        shortcut = x
        if self.expands:
            x = self.act(self.bn1(self.conv_pw(x)))  # (N, width, H, W)
            x = self.act(self.bn2(self.conv_dw(x)))  # (N, width, H/stride, W/stride)
            x = self.bn3(self.conv_pwl(self.se(x)))  # (N, out_channels, H/stride, W/stride)
        else:
            x = self.act(self.bn1(self.conv_dw(x)))  # (N, width, H/stride, W/stride)
            x = self.bn2(self.conv_pw(self.se(x)))  # (N, out_channels, H/stride, W/stride)
        if not self.has_shortcut:
            return x
        if self.training and self.drop_path_rate > 0:
            keep = 1 - self.drop_path_rate
            x = x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(keep).div_(keep)
        return x + shortcut


def activation(lite: bool) -> nn.Module:
    """Return the activation of the family."""
    return nn.ReLU6(inplace=True) if lite else nn.SiLU()


def round_channels(channels: int, multiplier: float) -> int:
    """Return the scaled number of channels as a multiple of 8 that loses at most a tenth."""
    wanted = channels * multiplier
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def check_padding(padding: str, nominal_size: int) -> None:
    """Raise OptionValueError unless the padding is known and the nominal size is one."""
    if padding not in PADDINGS:
        raise OptionValueError(f"padding={padding!r} is unknown; it is one of {', '.join(map(repr, PADDINGS))}.")
    if nominal_size < 1:
        raise OptionValueError(f"nominal_size={nominal_size!r}: a size in pixels is needed.")
