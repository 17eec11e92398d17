"""Unet: upsample, concatenate the skip, convolve twice, from the deepest map to the image's resolution.

Paper: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597. Keys as in segmentation_models_pytorch 0.6.0 (MIT).
Unlike the paper: norms, padded convolutions, resizing instead of up-convolutions, and no skip at stride 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segcore import Decoder, FeatureInfo
from segcore_plugin_decoders.layers import ATTENTIONS, ConvNormReLU, Norm, UpBlock, initialise
from segcore_plugin_decoders.levels import size_at, upsampling_path
from segcore_plugin_decoders.options import INTERPOLATIONS, channels_of_blocks, check_choice


class Unet(Decoder):
    """Decoder of Unet; returns (N, channels[-1], H, W).

    Args:
        features: any encoder but an isotropic one.
        channels: of each block, deepest first; None for 16 times the stride that a block produces, at most 256.
        norm: ``"batchnorm"``, ``"groupnorm"``, ``"layernorm"``, ``"instancenorm"`` or ``"identity"``.
        attention: None or ``"scse"``.
        interpolation: ``"nearest"``, ``"nearest-exact"``, ``"bilinear"``, ``"bicubic"`` or ``"area"``.
        center: two more convolutions on the deepest map, as segmentation_models_pytorch has for VGG.
        legacy: compute as segmentation_models_pytorch 0.6.0: attention also at the input of blocks without a skip
            (built but unused in the last one), and the head resizes with ``align_corners=True``.
    """

    def __init__(
        self,
        features: FeatureInfo,
        channels: Sequence[int] | None = None,
        norm: Norm = "batchnorm",
        attention: str | None = None,
        interpolation: str = "nearest",
        center: bool = False,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_choice("unet", "attention", attention, ATTENTIONS)
        check_choice("unet", "interpolation", interpolation, INTERPOLATIONS)
        self.steps = upsampling_path(features, "unet")
        channels = channels_of_blocks("unet", channels, [step.stride for step in self.steps])
        deepest = features.channels[-1]
        self.center = nn.Identity() if not center else double_conv(deepest, norm)
        self.blocks = nn.ModuleList()
        for step, previous, out in zip(self.steps, (deepest, *channels), channels, strict=False):
            has_skip = step.skip is not None
            block = UpBlock(
                previous,
                step.channels,
                out,
                norm,
                attention,
                interpolation,
                attend_input=has_skip or (legacy and step.stride > 1),
                keep_unused=legacy,
            )
            self.blocks.append(block)
        self.out_channels, self.output_stride = channels[-1], 1
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Fuse the maps, deepest first."""
        x = self.center(features[-1])  # (N, C, H/32, W/32)
        for step, block in zip(self.steps, self.blocks, strict=True):
            skip = None if step.skip is None else features[step.skip]
            size = size_at(features[0], step.stride) if skip is None else skip.shape[-2:]
            x = block(x, size, skip)  # (N, channels[i], H/stride, W/stride)
        return x  # type: ignore[no-any-return]


def double_conv(channels: int, norm: Norm) -> nn.Sequential:
    """Return two 3x3 convolutions that keep the channels."""
    return nn.Sequential(ConvNormReLU(channels, channels, 3, norm), ConvNormReLU(channels, channels, 3, norm))
