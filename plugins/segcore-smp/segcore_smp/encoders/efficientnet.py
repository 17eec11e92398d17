"""EfficientNet with the padding of TensorFlow, and the names of the port for PyTorch."""

# ruff: noqa: ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from torch import nn

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

_INDEXES = {
    "efficientnet-b0": [2, 4, 8, 15],
    "efficientnet-b1": [4, 7, 15, 22],
    "efficientnet-b2": [4, 7, 15, 22],
    "efficientnet-b3": [4, 7, 17, 25],
    "efficientnet-b4": [5, 9, 21, 31],
    "efficientnet-b5": [7, 12, 26, 38],
    "efficientnet-b6": [8, 14, 30, 44],
    "efficientnet-b7": [10, 17, 37, 54],
}
_STEM = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"} | _SQUEEZE
_OTHERS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
} | _SQUEEZE


def add_head(tree: nn.Module, channels: int) -> None:
    """Add the convolution and the norm before the classifier, which SMP's checkpoints hold and no feature needs."""
    last = next(part for part in reversed(list(tree.modules())) if isinstance(part, nn.BatchNorm2d))
    width = 4 * last.num_features
    tree.add_module("conv_head", nn.Conv2d(channels, width, 1, bias=False))
    tree.add_module("bn2", nn.BatchNorm2d(width, eps=last.eps, momentum=last.momentum))


class EfficientNetEncoder(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_indexes: the blocks that give a map.
        out_channels: channels of the maps, for the greatest depth.
        model_name: ``"efficientnet-b0"`` to ``"efficientnet-b7"``.
        depth: number of downsampling stages in use.
        output_stride: 32, or what `make_dilated` will be called with.
    """

    _draw = staticmethod(_draw.efficientnet)

    def __init__(
        self,
        out_indexes: List[int],
        out_channels: List[int],
        model_name: str,
        depth: int = 5,
        output_stride: int = 32,
    ):
        known = _INDEXES.get(model_name) == list(out_indexes)
        refuse("EfficientNetEncoder", {} if known else {"model_name": model_name, "out_indexes": out_indexes})
        self._build(model_name, out_channels, depth, output_stride)

    def _complete(self, tree: nn.Module) -> None:
        add_head(tree, tree.out_channels[-1])  # type: ignore[index, arg-type]

    def _names(self, tree: nn.Module) -> dict[str, str]:
        names = dict(_STEM)
        blocks = [(stage, row) for stage, part in tree.get_submodule("blocks").named_children()
                  for row, _ in part.named_children()]  # fmt: skip
        for number, (stage, row) in enumerate(blocks):
            for own, shown in (_FIRST if stage == "0" else _OTHERS).items():
                names[f"blocks.{stage}.{row}.{own}"] = f"_blocks.{number}.{shown}"
        return names


efficient_net_encoders = {
    name: entry(EfficientNetEncoder, name, out_indexes=list(indexes), model_name=name)
    for name, indexes in _INDEXES.items()
}
