"""Names of published parameters: timm's, which are ours, and those of the EfficientNet-PyTorch port."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

UNUSED = {"conv_head", "bn2", "classifier", "_conv_head", "_bn1", "_fc"}  # behind the last feature map

STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def convert(state: Mapping[str, Tensor], repeats: Sequence[int], unbuilt: Collection[str]) -> dict[str, Tensor]:
    """Return published weights under timm's names, without those that are not built.

    Args:
        state: in either dialect.
        repeats: number of blocks of each stage of the whole network.
        unbuilt: prefixes ``blocks.S.R`` of the blocks that are left out.
    """
    positions = [(stage, row) for stage, count in enumerate(repeats) for row in range(count)]
    converted = {}
    for key, value in state.items():
        if key.partition(".")[0] in UNUSED:
            continue
        name = _timm_name(key, positions)
        if ".".join(name.split(".")[:3]) not in unbuilt:
            converted[name] = value
    return converted


def _timm_name(key: str, positions: Sequence[tuple[int, int]]) -> str:
    """Translate one name; one that belongs to neither dialect is returned as it is, and fails a strict load."""
    first, *rest = key.split(".")
    if first in STEM:
        return ".".join([STEM[first], *rest])
    if first != "_blocks" or len(rest) < 2 or not rest[0].isdigit() or int(rest[0]) >= len(positions):
        return key
    stage, row = positions[int(rest[0])]
    module = (SEPARABLE if stage == 0 else INVERTED).get(rest[1], rest[1])
    return ".".join(["blocks", str(stage), str(row), module, *rest[2:]])
