"""Inception-v4."""

# ruff: noqa: ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_NAMES = ("inceptionv4",)


class InceptionV4Encoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.inceptionv4)

    def __init__(self, out_channels: List[int], depth: int = 5, output_stride: int = 32, **kwargs):
        network = kwargs.pop("network", None)
        refuse(type(self).__name__, kwargs if network else {"network": None, **kwargs})
        self._build(network, out_channels, depth, output_stride)


inceptionv4_encoders = {name: entry(InceptionV4Encoder, name, network=name) for name in _NAMES}
