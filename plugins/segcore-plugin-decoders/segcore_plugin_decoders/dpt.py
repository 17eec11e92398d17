"""DPT: maps of a plain ViT are brought to four scales and fused by residual convolutions.

Paper: Ranftl et al. 2021, https://arxiv.org/abs/2103.13413; reference https://github.com/isl-org/DPT (MIT). Keys as in
segmentation_models_pytorch 0.6.0 (MIT), which applies a residual unit in the deepest block that the reference never
trained, adds the mean of all prefix tokens instead of the class token, and fails on patches of 14 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor, nn

from segcore import Activation, Decoder, FeatureInfo, IncompatiblePartsError, SegmentationHead, make_activation
from segcore_plugin_decoders.layers import initialise, resize
from segcore_plugin_decoders.levels import deepest_level
from segcore_plugin_decoders.options import channels_of_levels, check_choice, check_positive

INTERMEDIATE_CHANNELS = (256, 512, 1024, 1024)


class DPT(Decoder):
    """Decoder of DPT; returns (N, fusion_channels, 8H/p, 8W/p) for patches of p pixels. Asks for depth 4.

    Args:
        features: a plain ViT, or an encoder with maps of stride 4 and above.
        readout: what becomes of the class token: ``"cat"`` projects it together with each pixel, ``"add"`` adds it,
            ``"ignore"`` leaves it out; None for ``"cat"`` where the encoder has such a token, else ``"ignore"``.
        intermediate_channels: of each map before the projection to `fusion_channels`, shallow to deep; None for
            (256, 512, 1024, 1024).
        fusion_channels: channels of the fusion and of the result.
        legacy: compute as segmentation_models_pytorch 0.6.0: the deepest block's first residual unit, the mean of all
            prefix tokens for ``"add"``, ``"cat"`` also without tokens, all maps whatever their strides, and scales
            that lead to the strides 4, 8, 16, 32.

    Resizes use ``align_corners=True``, as in the reference, the head's too.
    """

    encoder_options: ClassVar[Mapping[str, object]] = {"depth": 4}
    head_align_corners = True

    def __init__(
        self,
        features: FeatureInfo,
        readout: str | None = None,
        intermediate_channels: Sequence[int] | None = None,
        fusion_channels: int = 256,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        has_prefix = features.prefix_tokens > 0
        if readout is None:
            readout = "cat" if has_prefix or legacy else "ignore"
        check_choice("dpt", "readout", readout, ("cat", "add", "ignore"))
        check_positive("dpt", "fusion_channels", fusion_channels)
        if readout != "ignore" and not has_prefix and not legacy:
            raise IncompatiblePartsError(
                f"dpt: readout={readout!r} needs the class token of a ViT, and this encoder gives none. "
                f"Use decoder_readout='ignore'."
            )
        self.levels = _levels(features, legacy)
        scales = _scales([features.strides[level] for level in self.levels], legacy)
        middle = channels_of_levels("dpt", intermediate_channels, INTERMEDIATE_CHANNELS, len(self.levels))
        self.reads_prefix_tokens = readout != "ignore" and has_prefix
        counts = [features.channels[level] for level in self.levels]
        readouts = {"cat": CatReadout, "add": AddReadout, "ignore": NoReadout}
        self.projection_blocks = nn.ModuleList(readouts[readout](count, has_prefix, legacy) for count in counts)
        self.reassemble_blocks = nn.ModuleList(
            Reassemble(count, hidden, fusion_channels, scale)
            for count, hidden, scale in zip(counts, middle, scales, strict=True)
        )
        self.fusion_blocks = nn.ModuleList(
            Fusion(fusion_channels, joins=legacy or index > 0) for index in range(len(self.levels))
        )
        self.out_channels = fusion_channels
        finest = Fraction(features.strides[self.levels[0]]) / scales[0]
        self.output_stride = max(1, round(finest / 2))  # nominal: 8 pixels per patch, whatever the patch
        initialise(self)

    def default_head(self, classes: int, activation: Activation = None) -> nn.Module:
        """Return DPT's own head."""
        return DPTHead(self.out_channels, classes, activation, self.head_align_corners)

    def forward(self, features: list[Tensor], prefix: list[Tensor] | None = None) -> Tensor:
        """Bring the maps to their scales and fuse them, deepest first.

        Args:
            features: one map per entry of the feature info.
            prefix: prefix tokens (N, tokens, C) of each map below the image, if `reads_prefix_tokens`.
        """
        maps = []
        for index, level in enumerate(self.levels):
            token = None if prefix is None else prefix[level - 1]
            projected = self.projection_blocks[index](features[level], token)  # (N, C, h, w)
            maps.append(self.reassemble_blocks[index](projected))  # (N, fusion_channels, 4h, 4w), ..., (h/2, w/2)
        x = None
        for index, fusion in enumerate(self.fusion_blocks):
            deep = len(maps) - 1 - index
            height, width = maps[deep].shape[-2:]
            size = maps[deep - 1].shape[-2:] if deep > 0 else (2 * height, 2 * width)
            x = fusion(maps[deep], x, size)  # (N, fusion_channels, *size)
        return x  # type: ignore[return-value]


def _levels(features: FeatureInfo, legacy: bool) -> tuple[int, ...]:
    deepest_level(features, "dpt")
    if legacy or features.isotropic or len(features) == 2:
        return tuple(range(1, len(features)))
    levels = features.from_stride(4)
    if not levels:
        raise IncompatiblePartsError(
            f"dpt needs feature maps of stride 4 and above; the encoder gives strides "
            f"{', '.join(map(str, features.strides))}. Choose a larger encoder_depth."
        )
    return levels


