"""MAnet: Unet with position attention on the deepest map and channel gates on every skip.

Paper: Fan et al. 2020, https://ieeexplore.ieee.org/document/9201310. Keys as in segmentation_models_pytorch 0.6.0
(MIT), whose attention takes one softmax over all pairs of pixels and puts the result together with pixels and channels
exchanged; here each pixel attends to all others, unless ``legacy``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import Decoder, FeatureInfo
from segcore_plugin_decoders.layers import ConvNormReLU, Norm, UpBlock, initialise, resize, squeeze_excite
from segcore_plugin_decoders.levels import size_at, upsampling_path
from segcore_plugin_decoders.options import INTERPOLATIONS, channels_of_blocks, check_choice, check_positive


class MAnet(Decoder):
    """Decoder of MAnet; returns (N, channels[-1], H, W).

    Args:
        features: any encoder but an isotropic one.
        channels: of each block, deepest first; None as for Unet.
        norm: as for Unet.
        pab_channels: channels in which the position attention compares pixels.
        interpolation: as for Unet.
        legacy: compute as segmentation_models_pytorch 0.6.0: its position attention, and the head resizes with
            ``align_corners=True``.
    """

    def __init__(
        self,
        features: FeatureInfo,
        channels: Sequence[int] | None = None,
        norm: Norm = "batchnorm",
        pab_channels: int = 64,
        interpolation: str = "nearest",
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_choice("manet", "interpolation", interpolation, INTERPOLATIONS)
        check_positive("manet", "pab_channels", pab_channels)
        self.steps = upsampling_path(features, "manet")
        channels = channels_of_blocks("manet", channels, [step.stride for step in self.steps])
        deepest = features.channels[-1]
        self.center = PositionAttention(deepest, pab_channels, legacy)
        self.blocks = nn.ModuleList(
            UpBlock(previous, 0, out, norm, interpolation=interpolation)
            if step.skip is None
            else FusionBlock(previous, step.channels, out, norm, interpolation)
            for step, previous, out in zip(self.steps, (deepest, *channels), channels, strict=False)
        )
        self.out_channels, self.output_stride = channels[-1], 1
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Attend on the deepest map, then fuse the maps, deepest first."""
        x = self.center(features[-1])  # (N, C, H/32, W/32)
        for step, block in zip(self.steps, self.blocks, strict=True):
            skip = None if step.skip is None else features[step.skip]
            size = size_at(features[0], step.stride) if skip is None else skip.shape[-2:]
            x = block(x, size, skip)  # (N, channels[i], H/stride, W/stride)
        return x  # type: ignore[no-any-return]


class PositionAttention(nn.Module):
    """Adds to each pixel a mean of all pixels, weighted by similarity. Memory grows with the pixels squared."""

    def __init__(self, channels: int, hidden: int, legacy: bool) -> None:
        super().__init__()
        self.top_conv = nn.Conv2d(channels, hidden, 1)
        self.center_conv = nn.Conv2d(channels, hidden, 1)
        self.bottom_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.out_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.legacy = legacy

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into the same shape."""
        key, query, value = (
            conv(x).flatten(2).transpose(1, 2) for conv in (self.top_conv, self.center_conv, self.bottom_conv)
        )  # (N, HW, hidden), (N, HW, hidden), (N, HW, C)
        if self.legacy:
            scores = query @ key.transpose(1, 2)  # (N, HW, HW)
            attended = scores.flatten(1).softmax(dim=1).view_as(scores) @ value
            attended = attended.reshape(x.shape)  # not transposed: this mixes pixels and channels
        else:
            query, key, value = (tokens[:, None] for tokens in (query, key, value))  # one head, as exporters want it
            attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (N, 1, HW, C)
            attended = attended[:, 0].transpose(1, 2).reshape(x.shape)
        return self.out_conv(x + attended)  # type: ignore[no-any-return]


class FusionBlock(nn.Module):
    """Brings the deeper map to the skip's channels and size, gates it by both, concatenates and convolves twice."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm: Norm, interpolation: str) -> None:
        super().__init__()
        self.hl_conv = nn.Sequential(
            ConvNormReLU(in_channels, in_channels, 3, norm), ConvNormReLU(in_channels, skip_channels, 1, norm)
        )
        self.SE_ll = squeeze_excite(skip_channels)
        self.SE_hl = squeeze_excite(skip_channels)
        self.conv1 = ConvNormReLU(2 * skip_channels, out_channels, 3, norm)
        self.conv2 = ConvNormReLU(out_channels, out_channels, 3, norm)
        self.interpolation = interpolation

    def forward(self, x: Tensor, size: Sequence[int], skip: Tensor) -> Tensor:
        """Turn (N, in_channels, h, w) and (N, skip_channels, *size) into (N, out_channels, *size)."""
        x = resize(self.hl_conv(x), size, self.interpolation)  # (N, skip_channels, *size)
        x = x * (self.SE_hl(x) + self.SE_ll(skip))
        return self.conv2(self.conv1(torch.cat([x, skip], dim=1)))  # type: ignore[no-any-return]
