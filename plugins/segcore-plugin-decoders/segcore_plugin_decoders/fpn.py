"""FPN: a top-down feature pyramid whose levels are upsampled by convolutions to the finest and merged.

Papers: Lin et al. 2017, https://arxiv.org/abs/1612.03144 (pyramid); Kirillov et al. 2019,
https://arxiv.org/abs/1901.02446 (semantic branch). Keys as in segmentation_models_pytorch 0.6.0 (MIT), which leaves
out the 3x3 convolution that smooths each sum; it is here unless ``legacy``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segcore import Decoder, FeatureInfo
from segcore_plugin_decoders.layers import ConvNormReLU, Norm, initialise, resize
from segcore_plugin_decoders.levels import pyramid_levels
from segcore_plugin_decoders.options import INTERPOLATIONS, check_choice, check_positive, check_probability


class FPN(Decoder):
    """Decoder of the panoptic FPN; returns (N, segmentation_channels, H/4, W/4).

    Args:
        features: an encoder with at least two maps of stride 4 and above.
        pyramid_channels: channels of the pyramid.
        segmentation_channels: channels of each level before the merge.
        merge_policy: ``"add"``, or ``"cat"`` for ``segmentation_channels`` times the number of levels.
        dropout: probability of dropping a channel of the result in training.
        norm: as for Unet; group norm is the paper's.
        interpolation: mode of the resize in the top-down path.
        legacy: compute as segmentation_models_pytorch 0.6.0: the four deepest maps whatever their strides, no 3x3
            smoothing, and bilinear resizes, the head's too, with ``align_corners=True``.
    """

    head_kernel_size = 1

    def __init__(
        self,
        features: FeatureInfo,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        merge_policy: str = "add",
        dropout: float = 0.2,
        norm: Norm = "groupnorm",
        interpolation: str = "nearest",
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_choice("fpn", "merge_policy", merge_policy, ("add", "cat"))
        check_choice("fpn", "interpolation", interpolation, INTERPOLATIONS)
        check_probability("fpn", "dropout", dropout)
        check_positive("fpn", "pyramid_channels", pyramid_channels)
        check_positive("fpn", "segmentation_channels", segmentation_channels)
        levels = pyramid_levels(features, "fpn")
        if legacy:
            levels = features.from_stride(max(1, features.strides[-1] // 8))[-4:]
        self.levels = levels[::-1]  # deepest first
        deepest, *laterals = (features.channels[level] for level in self.levels)
        self.p5 = nn.Conv2d(deepest, pyramid_channels, 1)
        self.laterals = [f"p{4 - index}" for index in range(len(laterals))]
        for name, channels in zip(self.laterals, laterals, strict=True):
            self.add_module(name, Lateral(channels, pyramid_channels, interpolation))
        self.smooth = None
        if not legacy:
            self.smooth = nn.ModuleList(nn.Conv2d(pyramid_channels, pyramid_channels, 3, padding=1) for _ in levels)
        self.seg_blocks = nn.ModuleList(
            Upsampler(pyramid_channels, segmentation_channels, count, norm, align_corners=legacy)
            for count in range(len(levels) - 1, -1, -1)
        )
        self.merge_policy = merge_policy
        self.dropout = nn.Dropout2d(dropout)
        self.out_channels = segmentation_channels * (1 if merge_policy == "add" else len(levels))
        self.output_stride = features.strides[levels[0]]
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Build the pyramid from the deepest map, then bring its levels to the finest one and merge them."""
        maps = [features[level] for level in self.levels]
        pyramid = [self.p5(maps[0])]  # (N, pyramid_channels, H/32, W/32)
        for name, lateral in zip(self.laterals, maps[1:], strict=True):
            pyramid.append(self.get_submodule(name)(pyramid[-1], lateral))  # (N, pyramid_channels, H/16, W/16), ...
        if self.smooth is not None:
            pyramid = [smooth(level) for smooth, level in zip(self.smooth, pyramid, strict=True)]
        sizes = [level.shape[-2:] for level in maps]
        merged = [
            block(level, sizes[index + 1 :])
            for index, (block, level) in enumerate(zip(self.seg_blocks, pyramid, strict=True))
        ]  # (N, segmentation_channels, H/4, W/4) each
        x = sum(merged[1:], merged[0]) if self.merge_policy == "add" else torch.cat(merged, dim=1)
        return self.dropout(x)  # type: ignore[no-any-return]


class Lateral(nn.Module):
    """Adds a projected encoder map to the resized deeper level."""

    def __init__(self, in_channels: int, out_channels: int, interpolation: str) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(in_channels, out_channels, 1)
        self.interpolation = interpolation

    def forward(self, x: Tensor, lateral: Tensor) -> Tensor:
        """Turn (N, out_channels, h, w) and (N, in_channels, 2h, 2w) into (N, out_channels, 2h, 2w)."""
        return resize(x, lateral.shape[-2:], self.interpolation) + self.skip_conv(lateral)  # type: ignore[no-any-return]


class Upsampler(nn.Module):
    """Convolutions, each followed by a resize to the next finer level; one without a resize if there is none."""

    def __init__(self, in_channels: int, out_channels: int, count: int, norm: Norm, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.block = nn.Sequential()
        for index in range(max(1, count)):
            unit = nn.Module()
            unit.block = ConvNormReLU(in_channels if index == 0 else out_channels, out_channels, 3, norm)
            self.block.append(unit)

    def forward(self, x: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
        """Turn (N, in_channels, h, w) into (N, out_channels, *sizes[-1]), by way of the sizes in between."""
        for index, unit in enumerate(self.block):
            x = unit.block(x)  # type: ignore[operator]
            if sizes:
                x = resize(x, sizes[index], "bilinear", self.align_corners)
        return x
