"""Parts of Mix Transformer (https://arxiv.org/abs/2105.15203) for people's own networks.

The encoders here are segcore's, which attend faster. Written from the paper; names of parameters are those of the
published weights.
"""

# ruff: noqa: ANN001, ANN202, ANN204, B006, UP006, UP035
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import math
from typing import Any, List

import torch
from torch import Tensor, nn

from segcore_smp.encoders._draw import truncated_normal

STAGES = (1, 2, 3, 4)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn (N, H*W, C) into (N, C, H, W)."""
    return tokens.mT.reshape(len(tokens), -1, height, width)


def to_tokens(x: Tensor) -> Tensor:
    """Turn (N, C, H, W) into (N, H*W, C)."""
    return x.flatten(2).mT


class _Drawn(nn.Module):
    """Draws its parts when it is made; a subclass may draw them otherwise."""

    def _init_weights(self, m):
        """Draw a linear layer (truncated normal) or a convolution (normal, fan out per group); biases become zero."""
        if isinstance(m, nn.Linear):
            truncated_normal(m.weight)
        elif isinstance(m, nn.Conv2d):
            fan_out = math.prod(m.kernel_size) * m.out_channels // m.groups
            nn.init.normal_(m.weight, std=math.sqrt(2 / fan_out))
        else:
            return
        if m.bias is not None:
            nn.init.zeros_(m.bias)


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the channels of tokens (N, L, C) or of a map (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        if x.ndim != 4:
            return super().forward(x)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class DropPath(nn.Module):
    """Leaves a branch out, per sample, in training; what stays is scaled up.

    Args:
        drop_prob: probability in [0, 1).
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, ...) into the same shape."""
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty((len(x), *[1] * (x.ndim - 1))).bernoulli_(keep).div_(keep)


class DWConv(nn.Module):
    """3x3 convolution of each channel by itself, over tokens.

    Args:
        dim: channels C.
    """

    def __init__(self, dim=768):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Turn (N, height * width, C) into the same shape."""
        return to_tokens(self.dwconv(to_map(x, height, width)))


