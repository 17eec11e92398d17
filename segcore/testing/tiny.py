"""Tiny encoders of every shape, and a tiny decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.decoder import Decoder
from segcore.encoder import EncoderMixin
from segcore.features import FeatureInfo


class TinyEncoder(nn.Module, EncoderMixin):
    """A small convolutional encoder of any shape, for tests.

    Args:
        depth: number of downsampling stages, 1 to 5.
        in_channels: channels of the image.
        strides: nominal stride of each feature map, the first 1.
        output_stride: deepest stride; deeper maps keep this one.
        width: channels of the first map below the image; each deeper map has eight more.
        stem: if True, map 0 is a feature of `width` channels at stride 1 instead of the image.
        prefix_tokens: number of tokens that accompany each map, as in a ViT.
    """

    _first_conv = "first"

    def __init__(
        self,
        depth: int = 5,
        in_channels: int = 3,
        output_stride: int = 32,
        strides: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
        width: int = 8,
        stem: bool = False,
        prefix_tokens: int = 0,
    ) -> None:
        super().__init__()
        channels = [width if stem else in_channels, *(width + 8 * level for level in range(len(strides) - 1))]
        self._out_channels, self._strides, self._depth, self._in_channels = channels, strides, depth, in_channels
        self._output_stride = output_stride
        self._prefix_tokens = prefix_tokens
        self.stem = stem
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.stages = nn.ModuleList()
        previous, current = width, 1
        for out, stride in zip(self.out_channels[1:], self.strides[1:], strict=True):
            step = stride // current
            conv = nn.Conv2d(previous, out, 3, stride=step, padding=1, bias=False)
            self.stages.append(nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU()))
            previous, current = out, stride

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps (N, C, ceil(H/s), ceil(W/s)), finest first."""
        deep = self.first(x)
        features = [deep if self.stem else x]
        for stage in self.stages:
            deep = stage(deep)
            features.append(deep)
        return features

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights without those of the stages that `depth` leaves out."""
        beyond = tuple(f"stages.{index}." for index in range(len(self.stages), 6))
        return {key: value for key, value in state.items() if not key.startswith(beyond)}

    def forward_with_prefix(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the feature maps, and for each below the image its tokens (N, prefix_tokens, C)."""
        features = self(x)
        pooled = [feature.mean((2, 3))[:, None] for feature in features[1:]]
        return features, [token.repeat(1, self._prefix_tokens, 1) for token in pooled]


def zoo() -> dict[str, TinyEncoder]:
    """Return one encoder of each shape that decoders meet, by name."""
    shapes: dict[str, dict[str, Any]] = {
        "five levels": {},
        "five levels, depth 3": {"depth": 3},
        "five levels, depth 4": {"depth": 4},
        "no stride 2": {"strides": (1, 4, 8, 16, 32)},
        "stride-1 feature": {"stem": True},
        "output stride 16": {"output_stride": 16},
        "output stride 8": {"output_stride": 8},
        "plain ViT": {"strides": (1, 16, 16, 16, 16)},
        "plain ViT with tokens": {"strides": (1, 16, 16, 16, 16), "prefix_tokens": 2},
    }
    return {name: TinyEncoder(**shape) for name, shape in shapes.items()}


class TinyDecoder(Decoder):
    """Resizes every feature map to stride 2 or finer and adds their projections, for tests."""

    def __init__(self, features: FeatureInfo, channels: int = 8) -> None:
        super().__init__()
        self.out_channels = channels
        self.output_stride = features.strides[1]
        self.project = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in features.channels[1:])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return (N, channels, h, w) at the size of the finest map below the image."""
        size = features[1].shape[-2:]
        maps = [project(x) for project, x in zip(self.project, features[1:], strict=True)]
        return sum((F.interpolate(x, size=size) for x in maps[1:]), maps[0])
