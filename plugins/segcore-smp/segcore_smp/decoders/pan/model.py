"""The model PAN."""

# ruff: noqa: ANN204, UP007, UP035, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call"

from typing import Any, Callable, Literal, Optional, Union

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads, renamed
from segcore_smp.decoders.pan.decoder import PANDecoder
from segcore_smp.encoders import get_encoder


class PAN(SegmentationModel):
    """PAN (https://arxiv.org/abs/1805.10180).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        encoder_output_stride: stride of the deepest map.
        decoder_channels: channels of the blocks, deepest first, or of the result.
        decoder_interpolation: mode of the resizes.
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
        encoder_depth: Literal[3, 4, 5] = 5,
        encoder_weights: Optional[str] = "imagenet",
        encoder_output_stride: Literal[16, 32] = 16,
        decoder_channels: int = 32,
        decoder_interpolation: str = "bilinear",
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[Union[str, Callable]] = None,
        upsampling: int = 4,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if encoder_output_stride not in {16, 32}:
            raise ValueError(f"PAN support output stride 16 or 32, got {encoder_output_stride}.")
        decoder_interpolation = renamed(kwargs, "upscale_mode", "decoder_interpolation", decoder_interpolation)
        self.encoder = get_encoder(
            encoder_name, in_channels, encoder_depth, encoder_weights, encoder_output_stride, **kwargs
        )
        self.decoder = PANDecoder(self.encoder.out_channels, encoder_depth, decoder_channels, decoder_interpolation)
        add_heads(self, decoder_channels, classes, activation, aux_params, kernel_size=3, upsampling=upsampling)
        self.name = f"pan-{encoder_name}"
        self.initialize()
