"""ResNet, ResNeXt and Wide ResNet encoders for segcore."""

from __future__ import annotations

from collections.abc import Iterator

from segcore import EncoderSpec, hookimpl
from segcore_plugin_resnet.weights import weights_of

__version__ = "0.1.0"

_RESNET = "https://arxiv.org/abs/1512.03385"
_RESNEXT = "https://arxiv.org/abs/1611.05431"
_WIDE = "https://arxiv.org/abs/1605.07146"

# name: block, blocks per stage, groups, width per group, parameters, paper
_NETWORKS = {
    "resnet18": ("basic", (2, 2, 2, 2), 1, 64, 11_176_512, _RESNET),
    "resnet34": ("basic", (3, 4, 6, 3), 1, 64, 21_284_672, _RESNET),
    "resnet50": ("bottleneck", (3, 4, 6, 3), 1, 64, 23_508_032, _RESNET),
    "resnet101": ("bottleneck", (3, 4, 23, 3), 1, 64, 42_500_160, _RESNET),
    "resnet152": ("bottleneck", (3, 8, 36, 3), 1, 64, 58_143_808, _RESNET),
    "resnext50_32x4d": ("bottleneck", (3, 4, 6, 3), 32, 4, 22_979_904, _RESNEXT),
    "resnext101_32x4d": ("bottleneck", (3, 4, 23, 3), 32, 4, 42_128_704, _RESNEXT),
    "resnext101_32x8d": ("bottleneck", (3, 4, 23, 3), 32, 8, 86_742_336, _RESNEXT),
    "resnext101_32x16d": ("bottleneck", (3, 4, 23, 3), 32, 16, 191_977_792, _RESNEXT),
    "resnext101_32x32d": ("bottleneck", (3, 4, 23, 3), 32, 32, 466_481_472, _RESNEXT),
    "resnext101_32x48d": ("bottleneck", (3, 4, 23, 3), 32, 48, 826_362_176, _RESNEXT),
    "wide_resnet50_2": ("bottleneck", (3, 4, 6, 3), 1, 128, 66_834_240, _WIDE),
    "wide_resnet101_2": ("bottleneck", (3, 4, 23, 3), 1, 128, 124_837_696, _WIDE),
}


@hookimpl
def segcore_specs() -> Iterator[EncoderSpec]:
    """Yield one record per network."""
    for name, (block, layers, groups, width_per_group, parameters, paper) in _NETWORKS.items():
        expansion = 1 if block == "basic" else 4
        yield EncoderSpec(
            name,
            factory="segcore_plugin_resnet.encoder:ResNetEncoder",
            options={"block": block, "layers": layers, "groups": groups, "width_per_group": width_per_group},
            out_channels=(3, 64, *(64 * 2**level * expansion for level in range(4))),
            output_strides=(8, 16, 32),
            weights=weights_of(name),
            url=paper,
            parameters=parameters,
        )
