"""Atrous spatial pyramid pooling, the common part of DeepLabV3 and DeepLabV3Plus."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segcore import FeatureInfo, OptionValueError
from segcore_plugin_decoders.layers import ConvNormReLU, Norm, is_identity, make_norm, resize
from segcore_plugin_decoders.options import check_positive


def resolve_rates(who: str, rates: Sequence[int] | None, features: FeatureInfo, legacy: bool) -> tuple[int, ...]:
    """Return the three dilation rates: the user's, or (6, 12, 18), doubled at stride 8 and always in legacy."""
    if rates is None:
        return (12, 24, 36) if legacy or features.strides[-1] <= 8 else (6, 12, 18)
    if len(rates) != 3:
        raise OptionValueError(f"{who}: atrous_rates={tuple(rates)!r} must be three numbers, for instance (6, 12, 18).")
    check_positive(who, "atrous_rates", *rates)
    return tuple(rates)


def separable_conv(
    in_channels: int, out_channels: int, norm: Norm, dilation: int = 1
) -> tuple[nn.Sequential, nn.Module, nn.Module]:
    """Return a depthwise 3x3 with a pointwise convolution, a norm, and ReLU."""
    depthwise = nn.Conv2d(
        in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
    )
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=is_identity(norm))
    return nn.Sequential(depthwise, pointwise), make_norm(norm, out_channels), nn.ReLU(inplace=True)


class ASPP(nn.Module):
    """Concatenates views of a map at several scales and projects them.

    Args:
        in_channels: channels of the map.
        channels: of each view and of the result.
        rates: dilation of each 3x3 convolution.
        separable: make them separable.
        dropout: probability of dropping a value of the result in training.
        norm: as for Unet.
        pool_norm: norm of the view that pools to one pixel.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        rates: Sequence[int],
        separable: bool,
        dropout: float,
        norm: Norm,
        pool_norm: Norm,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList([ConvNormReLU(in_channels, channels, 1, norm)])
        for rate in rates:
            if separable:
                self.convs.append(nn.Sequential(*separable_conv(in_channels, channels, norm, rate)))
            else:
                self.convs.append(ConvNormReLU(in_channels, channels, 3, norm, rate))
        self.convs.append(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(in_channels, channels, 1, bias=is_identity(pool_norm)),
                make_norm(pool_norm, channels),
                nn.ReLU(inplace=True),
            )
        )
        self.project = nn.Sequential(
            *ConvNormReLU(len(self.convs) * channels, channels, 1, norm),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, in_channels, H, W) into (N, channels, H, W)."""
        views = [conv(x) for conv in self.convs]
        views[-1] = resize(views[-1], x.shape[-2:])  # from (N, channels, 1, 1)
        return self.project(torch.cat(views, dim=1))  # type: ignore[no-any-return]
