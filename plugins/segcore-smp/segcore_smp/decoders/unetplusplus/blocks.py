"""The blocks of SMP's Unet++ decoder, for decoders of one's own."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045

from typing import Any, Dict, Optional, Union

import torch
from torch import nn

from segcore_smp.decoders.unet.blocks import UnetCenterBlock, UnetDecoderBlock


class CenterBlock(UnetCenterBlock):
    """Two 3x3 convolutions with norm and ReLU, as Unet's."""


class DecoderBlock(UnetDecoderBlock):
    """Unet's block that doubles the size; one of no output channels has no layers and gives an empty map.

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
        if out_channels == 0:
            nn.Module.__init__(self)
            self.interpolation_mode = interpolation_mode
        else:
            super().__init__(in_channels, skip_channels, out_channels, use_norm, attention_type, interpolation_mode)
        self.out_channels, self.is_empty = out_channels, out_channels == 0

    def forward(self, x: torch.Tensor, skip: Optional[torch.Tensor] = None) -> torch.Tensor:  # type: ignore[override]
        """Turn (N, in_channels, h, w) and (N, skip_channels, 2h, 2w) into (N, out_channels, 2h, 2w)."""
        height, width = 2 * x.shape[-2], 2 * x.shape[-1]
        if self.is_empty:
            return x.new_zeros(x.shape[0], 0, height, width)
        return super().forward(x, height, width, skip)
