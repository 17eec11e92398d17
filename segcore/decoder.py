"""The contract of decoders: built from the facts of an encoder, refusing at construction what they cannot use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from segcore.heads import Activation, SegmentationHead


class Decoder(nn.Module):
    """Fuses the feature maps of an encoder into one map for the segmentation head.

    A subclass takes a `FeatureInfo` as its first argument and explicit options after it, raises
    `IncompatiblePartsError` in ``__init__`` if the maps do not suit it, and sets there:

    - ``out_channels``: channels of what ``forward`` returns.
    - ``output_stride``: stride of what ``forward`` returns.

    ``forward(features: list[Tensor])`` gets one tensor (N, C, H/s, W/s) per entry of the feature info and returns
    (N, out_channels, H/output_stride, W/output_stride); other sizes it takes from the tensors, so that every image
    size works. Decoders know nothing of classes; only heads do.

    Attributes:
        reads_prefix_tokens: if True, ``forward(features, prefix)`` also gets the ViT's prefix tokens, one tensor
            (N, tokens, C) per map below the image.
        head_kernel_size: kernel of the default head's convolution.
        head_align_corners: how the default head upsamples.
    """

    out_channels: int
    output_stride: int
    reads_prefix_tokens: bool = False
    head_kernel_size: int = 3
    head_align_corners: bool = False

    encoder_options: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def encoder_defaults(cls, options: Mapping[str, object]) -> Mapping[str, object]:  # noqa: ARG003 - for overriding
        """Return the encoder options that this decoder asks for where the user gives none, e.g. ``{"depth": 4}``.

        Args:
            options: the decoder's own options, defaults filled in.
        """
        return cls.encoder_options

    def default_head(self, classes: int, activation: Activation = None) -> nn.Module:
        """Return the head that turns this decoder's output into a mask of `classes` channels."""
        return SegmentationHead(
            self.out_channels,
            classes,
            kernel_size=self.head_kernel_size,
            activation=activation,
            align_corners=self.head_align_corners,
            resize=self.output_stride > 1,
        )

    def forward(self, features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Fuse the feature maps; several results are for a head of the decoder's own."""
        raise NotImplementedError
