"""Masks: from what a file holds, numbers or colours, to the classes 0, 1, 2, ..."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from segcore import InputError, OptionValueError
from segcore_plugin_train.wording import shorten

IGNORED = "ignore"
ARRAY = ".npy"
MAX_CLASSES = 65535
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class LabelMap:
    """Turns the values of a mask into classes.

    Args:
        classes: number of classes; 1 is one class against the background, with the labels 0 and 1.
        labels: what each value means: from a number, or a colour ``"#rrggbb"``, to a class or to ``"ignore"``. Numbers
            or colours, not both. None: each number is its class.
        ignore_label: a number that does not count, with `labels` or without.

    Attributes:
        ignore: the number that stands for pixels that do not count in what `apply` returns: 255, or 65535 for more
            than 255 classes.
        mode: ``"binary"`` for one class, else ``"multiclass"``.

    Raises:
        OptionValueError: classes or labels make no sense.

    Example:
        >>> LabelMap(2, {"#000000": 0, "#ff0000": 1}).apply(np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
        array([[1, 0]], dtype=uint8)
    """

    def __init__(self, classes: int, labels: Mapping[Any, Any] | None = None, ignore_label: int | None = None) -> None:
        if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= MAX_CLASSES:
            raise OptionValueError(f"classes={classes!r}: a whole number from 1 to {MAX_CLASSES} is needed.")
        self.classes = classes
        self.mode = "binary" if classes == 1 else "multiclass"
        self.last = max(classes - 1, 1)
        self.ignore = 255 if self.last < 255 else MAX_CLASSES
        self.dtype = np.dtype(np.uint8 if self.ignore == 255 else np.uint16)
        table = {_key(key): self._value(key, value) for key, value in (labels or {}).items()}
        self.by_colour = any(isinstance(key, tuple) for key in table)
        if self.by_colour and not all(isinstance(key, tuple) for key in table):
            raise OptionValueError(f"labels are numbers or colours, not both: {shorten(labels or {})}.")
        if not table:
            table = {value: value for value in range(self.last + 1)}
        if ignore_label is not None:
            if self.by_colour:
                raise OptionValueError("ignore_label is a number; with colours, map one of them to 'ignore'.")
            table[ignore_label] = self.ignore
        self.given = bool(labels)
        packed = {_pack(key) if isinstance(key, tuple) else key: value for key, value in table.items()}
        self._keys = np.array(sorted(packed), np.int64)
        self._values = np.array([packed[key] for key in sorted(packed)], self.dtype)

    def _value(self, key: object, value: object) -> int:
        if value == IGNORED:
            return self.ignore
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= self.last:
            raise OptionValueError(f"label {key}={value!r}: a class from 0 to {self.last} is needed, or 'ignore'.")
        return value

    def apply(self, mask: np.ndarray) -> np.ndarray:
        """Return the classes (H, W), uint8 or uint16, of numbers (H, W) or colours (H, W, 3).

        Raises:
            InputError: a value has no class; the message says which, how often, and what to do.
        """
        if not self.by_colour and mask.ndim != 2:
            raise InputError(f"a mask (H, W) is needed, got an array of shape {mask.shape}")
        raw = _pack_array(mask) if self.by_colour else whole(mask)
        places = np.searchsorted(self._keys, raw).clip(max=len(self._keys) - 1)
        wrong = self._keys[places] != raw
        if wrong.any():
            values, counts = np.unique(raw[wrong], return_counts=True)
            raise InputError(self._complaint(values, counts, set(np.unique(raw).tolist())))
        found: np.ndarray = self._values[places]
        return found

    def count(self, mask: np.ndarray) -> np.ndarray:
        """Return the number of pixels of each class, int64; of background and object for one class."""
        return np.bincount(mask.ravel(), minlength=self.ignore + 1)[: self.last + 1]

    def largest_share(self, mask: np.ndarray) -> float:
        """Return the share of the most frequent class among the pixels that count; 1 if none does."""
        counted = mask[mask != self.ignore]
        return float(np.bincount(counted).max()) / counted.size if counted.size else 1.0

    def _complaint(self, values: np.ndarray, counts: np.ndarray, present: set[int]) -> str:
        shown = [f"#{value:06x}" if self.by_colour else str(value) for value in values]
        text = shorten(f"{value} ({count} pixels)" for value, count in zip(shown, counts, strict=True))
        what = "colours" if self.by_colour else "labels"
        if self.given:
            return f"it has {what} that are not mapped: {text}. Map them with --label {shown[0]}=CLASS or =ignore"
        hint = f"Raise --classes, or map them with --label {shown[0]}=CLASS or =ignore"
        if present <= {0, 255}:
            hint = "If 255 is the object, use --label 0=0 --label 255=1; if it does not count, --ignore-label 255"
        elif list(shown) == ["255"]:
            hint = "If 255 does not count, use --ignore-label 255"
        return f"it has {what} out of range: {text}; {self.classes} classes are 0 to {self.last}. {hint}"

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Return the classes of a mask file (H, W), uint8 or uint16.

        Raises:
            InputError: the file cannot be read, or holds what has no class; the message begins with the file.
        """
        with told_with(path):
            if Path(path).suffix.lower() == ARRAY:
                return self.apply(load_array(path))
            with Image.open(path) as picture:
                return self.of_picture(picture)

    def of_picture(self, picture: Image.Image) -> np.ndarray:
        """Return the classes of an open picture (H, W); see `read`, whose message names the file."""
        if picture.format in {"JPEG", "MPO"}:
            raise InputError("a JPEG changes the values of a mask. Save masks as PNG or TIFF")
        if self.by_colour:
            return self.apply(np.asarray(picture.convert("RGB")))
        mode = picture.mode
        if mode in {"LA", "PA", "La"}:
            picture = picture.getchannel(0)
        elif mode == "1":
            picture = picture.convert("L").point([int(value > 0) for value in range(256)])
        elif mode not in {"L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"}:
            array = np.asarray(picture)
            grey = array.ndim == 3 and array.shape[2] >= 3 and bool((array[..., :1] == array[..., :3]).all())
            if not grey:
                raise InputError(
                    f"its pixels are colours (mode {mode}), not labels. Say which class each colour is, "
                    f"--label '#rrggbb=CLASS'"
                )
            return self.apply(array[..., 0])
        return self.apply(np.asarray(picture))


@contextmanager
def told_with(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make whatever goes wrong an InputError that begins with the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}.") from error
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file.") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: this is no image. Save masks as PNG or TIFF.") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise InputError(f"{path}: it is damaged or cannot be decoded: {type(error).__name__}: {error}") from error


