"""The decoder of Linknet."""

# ruff: noqa: ANN204, UP006, UP007, UP035

from typing import Any, Dict, List, Union

from segcore_smp.decoders._network import NetworkDecoder, check_blocks, legacy_norm
from segcore_smp.decoders.linknet.blocks import DecoderBlock, TransposeX2

__all__ = ["DecoderBlock", "LinknetDecoder", "TransposeX2"]


class LinknetDecoder(NetworkDecoder):
    """The decoder of Linknet.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        prefinal_channels: of the result.
        n_blocks: number of blocks, the encoder's depth.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(
        self,
        encoder_channels: List[int],
        prefinal_channels: int = 32,
        n_blocks: int = 5,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        check_blocks(n_blocks, encoder_channels[1:])
        self._build("linknet", encoder_channels, channels=prefinal_channels, norm=legacy_norm(use_norm))
