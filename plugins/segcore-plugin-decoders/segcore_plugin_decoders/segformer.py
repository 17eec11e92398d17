"""Segformer: every level is projected linearly, resized to stride 4 and fused by a 1x1 convolution.

Paper: Xie et al. 2021, https://arxiv.org/abs/2105.15203. Keys as in segmentation_models_pytorch 0.6.0 (MIT).

Projection, bilinear resize and 1x1 fusion are linear, and the first and last act on channels only, so they commute
with the resize: here each level gets the product of its two matrices at its own resolution, and the results are
resized and added. That gives the same values up to rounding for a third of the time.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segcore import Decoder, FeatureInfo
from segcore_plugin_decoders.layers import ConvNormReLU, Norm, initialise, resize
from segcore_plugin_decoders.levels import pyramid_levels
from segcore_plugin_decoders.options import check_positive, check_probability


class Segformer(Decoder):
    """Decoder of SegFormer; returns (N, segmentation_channels, H/4, W/4).

    Args:
        features: an encoder with at least two maps of stride 4 and above.
        segmentation_channels: channels of all levels and of the result; the paper has 256 for MiT-B0 and B1, else 768.
        norm: as for Unet.
        dropout: probability of dropping a channel of the result in training.
        legacy: compute as segmentation_models_pytorch 0.6.0: a map of stride 2 is read too, and the head resizes with
            ``align_corners=True``.
    """

    head_kernel_size = 1

    def __init__(
        self,
        features: FeatureInfo,
        segmentation_channels: int = 256,
        norm: Norm = "batchnorm",
        dropout: float = 0.0,
        legacy: bool = False,
    ) -> None:
        super().__init__()
        check_positive("segformer", "segmentation_channels", segmentation_channels)
        check_probability("segformer", "dropout", dropout)
        levels = pyramid_levels(features, "segformer")
        self.finest = levels[0]
        self.levels = (levels if not legacy else tuple(range(1, len(features))))[::-1]  # deepest first
        self.mlp_stage = nn.ModuleList(
            nn.ModuleDict({"linear": nn.Linear(features.channels[level], segmentation_channels)})
            for level in self.levels
        )
        self.fuse_stage = ConvNormReLU(len(self.levels) * segmentation_channels, segmentation_channels, 1, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.out_channels, self.output_stride = segmentation_channels, features.strides[self.finest]
        self.head_align_corners = legacy
        initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Project each level, resize to the finest one, add, normalise."""
        size = features[self.finest].shape[-2:]
        fuse, norm, relu = self.fuse_stage
        assert isinstance(fuse, nn.Conv2d)
        linears = [stage["linear"] for stage in self.mlp_stage]  # type: ignore[index]
        parts = fuse.weight.flatten(1).chunk(len(linears), dim=1)  # (channels, channels) for each level
        fused: Tensor | None = None
        for level, linear, part in zip(self.levels, linears, parts, strict=True):
            weight, bias = part @ linear.weight, part @ linear.bias  # (channels, C), (channels)
            if fused is None and fuse.bias is not None:
                bias = bias + fuse.bias
            x = features[level]
            if level < self.finest:  # only legacy reads a finer map
                x = resize(x, size)
            x = F.conv2d(x, weight[:, :, None, None], bias)  # (N, channels, H/stride, W/stride)
            if level > self.finest:
                x = resize(x, size)  # (N, channels, H/4, W/4)
            fused = x if fused is None else fused + x
        return self.dropout(relu(norm(fused)))  # type: ignore[no-any-return]
