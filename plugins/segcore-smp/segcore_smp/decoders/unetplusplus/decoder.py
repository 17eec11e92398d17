"""The decoder of UnetPlusPlus."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045

from typing import Any, Dict, Optional, Sequence, Union

from segcore_smp.decoders._network import NetworkDecoder, check_blocks, legacy_norm
from segcore_smp.decoders.unetplusplus.blocks import CenterBlock, DecoderBlock

__all__ = ["CenterBlock", "DecoderBlock", "UnetPlusPlusDecoder"]


class UnetPlusPlusDecoder(NetworkDecoder):
    """The decoder of UnetPlusPlus.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        decoder_channels: of the blocks, deepest first, or of the result.
        n_blocks: number of blocks, the encoder's depth.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        attention_type: None or ``"scse"``.
        interpolation_mode: of the resizes.
        center: build two more convolutions for the deepest map; they are not computed.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        decoder_channels: Sequence[int],
        n_blocks: int = 5,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        attention_type: Optional[str] = None,
        interpolation_mode: str = "nearest",
        center: bool = False,
    ):
        check_blocks(n_blocks, decoder_channels)
        self._build(
            "unetplusplus",
            encoder_channels,
            channels=tuple(decoder_channels),
            norm=legacy_norm(use_norm),
            attention=attention_type,
            interpolation=interpolation_mode,
            center=center,
        )
