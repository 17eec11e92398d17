"""SENet, SE-ResNet and SE-ResNeXt."""

# ruff: noqa: ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_NAMES = (
    "senet154",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "se_resnext101_32x4d",
)


class SENetEncoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.senet)

    def __init__(self, out_channels: List[int], depth: int = 5, output_stride: int = 32, **kwargs):
        network = kwargs.pop("network", None)
        refuse(type(self).__name__, kwargs if network else {"network": None, **kwargs})
        self._build(network, out_channels, depth, output_stride)


senet_encoders = {name: entry(SENetEncoder, name, network=name) for name in _NAMES}
