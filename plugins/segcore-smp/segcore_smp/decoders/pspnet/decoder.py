"""The decoder of PSPNet."""

# ruff: noqa: ANN204, UP006, UP007, UP035

from typing import Any, Dict, List, Union

from segcore_smp.decoders._network import NetworkDecoder, legacy_norm
from segcore_smp.decoders.pspnet.blocks import PSPBlock, PSPModule

__all__ = ["PSPBlock", "PSPDecoder", "PSPModule"]


class PSPDecoder(NetworkDecoder):
    """The decoder of PSPNet.

    Args:
        encoder_channels: of the encoder's maps, strides 1, 2, 4, ...; 0 for a level that it lacks.
        use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        out_channels: of the result.
        dropout: probability in training.
    """

    def __init__(
        self,
        encoder_channels: List[int],
        use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        out_channels: int = 512,
        dropout: float = 0.2,
    ):
        self._build("pspnet", encoder_channels, psp_channels=out_channels, norm=legacy_norm(use_norm), dropout=dropout)
