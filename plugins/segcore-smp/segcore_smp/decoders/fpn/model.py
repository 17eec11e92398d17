"""The model FPN."""

# ruff: noqa: ANN204, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call"

from typing import Any, Optional

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads
from segcore_smp.decoders.fpn.decoder import FPNDecoder
from segcore_smp.encoders import get_encoder


class FPN(SegmentationModel):
    """FPN (https://arxiv.org/abs/1901.02446).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        decoder_pyramid_channels: channels of the pyramid.
        decoder_segmentation_channels: channels of the result.
        decoder_merge_policy: ``"add"`` or ``"cat"``.
        decoder_dropout: probability in training.
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
        encoder_depth: int = 5,
        encoder_weights: Optional[str] = "imagenet",
        decoder_pyramid_channels: int = 256,
        decoder_segmentation_channels: int = 128,
        decoder_merge_policy: str = "add",
        decoder_dropout: float = 0.2,
        decoder_interpolation: str = "nearest",
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[str] = None,
        upsampling: int = 4,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if encoder_name.startswith("mit_b") and encoder_depth != 5:
            raise ValueError(f"FPN takes encoder_name={encoder_name!r} with encoder_depth=5 only.")
        self.encoder = get_encoder(encoder_name, in_channels, encoder_depth, encoder_weights, **kwargs)
        self.decoder = FPNDecoder(
            self.encoder.out_channels,
            encoder_depth,
            decoder_pyramid_channels,
            decoder_segmentation_channels,
            decoder_dropout,
            decoder_merge_policy,
            decoder_interpolation,
        )
        factor = upsampling * self.decoder.stride / 4  # SMP's mask has another size than the image with depth 3 and 4
        add_heads(self, self.decoder.out_channels, classes, activation, aux_params, kernel_size=1, upsampling=factor)
        self.name = f"fpn-{encoder_name}"
        self.initialize()
