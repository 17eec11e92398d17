"""timm's pretrained tags as records of weights, read without importing timm.

timm names a repository per tag, but neither a revision nor a checksum. ``pins.tsv`` adds them, one line per tag
(``name.tag``, revision, SHA-256, size); ``tests/pin_tags.py`` writes it. The others are listed as unpinned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segcore import Weights

_FOLDER = Path(__file__).parent


@cache
def _lines(file: str) -> list[str]:
    return (_FOLDER / file).read_text(encoding="utf-8").splitlines()


@cache
def _rows(file: str) -> dict[str, dict[str, list[str]]]:
    """Return the rest of each line of a table by architecture and tag."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in _lines(file):
        if line[:1] not in "#@":
            name, *rest = line.split("\t")
            architecture, _, tag = name.partition(".")
            found.setdefault(architecture, {})[tag] = rest
    return found


@cache
def _norms() -> list[list[tuple[float, ...]]]:
    """Return the pairs of mean and std that the lines of the table refer to."""
    rows = [line[1:].split("\t") for line in _lines("tags.tsv") if line[:1] == "@"]
    return [[tuple(map(float, part.split())) for part in row] for row in rows]


def tags_of(architecture: str) -> tuple[str, ...]:
    """Return the tags that timm publishes on the Hugging Face Hub for an architecture, pinned or not."""
    return tuple(_rows("tags.tsv").get(architecture, ()))


def tag_record(architecture: str, tag: str) -> Weights:
    """Return the record of a tag, with its pin if it has one; KeyError for what is not in `tags_of`."""
    license_name, norm, repository = _rows("tags.tsv")[architecture][tag]
    mean, std = _norms()[int(norm)]
    revision = sha256 = size = None
    pin = _rows("pins.tsv").get(architecture, {}).get(tag)
    if pin is not None:
        revision, sha256, size = pin[0], pin[1] or None, int(pin[2]) if pin[2] else None
    repository = repository or f"timm/{architecture}.{tag}"
    return Weights(
        url=f"hf://{repository}/model.safetensors",
        license=license_name or "unknown",
        source=f"timm: {architecture}.{tag}",
        mean=mean,
        std=std,
        sha256=sha256,
        revision=revision,
        size=size,
    )


@dataclass(frozen=True, slots=True)
class Tags(Mapping[str, Weights]):
    """The pinned or the other tags of an architecture; a record is made when it is read.

    Attributes:
        architecture: timm's name.
        pinned: which of them.
        only: the one tag to offer, or None for all.
    """

    architecture: str
    pinned: bool
    only: str | None = None

    def _has(self, tag: object) -> bool:
        pinned = tag in _rows("pins.tsv").get(self.architecture, ())
        return pinned is self.pinned and self.only in {None, tag}

    def __getitem__(self, tag: str) -> Weights:
        if not self._has(tag):
            raise KeyError(tag)
        return tag_record(self.architecture, tag)

    def __iter__(self) -> Iterator[str]:
        return filter(self._has, tags_of(self.architecture))

    def __len__(self) -> int:
        return sum(map(self._has, tags_of(self.architecture)))
