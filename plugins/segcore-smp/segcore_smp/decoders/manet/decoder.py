"""The decoder of MAnet."""

# ruff: noqa: ANN204, UP006, UP007, UP035

from typing import Any, Dict, List, Union

from segcore_smp.decoders._network import NetworkDecoder, check_blocks, legacy_norm
from segcore_smp.decoders.manet.blocks import DecoderBlock, MFABBlock, PABBlock

__all__ = ["DecoderBlock", "MAnetDecoder", "MFABBlock", "PABBlock"]


class MAnetDecoder(NetworkDecoder):
    """The decoder of MAnet.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        decoder_channels: of the blocks, deepest first, or of the result.
        n_blocks: number of blocks, the encoder's depth.
        reduction: of the squeeze and excitation; must be 16.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        pab_channels: of the position attention.
        interpolation_mode: of the resizes.
    """

    def __init__(
        self,
        encoder_channels: List[int],
        decoder_channels: List[int],
        n_blocks: int = 5,
        reduction: int = 16,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        pab_channels: int = 64,
        interpolation_mode: str = "nearest",
    ):
        check_blocks(n_blocks, decoder_channels)
        if reduction != 16:
            raise ValueError(f"reduction={reduction!r}: segcore's MAnet has 16.")
        self._build(
            "manet",
            encoder_channels,
            channels=tuple(decoder_channels),
            norm=legacy_norm(use_norm),
            pab_channels=pab_channels,
            interpolation=interpolation_mode,
        )
