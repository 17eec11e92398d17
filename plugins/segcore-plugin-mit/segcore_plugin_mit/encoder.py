"""Mix Transformer, the encoder of SegFormer.

Paper: "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers"
(https://arxiv.org/abs/2105.15203). Written from the paper; names of parameters are those of the published weights
(https://github.com/NVlabs/SegFormer), which are under a licence of their own. Only the stages that `depth` uses are
built, and attention is torch's fused one.

Tokens (N, H*W, C) and maps (N, C, H, W) in channels-last order are one layout in memory: going from one to the other
copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import EncoderMixin, InputError, OptionValueError

STAGES = 4
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
EXPANSION = 4  # of the feed-forward network
SMALLEST = 29  # pixels; below, the first stage has fewer than 8 rows, and attention could not reduce them


class Linear(nn.Linear):
    """Linear layer that begins with a normal weight and no bias."""

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class Conv2d(nn.Conv2d):
    """Convolution that begins with a normal weight (fan out per group) and no bias."""

    def reset_parameters(self) -> None:
        """Draw new weights."""
        fan_out = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class DepthwiseConv2d(Conv2d):
    """3x3 convolution of each channel by itself, (N, C, H, W) to the same, fast for channels-last maps."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve in the layout of the map: the CPU kernel asks the weight, and would rearrange the map for it."""
        weight = self.weight.to(memory_format=torch.channels_last)
        return self._conv_forward(x, weight, self.bias)  # type: ignore[no-any-return]


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn (N, H*W, C) into (N, C, H, W)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def to_tokens(x: Tensor) -> Tensor:
    """Turn (N, C, H, W) into (N, H*W, C)."""
    return x.flatten(2).transpose(1, 2)