class Mlp(_Drawn):
    """Linear layer, depthwise convolution, activation, linear layer.

    Args:
        in_features: channels of the input.
        hidden_features: between the linear layers; None for `in_features`.
        out_features: of the output; None for `in_features`.
        act_layer: class of the activation.
        drop: probability in training, after the activation and at the end.
    """

    def __init__(self, in_features, hidden_features=None, out_features=None, act_layer=nn.GELU, drop=0.0):
        super().__init__()
        hidden = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.dwconv = DWConv(hidden)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden, out_features or in_features)
        self.drop = nn.Dropout(drop)
        self.apply(self._init_weights)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Turn (N, height * width, in_features) into (N, height * width, out_features)."""
        hidden = self.drop(self.act(self.dwconv(self.fc1(x), height, width)))
        return self.drop(self.fc2(hidden))  # type: ignore[no-any-return]


class Attention(_Drawn):
    """Attention of every token to a reduced map.

    Args:
        dim: channels C.
        num_heads: divides C.
        qkv_bias: give the queries, keys and values a bias.
        qk_scale: factor of the products; None for ``(C / num_heads) ** -0.5``.
        attn_drop: probability, of the attention, in training.
        proj_drop: probability, of the output, in training.
        sr_ratio: keys and values come from patches of this many pixels per side.

    Raises:
        ValueError: `num_heads` does not divide `dim`.
    """

    def __init__(
        self, dim, num_heads=8, qkv_bias=False, qk_scale=None, attn_drop=0.0, proj_drop=0.0, sr_ratio=1
    ):  # fmt: skip
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim={dim} must be a multiple of num_heads={num_heads}.")
        self.dim, self.num_heads, self.sr_ratio = dim, num_heads, sr_ratio
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.sr = nn.Conv2d(dim, dim, sr_ratio, sr_ratio) if sr_ratio > 1 else nn.Identity()
        self.norm = LayerNorm(dim) if sr_ratio > 1 else nn.Identity()
        self.apply(self._init_weights)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Turn (N, height * width, C) into the same shape."""
        query = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (N, heads, L, C/heads)
        if self.sr_ratio > 1:
            x = self.norm(to_tokens(self.sr(to_map(x, height, width))))  # (N, M, C), M = L / sr_ratio**2
        key, value = self.kv(x).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, M, C/heads)
        weights = self.attn_drop((query @ key.mT * self.scale).softmax(dim=-1))  # (N, heads, L, M)
        return self.proj_drop(self.proj((weights @ value).transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class Block(_Drawn):
    """Attention and feed-forward network, each behind a norm and beside a shortcut; (N, C, H, W) to the same.

    Args:
        dim: channels C.
        num_heads: of the attention.
        mlp_ratio: hidden channels of the feed-forward network, as a multiple of C.
        qkv_bias: see `Attention`.
        qk_scale: see `Attention`.
        drop: probability, of the outputs of both, in training.
        attn_drop: see `Attention`.
        drop_path: probability of leaving a branch out, per sample, in training.
        act_layer: class of the activation.
        norm_layer: makes a norm of tokens (N, L, C).
        sr_ratio: see `Attention`.
    """

    def __init__(
        self,
        dim,
        num_heads,
        mlp_ratio=4.0,
        qkv_bias=False,
        qk_scale=None,
        drop=0.0,
        attn_drop=0.0,
        drop_path=0.0,
        act_layer=nn.GELU,
        norm_layer=LayerNorm,
        sr_ratio=1,
    ):
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, qkv_bias, qk_scale, attn_drop, drop, sr_ratio)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)
        self.apply(self._init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into the same shape."""
        size = x.shape[2:]
        tokens = to_tokens(x)  # (N, H*W, C)
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), *size))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens), *size))
        return to_map(tokens, *size)


class OverlapPatchEmbed(_Drawn):
    """Strided convolution over patches that overlap, and a norm.

    Args:
        img_size: of the image, a number or two; only `num_patches` depends on it.
        patch_size: of the convolution's kernel, a number or two; half of it is padded.
        stride: of the convolution.
        in_chans: channels of the input.
        embed_dim: channels of the output.
    """

    def __init__(self, img_size=224, patch_size=7, stride=4, in_chans=3, embed_dim=768):
        super().__init__()
        self.img_size, self.patch_size = _pair(img_size), _pair(patch_size)
        self.H, self.W = (image // patch for image, patch in zip(self.img_size, self.patch_size, strict=True))
        self.num_patches = self.H * self.W
        padding = tuple(patch // 2 for patch in self.patch_size)
        self.proj = nn.Conv2d(in_chans, embed_dim, self.patch_size, stride, padding)  # type: ignore[arg-type]
        self.norm = LayerNorm(embed_dim)
        self.apply(self._init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_chans, H, W) into (N, embed_dim, H / stride, W / stride), rounded up for odd patches."""
        return self.norm(self.proj(x))  # type: ignore[no-any-return]


def _pair(size: Any) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


class MixVisionTransformer(_Drawn):
    """Four stages of patches, blocks and a norm, without a classifier.

    Args:
        img_size: of the image; only the ``num_patches`` of the patches depend on it.
        patch_size: not used: the patches have 7 pixels at first, then 3.
        in_chans: channels of the image.
        num_classes: kept as an attribute.
        embed_dims: channels of the stages.
        num_heads: of the stages.
        mlp_ratios: of the stages, see `Block`.
        qkv_bias: see `Attention`.
        qk_scale: see `Attention`.
        drop_rate: ``drop`` of the blocks.
        attn_drop_rate: ``attn_drop`` of the blocks.
        drop_path_rate: ``drop_path`` of the last block; it grows linearly from 0.
        norm_layer: makes a norm of tokens (N, L, C) and maps (N, C, H, W).
        depths: number of blocks of the stages.
        sr_ratios: of the stages, see `Attention`.
    """

    def __init__(
        self,
        img_size=224,
        patch_size=16,  # noqa: ARG002
        in_chans=3,
        num_classes=1000,
        embed_dims=[64, 128, 256, 512],
        num_heads=[1, 2, 4, 8],
        mlp_ratios=[4, 4, 4, 4],
        qkv_bias=False,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.0,
        norm_layer=LayerNorm,
        depths=[3, 4, 6, 3],
        sr_ratios=[8, 4, 2, 1],
    ):
        super().__init__()
        self.num_classes, self.depths, self.embed_dim = num_classes, depths, embed_dims[-1]
        self.patch_embed1 = OverlapPatchEmbed(img_size, 7, 4, in_chans, embed_dims[0])
        for stage in STAGES[1:]:
            size, widths = img_size // 2**stage, embed_dims[stage - 2 : stage]
            self.add_module(f"patch_embed{stage}", OverlapPatchEmbed(size, 3, 2, *widths))
        rates = iter(self._rates(drop_path_rate))
        for stage, dim, heads, ratio, depth, reduction in zip(
            STAGES, embed_dims, num_heads, mlp_ratios, depths, sr_ratios, strict=True
        ):
            blocks = (
                Block(
                    dim,
                    heads,
                    ratio,
                    qkv_bias,
                    qk_scale,
                    drop_rate,
                    attn_drop_rate,
                    next(rates),
                    norm_layer=norm_layer,
                    sr_ratio=reduction,
                )
                for _ in range(depth)
            )
            self.add_module(f"block{stage}", nn.Sequential(*blocks))
            self.add_module(f"norm{stage}", norm_layer(dim))
        self.apply(self._init_weights)

    def _rates(self, last: float) -> list[float]:
        return torch.linspace(0, last, sum(self.depths), device="cpu").tolist()

    def init_weights(self, pretrained=None):
        """Do nothing; for programs that call it."""

    def reset_drop_path(self, drop_path_rate):
        """Set the ``drop_path`` of the last block, and the others in proportion; blocks made with 0 keep 0."""
        blocks = [block for stage in STAGES for block in getattr(self, f"block{stage}")]
        for block, rate in zip(blocks, self._rates(drop_path_rate), strict=True):
            block.drop_path.drop_prob = rate

    def freeze_patch_emb(self):
        """Stop training the first patches."""
        self.patch_embed1.requires_grad_(False)

    def no_weight_decay(self):
        """Return names of parameters that weight decay would harm, in networks that have them."""
        return {"cls_token", *(f"pos_embed{stage}" for stage in STAGES)}

    def get_classifier(self):
        """Return the classifier that `reset_classifier` made."""
        return self.head

    def reset_classifier(self, num_classes, global_pool=""):  # noqa: ARG002
        """Make a linear classifier ``head``, which no method here calls; 0 classes for none."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.embed_dim, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, x: Tensor) -> List[Tensor]:
        """Return the maps (N, C, H, W) of the stages, of the strides 4, 8, 16 and 32."""
        maps = []
        for stage in STAGES:
            for part in ("patch_embed", "block", "norm"):
                x = getattr(self, f"{part}{stage}")(x)
            x = x.contiguous()
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> List[Tensor]:
        """Return the maps of `forward_features`."""
        return self.forward_features(x)
