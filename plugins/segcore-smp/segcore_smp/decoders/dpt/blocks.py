"""Parts of DPT (https://arxiv.org/abs/2103.13413) for people's own networks, on segcore's."""

# ruff: noqa: ANN002, ANN003, ANN204, ARG002, UP045
# mypy: disable-error-code="no-untyped-def"

from fractions import Fraction
from typing import Optional

from segcore_plugin_decoders import dpt
from torch import Tensor, nn


class ReadoutConcatBlock(dpt.CatReadout):
    """Projects the class token together with each pixel: linear layer on both, GELU.

    Args:
        embed_dim: channels C.
        has_prefix_tokens: whether tokens will come; without them the pixels are projected alone.
    """

    def __init__(self, embed_dim: int, has_prefix_tokens: bool):
        super().__init__(embed_dim, has_prefix_tokens, legacy=True)

    def forward(self, features: Tensor, prefix_tokens: Optional[Tensor] = None) -> Tensor:
        """Turn (N, C, H, W) and tokens (N, T, C), the class token first, into (N, C, H, W)."""
        return super().forward(features, prefix_tokens)


class ReadoutAddBlock(nn.Module):
    """Adds the mean of the prefix tokens to each pixel."""

    def forward(self, features: Tensor, prefix_tokens: Optional[Tensor] = None) -> Tensor:
        """Turn (N, C, H, W) and tokens (N, T, C) into (N, C, H, W)."""
        return features if prefix_tokens is None else features + prefix_tokens.mean(dim=1)[:, :, None, None]


class ReadoutIgnoreBlock(nn.Module):
    """Leaves the prefix tokens out."""

    def forward(self, features: Tensor, *args, **kwargs) -> Tensor:
        """Return (N, C, H, W) as it is."""
        return features


class ReassembleBlock(dpt.Reassemble):
    """Projects a map, enlarges or reduces it, and projects it again.

    Args:
        in_channels: of the input.
        mid_channels: between the projections.
        out_channels: of the output.
        upsample_factor: of height and width: a whole number, of which a fraction is cut off, or below 1 the inverse of
            one.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, upsample_factor: int):
        down = upsample_factor < 1
        scale = Fraction(1, int(1 / upsample_factor)) if down else Fraction(int(upsample_factor))
        super().__init__(in_channels, mid_channels, out_channels, scale)


class ResidualConvBlock(dpt.ResidualUnit):
    """ReLU, 3x3 convolution and batch norm twice, added to the input; (N, C, H, W) to the same.

    Args:
        feature_dim: channels C.
    """

    def __init__(self, feature_dim: int):
        super().__init__(feature_dim)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into the same shape."""
        y = self.batch_norm_1(self.conv_1(self.activation(x)))
        return self.batch_norm_2(self.conv_2(self.activation(y))) + x  # type: ignore[no-any-return]


class FusionBlock(nn.Module):
    """Adds a map to what came from below, refines both, and doubles height and width.

    Args:
        feature_dim: channels C.
    """

    def __init__(self, feature_dim: int):
        super().__init__()
        self.residual_conv_block1 = ResidualConvBlock(feature_dim)
        self.residual_conv_block2 = ResidualConvBlock(feature_dim)
        self.project = nn.Conv2d(feature_dim, feature_dim, 1)

    def forward(self, feature: Tensor, previous_feature: Optional[Tensor] = None) -> Tensor:
        """Turn (N, C, H, W), and the same from below, into (N, C, 2H, 2W)."""
        fused = self.residual_conv_block1(feature)
        if previous_feature is not None:
            fused = fused + previous_feature
        fused = self.residual_conv_block2(fused)
        enlarged = nn.functional.interpolate(fused, scale_factor=2, mode="bilinear", align_corners=True)
        return self.project(enlarged)  # type: ignore[no-any-return]