class PatchEmbed(nn.Module):
    """Overlapping patches: a strided convolution and a norm; (N, C, H, W) to (N, dim, H/stride, W/stride)."""

    def __init__(self, in_channels: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = Conv2d(in_channels, dim, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Return the tokens (N, h*w, dim), h and w."""
        x = self.proj(x)  # (N, dim, H/stride, W/stride)
        height, width = x.shape[-2:]
        return self.norm(to_tokens(x)), height, width


class Attention(nn.Module):
    """Attention of every token to a reduced map: keys and values come from patches of `reduction` pixels."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduces = reduction > 1
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.proj = Linear(dim, dim)
        if self.reduces:
            self.sr = Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Take tokens (N, H*W, C) to the same."""
        query = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (N, heads, H*W, C/heads)
        if self.reduces:
            x = self.norm(to_tokens(self.sr(to_map(x, height, width))))  # (N, M, C), M = H*W/reduction**2
        key, value = self.kv(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, M, C/heads)
        x = F.scaled_dot_product_attention(query, key, value)  # (N, heads, H*W, C/heads)
        return self.proj(x.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class TokenConv(nn.Module):
    """3x3 depthwise convolution over tokens; tells them where they are."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = DepthwiseConv2d(dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Take tokens (N, H*W, C) to the same."""
        return to_tokens(self.dwconv(to_map(x, height, width)))


class FeedForward(nn.Module):
    """Mix-FFN: linear, depthwise convolution, GELU, linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, EXPANSION * dim)
        self.dwconv = TokenConv(EXPANSION * dim)
        self.act = nn.GELU()
        self.fc2 = Linear(EXPANSION * dim, dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Take tokens (N, H*W, C) to the same."""
        x = self.act(self.dwconv(self.fc1(x), height, width))  # (N, H*W, 4*C)
        return self.fc2(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward network, each behind a norm and beside a shortcut.

    Args:
        dim: channels.
        heads: of the attention.
        reduction: of the attention's keys and values.
        drop_path_rate: probability that training skips a branch, per sample.
    """

    def __init__(self, dim: int, heads: int, reduction: int, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = FeedForward(dim)
        self.drop_path_rate = drop_path_rate

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Take tokens (N, H*W, C) to the same."""
        x = x + self._drop_path(self.attn(self.norm1(x), height, width))
        return x + self._drop_path(self.mlp(self.norm2(x), height, width))

    def _drop_path(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path_rate == 0:
            return x
        keep = 1 - self.drop_path_rate
        return x * x.new_empty((x.shape[0], 1, 1)).bernoulli_(keep).div_(keep)


class MixTransformerEncoder(nn.Module, EncoderMixin):
    """Feature maps of a Mix Transformer: the image, and one map after each stage. There is none at stride 2.

    Args:
        dims: channels of the four stages.
        layers: blocks of the four stages.
        depth: levels down to stride ``2**depth``, 1 to 5; further stages are not built. 2 leaves the first stage, and
            1 nothing but the image.
        in_channels: channels of the image.
        drop_path_rate: probability of skipping a branch of the last block while training; grows linearly from 0.

    Raises:
        OptionValueError: for a value that an option cannot take.

    Example:
        >>> import torch
        >>> encoder = MixTransformerEncoder((32, 64, 160, 256), (2, 2, 2, 2), depth=4)
        >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, 64, 64))]
        [(3, 64, 64), (32, 16, 16), (64, 8, 8), (160, 4, 4)]
    """

    _strides = (1, 4, 8, 16, 32)
    _first_conv: str | tuple[str, ...] = "patch_embed1.proj"

    def __init__(
        self,
        dims: Sequence[int],
        layers: Sequence[int],
        depth: int = 5,
        in_channels: int = 3,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        _check(dims, layers, depth, in_channels, drop_path_rate)
        self._depth, self._in_channels, self._out_channels = depth, in_channels, (in_channels, *dims)
        if depth == 1:
            self._first_conv = ()
        steps = max(1, sum(layers) - 1)
        rates = iter([drop_path_rate * index / steps for index in range(sum(layers))])
        channels = in_channels
        for stage in range(depth - 1):
            dim = dims[stage]
            patches = PatchEmbed(channels, dim, *((7, 4) if stage == 0 else (3, 2)))
            blocks = nn.ModuleList(
                Block(dim, HEADS[stage], REDUCTIONS[stage], next(rates)) for _ in range(layers[stage])
            )
            self.add_module(f"patch_embed{stage + 1}", patches)
            self.add_module(f"block{stage + 1}", blocks)
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(dim, eps=1e-6))
            channels = dim

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return ``depth`` feature maps (N, C, ceil(H/s), ceil(W/s)), finest first; the first is `x`.

        Raises:
            InputError: for an image below 29 x 29 pixels.
        """
        if self._depth > 1 and (x.shape[-2] < SMALLEST or x.shape[-1] < SMALLEST):
            raise InputError(
                f"a Mix Transformer needs images of at least {SMALLEST} x {SMALLEST} pixels, "
                f"got {x.shape[-2]} x {x.shape[-1]}. Enlarge or pad them."
            )
        features = [x]
        for stage in range(1, self._depth):
            tokens, height, width = getattr(self, f"patch_embed{stage}")(x)  # (N, h*w, C)
            for block in getattr(self, f"block{stage}"):
                tokens = block(tokens, height, width)
            tokens = getattr(self, f"norm{stage}")(tokens)
            x = to_map(tokens, height, width).contiguous()  # (N, C, H/s, W/s), s = 4, 8, 16, 32
            features.append(x)
        return features

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of a whole network without its classifier and the stages that are not built."""
        unbuilt = range(self._depth, STAGES + 1)
        dropped = {"head", *(f"{part}{stage}" for part in ("patch_embed", "block", "norm") for stage in unbuilt)}
        return {key: value for key, value in state.items() if key.partition(".")[0] not in dropped}


def _check(dims: Sequence[int], layers: Sequence[int], depth: int, in_channels: int, drop_path_rate: float) -> None:
    if len(dims) != STAGES or any(dim % heads for dim, heads in zip(dims, HEADS, strict=True)):
        raise OptionValueError(f"dims={dims!r}: four numbers of channels are needed, multiples of 1, 2, 5 and 8.")
    if len(layers) != STAGES or min(layers) < 1:
        raise OptionValueError(f"layers={layers!r}: four stages of at least one block each are needed.")
    if depth not in range(1, 6):
        raise OptionValueError(f"depth={depth!r}: a Mix Transformer has depths 1 to 5 (its maps: stride 4 to 32).")
    if in_channels < 1:
        raise OptionValueError(f"in_channels={in_channels!r}: an image has at least one channel.")
    if not 0 <= drop_path_rate < 1:
        raise OptionValueError(f"drop_path_rate={drop_path_rate!r} is no probability in [0, 1).")
