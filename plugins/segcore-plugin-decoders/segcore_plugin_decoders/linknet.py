"""Linknet: transposed convolutions inside 1x1 bottlenecks, skips added.

Paper: Chaurasia and Culurciello 2017, https://arxiv.org/abs/1707.03718. Keys as in segmentation_models_pytorch 0.6.0
(MIT). Unlike the paper: one more skip, 4x4 transposed convolutions, and the last block is like the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segcore import Decoder, FeatureInfo
from segcore_plugin_decoders.layers import ConvNormReLU, Norm, initialise, is_identity, make_norm, resize
from segcore_plugin_decoders.levels import size_at, upsampling_path
from segcore_plugin_decoders.options import check_positive


class Linknet(Decoder):
    """Decoder of Linknet; returns (N, channels, H, W).

    Args:
        features: any encoder but an isotropic one.
        channels: of the last block; the others have those of their skip.
        norm: as for Unet.
        legacy: compute as segmentation_models_pytorch 0.6.0: a bias before the norm of each transposed convolution,
            and the head resizes with ``align_corners=True``.
    """

    head_kernel_size = 1

    def __init__(
        self, features: FeatureInfo, channels: int = 32, norm: Norm = "batchnorm", legacy: bool = False
    ) -> None:
        super().__init__()
        check_positive("linknet", "channels", channels)
        self.steps = upsampling_path(features, "linknet")
        self.blocks = nn.ModuleList()
        previous, stride = features.channels[-1], features.strides[-1]
        for step in self.steps:
            out = channels if step is self.steps[-1] else step.channels or previous
            self.blocks.append(LinkBlock(previous, out, norm, enlarge=step.stride < stride, legacy=legacy))
            previous, stride = out, step.stride
        self.out_channels, self.output_stride = channels, 1
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Fuse the maps, deepest first."""
        x = features[-1]  # (N, C, H/32, W/32)
        for step, block in zip(self.steps, self.blocks, strict=True):
            if step.skip is None:
                x = block(x, size_at(features[0], step.stride))
            else:
                skip = features[step.skip]
                x = block(x, skip.shape[-2:]) + skip  # (N, C, H/stride, W/stride)
        return x


class LinkBlock(nn.Module):
    """1x1 convolution to a quarter of the channels, transposed convolution, 1x1 convolution.

    With ``enlarge=False`` (two maps of one stride) a 3x3 convolution stands for the transposed one.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, enlarge: bool, legacy: bool) -> None:
        super().__init__()
        hidden = max(1, in_channels // 4)
        bias = legacy or is_identity(norm)
        if enlarge:
            middle: nn.Module = nn.ConvTranspose2d(hidden, hidden, 4, stride=2, padding=1, bias=bias)
        else:
            middle = nn.Conv2d(hidden, hidden, 3, padding=1, bias=bias)
        self.block = nn.Sequential(
            ConvNormReLU(in_channels, hidden, 1, norm),
            nn.Sequential(middle, make_norm(norm, hidden), nn.ReLU(inplace=True)),
            ConvNormReLU(hidden, out_channels, 1, norm),
        )

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Turn (N, in_channels, h, w) into (N, out_channels, *size)."""
        x = self.block[1](self.block[0](x))  # (N, in_channels/4, 2h, 2w)
        return self.block[2](resize(x, size))  # type: ignore[no-any-return]
