"""Masks in which a pixel may have several classes: one band of 0 and 1 for each class."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from segcore_plugin_predict import read_image

from segcore import InputError, OptionValueError
from segcore_plugin_train.masks import ARRAY, IGNORED, load_array, told_with, whole
from segcore_plugin_train.wording import shorten

IGNORE = 255


class LabelBands:
    """Turns the bands of a mask into labels: for each pixel and class 0, 1, or what does not count.

    Args:
        classes: number of classes, and of bands.
        labels: what each number means: 0, 1 or ``"ignore"``. None: 0 and 1, or 0 and 255.
        ignore_label: a number that does not count, for the class in whose band it stands.

    Attributes:
        ignore: the number that stands for what does not count in what `apply` returns: 255.
        mode: ``"multilabel"``.

    Raises:
        OptionValueError: classes or labels make no sense.

    Example:
        >>> LabelBands(2, ignore_label=9).apply(np.array([[[1, 0], [1, 1], [0, 9]]])).tolist()
        [[[1, 0], [1, 1], [0, 255]]]
    """

    ignore = IGNORE
    mode = "multilabel"

    def __init__(self, classes: int, labels: Mapping[Any, Any] | None = None, ignore_label: int | None = None) -> None:
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
            raise OptionValueError(f"classes={classes!r}: a whole number of at least 1 is needed.")
        self.classes = classes
        self._one = self if classes == 1 else LabelBands(1, labels, ignore_label)
        table = {_number(key): _meaning(key, value) for key, value in (labels or {0: 0, 1: 1, 255: 1}).items()}
        if ignore_label is not None:
            table[ignore_label] = IGNORE
        self._ambiguous = not labels and ignore_label not in {1, 255}
        self._keys = np.array(sorted(table), np.int64)
        self._values = np.array([table[key] for key in sorted(table)], np.uint8)

    def apply(self, mask: np.ndarray) -> np.ndarray:
        """Return labels (H, W, classes), uint8, of numbers (H, W, classes), or (H, W) for one class.

        Raises:
            InputError: the number of bands is another, or a number has no meaning; says which, and what to do.
        """
        mask = mask[..., None] if mask.ndim == 2 else mask
        if mask.ndim != 3 or mask.shape[2] != self.classes:
            turned = mask.ndim == 3 and mask.shape[0] == self.classes
            hint = ". Put the bands last, np.moveaxis(mask, 0, -1)" if turned else ""
            raise InputError(
                f"a mask of {self.classes} bands is needed, one for each class, "
                f"got height, width and bands {mask.shape}{hint}"
            )
        if self._ambiguous and (mask == 1).any() and (mask == 255).any():
            raise InputError(
                "it has 1 and 255. If 255 does not count, use --ignore-label 255; if it means the same as 1, use "
                "--label 0=0 --label 1=1 --label 255=1"
            )
        out = np.empty(mask.shape, np.uint8)
        for band in range(self.classes):
            raw = whole(mask[..., band])
            places = np.searchsorted(self._keys, raw).clip(max=len(self._keys) - 1)
            wrong = self._keys[places] != raw
            if wrong.any():
                values, counts = np.unique(raw[wrong], return_counts=True)
                shown = shorten(f"{value} ({count} pixels)" for value, count in zip(values, counts, strict=True))
                raise InputError(
                    f"band {band + 1} has {shown}; each band is 0 and 1, or 0 and 255. Say what others mean with "
                    f"--label {values[0]}=0, =1 or =ignore"
                )
            out[..., band] = self._values[places]
        return out

    def read(self, *paths: str | os.PathLike[str]) -> np.ndarray:
        """Return the labels (H, W, classes), uint8, of one file with all bands, or of one file for each class.

        Raises:
            InputError: a file cannot be read, or is no such mask; the message begins with it.
        """
        if len(paths) == 1:
            with told_with(paths[0]):
                return self.apply(_numbers(Path(paths[0]), self.classes))
        if len(paths) != self.classes:
            raise InputError(
                f"{paths[0]}: {len(paths)} masks are given for {self.classes} classes; one each is needed."
            )
        bands = [self._one.read(path) for path in paths]
        for path, band in zip(paths, bands, strict=True):
            if band.shape != bands[0].shape:
                raise InputError(
                    f"{path}: it has {band.shape[1]} x {band.shape[0]} pixels, and {paths[0]} "
                    f"{bands[0].shape[1]} x {bands[0].shape[0]}. Masks of one image are of one size."
                )
        return np.concatenate(bands, axis=2)

    def of_picture(self, picture: Image.Image) -> np.ndarray:
        """Return the labels (H, W, classes) of an open picture; see `read`, whose message names the file."""
        return self.apply(_of_picture(picture))

    def count(self, mask: np.ndarray) -> np.ndarray:
        """Return the number of pixels that have each class, int64."""
        counts: np.ndarray = (mask == 1).sum(axis=(0, 1), dtype=np.int64)
        return counts

    def largest_share(self, mask: np.ndarray) -> float:
        """Return the share of the most frequent combination of classes among pixels that count; 1 if none does."""
        counted = mask[(mask != IGNORE).any(axis=2)]
        if not counted.size:
            return 1.0
        weights = np.random.default_rng(0).integers(1, 2**40, self.classes)
        _, counts = np.unique(counted.astype(np.int64) @ weights, return_counts=True)
        return float(counts.max()) / len(counted)


def check_class_folders(folders: Sequence[str], multilabel: bool, classes: int | None) -> None:
    """Raise OptionValueError unless there is one folder for each class, or none at all."""
    if folders and not multilabel:
        raise OptionValueError("folders of classes need several labels per pixel: multilabel=True (--multilabel).")
    if folders and len(folders) != classes:
        raise OptionValueError(f"{len(folders)} folders are given for {classes} classes: {', '.join(folders)}.")


def _number(key: object) -> int:
    if isinstance(key, str) and key.strip().lstrip("-").isdecimal():
        return int(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return key
    raise OptionValueError(f"label {key!r}: with several labels per pixel a number is needed.")


def _meaning(key: object, value: object) -> int:
    if value == IGNORED:
        return IGNORE
    if isinstance(value, bool) or not isinstance(value, int) or value not in {0, 1}:
        raise OptionValueError(f"label {key}={value!r}: with several labels per pixel it is 0, 1 or 'ignore'.")
    return value


def _numbers(path: Path, bands: int) -> np.ndarray:
    """Return what a file holds, (H, W) or (H, W, C)."""
    if path.suffix.lower() == ARRAY:
        return load_array(path)
    if path.suffix.lower() not in {".tif", ".tiff"}:
        with Image.open(path) as picture:
            return _of_picture(picture)
    with _without_name(path):
        array = read_image(path, alpha="drop")
    if array.shape[2] == bands - 1:  # the last band may have been taken for transparency
        with contextlib.suppress(InputError):
            return read_image(path, bands)
    return array


@contextlib.contextmanager
def _without_name(path: Path) -> Iterator[None]:
    """Leave out the file from a message that gets it once more."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{path}: ").removesuffix(".")) from error


def _of_picture(picture: Image.Image) -> np.ndarray:
    if picture.format in {"JPEG", "MPO"}:
        raise InputError("a JPEG changes the values of a mask. Save masks as PNG or TIFF")
    return np.asarray(picture).astype(np.uint8) if picture.mode == "1" else np.asarray(picture)
