"""The decoder of FPN."""

# ruff: noqa: ANN204, UP006, UP035

from typing import List, Literal

from segcore_smp.decoders._network import NetworkDecoder
from segcore_smp.decoders.fpn.blocks import Conv3x3GNReLU, FPNBlock, MergeBlock, SegmentationBlock

__all__ = ["Conv3x3GNReLU", "FPNBlock", "FPNDecoder", "MergeBlock", "SegmentationBlock"]


class FPNDecoder(NetworkDecoder):
    """The decoder of FPN.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        encoder_depth: of the encoder.
        pyramid_channels: of the pyramid.
        segmentation_channels: of the result.
        dropout: probability in training.
        merge_policy: ``"add"`` or ``"cat"``.
        interpolation_mode: of the resizes.
    """

    def __init__(
        self,
        encoder_channels: List[int],
        encoder_depth: int = 5,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        dropout: float = 0.2,
        merge_policy: Literal["add", "cat"] = "add",
        interpolation_mode: str = "nearest",
    ):
        self._build(
            "fpn",
            encoder_channels[: encoder_depth + 1],
            pyramid_channels=pyramid_channels,
            segmentation_channels=segmentation_channels,
            merge_policy=merge_policy,
            dropout=dropout,
            interpolation=interpolation_mode,
        )
