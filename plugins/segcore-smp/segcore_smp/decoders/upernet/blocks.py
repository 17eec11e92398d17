"""Parts of UPerNet (https://arxiv.org/abs/1807.10221) for people's own networks."""

# ruff: noqa: ANN204, UP006, UP007, UP035

from typing import Any, Dict, Sequence, Union

import torch
from torch import Tensor, nn

from segcore_smp.base.modules import Conv2dReLU


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class LayerNorm2d(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the channels of each pixel of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PSPModule(nn.Module):
    """Fuses a map with its averages over grids of cells.

    Args:
        in_channels: of the input.
        out_channels: of each average and of the output.
        sizes: cells per side of each grid.
        use_norm: of the averages, see `segcore_smp.base.modules.get_norm_layer`; the output has batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sizes: Sequence[int] = (1, 2, 3, 6),
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), Conv2dReLU(in_channels, out_channels, 1, use_norm=use_norm))
            for size in sizes
        )
        self.out_conv = Conv2dReLU(in_channels + len(sizes) * out_channels, out_channels, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        averages = [_resize(block(feature), feature) for block in self.blocks]
        return self.out_conv(torch.cat([feature, *averages], dim=1))  # type: ignore[no-any-return]


class FPNLateralBlock(nn.Module):
    """Adds a map of the encoder to the deeper state.

    Args:
        lateral_channels: of the encoder's map.
        out_channels: of the state and of the output.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(
        self,
        lateral_channels: int,
        out_channels: int,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        super().__init__()
        self.conv_norm_relu = Conv2dReLU(lateral_channels, out_channels, 1, use_norm=use_norm)

    def forward(self, state_feature: Tensor, lateral_feature: Tensor) -> Tensor:
        """Turn (N, out_channels, h, w) and (N, lateral_channels, H, W) into (N, out_channels, H, W)."""
        lateral: Tensor = self.conv_norm_relu(lateral_feature)
        return _resize(state_feature, lateral) + lateral
