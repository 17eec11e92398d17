"""The model DPT."""

# ruff: noqa: ANN204, UP007, UP035, UP045
# mypy: disable-error-code="type-arg, arg-type, no-untyped-call, comparison-overlap, attr-defined"

import warnings
from typing import Any, Callable, Literal, Optional, Sequence, Union

import torch

from segcore_smp.base import ClassificationHead, SegmentationModel
from segcore_smp.base.hub_mixin import supports_config_loading
from segcore_smp.base.utils import is_torch_compiling
from segcore_smp.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from segcore_smp.encoders import TimmViTEncoder
from segcore_smp.encoders._advice import advice


class DPT(SegmentationModel):
    """DPT (https://arxiv.org/abs/2103.13413).

    Args:
        encoder_name: one of `segcore_smp.encoders.get_encoder_names`, or ``tu-`` and a name of timm's.
        encoder_depth: number of downsampling stages in use.
        encoder_weights: a tag, fetched when first used, or None for random weights; for ``tu-`` encoders True or None.
        encoder_output_indices: positions of the blocks that give a map; None for evenly spaced ones.
        decoder_readout: what becomes of the tokens: ``"cat"``, ``"add"`` or ``"ignore"``.
        decoder_intermediate_channels: channels of each map before the fusion.
        decoder_fusion_channels: channels of the fusion.
        in_channels: channels of the image.
        classes: channels of the mask.
        activation: of the mask; see `segcore_smp.base.modules.Activation`.
        aux_params: arguments of a classification head; the model then gives ``(mask, label)``.
        **kwargs: for ``tu-`` encoders; None is left out, and what is unknown is refused.
    """

    _is_torch_compilable = True
    requires_divisible_input_shape = True

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-vit_base_patch16_224.augreg_in21k",
        encoder_depth: int = 4,
        encoder_weights: Optional[str] = "imagenet",
        encoder_output_indices: Optional[list[int]] = None,
        decoder_readout: Literal["ignore", "add", "cat"] = "cat",
        decoder_intermediate_channels: Sequence[int] = (256, 512, 1024, 1024),
        decoder_fusion_channels: int = 256,
        in_channels: int = 3,
        classes: int = 1,
        activation: Optional[Union[str, Callable]] = None,
        aux_params: Optional[dict] = None,
        **kwargs: dict[str, Any],
    ):
        super().__init__()
        if not encoder_name.startswith("tu-"):
            raise ValueError(f"DPT takes encoders of timm, whose names begin with 'tu-', got {encoder_name!r}.")
        if decoder_readout not in {"ignore", "add", "cat"}:
            raise ValueError(f"Invalid decoder readout mode {decoder_readout!r}; it is 'ignore', 'add' or 'cat'.")
        name = encoder_name.removeprefix("tu-")
        options = {key: value for key, value in kwargs.items() if value is not None}
        with advice(encoder_name, encoder_weights):
            self.encoder = TimmViTEncoder(
                name,
                pretrained=encoder_weights is not None and encoder_weights is not False,
                in_channels=in_channels,
                depth=encoder_depth,
                output_indices=encoder_output_indices,
                **options,
            )
        if not self.encoder.has_prefix_tokens and decoder_readout != "ignore":
            warnings.warn(
                f"{encoder_name!r} has no tokens, so decoder_readout={decoder_readout!r} has nothing to read: "
                "write decoder_readout='ignore'.",
                UserWarning,
                stacklevel=3,
            )
        self.decoder = DPTDecoder(
            self.encoder.out_channels,
            self.encoder.output_strides,
            self.encoder.has_prefix_tokens,
            decoder_readout,
            decoder_intermediate_channels,
            decoder_fusion_channels,
        )
        self.segmentation_head = DPTSegmentationHead(decoder_fusion_channels, classes, activation, 3, 2)
        self.classification_head = None
        if aux_params is not None:
            self.classification_head = ClassificationHead(self.encoder.out_channels[-1], **aux_params)
        self.name = f"dpt-{name}"
        self.initialize()

    def forward(self, x: torch.Tensor) -> Any:
        """Return the mask (N, classes, H, W), or ``(mask, label)`` with a classification head."""
        if not (torch.jit.is_scripting() or torch.jit.is_tracing() or is_torch_compiling()):
            self.check_input_shape(x)
        features, prefix_tokens = self.encoder(x)
        masks = self.segmentation_head(self.decoder(features, prefix_tokens))
        if self.classification_head is not None:
            return masks, self.classification_head(features[-1])
        return masks
