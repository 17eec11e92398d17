"""The decoders of DeepLabV3 and DeepLabV3+."""

# ruff: noqa: ANN204

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor

from segcore_smp.decoders._network import NetworkDecoder
from segcore_smp.decoders.deeplabv3.blocks import ASPP, ASPPConv, ASPPPooling, ASPPSeparableConv, SeparableConv2d

__all__ = [
    "ASPP",
    "ASPPConv",
    "ASPPPooling",
    "ASPPSeparableConv",
    "DeepLabV3Decoder",
    "DeepLabV3PlusDecoder",
    "SeparableConv2d",
]


class DeepLabV3Decoder(NetworkDecoder):
    """The decoder of DeepLabV3; reads the deepest map alone.

    Args:
        in_channels: of the deepest map.
        out_channels: of the result.
        atrous_rates: three dilation rates.
        aspp_separable: make the dilated convolutions separable.
        aspp_dropout: probability in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        atrous_rates: Iterable[int],
        aspp_separable: bool,
        aspp_dropout: float,
    ):
        self._build(
            "deeplabv3",
            (3, in_channels),
            channels=out_channels,
            atrous_rates=tuple(atrous_rates),
            aspp_separable=aspp_separable,
            aspp_dropout=aspp_dropout,
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Read the deepest map."""
        return super().forward([features[0], features[-1]])


class DeepLabV3PlusDecoder(NetworkDecoder):
    """The decoder of DeepLabV3+.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        encoder_depth: of the encoder.
        out_channels: of the result.
        atrous_rates: three dilation rates.
        output_stride: of the deepest map.
        aspp_separable: make the dilated convolutions separable.
        aspp_dropout: probability in training.

    Raises:
        ValueError: another output stride.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        encoder_depth: Literal[3, 4, 5],
        out_channels: int,
        atrous_rates: Iterable[int],
        output_stride: Literal[8, 16],
        aspp_separable: bool,
        aspp_dropout: float,
    ):
        if output_stride not in {8, 16}:
            raise ValueError(f"Output stride should be 8 or 16, got {output_stride}.")
        self._build(
            "deeplabv3plus",
            encoder_channels[: encoder_depth + 1],
            output_stride,
            channels=out_channels,
            atrous_rates=tuple(atrous_rates),
            aspp_separable=aspp_separable,
            aspp_dropout=aspp_dropout,
        )