def _scales(strides: Sequence[int], legacy: bool) -> list[Fraction]:
    """Return the factor by which each map is enlarged: 4, 2, 1, 1/2 if all have one stride, else to 4, 8, 16, 32."""
    plain = len(set(strides)) == 1 and not legacy
    scales = [Fraction(16 if plain else stride, 2 ** (index + 2)) for index, stride in enumerate(strides)]
    for stride, scale in zip(strides, scales, strict=True):
        if scale.numerator != 1 and scale.denominator != 1:
            raise IncompatiblePartsError(
                f"dpt cannot scale a feature map of stride {stride} by {scale}: "
                f"strides must be powers of two, or all alike without legacy; got {tuple(strides)}."
            )
    return scales


class CatReadout(nn.Module):
    """Projects the class token together with each pixel: linear layer on both, GELU."""

    def __init__(self, channels: int, has_prefix: bool, legacy: bool) -> None:  # noqa: ARG002 - one shape for the three
        super().__init__()
        self.project = nn.Sequential(nn.Linear(channels * (2 if has_prefix else 1), channels), nn.GELU())

    def forward(self, x: Tensor, prefix: Tensor | None) -> Tensor:
        """Turn (N, C, h, w) and (N, tokens, C) into (N, C, h, w)."""
        pixels = x.flatten(2).transpose(1, 2).contiguous()  # (N, hw, C)
        if prefix is not None:
            pixels = torch.cat([pixels, prefix[:, :1].expand_as(pixels)], dim=2)  # (N, hw, 2C)
        return self.project(pixels).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class AddReadout(nn.Module):
    """Adds the class token to each pixel; in legacy the mean of all prefix tokens."""

    def __init__(self, channels: int, has_prefix: bool, legacy: bool) -> None:  # noqa: ARG002
        super().__init__()
        self.legacy = legacy

    def forward(self, x: Tensor, prefix: Tensor | None) -> Tensor:
        """Turn (N, C, h, w) and (N, tokens, C) into (N, C, h, w)."""
        if prefix is None:
            return x
        token = prefix.mean(dim=1) if self.legacy else prefix[:, 0]  # (N, C)
        return x + token[:, :, None, None]


class NoReadout(nn.Module):
    """Leaves the prefix tokens out."""

    def __init__(self, channels: int, has_prefix: bool, legacy: bool) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, x: Tensor, prefix: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return (N, C, h, w) as it is."""
        return x


class Reassemble(nn.Module):
    """Projects a map, enlarges or reduces it, and projects it to the channels of the fusion."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, scale: Fraction) -> None:
        super().__init__()
        self.project_to_out_channel = nn.Conv2d(in_channels, hidden, 1)
        self.upsample: nn.Module = nn.Identity()
        if scale > 1:
            self.upsample = nn.ConvTranspose2d(hidden, hidden, scale.numerator, stride=scale.numerator)
        elif scale < 1:
            self.upsample = nn.Conv2d(hidden, hidden, 3, stride=scale.denominator, padding=1)
        self.project_to_feature_dim = nn.Conv2d(hidden, out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, h, w) into (N, out_channels, scale * h, scale * w), rounded up."""
        return self.project_to_feature_dim(self.upsample(self.project_to_out_channel(x)))  # type: ignore[no-any-return]


class ResidualUnit(nn.Module):
    """ReLU, convolution and batch norm twice, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.batch_norm_1 = nn.BatchNorm2d(channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.batch_norm_2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into the same shape."""
        y = self.batch_norm_1(self.conv_1(torch.relu(x)))
        return self.batch_norm_2(self.conv_2(torch.relu(y))) + x  # type: ignore[no-any-return]


class Fusion(nn.Module):
    """Adds a map to what came from below, refines the sum, projects and enlarges it.

    Args:
        channels: of everything.
        joins: whether the map passes a residual unit first; in the reference only where something came from below.
    """

    def __init__(self, channels: int, joins: bool) -> None:
        super().__init__()
        self.residual_conv_block1: nn.Module = ResidualUnit(channels) if joins else nn.Identity()
        self.residual_conv_block2 = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, below: Tensor | None, size: Sequence[int]) -> Tensor:
        """Turn (N, C, h, w) and, but for the deepest, the same from below into (N, C, *size)."""
        x = self.residual_conv_block1(x)
        if below is not None:
            x = x + below
        x = resize(self.residual_conv_block2(x), size, "bilinear", align_corners=True)
        return self.project(x)  # type: ignore[no-any-return]


class DPTHead(nn.Module):
    """3x3 convolution, batch norm, ReLU, dropout of 0.1, 1x1 convolution, resize to the image, activation."""

    def __init__(self, in_channels: int, classes: int, activation: Activation, align_corners: bool) -> None:
        super().__init__()
        self.activation = make_activation(activation)
        classify = SegmentationHead(in_channels, classes, 1)[0]
        conv = nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False)
        initialise(conv)
        self.head = nn.Sequential(conv, nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), nn.Dropout(0.1), classify)
        self.align_corners = align_corners

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Turn (N, in_channels, h, w) into (N, classes, *size)."""
        return self.activation(resize(self.head(x), size, "bilinear", self.align_corners))  # type: ignore[no-any-return]
