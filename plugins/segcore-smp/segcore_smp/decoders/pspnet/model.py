"""The model PSPNet."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call"

from typing import Any, Callable, Dict, Optional, Union

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads, renamed
from segcore_smp.decoders.pspnet.decoder import PSPDecoder
from segcore_smp.encoders import get_encoder


class PSPNet(SegmentationModel):
    """PSPNet (https://arxiv.org/abs/1612.01105).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        encoder_depth: number of downsampling stages in use.
        psp_out_channels: channels of the result.
        decoder_use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        psp_dropout: probability in training.
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
        encoder_weights: Optional[str] = "imagenet",
        encoder_depth: int = 3,
        psp_out_channels: int = 512,
        decoder_use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        psp_dropout: float = 0.2,
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[Union[str, Callable]] = None,
        upsampling: int = 8,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        decoder_use_norm = renamed(kwargs, "psp_use_batchnorm", "decoder_use_norm", decoder_use_norm)
        self.encoder = get_encoder(encoder_name, in_channels, encoder_depth, encoder_weights, **kwargs)
        self.decoder = PSPDecoder(self.encoder.out_channels, decoder_use_norm, psp_out_channels, psp_dropout)
        factor = upsampling * self.decoder.stride / 8  # SMP's mask has the image's size with depth 3 only
        add_heads(self, psp_out_channels, classes, activation, aux_params or None, kernel_size=3, upsampling=factor)
        self.name = f"psp-{encoder_name}"
        self.initialize()
