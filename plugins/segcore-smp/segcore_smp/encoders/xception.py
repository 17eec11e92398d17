"""Xception."""

# ruff: noqa: ANN002, ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse


class XceptionEncoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        *args: none.
        depth: number of downsampling stages in use.
        output_stride: must be 32.
        **kwargs: none.
    """

    _draw = staticmethod(_draw.with_classifier)

    def __init__(self, out_channels: List[int], *args, depth: int = 5, output_stride: int = 32, **kwargs):
        refuse("XceptionEncoder", {**kwargs, **{str(value): value for value in args}})
        self._build("xception", out_channels, depth, output_stride)


xception_encoders = {"xception": entry(XceptionEncoder, "xception")}
