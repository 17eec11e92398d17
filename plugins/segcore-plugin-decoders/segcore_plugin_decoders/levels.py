"""Which feature maps a decoder reads, found by stride, and what it refuses."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from segcore import FeatureInfo, IncompatiblePartsError


class Step(NamedTuple):
    """One upsampling block of a Unet-like decoder.

    Attributes:
        skip: index of the feature map that joins here, None where the encoder has none.
        channels: channels of that map, 0 without one.
        stride: stride that the block produces.
    """

    skip: int | None
    channels: int
    stride: int


def upsampling_path(features: FeatureInfo, who: str) -> tuple[Step, ...]:
    """Return the blocks that lead from the deepest map to the image's resolution.

    There is one block for each shallower map, and then one for each halving from the finest map to stride 1.

    Raises:
        IncompatiblePartsError: if there is no map below the image, or all have one stride.
    """
    refuse_isotropic(features, who)
    deepest = deepest_level(features, who)
    steps = [Step(index, features.channels[index], features.strides[index]) for index in range(deepest - 1, 0, -1)]
    stride = features.strides[1]
    while stride > 1:
        stride = 2 ** ((stride - 1).bit_length() - 1)  # the next lower power of two
        steps.append(Step(None, 0, stride))
    return tuple(steps)


def pyramid_levels(features: FeatureInfo, who: str) -> tuple[int, ...]:
    """Return the indices of the maps of stride 4 and more, shallow to deep; there are at least two.

    Raises:
        IncompatiblePartsError: if there are fewer, or all have one stride.
    """
    refuse_isotropic(features, who)
    levels = features.from_stride(4)
    if len(levels) < 2:
        raise IncompatiblePartsError(
            f"{who} needs two or more feature maps of stride 4 and above; the encoder gives strides "
            f"{', '.join(map(str, features.strides))}. Choose a larger encoder_depth (3 or more), or another encoder."
        )
    return levels


def deepest_level(features: FeatureInfo, who: str) -> int:
    """Return the index of the deepest map; raise IncompatiblePartsError if there is none below the image."""
    if len(features) < 2:
        raise IncompatiblePartsError(f"{who} needs a feature map below the image; the encoder gives none.")
    return len(features) - 1


def refuse_isotropic(features: FeatureInfo, who: str) -> None:
    """Raise IncompatiblePartsError if all maps below the image have one stride."""
    if features.isotropic:
        raise IncompatiblePartsError(
            f"{who} needs feature maps of several strides; those of this encoder, a plain ViT, all have stride "
            f"{features.strides[-1]}. Give the encoder encoder_neck='pyramid' where it offers that, or use the "
            f"decoder 'dpt'."
        )


def size_at(image: Tensor, stride: int) -> list[int]:
    """Return the size of a map of the given stride: height and width of the image divided, rounded up."""
    return [-(-length // stride) for length in image.shape[-2:]]
