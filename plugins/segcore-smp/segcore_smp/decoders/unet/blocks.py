"""The blocks of SMP's Unet decoder, for decoders of one's own."""

# mypy: disable-error-code="no-untyped-call"
# ruff: noqa: ANN204, UP006, UP007, UP035, UP045

from typing import Any, Dict, Optional, Union

import torch
import torch.nn.functional as F
from torch import nn

from segcore_smp.base.modules import Attention, Conv2dReLU


class UnetCenterBlock(nn.Sequential):
    """Two 3x3 convolutions with norm and ReLU: (N, in_channels, H, W) to (N, out_channels, H, W).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(self, in_channels: int, out_channels: int, use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm"):
        first = Conv2dReLU(in_channels, out_channels, 3, padding=1, use_norm=use_norm)
        super().__init__(first, Conv2dReLU(out_channels, out_channels, 3, padding=1, use_norm=use_norm))


class UnetDecoderBlock(nn.Module):
    """Resize, concatenate the skip, two 3x3 convolutions; attention before and after them.

    Args:
        in_channels: channels of the deeper map.
        skip_channels: channels of the skip, 0 without one.
        out_channels: channels of the output.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        attention_type: None or ``"scse"``; before the convolutions it is applied to what has a skip only.
        interpolation_mode: of the resize.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        attention_type: Optional[str] = None,
        interpolation_mode: str = "nearest",
    ):
        super().__init__()
        joined = in_channels + skip_channels
        self.interpolation_mode = interpolation_mode
        self.conv1 = Conv2dReLU(joined, out_channels, 3, padding=1, use_norm=use_norm)
        self.attention1 = Attention(attention_type, in_channels=joined)
        self.conv2 = Conv2dReLU(out_channels, out_channels, 3, padding=1, use_norm=use_norm)
        self.attention2 = Attention(attention_type, in_channels=out_channels)

    def forward(
        self,
        feature_map: torch.Tensor,
        target_height: int,
        target_width: int,
        skip_connection: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Turn (N, in_channels, h, w) into (N, out_channels, target_height, target_width), the skip's size."""
        x = F.interpolate(feature_map, size=(target_height, target_width), mode=self.interpolation_mode)
        if skip_connection is not None:
            x = self.attention1(torch.cat([x, skip_connection], dim=1))
        return self.attention2(self.conv2(self.conv1(x)))  # type: ignore[no-any-return]
