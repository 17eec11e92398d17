"""DeepLabV3: atrous spatial pyramid pooling on the deepest map of a dilated encoder.

Paper: Chen et al. 2017, https://arxiv.org/abs/1706.05587. Keys as in segmentation_models_pytorch 0.6.0 (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from segcore import FeatureInfo
from segcore_plugin_decoders.aspp import ASPP, resolve_rates
from segcore_plugin_decoders.heads import FCNSupervised
from segcore_plugin_decoders.layers import Norm, initialise, is_identity, make_norm
from segcore_plugin_decoders.levels import deepest_level
from segcore_plugin_decoders.options import check_positive, check_probability


class DeepLabV3(FCNSupervised):
    """Decoder of DeepLabV3; returns (N, channels, H/8, W/8). Asks for output stride 8.

    Args:
        features: any encoder; the deepest map is read.
        channels: of the result.
        atrous_rates: three dilation rates; None for (12, 24, 36) at stride 8 and (6, 12, 18) above.
        aspp_separable: make the dilated convolutions separable.
        aspp_dropout: probability of dropping a value in training.
        norm: as for Unet; the branch that pools to one pixel has none.
        auxiliary: return the map before the deepest too; the head then gives a mask for it in training mode.
        legacy: compute as segmentation_models_pytorch 0.6.0: rates (12, 24, 36) at every stride, a norm on the pooled
            branch, and the head resizes with ``align_corners=True``.
    """

    encoder_options: ClassVar[Mapping[str, object]] = {"output_stride": 8}
    head_kernel_size = 1

    def __init__(
        self,
        features: FeatureInfo,
        channels: int = 256,
        atrous_rates: Sequence[int] | None = None,
        aspp_separable: bool = False,
        aspp_dropout: float = 0.5,
        norm: Norm = "batchnorm",
        auxiliary: bool = False,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_positive("deeplabv3", "channels", channels)
        check_probability("deeplabv3", "aspp_dropout", aspp_dropout)
        deepest = features.channels[deepest_level(features, "deeplabv3")]
        if auxiliary:
            self.read_auxiliary(features, "deeplabv3")
        rates = resolve_rates("deeplabv3", atrous_rates, features, legacy)
        self.aspp = ASPP(
            deepest, channels, rates, aspp_separable, aspp_dropout, norm, pool_norm=norm if legacy else "identity"
        )
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=is_identity(norm))
        self.bn = make_norm(norm, channels)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels, self.output_stride = channels, features.strides[-1]
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Look at the deepest map at several scales, and fuse."""
        x = self.relu(self.bn(self.conv(self.aspp(features[-1]))))  # (N, channels, H/8, W/8)
        return self.outputs(x, features)
