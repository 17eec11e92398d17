"""What is known of an encoder's feature maps before any image has been seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segcore.errors import IncompatiblePartsError


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """Channels and strides of the feature maps of an encoder, parallel, finest first.

    Map 0 has the resolution of the image (stride 1); it is usually the image itself. A level that an encoder lacks is
    absent, and a stride may repeat (a dilated network, a plain ViT), so maps are found by stride and not by position.

    Attributes:
        channels: number of channels of each map.
        strides: size of the image divided by the size of each map; never decreasing.
        prefix_tokens: number of class and register tokens that accompany each map of a ViT; 0 if there are none.

    Example:
        >>> info = FeatureInfo((3, 64, 64, 128, 256, 512), (1, 2, 4, 8, 16, 32))
        >>> info.at(8)
        (3,)
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise IncompatiblePartsError(
                f"{len(self.channels)} channels and {len(self.strides)} strides were given; they must be parallel."
            )
        if not self.strides or self.strides[0] != 1 or list(self.strides) != sorted(self.strides):
            raise IncompatiblePartsError(f"strides must begin with 1 and never decrease, got {self.strides}.")

    def __len__(self) -> int:
        return len(self.strides)

    def at(self, stride: int) -> tuple[int, ...]:
        """Return the indices of all maps of one stride, shallow to deep; empty if there is none."""
        return tuple(index for index, value in enumerate(self.strides) if value == stride)

    def from_stride(self, finest: int) -> tuple[int, ...]:
        """Return the indices of all maps whose stride is at least `finest`, shallow to deep."""
        return tuple(index for index, value in enumerate(self.strides) if value >= finest)

    @property
    def isotropic(self) -> bool:
        """Whether several maps lie below the image and all of them have one stride, as in a plain ViT."""
        deep = self.strides[1:]
        return len(deep) > 1 and len(set(deep)) == 1

    def require(self, who: str, needed: Sequence[int]) -> None:
        """Raise IncompatiblePartsError unless there is a map at each of the needed strides.

        Args:
            who: the decoder's name, for the message.
            needed: strides that the decoder reads.
        """
        missing = [stride for stride in needed if stride not in self.strides]
        if not missing:
            return
        hint = (
            "All maps of this encoder have one stride: give it encoder_neck='pyramid' where it offers that."
            if self.isotropic
            else "Choose another encoder, or a larger encoder_depth."
        )
        raise IncompatiblePartsError(
            f"{who} needs feature maps at strides {', '.join(map(str, needed))}; "
            f"the encoder gives {', '.join(map(str, self.strides))}. {hint}"
        )


def levels_at_depth(channels: Sequence[int], strides: Sequence[int], depth: int) -> tuple[tuple[int, ...], ...]:
    """Return the channels and strides that an encoder of the given depth keeps.

    A pyramid keeps the levels with a stride of at most ``2**depth``. Levels that share a stride have no order of
    depth among them, so an isotropic encoder keeps all that it lists.
    """
    if len(set(strides)) == len(strides):
        kept = [(c, s) for c, s in zip(channels, strides, strict=False) if s <= 2**depth]
    else:
        kept = list(zip(channels, strides, strict=False))
    return tuple(c for c, _ in kept), tuple(s for _, s in kept)


def greatest_depth(strides: Sequence[int]) -> int:
    """Return the greatest depth, up to 5, that means anything for an encoder with these nominal strides.

    Each stage of depth halves the resolution, so it is that of the deepest level. Where levels share a stride, depth
    selects none of them, and all depths do.
    """
    return min(5, max(strides).bit_length() - 1) if len(set(strides)) == len(strides) else 5
