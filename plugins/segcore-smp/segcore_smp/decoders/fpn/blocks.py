"""The blocks of SMP's FPN decoder, for decoders of one's own."""

# ruff: noqa: ANN204, UP006, UP035

from typing import List, Literal

import torch
import torch.nn.functional as F
from torch import nn


class Conv3x3GNReLU(nn.Module):
    """3x3 convolution, norm of 32 groups, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 32.
        upsample: double the size at the end, bilinear.
    """

    def __init__(self, in_channels: int, out_channels: int, upsample: bool = False):
        super().__init__()
        self.upsample = upsample
        self.block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(32, out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W), or of twice the size."""
        x = self.block(x)
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True) if self.upsample else x


class FPNBlock(nn.Module):
    """Adds a projected encoder map to the doubled deeper level.

    Args:
        pyramid_channels: channels of the deeper level and of the output.
        skip_channels: channels of the encoder's map.
        interpolation_mode: of the resize.
    """

    def __init__(self, pyramid_channels: int, skip_channels: int, interpolation_mode: str = "nearest"):
        super().__init__()
        self.interpolation_mode = interpolation_mode
        self.skip_conv = nn.Conv2d(skip_channels, pyramid_channels, 1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Turn (N, pyramid_channels, h, w) and (N, skip_channels, 2h, 2w) into (N, pyramid_channels, 2h, 2w)."""
        x = F.interpolate(x, scale_factor=2.0, mode=self.interpolation_mode)
        return x + self.skip_conv(skip)  # type: ignore[no-any-return]


class SegmentationBlock(nn.Module):
    """Convolutions that each double the size; a single one that does not, if `n_upsamples` is 0.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 32.
        n_upsamples: number of doublings.
    """

    def __init__(self, in_channels: int, out_channels: int, n_upsamples: int = 0):
        super().__init__()
        self.block = nn.Sequential(
            *(
                Conv3x3GNReLU(out_channels if index else in_channels, out_channels, upsample=n_upsamples > 0)
                for index in range(max(1, n_upsamples))
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, s*H, s*W), s two to the power of `n_upsamples`."""
        return self.block(x)  # type: ignore[no-any-return]


class MergeBlock(nn.Module):
    """Merges maps of one shape.

    Args:
        policy: ``"add"``, or ``"cat"`` along the channels.

    Raises:
        ValueError: another policy.
    """

    def __init__(self, policy: Literal["add", "cat"]):
        super().__init__()
        if policy not in {"add", "cat"}:
            raise ValueError(f"policy={policy!r} is unknown; it is 'add' or 'cat'.")
        self.policy = policy

    def forward(self, x: List[torch.Tensor]) -> torch.Tensor:
        """Turn K maps (N, C, H, W) into (N, C, H, W), or (N, K*C, H, W) with ``"cat"``."""
        return torch.stack(x).sum(dim=0) if self.policy == "add" else torch.cat(x, dim=1)
