"""UPerNet: pyramid pooling on the deepest map, a feature pyramid, and a convolution over all its levels.

Paper: Xiao et al. 2018, https://arxiv.org/abs/1807.10221. Keys as in segmentation_models_pytorch 0.6.0 (MIT), which
normalises each encoder map first; here only in ``legacy``, because encoders that want it do it themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segcore import FeatureInfo
from segcore_plugin_decoders.heads import FCNSupervised
from segcore_plugin_decoders.layers import GRIDS, ConvNormReLU, LayerNorm, Norm, initialise, pooling_branch, resize
from segcore_plugin_decoders.levels import pyramid_levels
from segcore_plugin_decoders.options import check_positive, check_probability


class UPerNet(FCNSupervised):
    """Decoder of UPerNet; returns (N, channels, H/4, W/4).

    Args:
        features: an encoder with at least two maps of stride 4 and above.
        channels: of all levels.
        norm: as for Unet; the branch that pools to one pixel has none.
        dropout: probability of dropping a channel of the result in training.
        auxiliary: return the map before the deepest too; the head then gives a mask for it in training mode.
        legacy: compute as segmentation_models_pytorch 0.6.0: a layer norm on each encoder map, a norm on the pooled
            branch too, batch norm after the pyramid pooling whatever `norm` says, and the head resizes with
            ``align_corners=True``.
    """

    head_kernel_size = 1

    def __init__(
        self,
        features: FeatureInfo,
        channels: int = 256,
        norm: Norm = "batchnorm",
        dropout: float = 0.0,
        auxiliary: bool = False,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_positive("upernet", "channels", channels)
        check_probability("upernet", "dropout", dropout)
        self.levels = pyramid_levels(features, "upernet")
        if auxiliary:
            self.read_auxiliary(features, "upernet")
        counts = [features.channels[level] for level in self.levels]
        self.feature_norms = nn.ModuleList(LayerNorm(count, eps=1e-6) if legacy else nn.Identity() for count in counts)
        self.psp = PyramidPooling(counts[-1], channels, norm, legacy)
        self.fpn_lateral_blocks = nn.ModuleList(
            nn.ModuleDict({"conv_norm_relu": ConvNormReLU(count, channels, 1, norm)}) for count in counts[-2::-1]
        )
        self.fpn_conv_blocks = nn.ModuleList(ConvNormReLU(channels, channels, 3, norm) for _ in counts[:-1])
        self.fusion_block = ConvNormReLU(len(counts) * channels, channels, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.out_channels, self.output_stride = channels, features.strides[self.levels[0]]
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Build the pyramid from the deepest map and fuse all its levels at the finest one."""
        maps = [norm(features[level]) for norm, level in zip(self.feature_norms, self.levels, strict=True)]
        state = self.psp(maps[-1])  # (N, channels, H/32, W/32)
        pyramid = [state]
        for lateral, conv, x in zip(self.fpn_lateral_blocks, self.fpn_conv_blocks, maps[-2::-1], strict=True):
            x = lateral["conv_norm_relu"](x)  # type: ignore[index]  # noqa: PLW2901
            state = resize(state, x.shape[-2:]) + x  # (N, channels, H/16, W/16), ...
            pyramid.append(conv(state))
        size = pyramid[-1].shape[-2:]
        joined = torch.cat([resize(level, size) for level in pyramid[::-1]], dim=1)
        fused = self.dropout(self.fusion_block(joined))  # (N, channels, H/4, W/4)
        return self.outputs(fused, features)


class PyramidPooling(nn.Module):
    """Fuses a map with its averages over grids of 1, 2, 3 and 6 cells."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, legacy: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            pooling_branch(in_channels, out_channels, grid, norm if grid > 1 or legacy else "identity")
            for grid in GRIDS
        )
        joined = in_channels + len(GRIDS) * out_channels
        self.out_conv = ConvNormReLU(joined, out_channels, 3, "batchnorm" if legacy else norm)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        pooled = [resize(block(x), x.shape[-2:]) for block in self.blocks]
        return self.out_conv(torch.cat([x, *pooled], dim=1))  # type: ignore[no-any-return]
