"""The model UPerNet."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call"

from typing import Any, Callable, Dict, Optional, Union

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads
from segcore_smp.decoders.upernet.decoder import UPerNetDecoder
from segcore_smp.encoders import get_encoder


class UPerNet(SegmentationModel):
    """UPerNet (https://arxiv.org/abs/1807.10221).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        decoder_channels: channels of the blocks, deepest first, or of the result.
        decoder_use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        in_channels: channels of the image.
        classes: channels of the mask.
        activation: of the mask; see `segcore_smp.base.modules.Activation`.
        upsampling: factor from the decoder's result to the mask.
        aux_params: arguments of a classification head; the model then gives ``(mask, label)``.
        **kwargs: for ``tu-`` encoders; None is left out, and what is unknown is refused.
    """

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "resnet34",
        encoder_depth: int = 5,
        encoder_weights: Optional[str] = "imagenet",
        decoder_channels: int = 256,
        decoder_use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[Union[str, Callable]] = None,
        upsampling: int = 4,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        self.encoder = get_encoder(encoder_name, in_channels, encoder_depth, encoder_weights, **kwargs)
        self.decoder = UPerNetDecoder(self.encoder.out_channels, encoder_depth, decoder_channels, decoder_use_norm)
        add_heads(self, decoder_channels, classes, activation, aux_params, kernel_size=1, upsampling=upsampling)
        self.name = f"upernet-{encoder_name}"
        self.initialize()
