"""What is known of timm's architectures without importing timm: one line of a table each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

MEASURED_WITH = "1.0.31"
"""The version of timm that the table was made with."""

_TABLE = Path(__file__).with_name("architectures.tsv")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The facts of one timm architecture as an encoder for images of three channels, at the greatest depth.

    Attributes:
        strides: of the feature maps; the first is 1.
        channels: of the feature maps, parallel to `strides`.
        indices: positions of the maps among timm's features; one fewer than the strides where map 0 is the image.
        kind: ``"pyramid"``, or ``"isotropic"`` where the maps come from blocks of one resolution.
        rgb_only: whether it takes images of three channels only.
        channels_last: whether timm gives (N, H, W, C).
        exact: whether every map has the size ceil(H/s); otherwise the encoder resizes the maps to it.
        policy: which images it takes: ``"any"``, ``"dynamic"`` (any, when built for it), ``"built"`` (one size,
            chosen when it is built) or ``"fixed"`` (one size).
        size: the size that it is built for by default, in pixels; it is square.
        multiple: height and width must be multiples of this.
        output_strides: deepest strides that it can be built with.
        blocks: number of features that an isotropic architecture can give.
        prefix_tokens: class and register tokens beside each map.
        parameters: number of parameters of what is built.
        refused: why no encoder can be made of it, or an empty string.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    indices: tuple[int, ...]
    kind: str
    rgb_only: bool
    channels_last: bool
    exact: bool
    policy: str
    size: int
    multiple: int
    output_strides: tuple[int, ...]
    blocks: int
    prefix_tokens: int
    parameters: int
    refused: str = ""


@cache
def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split())


@cache
def table() -> dict[str, str]:
    """Return the unparsed lines of the table by name."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if line and not line.startswith("#"))


def facts(name: str) -> Architecture | None:
    """Return what the table says of an architecture, or None if it is not in it."""
    line = table().get(name)
    return None if line is None else parse(line)


def parse(line: str) -> Architecture:
    """Return the record of a line of the table, without the name."""
    strides, channels, indices, kind, size, blocks, prefix, parameters, output_strides, refused = line.split("\t")
    letters, _, policy = kind.partition(" ")
    pixels, _, multiple = size.partition("/")
    return Architecture(
        strides=_ints(strides),
        channels=_ints(channels),
        indices=_ints(indices),
        kind="isotropic" if "i" in letters else "pyramid",
        rgb_only="r" in letters,
        channels_last="l" in letters,
        exact="~" not in letters,
        policy=policy,
        size=int(pixels),
        multiple=int(multiple),
        output_strides=_ints(output_strides),
        blocks=int(blocks),
        prefix_tokens=int(prefix),
        parameters=int(parameters),
        refused=refused,
    )


def format_line(row: Architecture) -> str:
    """Return the line of the table that `parse` reads."""
    letters = "i" if row.kind == "isotropic" else "p"
    letters += "r" * row.rgb_only + "l" * row.channels_last + "~" * (not row.exact)
    words = [" ".join(map(str, values)) for values in (row.strides, row.channels, row.indices)]
    words += [f"{letters} {row.policy}", f"{row.size}/{row.multiple}", str(row.blocks), str(row.prefix_tokens)]
    words += [str(row.parameters), " ".join(map(str, row.output_strides)), row.refused]
    return "\t".join(words)
