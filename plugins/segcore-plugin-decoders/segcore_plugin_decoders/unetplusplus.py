"""UnetPlusPlus: Unet whose skips are dense chains of convolutions between the levels.

Paper: Zhou et al. 2018, https://arxiv.org/abs/1807.10165. Keys as in segmentation_models_pytorch 0.6.0 (MIT): node
``x_d_l`` has the resolution of the l-th skip from below; the paper's X(i, j) has i = skips - 1 - l and j = l - d + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segcore import Activation, Decoder, FeatureInfo, IncompatiblePartsError, SegmentationHead
from segcore_plugin_decoders.heads import AuxiliaryHead
from segcore_plugin_decoders.layers import ATTENTIONS, Norm, UpBlock, initialise
from segcore_plugin_decoders.levels import size_at, upsampling_path
from segcore_plugin_decoders.options import INTERPOLATIONS, channels_of_blocks, check_choice
from segcore_plugin_decoders.unet import double_conv


class UnetPlusPlus(Decoder):
    """Decoder of Unet++; returns (N, channels[-1], H, W).

    Args:
        features: any encoder but an isotropic one.
        channels: of the outermost block of each level, deepest first; None as for Unet. Inner nodes have the channels
            of their skip.
        norm: as for Unet.
        attention: None or ``"scse"``.
        interpolation: as for Unet.
        center: two more convolutions on the deepest map; legacy builds them and leaves them out of the computation.
        deep_supervision: return the inner nodes of the finest skip too; the head then gives a mask for each in
            training mode, ``aux_0`` being the one after the most convolutions.
        legacy: as for Unet.
    """

    def __init__(
        self,
        features: FeatureInfo,
        channels: Sequence[int] | None = None,
        norm: Norm = "batchnorm",
        attention: str | None = None,
        interpolation: str = "nearest",
        center: bool = False,
        deep_supervision: bool = False,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_choice("unetplusplus", "attention", attention, ATTENTIONS)
        check_choice("unetplusplus", "interpolation", interpolation, INTERPOLATIONS)
        steps = upsampling_path(features, "unetplusplus")
        channels = channels_of_blocks("unetplusplus", channels, [step.stride for step in steps])
        skips = [step.channels for step in steps if step.skip is not None]
        if deep_supervision and len(skips) < 2:
            raise IncompatiblePartsError(
                f"unetplusplus: deep_supervision needs three or more maps below the image; the encoder gives strides "
                f"{', '.join(map(str, features.strides))}. Choose a larger encoder_depth."
            )
        self.maps = tuple(range(len(features) - 1, 0, -1))  # deepest first
        self.tail = tuple(step.stride for step in steps[len(skips) :])  # strides of the blocks without a skip
        self.deep_supervision, self.legacy = deep_supervision, legacy
        deepest = features.channels[-1]
        self.center = double_conv(deepest, norm) if center else nn.Identity()
        self.blocks = nn.ModuleDict()
        for row, skip in enumerate(skips):
            for column in range(row + 1):
                if column == 0:
                    previous, out = (deepest, *channels)[row], channels[row]
                else:
                    previous, out = skips[row - 1], skip
                joined = skip * (row + 1 - column)
                self.blocks[f"x_{column}_{row}"] = UpBlock(
                    previous, joined, out, norm, attention, interpolation, attend_input=True
                )
        for row, step in enumerate(steps[len(skips) :], start=len(skips)):
            self.blocks[f"x_0_{row}"] = UpBlock(
                (deepest, *channels)[row],
                0,
                channels[row],
                norm,
                attention,
                interpolation,
                attend_input=legacy and step.stride > 1,
                keep_unused=legacy,
            )
        self.skip_channels = skips
        self.out_channels, self.output_stride = channels[-1], 1
        self.head_align_corners = legacy
        initialise(self)

    def default_head(self, classes: int, activation: Activation = None) -> nn.Module:
        """Return the head, which gives one more mask per inner node if there is deep supervision."""
        if not self.deep_supervision:
            return super().default_head(classes, activation)
        inner = [
            SegmentationHead(self.skip_channels[-1], classes, self.head_kernel_size, activation)
            for _ in self.skip_channels[1:]
        ]
        return AuxiliaryHead(
            self.out_channels, classes, self.head_kernel_size, activation, self.head_align_corners, inner
        )

    def forward(self, features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Build the nodes level by level, deepest first, and upsample the outermost to the image's resolution."""
        maps = [features[index] for index in self.maps]
        below = [
            maps[0] if self.legacy else self.center(maps[0])
        ]  # nodes of the level below, outermost first; (N, C, H/32, W/32)
        for row, skip in enumerate(maps[1:]):
            nodes: list[Tensor] = []  # of this level, innermost first
            for column in range(row, -1, -1):
                joined = torch.cat([*nodes[::-1], skip], dim=1) if nodes else skip
                block = self.blocks[f"x_{column}_{row}"]
                nodes.append(block(below[column], skip.shape[-2:], joined))  # (N, C, H/stride, W/stride)
            below = [*nodes[::-1], skip]
        x = below[0]
        for row, stride in enumerate(self.tail, start=len(maps) - 1):
            x = self.blocks[f"x_0_{row}"](x, size_at(features[0], stride))
        return (x, *below[1:-1]) if self.deep_supervision else x
