"""The model Segformer."""

# ruff: noqa: ANN204, UP007, UP035, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call"

from typing import Any, Callable, Optional, Union

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads
from segcore_smp.decoders.segformer.decoder import SegformerDecoder
from segcore_smp.encoders import get_encoder


class Segformer(SegmentationModel):
    """Segformer (https://arxiv.org/abs/2105.15203).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        decoder_segmentation_channels: channels of the result.
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
        decoder_segmentation_channels: int = 256,
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[Union[str, Callable]] = None,
        upsampling: int = 4,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        self.encoder = get_encoder(encoder_name, in_channels, encoder_depth, encoder_weights, **kwargs)
        self.decoder = SegformerDecoder(self.encoder.out_channels, encoder_depth, decoder_segmentation_channels)
        add_heads(
            self, decoder_segmentation_channels, classes, activation, aux_params, kernel_size=1, upsampling=upsampling
        )
        self.name = f"segformer-{encoder_name}"
        self.initialize()
