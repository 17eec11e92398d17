"""The decoder of PAN."""

# ruff: noqa: ANN204

from collections.abc import Sequence
from typing import Literal

from segcore_smp.decoders._network import NetworkDecoder
from segcore_smp.decoders.pan.blocks import ConvBnRelu, FPABlock, GAUBlock

__all__ = ["ConvBnRelu", "FPABlock", "GAUBlock", "PANDecoder"]


class PANDecoder(NetworkDecoder):
    """The decoder of PAN.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        encoder_depth: of the encoder.
        decoder_channels: of the blocks, deepest first, or of the result.
        interpolation_mode: of the resizes.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        encoder_depth: Literal[3, 4, 5],
        decoder_channels: int,
        interpolation_mode: str = "bilinear",
    ):
        self._build(
            "pan",
            encoder_channels[: encoder_depth + 1],
            16,
            order=("fpa", "gau3", "gau2", "gau1"),
            channels=decoder_channels,
            interpolation=interpolation_mode,
        )
