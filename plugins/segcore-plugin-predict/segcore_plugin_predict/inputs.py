"""Which files are meant by paths, folders and patterns, and what their results are called. Needs no torch."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore import OptionValueError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp"}


@dataclass(frozen=True, slots=True)
class Input:
    """One image to predict.

    Attributes:
        path: of the file.
        name: where its results lie in the result folder, without what tells them apart: ``a/b`` for ``a/b.png``.
    """

    path: Path
    name: str


def find_inputs(paths: Sequence[str], out: Path) -> list[Input]:
    """Return the images that are meant, in a fixed order, each once.

    A folder is searched with all folders in it, for files with a suffix of an image; hidden ones and the result
    folder are left out. Results keep the place that a file has below the folder, or below the part of a pattern that
    has no ``*``.

    Raises:
        OptionValueError: a path does not exist, nothing was found, or results would overwrite each other or an image.
    """
    inside = out.resolve()
    found: dict[Path, Path] = {}
    for text in paths:
        before = len(found)
        for path, place in _expanded(text):
            real = path.resolve()
            if not real.is_relative_to(inside):
                found.setdefault(real, place)
            elif path == Path(text):
                raise OptionValueError(f"{text!r} lies in the result folder {str(out)!r}. Choose another --out.")
        if len(found) == before and not any(True for _ in _expanded(text)):
            raise OptionValueError(f"{text!r} holds no image: no file with one of {', '.join(sorted(SUFFIXES))}.")
    if not found:
        raise OptionValueError(
            "there is nothing to predict: all images lie in the result folder. Choose another --out."
        )
    return _named(found)


def _expanded(text: str) -> Iterator[tuple[Path, Path]]:
    """Yield each file with its place relative to what was asked for."""
    path = Path(text)
    if path.is_dir():
        yield from _inside(path)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(text):
        fixed = Path()
        for part in path.parts:
            if glob.has_magic(part):
                break
            fixed /= part
        for match in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 - the pattern may be absolute
            if Path(match).is_file():
                yield Path(match), Path(match).relative_to(fixed)
    else:
        raise OptionValueError(f"there is no file, folder or match for {text!r}; paths are relative to {Path.cwd()}.")


def _inside(folder: Path) -> Iterator[tuple[Path, Path]]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path, path.relative_to(folder)


def _named(found: dict[Path, Path]) -> list[Input]:
    """Give each image a name: its place without the suffix, or with it where that would be ambiguous."""
    short = [place.with_suffix("").as_posix() for place in found.values()]
    doubled = set(_repeated(short))
    named = [
        Input(path, place.as_posix() if name in doubled else name)
        for name, (path, place) in zip(short, found.items(), strict=True)
    ]
    for name in _repeated(image.name for image in named):
        same = [str(image.path) for image in named if image.name == name]
        raise OptionValueError(
            f"the results of {same[0]!r} and {same[1]!r} would both be called {name!r}. Give the folder that holds "
            f"both, or predict them into different folders."
        )
    return named


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
