"""Layers that several decoders share: norms, convolutions, attention, resizing, initialisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import OptionValueError
from segcore_plugin_decoders.options import check_choice


class GroupNorm(nn.GroupNorm):
    """Group norm that also takes a single pixel, where torch's own refuses one value per group."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _groups(channels: int) -> int:
    return next(groups for groups in range(min(32, channels), 0, -1) if channels % groups == 0)


Norm = str | Mapping[str, Any]
_NORMS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "batchnorm": (nn.BatchNorm2d, ("eps", "momentum", "affine", "track_running_stats")),
    "groupnorm": (lambda channels, groups=None, **given: GroupNorm(groups or _groups(channels), channels, **given),
                  ("groups", "eps", "affine")),
    "layernorm": (LayerNorm, ("eps",)),
    "instancenorm": (lambda channels, **given: GroupNorm(channels, channels, **given), ("eps", "affine")),
    "identity": (lambda _: nn.Identity(), ()),
}  # fmt: skip


def is_identity(norm: Norm) -> bool:
    """Return whether a norm is none, so that the convolution before it needs a bias."""
    return norm == "identity" or (isinstance(norm, Mapping) and norm.get("type") == "identity")


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Return a norm for (N, channels, H, W).

    Args:
        norm: ``"batchnorm"``; ``"groupnorm"``, 32 groups or the largest smaller number that divides `channels`;
            ``"layernorm"`` over the channels of a pixel; ``"instancenorm"`` per channel and image, with a learnt scale
            and shift; ``"identity"`` for none. Or a mapping of ``"type"``, one of these, and arguments of the norm,
            such as ``{"type": "batchnorm", "eps": 1e-3}``.
        channels: number of channels.

    Raises:
        OptionValueError: an unknown type or argument, or a value that the norm does not take.
    """
    given = dict(norm) if isinstance(norm, Mapping) else {"type": norm}
    kind = given.pop("type", None)
    check_choice("decoder", "norm" if isinstance(norm, str) else "norm['type']", kind, _NORMS)
    make, takes = _NORMS[str(kind)]
    for name, value in given.items():
        check_choice("decoder", f"an argument of {kind}", name, takes)
        if name in {"eps", "momentum"} and not (isinstance(value, int | float) and value > 0):
            raise OptionValueError(f"decoder: {name}={value!r} of {kind} must be a number above 0.")
    try:
        return make(channels, **given)
    except (TypeError, ValueError) as error:
        raise OptionValueError(f"decoder: norm={norm!r} cannot be made for {channels} channels: {error}.") from error


class ConvNormReLU(nn.Sequential):
    """Convolution that keeps the size, norm, ReLU. The convolution has a bias only if there is no norm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, norm: Norm = "batchnorm", dilation: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                bias=is_identity(norm),
            ),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
        )


GRIDS = (1, 2, 3, 6)  # cells per side of the average pools of PSPNet and UPerNet


def pooling_branch(in_channels: int, out_channels: int, grid: int, norm: Norm) -> nn.Sequential:
    """Return average pooling to `grid` x `grid` cells, 1x1 convolution, norm, ReLU."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(grid), ConvNormReLU(in_channels, out_channels, 1, norm))


def squeeze_excite(channels: int) -> nn.Sequential:
    """Return a gate per channel, (N, C, H, W) to (N, C, 1, 1) in (0, 1), with a sixteenth of the channels inside."""
    reduced = max(1, channels // 16)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, reduced, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(reduced, channels, 1),
        nn.Sigmoid(),
    )


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (https://arxiv.org/abs/1803.02579)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"cSE": squeeze_excite(channels), "sSE": nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate (N, C, H, W) per channel and per pixel, and add."""
        return x * self.attention["cSE"](x) + x * self.attention["sSE"](x)  # type: ignore[no-any-return]


ATTENTIONS: dict[str | None, Callable[[int], nn.Module]] = {None: lambda _: nn.Identity(), "scse": SCSE}


class UpBlock(nn.Module):
    """Resize, concatenate the skip, two convolutions; attention before and after them if asked for.

    Args:
        in_channels: channels of the deeper map.
        skip_channels: channels of the skip, 0 without one.
        out_channels: channels of the result.
        norm: see `make_norm`.
        attention: None or ``"scse"``.
        interpolation: mode of the resize.
        attend_input: apply attention to the input of the convolutions too.
        keep_unused: build that attention even if it is not applied, as published checkpoints hold it.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        norm: Norm = "batchnorm",
        attention: str | None = None,
        interpolation: str = "nearest",
        attend_input: bool = False,
        keep_unused: bool = False,
    ) -> None:
        super().__init__()
        joined = in_channels + skip_channels
        make_attention = ATTENTIONS[attention]
        self.interpolation, self.attend_input = interpolation, attend_input
        self.conv1 = ConvNormReLU(joined, out_channels, 3, norm)
        self.attention1 = make_attention(joined) if attend_input or keep_unused else nn.Identity()
        self.conv2 = ConvNormReLU(out_channels, out_channels, 3, norm)
        self.attention2 = make_attention(out_channels)

    def forward(self, x: Tensor, size: Sequence[int], skip: Tensor | None = None) -> Tensor:
        """Turn (N, in_channels, h, w) and (N, skip_channels, *size) into (N, out_channels, *size)."""
        x = resize(x, size, self.interpolation)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        if self.attend_input:
            x = self.attention1(x)
        return self.attention2(self.conv2(self.conv1(x)))  # type: ignore[no-any-return]


def resize(x: Tensor, size: Sequence[int], mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """Resize (N, C, h, w) to (N, C, *size); `align_corners` concerns bilinear and bicubic only."""
    if not torch.compiler.is_compiling() and tuple(x.shape[-2:]) == tuple(size):
        return x  # not asked while compiling, where it would fix the relation of two sizes
    corners = align_corners if mode in {"bilinear", "bicubic"} else None
    return F.interpolate(x, size=list(size), mode=mode, align_corners=corners)


def initialise(module: nn.Module) -> None:
    """Draw the convolutions' weights from the Kaiming uniform distribution (fan in, ReLU); biases become zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
