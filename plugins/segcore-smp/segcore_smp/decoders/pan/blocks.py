"""The blocks of SMP's PAN decoder, for decoders of one's own."""

# ruff: noqa: ANN204

import torch
import torch.nn.functional as F
from torch import nn


def _corners(mode: str) -> bool | None:
    return True if mode == "bilinear" else None


class ConvBnRelu(nn.Module):
    """Convolution, batch norm, ReLU, doubling: (N, in_channels, H, W) to (N, out_channels, H', W').

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution.
        stride: of the convolution.
        padding: of the convolution.
        dilation: of the convolution.
        groups: of the convolution.
        bias: of the convolution.
        add_relu: apply the ReLU.
        interpolate: double the size at the end, bilinear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        add_relu: bool = True,
        interpolate: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation=dilation, groups=groups, bias=bias
        )
        self.activation = nn.ReLU(inplace=True)
        self.bn = nn.BatchNorm2d(out_channels)
        self.add_relu, self.interpolate = add_relu, interpolate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers."""
        x = self.bn(self.conv(x))
        if self.add_relu:
            x = self.activation(x)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True) if self.interpolate else x


class FPABlock(nn.Module):
    """Weights a map by attention from three coarser scales and adds its global mean (feature pyramid attention).

    Args:
        in_channels: channels of the input, which has 8x8 pixels at least.
        out_channels: channels of the output.
        upscale_mode: of the resizes; ``"bilinear"`` aligns the corners.
    """

    def __init__(self, in_channels: int, out_channels: int, upscale_mode: str = "bilinear"):
        super().__init__()
        self.upscale_mode, self.align_corners = upscale_mode, _corners(upscale_mode)
        self.branch1 = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvBnRelu(in_channels, out_channels, 1))
        self.mid = nn.Sequential(ConvBnRelu(in_channels, out_channels, 1))
        self.down1 = nn.Sequential(nn.MaxPool2d(2), ConvBnRelu(in_channels, 1, 7, padding=3))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), ConvBnRelu(1, 1, 5, padding=2))
        self.down3 = nn.Sequential(nn.MaxPool2d(2), ConvBnRelu(1, 1, 3, padding=1), ConvBnRelu(1, 1, 3, padding=1))
        self.conv2 = ConvBnRelu(1, 1, 5, padding=2)
        self.conv1 = ConvBnRelu(1, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        mean, mapped = self._resize(self.branch1(x), x), self.mid(x)  # (N, out_channels, H, W) both
        half = self.down1(x)  # (N, 1, H/2, W/2)
        quarter = self.down2(half)  # (N, 1, H/4, W/4)
        attention = self.conv2(quarter) + self._resize(self.down3(quarter), quarter)
        attention = self.conv1(half) + self._resize(attention, half)
        return self._resize(attention, x) * mapped + mean  # type: ignore[no-any-return]

    def _resize(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, like.shape[-2:], mode=self.upscale_mode, align_corners=self.align_corners)


class GAUBlock(nn.Module):
    """Adds to the resized deeper map a finer one, gated by the deeper one's mean (global attention upsampling).

    Args:
        in_channels: channels of the finer map.
        out_channels: channels of the deeper map and of the output.
        interpolation_mode: of the resize; ``"bilinear"`` aligns the corners.
    """

    def __init__(self, in_channels: int, out_channels: int, interpolation_mode: str = "bilinear"):
        super().__init__()
        self.interpolation_mode, self.align_corners = interpolation_mode, _corners(interpolation_mode)
        gate = ConvBnRelu(out_channels, out_channels, 1, add_relu=False)
        self.conv1 = nn.Sequential(nn.AdaptiveAvgPool2d(1), gate, nn.Sigmoid())
        self.conv2 = ConvBnRelu(in_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Turn the finer x (N, in_channels, H, W) and deeper y (N, out_channels, h, w) into (N, out_channels, H, W)."""
        deep = F.interpolate(y, x.shape[-2:], mode=self.interpolation_mode, align_corners=self.align_corners)
        return deep + self.conv2(x) * self.conv1(y)  # type: ignore[no-any-return]
