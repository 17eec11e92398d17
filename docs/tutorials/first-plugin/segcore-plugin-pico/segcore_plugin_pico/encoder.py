"""Pico: 25 thousand parameters, to show what an encoder is; no paper, no reference implementation."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from segcore import EncoderMixin
from torch import Tensor, nn


class Stage(nn.Module):
    """Halves the resolution, then mixes the channels: (N, before, H, W) to (N, after, H/2, W/2)."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, after, 3, stride=2, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.mix = nn.Conv2d(after, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller map."""
        x = F.relu(self.norm(self.down(x)))  # (N, after, H/2, W/2)
        mixed: Tensor = x + self.mix(x)
        return mixed


class PicoEncoder(nn.Module, EncoderMixin):
    """Five stages; each map has twice the channels of the one before.

    Args:
        width: channels at stride 2.
        depth: number of stages in use, 1 to 5; the others are not built.
        in_channels: channels of the image.
    """

    _first_conv = "stages.0.down"  # sees the image

    def __init__(self, width: int = 8, depth: int = 5, in_channels: int = 3) -> None:
        super().__init__()
        self._out_channels = [in_channels, *(width * 2**level for level in range(5))]  # of all maps, finest first
        self._depth = depth
        self._in_channels = in_channels
        widths = self.out_channels  # of the maps that `depth` keeps
        self.stages = nn.ModuleList(
            Stage(widths[i], widths[i + 1], groups=1 if i == 0 else widths[i]) for i in range(depth)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the image and one map per stage, finest first."""
        features = [x]
        for stage in self.stages:
            features.append(stage(features[-1]))  # (N, width * 2**i, H / 2**(i + 1), W / 2**(i + 1))
        return features

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights without the stages that `depth` leaves out."""
        unused = tuple(f"stages.{index}." for index in range(self.depth, 5))
        return {key: value for key, value in state.items() if not key.startswith(unused)}
