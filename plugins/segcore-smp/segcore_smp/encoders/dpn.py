"""Dual path networks."""

# ruff: noqa: ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_STAGES = {
    "dpn68": [4, 8, 20, 24],
    "dpn68b": [4, 8, 20, 24],
    "dpn92": [4, 8, 28, 32],
    "dpn98": [4, 10, 30, 34],
    "dpn107": [5, 13, 33, 37],
    "dpn131": [5, 13, 41, 45],
}


class DPNEncoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        stage_idxs: where its stages end.
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.with_classifier)

    def __init__(
        self, stage_idxs: List[int], out_channels: List[int], depth: int = 5, output_stride: int = 32, **kwargs
    ):
        network = kwargs.pop("network", None)
        known = network in _STAGES and list(stage_idxs) == _STAGES[network]
        refuse("DPNEncoder", kwargs if known else {"stage_idxs": stage_idxs, **kwargs})
        self._build(network, out_channels, depth, output_stride)


dpn_encoders = {
    name: entry(DPNEncoder, name, stage_idxs=list(stages), network=name) for name, stages in _STAGES.items()
}
