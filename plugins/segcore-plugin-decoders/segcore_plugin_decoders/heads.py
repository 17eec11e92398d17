"""Heads with auxiliary outputs, for deep supervision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segcore import Activation, Decoder, FeatureInfo, IncompatiblePartsError, SegmentationHead
from segcore_plugin_decoders.layers import ConvNormReLU, initialise


class AuxiliaryHead(SegmentationHead):
    """A segmentation head with further heads that are used in training only.

    It takes a tuple: the main map, then one map for each auxiliary head. The keys of the main head are those of a
    plain one.

    Args:
        in_channels: channels of the main map.
        classes: channels of the masks.
        kernel_size: of the main head.
        activation: of the main head.
        align_corners: of the main head.
        auxiliary: the further heads, each called with its map and the size of the image.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        kernel_size: int,
        activation: Activation,
        align_corners: bool,
        auxiliary: Sequence[nn.Module],
    ) -> None:
        super().__init__(in_channels, classes, kernel_size, activation, align_corners)
        self.auxiliary = nn.ModuleList(auxiliary)

    def forward(  # type: ignore[override]
        self, x: Sequence[Tensor], size: Sequence[int]
    ) -> Tensor | dict[str, Tensor]:
        """Return ``{"logits": ..., "aux_0": ..., ...}`` in training mode, the main mask in evaluation mode."""
        mask = super().forward(x[0], size)
        if not self.training:
            return mask
        others = zip(self.auxiliary, x[1:], strict=True)
        return {"logits": mask, **{f"aux_{index}": head(y, size) for index, (head, y) in enumerate(others)}}


class FCNHead(nn.Module):
    """3x3 convolution to a quarter of the channels, norm, ReLU, dropout of 0.1, 1x1 convolution, resize."""

    def __init__(self, in_channels: int, classes: int, activation: Activation) -> None:
        super().__init__()
        hidden = max(1, in_channels // 4)
        self.block = ConvNormReLU(in_channels, hidden, 3)
        initialise(self.block)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = SegmentationHead(hidden, classes, kernel_size=1, activation=activation)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Turn (N, in_channels, h, w) into (N, classes, *size)."""
        return self.classify(self.dropout(self.block(x)), size)  # type: ignore[no-any-return]


class FCNSupervised(Decoder):
    """A decoder that can hand on the encoder's map before the deepest, for an `FCNHead` in training."""

    auxiliary: int | None = None
    auxiliary_channels: int = 0

    def read_auxiliary(self, features: FeatureInfo, who: str) -> None:
        """Choose the map before the deepest.

        Raises:
            IncompatiblePartsError: if that would be the image.
        """
        if len(features) < 3:
            raise IncompatiblePartsError(
                f"{who}: auxiliary=True needs two or more feature maps below the image; the encoder gives strides "
                f"{', '.join(map(str, features.strides))}. Choose a larger encoder_depth."
            )
        self.auxiliary, self.auxiliary_channels = len(features) - 2, features.channels[-2]

    def default_head(self, classes: int, activation: Activation = None) -> nn.Module:
        """Return the head, which gives a second mask if there is an auxiliary map."""
        if self.auxiliary is None:
            return super().default_head(classes, activation)
        second = FCNHead(self.auxiliary_channels, classes, activation)
        return AuxiliaryHead(
            self.out_channels, classes, self.head_kernel_size, activation, self.head_align_corners, [second]
        )

    def outputs(self, x: Tensor, features: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Return the result, together with the auxiliary map if there is one."""
        return x if self.auxiliary is None else (x, features[self.auxiliary])
