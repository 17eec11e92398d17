"""PAN: attention from a small pyramid on the deepest map, then channel gates on the way to the finest level.

Paper: Li et al. 2018, https://arxiv.org/abs/1805.10180. Keys as in segmentation_models_pytorch 0.6.0 (MIT). As there,
the pyramid works on one channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import Decoder, FeatureInfo, InputError
from segcore_plugin_decoders.layers import initialise, resize
from segcore_plugin_decoders.levels import pyramid_levels
from segcore_plugin_decoders.options import INTERPOLATIONS, check_choice, check_positive


class PAN(Decoder):
    """Decoder of PAN; returns (N, channels, H/4, W/4). Asks for output stride 16.

    Args:
        features: an encoder with at least two maps of stride 4 and above.
        channels: of all levels.
        interpolation: mode of the resize between levels; the pyramid's own is always bilinear.
        legacy: compute as segmentation_models_pytorch 0.6.0: norms on the globally pooled branches, biases before
            norms, bilinear resizes, the head's too, with ``align_corners=True``, and pools that round down, so that
            the deepest map needs 8x8 pixels.
    """

    encoder_options: ClassVar[Mapping[str, object]] = {"output_stride": 16}

    def __init__(
        self, features: FeatureInfo, channels: int = 32, interpolation: str = "bilinear", legacy: bool = False
    ) -> None:
        super().__init__()
        check_choice("pan", "interpolation", interpolation, INTERPOLATIONS)
        check_positive("pan", "channels", channels)
        *self.levels, self.deepest = pyramid_levels(features, "pan")
        self.fpa = PyramidAttention(features.channels[self.deepest], channels, legacy)
        for number, level in enumerate(self.levels, start=1):
            self.add_module(f"gau{number}", GatedUpsampling(features.channels[level], channels, interpolation, legacy))
        self.smallest = 8 * features.strides[-1] if legacy else None
        self.out_channels, self.output_stride = channels, features.strides[self.levels[0]]
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Attend on the deepest map, then go to the finest level."""
        if self.smallest is not None and min(features[self.deepest].shape[-2:]) < 8:
            height, width = features[0].shape[-2:]
            raise InputError(
                f"pan with legacy=True pools the deepest map three times: images must have at least "
                f"{self.smallest}x{self.smallest} pixels, got {height}x{width}. Without legacy every size works."
            )
        x = self.fpa(features[self.deepest])  # (N, channels, H/16, W/16)
        for number in range(len(self.levels), 0, -1):
            x = self.get_submodule(f"gau{number}")(features[self.levels[number - 1]], x)  # ... (N, channels, H/4, W/4)
        return x  # type: ignore[no-any-return]


class ConvBN(nn.Module):
    """Convolution, batch norm, ReLU; norm and ReLU can be left out, `bias` matters only before a norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool,
        norm: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias or not norm)
        self.bn = BatchNorm(out_channels) if norm else nn.Identity()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        x = self.bn(self.conv(x))
        return torch.relu(x) if self.relu else x


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics in training too if the batch has one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if self.training and x.numel() == x.shape[1]:  # the pyramid of a small image ends in one pixel
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class HalvingPool(nn.Module):
    """Maximum over 2x2 pixels.

    Args:
        round_up: whether an odd last row or column counts; torch's own ``ceil_mode`` cannot be exported for all sizes.
    """

    def __init__(self, round_up: bool) -> None:
        super().__init__()
        self.round_up = round_up

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C, H/2, W/2)."""
        if self.round_up:
            x = F.pad(x, (0, 1, 0, 1), mode="replicate")  # without effect on even sizes
        return F.max_pool2d(x, 2)


class PyramidAttention(nn.Module):
    """Weights a map by attention from three coarser scales and adds its global mean (feature pyramid attention)."""

    def __init__(self, in_channels: int, out_channels: int, legacy: bool) -> None:
        super().__init__()
        self.align_corners = legacy
        pool = HalvingPool(round_up=not legacy)
        self.branch1 = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvBN(in_channels, out_channels, 1, bias=True, norm=legacy)
        )
        self.mid = nn.Sequential(ConvBN(in_channels, out_channels, 1, bias=legacy))
        self.down1 = nn.Sequential(pool, ConvBN(in_channels, 1, 7, bias=legacy))
        self.down2 = nn.Sequential(pool, ConvBN(1, 1, 5, bias=legacy))
        self.down3 = nn.Sequential(pool, ConvBN(1, 1, 3, bias=legacy), ConvBN(1, 1, 3, bias=legacy))
        self.conv2 = ConvBN(1, 1, 5, bias=legacy)
        self.conv1 = ConvBN(1, 1, 7, bias=legacy)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        half = self.down1(x)  # (N, 1, H/2, W/2)
        quarter = self.down2(half)  # (N, 1, H/4, W/4)
        eighth = self.down3(quarter)  # (N, 1, H/8, W/8)
        attention = self.conv2(quarter) + self._to(eighth, quarter)
        attention = self.conv1(half) + self._to(attention, half)
        return self._to(attention, x) * self.mid(x) + self.branch1(x)  # type: ignore[no-any-return]

    def _to(self, x: Tensor, like: Tensor) -> Tensor:
        return resize(x, like.shape[-2:], "bilinear", self.align_corners)


class GatedUpsampling(nn.Module):
    """Adds to the resized deeper map a finer one, gated by the deeper one's mean (global attention upsampling)."""

    def __init__(self, in_channels: int, out_channels: int, interpolation: str, legacy: bool) -> None:
        super().__init__()
        self.interpolation, self.align_corners = interpolation, legacy and interpolation == "bilinear"
        self.conv1 = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            ConvBN(out_channels, out_channels, 1, bias=True, norm=legacy, relu=False),
            nn.Sigmoid(),
        )
        self.conv2 = ConvBN(in_channels, out_channels, 3, bias=legacy)

    def forward(self, fine: Tensor, deep: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) and (N, out_channels, h, w) into (N, out_channels, H, W)."""
        gated = self.conv2(fine) * self.conv1(deep)
        return resize(deep, fine.shape[-2:], self.interpolation, self.align_corners) + gated  # type: ignore[no-any-return]
