"""Measures the facts of a timm architecture by building it on the meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segcore import OptionValueError
from segcore_plugin_timm.architectures import Architecture
from segcore_plugin_timm.build import features_network, gives_prefix_tokens

DEEPEST = 32


def measure(name: str) -> Architecture:
    """Return the facts of an architecture that the installed timm has.

    Raises:
        Exception: whatever timm raises when the name is unknown to it.
    """
    with torch.device("meta"):
        default: Any = features_network(name)
        info = default.feature_info.info
        taken = [index % len(info) for index in default.feature_info.out_indices]
        isotropic = type(default).__name__ == "FeatureGetterNet" and len({info[i]["reduction"] for i in taken}) == 1
        indices = evenly_spaced([level["reduction"] for level in info]) if isotropic else shallow(info, taken)
        size = default.pretrained_cfg["input_size"][-1]
        network = features_network(name, indices=indices)
        strides = tuple(int(info[index]["reduction"]) for index in indices)
        channels = tuple(int(info[index]["num_chs"]) for index in indices)
        policy, multiple, exact = _size_policy(name, indices, strides, size)
        return Architecture(
            strides=strides if strides[0] == 1 else (1, *strides),
            channels=channels if strides[0] == 1 else (3, *channels),
            indices=tuple(indices),
            kind="isotropic" if isotropic else "pyramid",
            rgb_only=_maps(features_network(name, in_channels=4), size, size, channels=4) is None,
            channels_last=_channels_last(network),
            exact=exact,
            policy=policy,
            size=size,
            multiple=multiple,
            output_strides=(DEEPEST, *_dilations(name, indices, strides, policy)),
            blocks=len(info) if isotropic else 0,
            prefix_tokens=gives_prefix_tokens(network) if isotropic else 0,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
        )


def evenly_spaced(strides: Sequence[int], count: int = 4) -> tuple[int, ...]:
    """Return the positions of `count` blocks, evenly spaced among those of the last one's stride, that one included.

    Volo has a block of stride 8 before three of stride 16, which are then all that is returned.
    """
    first = strides.index(strides[-1])
    blocks = len(strides) - first
    wanted = min(count, blocks)
    return tuple(first + blocks * (number + 1) // wanted - 1 for number in range(wanted))


def shallow(info: Sequence[dict[str, Any]], taken: Sequence[int]) -> tuple[int, ...]:
    """Return the features of timm's choice whose stride is at most 32."""
    return tuple(index for index in taken if info[index]["reduction"] <= DEEPEST)


def _channels_last(network: nn.Module) -> bool:
    return getattr(network, "output_fmt", None) == "NHWC"


def _maps(network: nn.Module, height: int, width: int, channels: int = 3) -> list[tuple[int, ...]] | None:
    """Return the sizes of the maps for an image of a size, or None if the network does not take it."""
    try:
        maps: list[Tensor] = network.eval()(torch.empty(1, channels, height, width))
    except (RuntimeError, AssertionError, ValueError, TypeError):
        return None
    return [tuple(x.shape[1:3]) if _channels_last(network) else tuple(x.shape[-2:]) for x in maps]


def _probes(multiple: int) -> list[tuple[int, int]]:
    """Return two sizes of images that are odd multiples of a number."""
    first, second = max(1, 224 // multiple) | 1, max(1, 330 // multiple) | 1
    return [(multiple * first, multiple * (first + 2)), (multiple * (second + 4), multiple * second)]


def _deviation(network: nn.Module, height: int, width: int, strides: Sequence[int]) -> float | None:
    """Return how far, in pixels of a map, the sizes are from ceil(H/s); None if the network does not take the size."""
    sizes = _maps(network, height, width)
    if sizes is None:
        return None
    return max(
        abs(have - -(-want // stride))
        for size, stride in zip(sizes, strides, strict=True)
        for have, want in zip(size, (height, width), strict=True)
    )


def _size_policy(name: str, indices: Sequence[int], strides: Sequence[int], size: int) -> tuple[str, int, bool]:
    """Return the policy, the multiple and whether the maps have the sizes that the strides say."""
    multiples = sorted({*(2**power for power in range(9)), max(strides), 2 * max(strides)})
    for policy, dynamic in (("any", False), ("dynamic", True)):
        try:
            network = features_network(name, indices=indices, dynamic=dynamic)
        except TypeError:
            continue
        near = None
        for multiple in multiples:
            deviations = [_deviation(network, *probe, strides) for probe in _probes(multiple)]
            if deviations == [0, 0]:
                return policy, multiple, True
            if near is None and all(pixels is not None and pixels < 6 for pixels in deviations):
                near = multiple
        if near is not None:
            return policy, near, False
    exact_size = _deviation(features_network(name, indices=indices), size, size, strides) == 0
    try:
        built = features_network(name, indices=indices, img_size=(320, 448))
    except (OptionValueError, AssertionError, RuntimeError, ValueError):
        return "fixed", 1, exact_size
    return ("fixed" if _maps(built, 320, 448) is None else "built"), 1, exact_size


def _dilations(name: str, indices: Sequence[int], strides: Sequence[int], policy: str) -> tuple[int, ...]:
    """Return the output strides below the network's own that it can be built with."""
    possible = []
    for wanted in (16, 8):
        if max(strides) <= wanted:
            continue
        try:
            network = features_network(name, indices=indices, output_stride=wanted, dynamic=policy == "dynamic")
        except (OptionValueError, AssertionError, RuntimeError, ValueError, NotImplementedError):
            return ()
        sizes = _maps(network, 256, 256)
        if sizes is None or any(
            abs(rows - 256 / min(stride, wanted)) > 1.5 for (rows, _), stride in zip(sizes, strides, strict=True)
        ):
            return ()
        possible.append(wanted)
    return tuple(possible)
