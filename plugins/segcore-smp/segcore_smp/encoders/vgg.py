"""VGG, with and without norms."""

# ruff: noqa: ANN003, ANN204, UP006, UP007, UP035
# mypy: disable-error-code="no-untyped-def"

from typing import List, Union

from segcore_smp.encoders import _draw
from segcore_smp.encoders._network import NetworkEncoder, entry, refuse


def _config(repeats: tuple[int, ...]) -> list[int | str]:
    channels = (64, 128, 256, 512, 512)
    config: list[int | str] = []
    for count, width in zip(repeats, channels, strict=True):
        config += [*[width] * count, "M"]
    return config


cfg = {"A": _config((1, 1, 2, 2, 2)), "B": _config((2, 2, 2, 2, 2)), "D": _config((2, 2, 3, 3, 3)),
       "E": _config((2, 2, 4, 4, 4))}  # fmt: skip
_LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


class VGGEncoder(NetworkEncoder):
    """Encoder of the family; its first map is its own, at the image's resolution.

    Args:
        out_channels: channels of the maps, for the greatest depth.
        config: channels of the convolutions, ``"M"`` for a pool.
        batch_norm: whether convolutions are followed by norms.
        depth: number of downsampling stages in use.
        output_stride: must be 32.
        **kwargs: none.
    """

    _draw = staticmethod(_draw.vgg)

    def __init__(
        self,
        out_channels: List[int],
        config: List[Union[int, str]],
        batch_norm: bool = False,
        depth: int = 5,
        output_stride: int = 32,
        **kwargs,
    ):
        refuse("VGGEncoder", kwargs)
        plain = next((name for name, letter in _LETTERS.items() if cfg[letter] == list(config)), None)
        refuse("VGGEncoder", {} if plain else {"config": config})
        self._build(f"{plain}_bn" if batch_norm else str(plain), out_channels, depth, output_stride)


vgg_encoders = {
    name + suffix: entry(VGGEncoder, name + suffix, config=list(cfg[letter]), batch_norm=bool(suffix))
    for name, letter in _LETTERS.items()
    for suffix in ("", "_bn")
}
