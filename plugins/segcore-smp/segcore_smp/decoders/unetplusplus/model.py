"""The model UnetPlusPlus."""

# ruff: noqa: ANN204, UP006, UP007, UP035, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call"

from typing import Any, Callable, Dict, Optional, Sequence, Union

from segcore_smp.base import SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.decoders._model import add_heads, renamed
from segcore_smp.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segcore_smp.encoders import get_encoder


class UnetPlusPlus(SegmentationModel):
    """UnetPlusPlus (https://arxiv.org/abs/1807.10165).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        decoder_use_norm: see `segcore_smp.base.modules.get_norm_layer`.
        decoder_channels: channels of the blocks, deepest first, or of the result.
        decoder_attention_type: None or ``"scse"``.
        decoder_interpolation: mode of the resizes.
        in_channels: channels of the image.
        classes: channels of the mask.
        activation: of the mask; see `segcore_smp.base.modules.Activation`.
        aux_params: arguments of a classification head; the model then gives ``(mask, label)``.
        **kwargs: for ``tu-`` encoders; None is left out, and what is unknown is refused.
    """

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "resnet34",
        encoder_depth: int = 5,
        encoder_weights: Optional[str] = "imagenet",
        decoder_use_norm: Union[bool, str, Dict[str, Any]] = "batchnorm",
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        decoder_attention_type: Optional[str] = None,
        decoder_interpolation: str = "nearest",
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[Union[str, Callable]] = None,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if encoder_name.startswith("mit_b"):
            raise ValueError(f"UnetPlusPlus does not support encoder_name={encoder_name!r}.")
        decoder_use_norm = renamed(kwargs, "decoder_use_batchnorm", "decoder_use_norm", decoder_use_norm)
        self.encoder = get_encoder(encoder_name, in_channels, encoder_depth, encoder_weights, **kwargs)
        self.decoder = UnetPlusPlusDecoder(
            self.encoder.out_channels,
            decoder_channels,
            encoder_depth,
            decoder_use_norm,
            decoder_attention_type,
            interpolation_mode=decoder_interpolation,
            center=encoder_name.startswith("vgg"),
        )
        add_heads(self, decoder_channels[-1], classes, activation, aux_params, kernel_size=3)
        self.name = f"unetplusplus-{encoder_name}"
        self.initialize()
