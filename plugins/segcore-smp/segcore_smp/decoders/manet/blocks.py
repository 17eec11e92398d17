"""The blocks of SMP's MAnet decoder, for decoders of one's own."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045

from typing import Any, Dict, Optional, Union

import torch
import torch.nn.functional as F
from torch import nn

from segcore_smp.base.modules import Conv2dReLU


class PABBlock(nn.Module):
    """Position attention, (N, in_channels, H, W) to the same shape; memory grows with the pixels squared.

    It computes what SMP's does: one softmax over all pairs of pixels, and pixels and channels of the result exchanged.

    Args:
        in_channels: channels of the input.
        pab_channels: channels in which pixels are compared.
    """

    def __init__(self, in_channels: int, pab_channels: int = 64):
        super().__init__()
        self.in_channels, self.pab_channels = in_channels, pab_channels
        self.top_conv = nn.Conv2d(in_channels, pab_channels, 1)
        self.center_conv = nn.Conv2d(in_channels, pab_channels, 1)
        self.bottom_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.out_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, in_channels, H, W) into the same shape."""
        key, query, value = (
            conv(x).flatten(2).transpose(1, 2) for conv in (self.top_conv, self.center_conv, self.bottom_conv)
        )  # (N, HW, pab_channels) twice, (N, HW, in_channels)
        scores = query @ key.transpose(1, 2)  # (N, HW, HW)
        mixed = scores.flatten(1).softmax(dim=1).view_as(scores) @ value
        return self.out_conv(x + mixed.reshape(x.shape))  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Doubles the size, concatenates the skip and convolves twice.

    Args:
        in_channels: channels of the deeper map.
        skip_channels: channels of the skip, 0 without one.
        out_channels: channels of the output.
        interpolation_mode: of the resize.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        interpolation_mode: str = "nearest",
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        super().__init__()
        self.interpolation_mode = interpolation_mode
        self.conv1 = Conv2dReLU(in_channels + skip_channels, out_channels, 3, padding=1, use_norm=use_norm)
        self.conv2 = Conv2dReLU(out_channels, out_channels, 3, padding=1, use_norm=use_norm)

    def forward(self, x: torch.Tensor, skip: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Turn (N, in_channels, h, w) and (N, skip_channels, 2h, 2w) into (N, out_channels, 2h, 2w)."""
        x = F.interpolate(x, scale_factor=2.0, mode=self.interpolation_mode)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))  # type: ignore[no-any-return]


class MFABBlock(nn.Module):
    """Brings the deeper map to the skip's channels and size, gates it by both, concatenates and convolves twice.

    Args:
        in_channels: channels of the deeper map.
        skip_channels: channels of the skip, which the block cannot do without.
        out_channels: channels of the output.
        interpolation_mode: of the resize.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        reduction: the channels are divided by it inside the gates; at least one is left.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        interpolation_mode: str = "nearest",
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        reduction: int = 16,
    ):
        super().__init__()
        self.interpolation_mode = interpolation_mode
        self.hl_conv = nn.Sequential(
            Conv2dReLU(in_channels, in_channels, 3, padding=1, use_norm=use_norm),
            Conv2dReLU(in_channels, skip_channels, 1, use_norm=use_norm),
        )
        self.SE_ll = _gate(skip_channels, reduction)
        self.SE_hl = _gate(skip_channels, reduction)
        self.conv1 = Conv2dReLU(2 * skip_channels, out_channels, 3, padding=1, use_norm=use_norm)
        self.conv2 = Conv2dReLU(out_channels, out_channels, 3, padding=1, use_norm=use_norm)

    def forward(self, x: torch.Tensor, skip: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Turn (N, in_channels, h, w) and (N, skip_channels, 2h, 2w) into (N, out_channels, 2h, 2w).

        Raises:
            ValueError: no skip.
        """
        if skip is None:
            raise ValueError("MFABBlock needs a skip, got none; DecoderBlock works without one.")
        x = F.interpolate(self.hl_conv(x), scale_factor=2.0, mode=self.interpolation_mode)
        x = x * (self.SE_hl(x) + self.SE_ll(skip))
        return self.conv2(self.conv1(torch.cat([x, skip], dim=1)))  # type: ignore[no-any-return]


def _gate(channels: int, reduction: int) -> nn.Sequential:
    """Return a gate per channel, (N, C, H, W) to (N, C, 1, 1) in (0, 1)."""
    inner = max(1, channels // reduction)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, inner, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, channels, 1),
        nn.Sigmoid(),
    )
