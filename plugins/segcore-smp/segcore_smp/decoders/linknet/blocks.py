"""The blocks of SMP's Linknet decoder, for decoders of one's own."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045

from typing import Any, Dict, Optional, Union

import torch
from torch import nn

from segcore_smp.base.modules import Conv2dReLU, get_norm_layer


class TransposeX2(nn.Sequential):
    """Transposed 4x4 convolution, norm, ReLU: (N, in_channels, H, W) to (N, out_channels, 2H, 2W).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(self, in_channels: int, out_channels: int, use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm"):
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1),
            get_norm_layer(use_norm, out_channels),
            nn.ReLU(inplace=True),
        )


class DecoderBlock(nn.Module):
    """1x1 convolution to a quarter of the channels, transposed convolution, 1x1 convolution; the skip is added.

    Args:
        in_channels: channels of the deeper map, at least 4.
        out_channels: channels of the output and of the skip.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(self, in_channels: int, out_channels: int, use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm"):
        super().__init__()
        hidden = in_channels // 4
        self.block = nn.Sequential(
            Conv2dReLU(in_channels, hidden, 1, use_norm=use_norm),
            TransposeX2(hidden, hidden, use_norm=use_norm),
            Conv2dReLU(hidden, out_channels, 1, use_norm=use_norm),
        )

    def forward(self, x: torch.Tensor, skip: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Turn (N, in_channels, h, w) and (N, out_channels, 2h, 2w) into (N, out_channels, 2h, 2w)."""
        x = self.block(x)
        return x if skip is None else x + skip
