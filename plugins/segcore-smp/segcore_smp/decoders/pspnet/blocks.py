"""The blocks of SMP's PSPNet decoder, for decoders of one's own."""

# ruff: noqa: ANN204, UP006, UP007, UP035

from typing import Any, Dict, Tuple, Union

import torch
import torch.nn.functional as F
from torch import nn

from segcore_smp.base.modules import Conv2dReLU


class PSPBlock(nn.Module):
    """Averages over a grid of cells, projects by a 1x1 convolution and goes back to the size of the input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        pool_size: cells per side; one cell is projected without a norm.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        pool_size: int,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        super().__init__()
        norm = "identity" if pool_size == 1 else use_norm
        self.pool_size = pool_size
        self.pool = nn.Sequential(
            nn.AdaptiveAvgPool2d((pool_size, pool_size)), Conv2dReLU(in_channels, out_channels, 1, use_norm=norm)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        return F.interpolate(self.pool(x), x.shape[-2:], mode="bilinear", align_corners=True)


class PSPModule(nn.Module):
    """Concatenates to a map its averages over several grids, each projected to an equal share of the channels.

    Args:
        in_channels: channels of the input.
        sizes: cells per side of each grid.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(
        self,
        in_channels: int,
        sizes: Tuple[int, ...] = (1, 2, 3, 6),
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        super().__init__()
        share = in_channels // len(sizes)
        self.blocks = nn.ModuleList(PSPBlock(in_channels, share, size, use_norm) for size in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, C, H, W) into (N, C + len(sizes) * (C // len(sizes)), H, W), the map itself last."""
        return torch.cat([*(block(x) for block in self.blocks), x], dim=1)
