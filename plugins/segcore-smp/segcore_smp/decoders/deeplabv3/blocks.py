"""Parts of DeepLabV3 for people's own networks.

Papers: https://arxiv.org/abs/1706.05587 (ASPP), https://arxiv.org/abs/1802.02611 (separable convolutions). The decoders
here are built of segcore's.
"""

# ruff: noqa: ANN204

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class SeparableConv2d(nn.Sequential):
    """A convolution of each channel by itself, then a 1x1 convolution.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the first convolution.
        stride: of the first convolution.
        padding: of the first convolution.
        dilation: of the first convolution.
        bias: of the second; the first has none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
    ):
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        )


def _norm_relu(conv: nn.Module, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return conv, nn.BatchNorm2d(channels), nn.ReLU()


class ASPPConv(nn.Sequential):
    """Dilated 3x3 convolution, batch norm, ReLU: (N, in_channels, H, W) to (N, out_channels, H, W).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        dilation: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int):
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
        super().__init__(*_norm_relu(conv, out_channels))


class ASPPSeparableConv(nn.Sequential):
    """As `ASPPConv`, with a separable convolution.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        dilation: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int):
        conv = SeparableConv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
        super().__init__(*_norm_relu(conv, out_channels))


class ASPPPooling(nn.Sequential):
    """Mean of the map, 1x1 convolution, batch norm, ReLU, spread over the map again; the channels change.

    In training the batch norm needs two images or more.

    Args:
        in_channels: of the input.
        out_channels: of the output.
    """

    def __init__(self, in_channels: int, out_channels: int):
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        super().__init__(nn.AdaptiveAvgPool2d(1), *_norm_relu(conv, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        mean = super().forward(x)  # type: ignore[no-untyped-call]
        return nn.functional.interpolate(mean, x.shape[-2:], mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Five views of a map, at several scales, concatenated and projected.

    Args:
        in_channels: of the input.
        out_channels: of each view and of the output.
        atrous_rates: three dilation rates.
        separable: make the dilated convolutions separable.
        dropout: probability, in training.

    Raises:
        ValueError: not three rates.
    """

    def __init__(
        self, in_channels: int, out_channels: int, atrous_rates: Iterable[int], separable: bool, dropout: float
    ):
        super().__init__()
        rates = tuple(atrous_rates)
        if len(rates) != 3:
            raise ValueError(f"atrous_rates={rates!r}: three rates are needed, for instance (12, 24, 36).")
        dilated = ASPPSeparableConv if separable else ASPPConv
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*_norm_relu(nn.Conv2d(in_channels, out_channels, 1, bias=False), out_channels)),
                *(dilated(in_channels, out_channels, rate) for rate in rates),
                ASPPPooling(in_channels, out_channels),
            ]
        )
        joined = nn.Conv2d(len(self.convs) * out_channels, out_channels, 1, bias=False)
        self.project = nn.Sequential(*_norm_relu(joined, out_channels), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, out_channels, H, W)."""
        return self.project(torch.cat([conv(x) for conv in self.convs], dim=1))  # type: ignore[no-any-return]
