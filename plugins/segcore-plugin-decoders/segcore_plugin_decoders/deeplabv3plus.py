"""DeepLabV3Plus: atrous spatial pyramid pooling, refined with the map of stride 4.

Paper: Chen et al. 2018, https://arxiv.org/abs/1802.02611. Keys as in segmentation_models_pytorch 0.6.0 (MIT). As
there, one separable convolution refines, where the paper has two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from segcore import Decoder, FeatureInfo, IncompatiblePartsError
from segcore_plugin_decoders.aspp import ASPP, resolve_rates, separable_conv
from segcore_plugin_decoders.layers import ConvNormReLU, Norm, initialise, resize
from segcore_plugin_decoders.levels import refuse_isotropic
from segcore_plugin_decoders.options import check_positive, check_probability

FINE_CHANNELS = 48  # of the projected map of stride 4, from the paper


class DeepLabV3Plus(Decoder):
    """Decoder of DeepLabV3+; returns (N, channels, H/4, W/4). Asks for output stride 16.

    Args:
        features: an encoder with a map of stride 4 and a deeper one.
        channels: of the result.
        atrous_rates: three dilation rates; None for (12, 24, 36) at stride 8 and (6, 12, 18) above.
        aspp_separable: make the dilated convolutions separable.
        aspp_dropout: probability of dropping a value in training.
        norm: as for Unet; the branch that pools to one pixel has none.
        legacy: compute as segmentation_models_pytorch 0.6.0: rates (12, 24, 36) at every stride, a norm on the pooled
            branch, and bilinear resizes, the head's too, with ``align_corners=True``.
    """

    encoder_options: ClassVar[Mapping[str, object]] = {"output_stride": 16}
    head_kernel_size = 1

    def __init__(
        self,
        features: FeatureInfo,
        channels: int = 256,
        atrous_rates: Sequence[int] | None = None,
        aspp_separable: bool = True,
        aspp_dropout: float = 0.5,
        norm: Norm = "batchnorm",
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_positive("deeplabv3plus", "channels", channels)
        check_probability("deeplabv3plus", "aspp_dropout", aspp_dropout)
        refuse_isotropic(features, "deeplabv3plus")
        features.require("deeplabv3plus", [4])
        if features.strides[-1] <= 4:
            raise IncompatiblePartsError(
                f"deeplabv3plus needs a feature map deeper than stride 4; the encoder gives strides "
                f"{', '.join(map(str, features.strides))}. Choose encoder_depth=3 or more."
            )
        self.fine = features.at(4)[-1]
        rates = resolve_rates("deeplabv3plus", atrous_rates, features, legacy)
        pool_norm = norm if legacy else "identity"
        self.aspp = nn.Sequential(
            ASPP(features.channels[-1], channels, rates, aspp_separable, aspp_dropout, norm, pool_norm),
            *separable_conv(channels, channels, norm),
        )
        self.block1 = ConvNormReLU(features.channels[self.fine], FINE_CHANNELS, 1, norm)
        self.block2 = nn.Sequential(*separable_conv(FINE_CHANNELS + channels, channels, norm))
        self.out_channels, self.output_stride = channels, 4
        self.align_corners = self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Look at the deepest map at several scales, and fuse with the map of stride 4."""
        fine = self.block1(features[self.fine])  # (N, 48, H/4, W/4)
        x = self.aspp(features[-1])  # (N, channels, H/16, W/16)
        x = resize(x, fine.shape[-2:], "bilinear", self.align_corners)
        return self.block2(torch.cat([x, fine], dim=1))  # type: ignore[no-any-return]
