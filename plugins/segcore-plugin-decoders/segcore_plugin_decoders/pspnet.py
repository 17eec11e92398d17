"""PSPNet: context from average pools of four grids, concatenated to the deepest map.

Paper: Zhao et al. 2017, https://arxiv.org/abs/1612.01105. Keys as in segmentation_models_pytorch 0.6.0 (MIT), which
reads an undilated encoder of depth 3; here, as in the paper, the deepest map of an encoder dilated to stride 8.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segcore import FeatureInfo
from segcore_plugin_decoders.heads import FCNSupervised
from segcore_plugin_decoders.layers import GRIDS, ConvNormReLU, Norm, initialise, pooling_branch, resize
from segcore_plugin_decoders.levels import deepest_level
from segcore_plugin_decoders.options import check_positive, check_probability


class PSPNet(FCNSupervised):
    """Decoder of PSPNet; returns (N, psp_channels, H/8, W/8). Asks for output stride 8, in legacy for depth 3.

    Args:
        features: any encoder; the deepest map is read.
        psp_channels: channels of the result.
        norm: as for Unet; the branch that pools to one pixel has none.
        dropout: probability of dropping a channel of the result in training.
        auxiliary: return the map before the deepest too; the head then gives a mask for it in training mode.
        legacy: compute as segmentation_models_pytorch 0.6.0: bilinear resizes, the head's too, with
            ``align_corners=True``.
    """

    def __init__(
        self,
        features: FeatureInfo,
        psp_channels: int = 512,
        norm: Norm = "batchnorm",
        dropout: float = 0.2,
        auxiliary: bool = False,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_positive("pspnet", "psp_channels", psp_channels)
        check_probability("pspnet", "dropout", dropout)
        deepest = features.channels[deepest_level(features, "pspnet")]
        if auxiliary:
            self.read_auxiliary(features, "pspnet")
        self.psp = PyramidPooling(deepest, norm, align_corners=legacy)
        self.conv = ConvNormReLU(self.psp.out_channels, psp_channels, 1, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.out_channels, self.output_stride = psp_channels, features.strides[-1]
        self.head_align_corners = legacy
        initialise(self)

    @classmethod
    def encoder_defaults(cls, options: Mapping[str, object]) -> Mapping[str, object]:
        """Return output stride 8, or depth 3 in legacy."""
        return {"depth": 3} if options.get("legacy") else {"output_stride": 8}

    def forward(self, features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Pool the deepest map and fuse."""
        x = self.dropout(self.conv(self.psp(features[-1])))  # (N, psp_channels, H/8, W/8)
        return self.outputs(x, features)


class PyramidPooling(nn.Module):
    """Concatenates to a map its averages over grids of 1, 2, 3 and 6 cells, each projected to a quarter."""

    def __init__(self, channels: int, norm: Norm, align_corners: bool) -> None:
        super().__init__()
        reduced = max(1, channels // len(GRIDS))
        self.blocks = nn.ModuleList()
        for grid in GRIDS:
            self.blocks.append(
                nn.ModuleDict({"pool": pooling_branch(channels, reduced, grid, "identity" if grid == 1 else norm)})
            )
        self.out_channels = channels + len(GRIDS) * reduced
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, out_channels, H, W), the map itself last."""
        size = x.shape[-2:]
        pooled = [resize(block["pool"](x), size, "bilinear", self.align_corners) for block in self.blocks]  # type: ignore[index]
        return torch.cat([*pooled, x], dim=1)
