"""`PyramidNeck`: a pyramid of feature maps out of an encoder of one resolution, such as a plain ViT.

The simple feature pyramid of ViTDet (Li et al. 2022, https://arxiv.org/abs/2203.16527), written from the paper. It
differs in that the number of doublings follows from the encoder's stride, and that each level is resized to ceil(H/s)
where doubling and halving do not lead there, as with patches of 14 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.encoder import EncoderMixin
from segcore.errors import IncompatiblePartsError, OptionValueError

STRIDES = (4, 8, 16, 32)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each position."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PyramidNeck(nn.Module, EncoderMixin):
    """Wraps an encoder whose maps share one stride, and is itself an encoder with strides 4, 8, 16 and 32.

    All levels come from the encoder's last map: transposed convolutions double its resolution, max pooling halves it,
    then a 1x1 and a 3x3 convolution, each followed by a layer norm, give the channels. Map 0 is the encoder's own.

    Args:
        encoder: a module with `EncoderMixin`; all its maps below the image have one stride.
        channels: of each level.
        depth: 2 to 5; levels with a stride above ``2**depth`` are not built.

    Raises:
        IncompatiblePartsError: the encoder is a pyramid already.
        OptionValueError: an option is out of range.
    """

    def __init__(self, encoder: nn.Module, channels: int = 256, depth: int = 5) -> None:
        super().__init__()
        if not isinstance(encoder, EncoderMixin):
            raise OptionValueError(
                f"encoder={type(encoder).__name__}(...): a module with segcore.EncoderMixin is needed."
            )
        deep = encoder.strides[1:]
        if len(set(deep)) != 1:
            raise IncompatiblePartsError(
                f"the pyramid neck needs maps of one stride, as of a plain ViT; {type(encoder).__name__} gives "
                f"{', '.join(map(str, encoder.strides))}. Use it without a neck."
            )
        if channels < 1 or not 2 <= depth <= 5:
            raise OptionValueError(
                f"channels={channels!r}, depth={depth!r}: at least one channel and a depth of 2 to 5 are needed."
            )
        self.encoder = encoder
        self._depth = depth
        self._in_channels = encoder.in_channels
        self._size_multiple = encoder.size_multiple
        self._strides = (1, *STRIDES)
        # whole patches double and halve to the very size that a level should have: nothing is left to resize
        self._exact = encoder.size_multiple % deep[-1] == 0 and math.log2(deep[-1]).is_integer()
        self._out_channels = (encoder.out_channels[0], *(channels for _ in STRIDES))
        self.levels = nn.ModuleList(
            _level(encoder.out_channels[-1], channels, round(math.log2(deep[-1] / stride)))
            for stride in self.strides[1:]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return map 0 of the encoder and the levels (N, channels, ceil(H/s), ceil(W/s)), finest first."""
        maps = self.encoder(x)
        features = [maps[0]]
        for level, stride in zip(self.levels, self.strides[1:], strict=True):
            rescale, project = level[0], level[1]  # type: ignore[index]
            deep = rescale(maps[-1])  # (N, C, about H/s, about W/s)
            if not self._exact:
                size = (-(-x.shape[-2] // stride), -(-x.shape[-1] // stride))
                deep = F.interpolate(deep, size=size, mode="bilinear", align_corners=False)
            features.append(project(deep))
        return features

    def set_in_channels(self, in_channels: int, init: str = "repeat") -> None:
        """Make the wrapped encoder take images of another number of channels, keeping its weights."""
        self.encoder.set_in_channels(in_channels, init)
        self._in_channels = in_channels
        self._out_channels = (self.encoder.out_channels[0], *self._out_channels[1:])

    def adapt_input(self, state: Mapping[str, Tensor], init: str = "repeat") -> dict[str, Tensor]:
        """Return a state dict of this module whose first convolution fits the encoder's number of input channels."""
        inner = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
        adapted = self.encoder.adapt_input(inner, init)
        return dict(state) | {f"encoder.{key}": value for key, value in adapted.items()}


def _level(width: int, channels: int, doublings: int) -> nn.Sequential:
    """Return rescaling by ``2**doublings`` and the projection to `channels`."""
    rescale: list[nn.Module] = []
    for step in range(doublings):
        narrower = max(1, width // 2)
        if step:
            rescale += [ChannelNorm(width, eps=1e-6), nn.GELU()]
        rescale.append(nn.ConvTranspose2d(width, narrower, 2, stride=2))
        width = narrower
    rescale += [nn.MaxPool2d(2, ceil_mode=True) for _ in range(-doublings)]
    project = nn.Sequential(
        nn.Conv2d(width, channels, 1, bias=False),
        ChannelNorm(channels, eps=1e-6),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        ChannelNorm(channels, eps=1e-6),
    )
    return nn.Sequential(nn.Sequential(*rescale), project)
