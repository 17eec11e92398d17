"""The decoder of Unet."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045

from typing import Any, Dict, Optional, Sequence, Union

from segcore_smp.decoders._network import NetworkDecoder, check_blocks, legacy_norm
from segcore_smp.decoders.unet.blocks import UnetCenterBlock, UnetDecoderBlock

__all__ = ["UnetCenterBlock", "UnetDecoder", "UnetDecoderBlock"]


class UnetDecoder(NetworkDecoder):
    """The decoder of Unet.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        decoder_channels: of the blocks, deepest first, or of the result.
        n_blocks: number of blocks, the encoder's depth.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        attention_type: None or ``"scse"``.
        add_center_block: two more convolutions on the deepest map.
        interpolation_mode: of the resizes.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        decoder_channels: Sequence[int],
        n_blocks: int = 5,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        attention_type: Optional[str] = None,
        add_center_block: bool = False,
        interpolation_mode: str = "nearest",
    ):
        check_blocks(n_blocks, decoder_channels)
        self._build(
            "unet",
            encoder_channels,
            channels=tuple(decoder_channels),
            norm=legacy_norm(use_norm),
            attention=attention_type,
            interpolation=interpolation_mode,
            center=add_center_block,
        )
