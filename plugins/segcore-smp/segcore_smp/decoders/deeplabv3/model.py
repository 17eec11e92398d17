"""The models DeepLabV3 and DeepLabV3+."""

# ruff: noqa: ANN204, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call, index, assignment"

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Optional

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads
from segcore_smp.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segcore_smp.encoders import get_encoder


class DeepLabV3(SegmentationModel):
    """DeepLabV3 (https://arxiv.org/abs/1706.05587).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        encoder_output_stride: stride of the deepest map.
        decoder_channels: channels of the blocks, deepest first, or of the result.
        decoder_atrous_rates: three dilation rates.
        decoder_aspp_separable: make the dilated convolutions separable.
        decoder_aspp_dropout: probability in training.
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
        encoder_output_stride: Literal[8, 16] = 8,
        decoder_channels: int = 256,
        decoder_atrous_rates: Iterable[int] = (12, 24, 36),
        decoder_aspp_separable: bool = False,
        decoder_aspp_dropout: float = 0.5,
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[str] = None,
        upsampling: Optional[int] = None,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if encoder_output_stride not in {8, 16}:
            raise ValueError(f"DeepLabV3 support output stride 8 or 16, got {encoder_output_stride}.")
        self.encoder = get_encoder(
            encoder_name, in_channels, encoder_depth, encoder_weights, encoder_output_stride, **kwargs
        )
        self.decoder = DeepLabV3Decoder(
            self.encoder.out_channels[-1],
            decoder_channels,
            decoder_atrous_rates,
            decoder_aspp_separable,
            decoder_aspp_dropout,
        )
        if upsampling is None:
            upsampling = self.encoder.output_stride
        add_heads(self, decoder_channels, classes, activation, aux_params, kernel_size=1, upsampling=upsampling)
        self.name = f"deeplabv3-{encoder_name}"

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a state dict, also one in which the decoder's parts are numbered."""
        parts = {"decoder.0.": "decoder.aspp.", "decoder.1.": "decoder.conv.", "decoder.2.": "decoder.bn."}
        state = {parts.get(key[:10], key[:10]) + key[10:]: value for key, value in state_dict.items()}
        return super().load_state_dict(state, *args, **kwargs)


class DeepLabV3Plus(SegmentationModel):
    """DeepLabV3Plus (https://arxiv.org/abs/1802.02611).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        encoder_output_stride: stride of the deepest map.
        decoder_channels: channels of the blocks, deepest first, or of the result.
        decoder_atrous_rates: three dilation rates.
        decoder_aspp_separable: make the dilated convolutions separable.
        decoder_aspp_dropout: probability in training.
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
        encoder_output_stride: Literal[8, 16] = 16,
        decoder_channels: int = 256,
        decoder_atrous_rates: Iterable[int] = (12, 24, 36),
        decoder_aspp_separable: bool = True,
        decoder_aspp_dropout: float = 0.5,
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[str] = None,
        upsampling: int = 4,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if encoder_output_stride not in {8, 16}:
            raise ValueError(f"DeepLabV3Plus support output stride 8 or 16, got {encoder_output_stride}.")
        self.encoder = get_encoder(
            encoder_name, in_channels, encoder_depth, encoder_weights, encoder_output_stride, **kwargs
        )
        self.decoder = DeepLabV3PlusDecoder(
            self.encoder.out_channels,
            encoder_depth,
            decoder_channels,
            decoder_atrous_rates,
            encoder_output_stride,
            decoder_aspp_separable,
            decoder_aspp_dropout,
        )
        add_heads(self, decoder_channels, classes, activation, aux_params, kernel_size=1, upsampling=upsampling)
        self.name = f"deeplabv3plus-{encoder_name}"
