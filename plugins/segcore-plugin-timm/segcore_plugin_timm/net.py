"""`TimmEncoder`: any timm network as an encoder."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import EncoderMixin, IncompatiblePartsError, InputError, OptionValueError, SegcoreError
from segcore_plugin_timm.architectures import Architecture, facts
from segcore_plugin_timm.build import create_model, features_network, freeze_unused, gives_prefix_tokens
from segcore_plugin_timm.keys import fits, match_keys
from segcore_plugin_timm.measure import measure

WINDOWED = 64
"""A network that needs a larger multiple than this has windows that were made for its size."""


@cache
def _facts(name: str) -> Architecture:
    return facts(name) or measure(name)


class TimmEncoder(nn.Module, EncoderMixin):
    """The feature network of a timm architecture, its maps chosen by stride.

    The maps are those of ``timm.create_model(name, features_only=True)``, finest first, as (N, C, H/s, W/s): NHWC
    networks are transposed, and where an unpadded stem or a fixed token grid gives a map of another size than
    ceil(H/s), it is resized to that, bilinearly. Map 0 is the image, or the network's own stride-1 map where timm
    lists one. Keys of the state dict are ``model.<keys of features_only>``, as in SMP's ``tu-`` encoders.

    Args:
        name: timm's name.
        depth: 1 to 5; levels with a stride above ``2**depth`` are not built. Networks whose maps share a stride give
            the same maps at every depth.
        in_channels: channels of the image.
        output_stride: deepest stride, 32, 16 or 8; below the network's own it dilates as timm does, which many
            families cannot. SMP's ``tu-`` encoders dilate likewise.
        img_size: height and width to build for, a number for both; needed by networks that are built for one size
            (None: the size of their weights). For others it sets the grid of the position embeddings.
        out_indices: for networks of one resolution: which blocks give a map, negative numbers count from the last.
            None for four, evenly spaced, the last included.
        norm: for networks of one resolution: apply the final norm to every map.
        drop_path_rate: stochastic depth in training, 0 to 1; None for timm's default.

    Raises:
        OptionValueError: the network cannot be built with an option's value.
        IncompatiblePartsError: timm has the network, but no encoder can be made of it.
    """

    _first_conv: tuple[str, ...] = ()
    _image_size: tuple[int, int] | None = None
    _own_first = False

    def __init__(
        self,
        name: str,
        depth: int = 5,
        in_channels: int = 3,
        output_stride: int = 32,
        img_size: int | tuple[int, int] | None = None,
        out_indices: tuple[int, ...] | None = None,
        norm: bool = False,
        drop_path_rate: float | None = None,
    ) -> None:
        super().__init__()
        row = _facts(name)
        self._check(name, row, depth, in_channels, output_stride)
        isotropic = row.kind == "isotropic"
        if not isotropic and (out_indices is not None or norm):
            option = "norm" if norm else "out_indices"
            raise OptionValueError(
                f"{option} is for networks of one resolution; {name!r} has strides {row.strides}. Use depth instead."
            )
        size = _size(img_size)
        dilated = output_stride < max(row.strides)
        self._name, self._row, self._built_for = name, row, size
        self._depth, self._in_channels = depth, in_channels
        self._output_stride = output_stride if dilated else None
        indices = _blocks(name, row, out_indices) if isotropic else _levels(row, depth)
        self._out_channels: list[int] = [in_channels]
        self._strides: list[int] = [1]
        self.model: Any = None
        if not indices:  # the network is deeper than the depth: the image is all that is left
            return
        try:
            self.model = features_network(
                name,
                indices=indices,
                in_channels=in_channels,
                output_stride=output_stride if dilated else None,
                img_size=size,
                dynamic=row.policy == "dynamic",
                norm=norm,
                drop_path_rate=drop_path_rate,
            )
        except SegcoreError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:
            given = {"img_size": img_size, "in_channels": in_channels, "output_stride": output_stride}
            wrong = ", ".join(f"{key}={value!r}" for key, value in given.items() if value is not None)
            raise OptionValueError(f"timm cannot build {name!r} with {wrong}: {error}") from error
        info = self.model.feature_info
        # nominal strides, not timm's: with dilation it states what a stride is, and not which level a map belongs to
        nominal = dict(zip(row.indices, row.strides[len(row.strides) - len(row.indices) :], strict=True))
        strides = [int(info.info[index]["reduction"]) if isotropic else nominal[index] for index in indices]
        self._own_first = strides[0] == 1
        self._strides = strides if self._own_first else [1, *strides]
        self._out_channels = [*([] if self._own_first else [in_channels]), *info.channels()]
        if len(indices) == 1 and isotropic:
            self._depth = 5  # one map would count as a level of a pyramid
        one_size = row.policy in {"built", "fixed"} or (size is not None and row.multiple > WINDOWED)
        self._image_size = (size or (row.size, row.size)) if one_size else None
        self._size_multiple = 1 if one_size else row.multiple
        self._prefix_tokens = gives_prefix_tokens(self.model) if isotropic else 0
        self._first_conv = _first_convs(self.model, in_channels)
        freeze_unused(self.model, in_channels, *(self._image_size or (row.size, row.size)))

    @staticmethod
    def _check(name: str, row: Architecture, depth: int, in_channels: int, output_stride: int) -> None:
        if row.refused:
            raise IncompatiblePartsError(f"{name!r} cannot be an encoder: {row.refused}.")
        if not 1 <= depth <= 5:
            raise OptionValueError(f"depth={depth!r}: {name!r} has depths 1 to 5.")
        if in_channels < 1 or (row.rgb_only and in_channels != 3):
            raise OptionValueError(
                f"in_channels={in_channels!r}: {name!r} takes {'3' if row.rgb_only else '1 or more'}."
            )
        if output_stride not in {8, 16, 32} or (
            output_stride < max(row.strides) and output_stride not in row.output_strides
        ):
            possible = ", ".join(map(str, sorted({*row.output_strides, max(row.strides)})))
            raise OptionValueError(
                f"output_stride={output_stride!r}: timm can build {name!r} with {possible} only. Families that can be "
                f"dilated to 16 and 8: resnet, resnext, efficientnet, mobilenetv3, regnet, convnext, nfnet."
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps (N, C, H/s, W/s), finest first.

        Raises:
            InputError: the network was built for another size of image.
        """
        if self.model is None:
            return [x]
        self._check_size(x)
        maps = [self._fit(deep, x, stride) for deep, stride in zip(self.model(x), self._deep_strides(), strict=True)]
        return maps if self._own_first else [x, *maps]

    def forward_with_prefix(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the feature maps and, for each map below the image, its prefix tokens (N, tokens, C)."""
        if not self._prefix_tokens:
            raise NotImplementedError(f"{self._name!r} has no prefix tokens.")
        self._check_size(x)
        getter: Any = self.model
        pairs = getter.model.forward_intermediates(
            x,
            indices=getter.out_indices,
            norm=getter.norm,
            output_fmt="NCHW",
            intermediates_only=True,
            return_prefix_tokens=True,
        )
        maps = [self._fit(pair[0], x, s) for pair, s in zip(pairs, self._deep_strides(), strict=True)]
        return [x, *maps], [pair[1] for pair in pairs]

    def _deep_strides(self) -> tuple[int, ...]:
        return self.strides if self._own_first else self.strides[1:]

    def _check_size(self, x: Tensor) -> None:
        if self._image_size is not None and tuple(x.shape[-2:]) != self._image_size:
            height, width = self._image_size
            raise InputError(
                f"{self._name!r} is built for images of {height} x {width}, got {x.shape[-2]} x {x.shape[-1]}. "
                f"Resize or tile the images"
                + (
                    ", or build it with img_size."
                    if _facts(self._name).policy == "built"
                    else "; it has this one size."
                )
            )

    def _fit(self, deep: Tensor, x: Tensor, stride: int) -> Tensor:
        """Bring a map of timm's into (N, C, H/s, W/s)."""
        if self._row.channels_last:
            deep = deep.permute(0, 3, 1, 2)  # (N, h, w, C) -> (N, C, h, w)
        if not self._row.exact:
            size = (-(-x.shape[-2] // stride), -(-x.shape[-1] // stride))
            if tuple(deep.shape[-2:]) != size:
                deep = F.interpolate(deep, size=size, mode="bilinear", align_corners=False)
        return deep

    def set_in_channels(self, in_channels: int, init: str = "repeat") -> None:
        """Make the first convolution take images of another number of channels, keeping its weights."""
        if in_channels != self._in_channels and not self._first_conv and self.model is not None:
            raise SegcoreError(
                f"{self._name!r} reads the image with something else than a convolution, so its input cannot be "
                f"changed afterwards. Build it with in_channels={in_channels}."
            )
        super().set_in_channels(in_channels, init)

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights under this network's own keys, without those it does not build.

        Takes keys of timm's plain model or feature network, with or without SMP's ``model.``; weights in a format that
        timm converts while loading, or of another grid of position embeddings, go through timm's own filter.
        """
        own = self.state_dict()
        found = match_keys(own, state)
        if not fits(own, found, self._first_conv):
            filtered = self._filter(state)
            retry = {} if filtered is None else match_keys(own, filtered)
            if fits(own, retry, self._first_conv) or len(retry) > len(found):
                return retry
        return found

    def _filter(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Return what timm's filter of the architecture's module makes of a state dict."""
        with torch.device("meta"):
            plain = create_model(self._name, **({"img_size": self._built_for} if self._built_for else {}))
        function = getattr(sys.modules[type(plain).__module__], "checkpoint_filter_fn", None)
        if function is None:
            return None
        try:
            result = function(dict(state), plain)
        except (KeyError, AttributeError, RuntimeError, ValueError):
            return None  # not a state dict of this architecture; strict loading says what is wrong with it
        return result if isinstance(result, Mapping) else None


def _levels(row: Architecture, depth: int) -> tuple[int, ...]:
    """Return the positions of the features that a depth keeps, those of the row's that are no image."""
    strides = row.strides[len(row.strides) - len(row.indices) :]
    if len(set(row.strides)) < len(row.strides):
        return row.indices
    return tuple(index for index, stride in zip(row.indices, strides, strict=True) if stride <= 2**depth)


def _blocks(name: str, row: Architecture, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the positions of the blocks of a network of one resolution that give a map."""
    if wanted is None:
        return row.indices
    indices = tuple(index + row.blocks if index < 0 else index for index in wanted)
    if not indices or list(indices) != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < row.blocks:
        raise OptionValueError(
            f"out_indices={wanted!r}: {name!r} has {row.blocks} blocks; give ascending positions from "
            f"{-row.blocks} to {row.blocks - 1}."
        )
    return indices


def _size(img_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if img_size is None:
        return None
    pair = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(pair) != 2 or not all(isinstance(pixels, int) and pixels > 0 for pixels in pair):
        raise OptionValueError(f"img_size={img_size!r}: a number of pixels or (height, width) is needed.")
    return pair


def _first_convs(network: nn.Module, in_channels: int) -> tuple[str, ...]:
    """Return the names, below ``model.``, of the convolutions that see the image, as timm states them."""
    stated = network.pretrained_cfg.get("first_conv") or ()  # type: ignore[union-attr,operator]
    wanted = {name.replace(".", "_") for name in ([stated] if isinstance(stated, str) else stated)}
    names = []
    for name, module in network.named_modules():
        full = re.sub(r"conv_kxk\.\d+", "conv_kxk.0", name)  # of parallel branches timm states the first
        short = full.removeprefix("model.").removeprefix("body.")
        if {full.replace(".", "_"), short.replace(".", "_")} & wanted and isinstance(module, nn.Conv2d):
            names.append(name)
    if not names or any(network.get_submodule(name).in_channels != in_channels for name in names):
        return ()
    return tuple(f"model.{name}" for name in names)
