"""The decoder of Segformer."""

# ruff: noqa: ANN204, UP006, UP035

from typing import List

from segcore_smp.decoders._network import NetworkDecoder
from segcore_smp.decoders.segformer.blocks import MLP

__all__ = ["MLP", "SegformerDecoder"]


class SegformerDecoder(NetworkDecoder):
    """The decoder of Segformer.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        encoder_depth: of the encoder.
        segmentation_channels: of the result.
    """

    def __init__(
        self,
        encoder_channels: List[int],
        encoder_depth: int = 5,
        segmentation_channels: int = 256,
    ):
        self._build("segformer", encoder_channels[: encoder_depth + 1], segmentation_channels=segmentation_channels)
