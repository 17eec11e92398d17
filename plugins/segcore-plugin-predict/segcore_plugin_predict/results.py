"""The result folder: files that appear whole or not at all, what was finished before, and the table of areas."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcore import OptionValueError
from segcore_plugin_predict.inputs import Input
from segcore_plugin_predict.pictures import Colours, clear_class, label_png, overlay_jpeg, record_of

AREAS = "areas.csv"
OVERLAY = ".overlay.jpg"
_PREFIX = ".predicting"


@dataclass(frozen=True, slots=True)
class Kinds:
    """Which files belong to an image, and what their classes are called.

    Attributes:
        names: of the classes in the label maps; with several labels, of the maps.
        named: whether the checkpoint gave the names.
        separate: whether there is one map per class.
        probabilities: whether there is a file of probabilities.
        overlays: whether there is an overlay.
        raster: whether the results are georeferenced.
    """

    names: tuple[str, ...]
    named: bool
    separate: bool
    probabilities: bool
    overlays: bool
    raster: bool = False

    def maps(self, name: str) -> list[str]:
        """Return the label maps of an image, the last written last."""
        if self.raster:
            return [f"{name}.tif"]
        return [f"{name}.class-{index}.png" for index in range(len(self.names))] if self.separate else [f"{name}.png"]

    def extras(self, name: str) -> list[str]:
        """Return the other files of an image."""
        wanted = [(".probabilities.tif" if self.raster else ".npz", self.probabilities), (OVERLAY, self.overlays)]
        return [name + suffix for suffix, asked in wanted if asked]


@contextlib.contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Make the result folder and in it one for unfinished files, which goes away; those of dead processes go too.

    Raises:
        OptionValueError: the folder cannot be made or written to.
    """
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{_PREFIX}-{host}-*"):
            owner = left.name.split("-")[2]
            if owner.isdecimal() and not _alive(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
        folder = out / f"{_PREFIX}-{host}-{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir()
    except OSError as error:
        raise OptionValueError(f"--out {str(out)!r} cannot be written to: {error}. Choose another place.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # there a signal of 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def put(work: Path, target: Path, content: bytes) -> None:
    """Write a file under another name and give it its own when it is whole.

    Raises:
        OptionValueError: it cannot be written: the disk is full, or the folder may not be written to.
    """
    part = work / secrets.token_hex(8)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise OptionValueError(
            f"{str(target)!r} cannot be written: {error}. What is finished stays; start again when that is mended."
        ) from error


@dataclass(frozen=True, slots=True)
class Finished:
    """What the table of areas needs of an image.

    Attributes:
        name: of the image.
        size: width and height.
        pixels: of each class.
    """

    name: str
    size: tuple[int, int]
    pixels: tuple[int, ...]


def source_of(path: Path) -> dict[str, int]:
    """Return what tells whether a file is still the one that was predicted."""
    facts = path.stat()
    return {"bytes": facts.st_size, "modified": facts.st_mtime_ns}


def finished(
    out: Path,
    image: Input,
    kinds: Kinds,
    settings: str,
    facts: Callable[[Path], Mapping[str, Any] | None] = record_of,
) -> Finished | None:
    """Return the record of an image that was predicted before with the same settings, or None if it is to be done.

    Args:
        out: the result folder.
        image: what was predicted.
        kinds: which files there must be.
        settings: what makes a result another one, as a checksum.
        facts: reads what is kept in a label map.
    """
    extras = kinds.extras(image.name)
    if not all((out / extra).is_file() for extra in extras):
        return None
    records = [facts(out / name) for name in kinds.maps(image.name)]
    try:
        expected = {"settings": settings, **source_of(image.path)}
        for record in records:
            if record is None or any(record[key] != value for key, value in expected.items()):
                return None
            if not set(extras) <= set(record["with"]):
                return None
        last = records[-1]
        assert last is not None
        width, height = map(int, last["size"])
        pixels = tuple(map(int, last["pixels"]))
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return Finished(image.name, (width, height), pixels) if len(pixels) == len(kinds.names) else None


def save(
    out: Path,
    work: Path,
    image: Input,
    kinds: Kinds,
    settings: str,
    source: Mapping[str, int],
    pixels: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray | None,
    colours: Colours,
) -> Finished:
    """Write the files of an image, the label map last: when it is there, all are.

    Args:
        out: the result folder.
        work: see `workplace`.
        image: what was predicted.
        kinds: which files to write.
        settings: what makes a result another one, as a checksum.
        source: see `source_of`, from before the file was read.
        pixels: the image (H, W, C) as it was read.
        labels: (H, W), or with several labels (K, H, W).
        probabilities: (K, H, W) or None.
        colours: see `pictures.palette`.
    """
    flat = flattened(labels)
    if labels.ndim == 3:
        counts = tuple(int(np.count_nonzero(plane)) for plane in labels)
    else:
        counts = tuple(np.bincount(labels.ravel(), minlength=len(kinds.names)).tolist())
    if probabilities is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, probabilities=probabilities.astype(np.float16))
        put(work, out / f"{image.name}.npz", buffer.getvalue())
    if kinds.overlays:
        put_overlay(out, work, image, kinds, pixels, flat, colours)
    height, width = flat.shape
    record = facts_of(image, kinds, settings, source) | {"size": [width, height], "pixels": counts}
    planes = labels if kinds.separate else labels[None]
    for index, name in enumerate(kinds.maps(image.name)):
        tones = colours[[0, index + 1]] if kinds.separate else colours
        put(work, out / name, label_png(planes[index], tones, record))
    return Finished(image.name, (width, height), counts)


def flattened(labels: np.ndarray) -> np.ndarray:
    """Return labels (H, W) as they are, and of several (K, H, W) the number of the first that is present, from 1."""
    return labels if labels.ndim == 2 else np.where(labels.any(0), labels.argmax(0) + 1, 0)


def facts_of(image: Input, kinds: Kinds, settings: str, source: Mapping[str, int]) -> dict[str, Any]:
    """Return what a label map keeps about itself, but for the size and the number of pixels of each class."""
    return {"settings": settings, **source, "classes": kinds.names, "with": kinds.extras(image.name)}


def put_overlay(
    out: Path, work: Path, image: Input, kinds: Kinds, pixels: np.ndarray, flat: np.ndarray, colours: Colours
) -> None:
    """Write a picture to look at of an image (H, W, C) and of labels (H, W)."""
    clear = 0 if kinds.separate else clear_class(len(kinds.names), kinds.names if kinds.named else None)
    put(work, out / (image.name + OVERLAY), overlay_jpeg(pixels, flat, colours, clear))


def write_areas(out: Path, work: Path, done: Sequence[Finished], names: Sequence[str]) -> None:
    """Write the table of areas: one row for each image and class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "width", "height", "class", "name", "pixels", "share"])
    for image in done:
        total = image.size[0] * image.size[1]
        for index, (name, pixels) in enumerate(zip(names, image.pixels, strict=True)):
            writer.writerow([image.name, *image.size, index, name, pixels, f"{pixels / total:.6f}"])
    put(work, out / AREAS, text.getvalue().encode())
