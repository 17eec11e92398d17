"""The part of SegFormer's decoder (https://arxiv.org/abs/2105.15203) for people's own networks."""

# ruff: noqa: ANN201, ANN204
# mypy: disable-error-code="no-untyped-def"

from torch import Tensor, nn


class MLP(nn.Module):
    """A linear layer over the channels of each pixel.

    Args:
        skip_channels: of the input.
        segmentation_channels: of the output.
    """

    def __init__(self, skip_channels: int, segmentation_channels: int):
        super().__init__()
        self.linear = nn.Linear(skip_channels, segmentation_channels)

    def forward(self, x: Tensor):
        """Turn (N, skip_channels, H, W) into (N, segmentation_channels, H, W)."""
        pixels = self.linear(x.flatten(2).mT)  # (N, H*W, segmentation_channels)
        return pixels.mT.unflatten(2, x.shape[-2:]).contiguous()
