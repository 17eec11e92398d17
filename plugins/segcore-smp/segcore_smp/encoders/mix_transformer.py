"""Mix Transformer, the encoder of SegFormer."""

# ruff: noqa: ANN003, ANN204, UP006, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List

from torch import nn

from segcore_smp.encoders import _draw
from segcore_smp.encoders._mit_blocks import (
    Attention,
    Block,
    DWConv,
    LayerNorm,
    MixVisionTransformer,
    Mlp,
    OverlapPatchEmbed,
)
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

__all__ = [
    "Attention",
    "Block",
    "DWConv",
    "LayerNorm",
    "MixVisionTransformer",
    "MixVisionTransformerEncoder",
    "Mlp",
    "OverlapPatchEmbed",
    "mix_transformer_encoders",
]

_ORDER = [f"patch_embed{n}" for n in range(1, 5)] + [f"{part}{n}" for n in range(1, 5) for part in ("block", "norm")]


class MixVisionTransformerEncoder(NetworkEncoder):
    """Encoder of the family; it has no map of stride 2.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        depth: number of downsampling stages in use.
        output_stride: must be 32.
        **kwargs: ``network``, the name.
    """

    _draw = staticmethod(_draw.mix_transformer)

    def __init__(self, out_channels: List[int], depth: int = 5, output_stride: int = 32, **kwargs):
        network = kwargs.pop("network", None)
        refuse(type(self).__name__, kwargs if network else {"network": None, **kwargs})
        self._build(network, out_channels, depth, output_stride)

    def _complete(self, tree: nn.Module) -> None:
        children = dict(tree.named_children())
        tree._modules.clear()
        tree._modules.update({name: children.pop(name) for name in _ORDER} | children)


mix_transformer_encoders = {
    name: entry(MixVisionTransformerEncoder, name, network=name) for name in (f"mit_b{n}" for n in range(6))
}