def load_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a ``.npy`` file; nothing in it is run."""
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def whole(mask: np.ndarray) -> np.ndarray:
    """Return numbers as int64.

    Raises:
        InputError: they are no numbers, or fractions.
    """
    if mask.dtype.kind not in "biuf":
        raise InputError(f"numbers are needed, got an array of {mask.dtype}")
    if mask.dtype.kind == "f" and not (np.isfinite(mask) & (np.floor(mask) == mask)).all():
        raise InputError("its numbers are fractions, not labels. Save labels as integers")
    return mask.astype(np.int64, copy=False)


def _key(key: object) -> int | tuple[int, ...]:
    """Return a number, or a colour as three numbers."""
    if isinstance(key, str):
        if _COLOUR.fullmatch(key):
            return tuple(bytes.fromhex(key[1:]))
        if key.strip().lstrip("-").isdecimal():
            return int(key)
    elif isinstance(key, int) and not isinstance(key, bool):
        return key
    elif isinstance(key, tuple | list) and len(key) == 3 and all(v in range(256) for v in key):
        return tuple(key)
    raise OptionValueError(f"label {key!r}: a number or a colour '#rrggbb' is needed.")


def _pack(colour: tuple[int, ...]) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _pack_array(mask: np.ndarray) -> np.ndarray:
    if mask.ndim != 3:
        raise InputError("its pixels are numbers, and the labels are given as colours")
    wide = mask[..., :3].astype(np.int64)
    packed: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def size_of(path: Path) -> tuple[int, int]:
    """Return the width and height of an image that is meant to be seen upright, or an array, without decoding it."""
    if path.suffix.lower() == ARRAY:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return shape[1], shape[0]
    with Image.open(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(274, 1) >= 5
    return (height, width) if turned else (width, height)
