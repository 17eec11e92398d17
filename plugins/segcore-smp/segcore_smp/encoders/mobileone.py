"""MobileOne, with its parallel branches."""

# ruff: noqa: ANN001, B006, UP006, UP035, UP045
# mypy: disable-error-code="no-untyped-def"

from collections.abc import Mapping
from typing import List, Optional

from torch import nn

from segcore_smp.encoders import _draw
from segcore_smp.encoders._mobileone_blocks import MobileOneBlock, SEBlock, reparameterize_model
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse

__all__ = ["MobileOne", "MobileOneBlock", "SEBlock", "mobileone_encoders", "reparameterize_model"]

_WIDTHS = {
    "mobileone_s0": (0.75, 1.0, 1.0, 2.0),
    "mobileone_s1": (1.5, 1.5, 2.0, 2.5),
    "mobileone_s2": (1.5, 2.0, 2.5, 4.0),
    "mobileone_s3": (2.0, 2.5, 3.0, 4.0),
    "mobileone_s4": (3.0, 3.5, 3.5, 4.0),
}
_SPECIAL: Mapping[str, Mapping[str, object]] = {
    "mobileone_s0": {"num_conv_branches": 4},
    "mobileone_s4": {"use_se": True},
}
_WORDS = {"identity": "rbr_skip", "conv_kxk": "rbr_conv", "conv_scale": "rbr_scale"}


class MobileOne(NetworkEncoder):
    """Encoder of the family.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        num_blocks_per_stage: must be ``[2, 8, 10, 1]``.
        width_multipliers: of the four stages; one of the published rows.
        inference_mode: must be False.
        use_se: squeeze-and-excite, in the largest only.
        depth: number of downsampling stages in use.
        in_channels: of the image.
        output_stride: 32, or what `make_dilated` will be called with.
        num_conv_branches: 4 in the smallest, else 1.
    """

    _draw = staticmethod(_draw.default)

    def __init__(
        self,
        out_channels: List[int],
        num_blocks_per_stage: List[int] = [2, 8, 10, 1],
        width_multipliers: Optional[List[float]] = None,
        inference_mode: bool = False,
        use_se: bool = False,
        depth=5,
        in_channels=3,
        output_stride=32,
        num_conv_branches: int = 1,
    ) -> None:
        given = {"num_conv_branches": num_conv_branches, "use_se": use_se}
        plain = {"num_conv_branches": 1, "use_se": False}
        known = [
            name
            for name, widths in _WIDTHS.items()
            if widths == tuple(width_multipliers or ()) and plain | dict(_SPECIAL.get(name, {})) == given
        ]
        other = inference_mode or list(num_blocks_per_stage) != [2, 8, 10, 1] or not known
        refuse("MobileOne", {"width_multipliers": width_multipliers, **given} if other else {})
        self._build(known[0], out_channels, depth, output_stride)
        if in_channels != 3:
            self.set_in_channels(in_channels, pretrained=False)

    def _names(self, tree: nn.Module) -> dict[str, str]:
        names = {}
        for path, _ in tree.named_modules():
            words = path.replace("attn.fc1", "se.reduce").replace("attn.fc2", "se.expand").split(".")
            if words[0] == "stem":
                words[0] = "stage0"
            elif words[0] == "stages" and len(words) > 1:
                words[:2] = [f"stage{int(words[1]) + 1}"]
            names[path] = ".".join(_WORDS.get(word, word) for word in words)
        return {path: shown for path, shown in names.items() if path not in {"", "stages"} and path != shown}


mobileone_encoders = {
    name: entry(MobileOne, name, width_multipliers=widths, inference_mode=False, **_SPECIAL.get(name, {}))
    for name, widths in _WIDTHS.items()
}
