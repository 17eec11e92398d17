"""The decoder and the head of DPT."""

# ruff: noqa: ANN204, UP007, UP035, UP045
# mypy: disable-error-code="no-untyped-call"

from typing import Callable, Literal, Optional, Sequence, Union

import torch
from torch import Tensor, nn

import segcore
from segcore_smp.base.modules import Activation
from segcore_smp.decoders._network import draw_default
from segcore_smp.decoders.dpt.blocks import (
    FusionBlock,
    ReadoutAddBlock,
    ReadoutConcatBlock,
    ReadoutIgnoreBlock,
    ReassembleBlock,
    ResidualConvBlock,
)
from segcore_smp.view import View

__all__ = [
    "DPTDecoder",
    "DPTSegmentationHead",
    "FusionBlock",
    "ReadoutAddBlock",
    "ReadoutConcatBlock",
    "ReadoutIgnoreBlock",
    "ReassembleBlock",
    "ResidualConvBlock",
]


class DPTDecoder(View):
    """The decoder of DPT.

    Args:
        encoder_out_channels: of the encoder's maps.
        encoder_output_strides: of the encoder's maps.
        encoder_has_prefix_tokens: whether tokens come with the maps.
        readout: what becomes of the tokens: ``"cat"``, ``"add"`` or ``"ignore"``.
        intermediate_channels: of each map before the projection to `fusion_channels`.
        fusion_channels: of the fusion and of the result.

    Raises:
        ValueError: the lengths differ, or another readout.
    """

    def __init__(
        self,
        encoder_out_channels: Sequence[int] = (756, 756, 756, 756),
        encoder_output_strides: Sequence[int] = (16, 16, 16, 16),
        encoder_has_prefix_tokens: bool = True,
        readout: Literal["cat", "add", "ignore"] = "cat",
        intermediate_channels: Sequence[int] = (256, 512, 1024, 1024),
        fusion_channels: int = 256,
    ):
        lengths = {len(encoder_out_channels), len(encoder_output_strides), len(intermediate_channels)}
        if len(lengths) != 1:
            raise ValueError(
                "encoder_out_channels, encoder_output_strides and intermediate_channels must have the same length"
            )
        super().__init__()
        info = segcore.FeatureInfo(
            (3, *encoder_out_channels), (1, *encoder_output_strides), 1 if encoder_has_prefix_tokens else 0
        )
        before = torch.get_rng_state()
        net = segcore.create_decoder(
            "dpt",
            info,
            readout=readout,
            intermediate_channels=tuple(intermediate_channels),
            fusion_channels=fusion_channels,
            legacy=True,
        )
        torch.set_rng_state(before)
        draw_default(net)
        self._show(net)
        self._reads_tokens = net.reads_prefix_tokens
        self.out_channels = net.out_channels

    def forward(self, features: list[torch.Tensor], prefix_tokens: list[Optional[torch.Tensor]]) -> torch.Tensor:
        """Fuse maps and tokens."""
        image = features[0]  # its place in segcore's list; it is not read
        maps = [image, *features]
        decoded: Tensor = self._net(maps, prefix_tokens) if self._reads_tokens else self._net(maps)
        return decoded


class DPTSegmentationHead(nn.Module):
    """Two convolutions, bilinear resize by a factor with ``align_corners=True``, activation.

    Args:
        in_channels: of the decoder's output.
        out_channels: of the mask.
        activation: see `segcore_smp.base.modules.Activation`.
        kernel_size: of the first convolution, which pads by 1.
        upsampling: factor of the resize.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: Optional[Union[str, Callable]] = None,  # type: ignore[type-arg]
        kernel_size: int = 3,
        upsampling: float = 2.0,
    ):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, kernel_size, padding=1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(in_channels, out_channels, 1),
        )
        self.activation = Activation(activation)
        self.upsampling_factor = upsampling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (N, in_channels, h, w) into (N, out_channels, H, W)."""
        mask = nn.functional.interpolate(
            self.head(x), scale_factor=self.upsampling_factor, mode="bilinear", align_corners=True
        )
        return self.activation(mask)  # type: ignore[no-any-return]
