"""DenseNet."""

# ruff: noqa: ANN001, ANN003, ANN204
# mypy: disable-error-code="no-untyped-def"

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_NAMES = (
    "densenet121",
    "densenet169",
    "densenet201",
    "densenet161",
)


class DenseNetEncoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.densenet)

    def __init__(self, out_channels, depth=5, output_stride=32, **kwargs):
        network = kwargs.pop("network", None)
        refuse(type(self).__name__, kwargs if network else {"network": None, **kwargs})
        self._build(network, out_channels, depth, output_stride)


densenet_encoders = {name: entry(DenseNetEncoder, name, network=name) for name in _NAMES}
