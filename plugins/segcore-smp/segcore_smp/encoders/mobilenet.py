"""MobileNetV2."""

# ruff: noqa: ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from torch import nn

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_FIRST = {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"}
_OTHERS = {
    "conv_pw": "conv.0.0",
    "bn1": "conv.0.1",
    "conv_dw": "conv.1.0",
    "bn2": "conv.1.1",
    "conv_pwl": "conv.2",
    "bn3": "conv.3",
}


class MobileNetV2Encoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
        **kwargs: none.
    """

    _draw = staticmethod(_draw.mobilenet)

    def __init__(self, out_channels: List[int], depth: int = 5, output_stride: int = 32, **kwargs):
        refuse("MobileNetV2Encoder", kwargs)
        self._build("mobilenet_v2", out_channels, depth, output_stride)

    def _names(self, tree: nn.Module) -> dict[str, str]:
        names = {
            "conv_stem": "features.0.0",
            "bn1": "features.0.1",
            "conv_head": "features.18.0",
            "bn2": "features.18.1",
        }
        blocks = [(stage, row) for stage, part in tree.get_submodule("blocks").named_children()
                  for row, _ in part.named_children()]  # fmt: skip
        for number, (stage, row) in enumerate(blocks, start=1):
            for own, shown in (_FIRST if stage == "0" else _OTHERS).items():
                names[f"blocks.{stage}.{row}.{own}"] = f"features.{number}.{shown}"
        return names


mobilenet_encoders = {"mobilenet_v2": entry(MobileNetV2Encoder, "mobilenet_v2")}
