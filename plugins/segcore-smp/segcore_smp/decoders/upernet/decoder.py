"""The decoder of UPerNet."""

# ruff: noqa: ANN204, UP006, UP007, UP035

from typing import Any, Dict, Sequence, Union

from segcore_smp.decoders._network import NetworkDecoder, legacy_norm
from segcore_smp.decoders.upernet.blocks import FPNLateralBlock, LayerNorm2d, PSPModule

__all__ = ["FPNLateralBlock", "LayerNorm2d", "PSPModule", "UPerNetDecoder"]


class UPerNetDecoder(NetworkDecoder):
    """The decoder of UPerNet.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        encoder_depth: of the encoder.
        decoder_channels: of the blocks, deepest first, or of the result.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        encoder_depth: int = 5,
        decoder_channels: int = 256,
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
    ):
        self._build(
            "upernet", encoder_channels[: encoder_depth + 1], channels=decoder_channels, norm=legacy_norm(use_norm)
        )
