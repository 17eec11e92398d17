"""ResNet and ResNeXt."""

# ruff: noqa: ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from torch import nn

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_NAMES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_32x16d",
    "resnext101_32x32d",
    "resnext101_32x48d",
)


class ResNetEncoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.resnet)
    _options = {"dilation_rule": "smp"}  # noqa: RUF012

    def __init__(self, out_channels: List[int], depth: int = 5, output_stride: int = 32, **kwargs):
        network = kwargs.pop("network", None)
        refuse(type(self).__name__, kwargs if network else {"network": None, **kwargs})
        self._build(network, out_channels, depth, output_stride)

    def make_dilated(self, output_stride: int) -> None:
        """Trade strides for dilation; see `NetworkEncoder`."""
        super().make_dilated(output_stride)
        for name, stride in (("layer3", 16), ("layer4", 32)):
            for part in self.get_submodule(name).modules():
                if stride > output_stride and isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
                    part.dilation = (stride // output_stride,) * 2  # of no effect but the kernel that computes it


resnet_encoders = {name: entry(ResNetEncoder, name, network=name) for name in _NAMES}
