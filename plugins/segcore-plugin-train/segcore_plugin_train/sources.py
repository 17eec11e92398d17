"""Where pairs come from: files, or records such as those of a Hugging Face dataset."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from segcore_plugin_predict import read_image

from segcore import InputError, OptionValueError
from segcore_plugin_train.bands import LabelBands
from segcore_plugin_train.files import Pair
from segcore_plugin_train.masks import LabelMap, size_of


@dataclass(frozen=True, slots=True)
class Reading:
    """How pairs become arrays.

    Attributes:
        channels: of the images, as the model takes them.
        labels: of the masks.
        options: of `segcore_plugin_predict.read_image`, such as ``bands`` and ``full_scale``.
    """

    channels: int
    labels: LabelMap | LabelBands
    options: Mapping[str, Any]


class Source(Protocol):
    """Pairs of images and masks, by number."""

    @property
    def names(self) -> Sequence[str]:
        """What each pair is called."""

    def image(self, index: int, reading: Reading) -> np.ndarray:
        """Return an image (H, W, C): uint8, uint16, or float32 in [0, 1]."""

    def mask(self, index: int, reading: Reading) -> np.ndarray:
        """Return a mask (H, W) of classes, or labels (H, W, classes) where a pixel may have several."""

    def sizes(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return width and height of image and mask, without decoding them if that is possible."""

    def places(self, index: int) -> tuple[str, str]:
        """Return where image and mask are, for messages."""


class Files:
    """Pairs of files.

    Args:
        pairs: see `segcore_plugin_train.files`.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)
        self.names = [pair.name for pair in self.pairs]

    def image(self, index: int, reading: Reading) -> np.ndarray:
        """Return an image; see `Source`."""
        return read_image(self.pairs[index].image, reading.channels, **reading.options)

    def mask(self, index: int, reading: Reading) -> np.ndarray:
        """Return a mask; see `Source`."""
        return reading.labels.read(*self.pairs[index].masks)

    def sizes(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return width and height of image and mask."""
        pair = self.pairs[index]
        image = _size(pair.image)
        others = [size for size in map(_size, pair.masks) if size != image]
        return image, others[0] if others else image

    def places(self, index: int) -> tuple[str, str]:
        """Return the files of image and mask."""
        pair = self.pairs[index]
        return str(pair.image), ", ".join(map(str, pair.masks))


def _size(path: Any) -> tuple[int, int]:
    try:
        return size_of(path)
    except UnidentifiedImageError:
        raise InputError(f"{path}: this is no image. Convert it to PNG or TIFF.") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise InputError(f"{path}: it is damaged or cannot be decoded: {type(error).__name__}: {error}") from error


class Records:
    """Pairs in a sequence of records, such as one split of a Hugging Face dataset.

    Args:
        records: `records[i]` is a mapping; image and mask are PIL pictures, arrays, or a mapping with ``bytes``.
        image_column: key of the image.
        mask_column: key of the mask.
        title: what the records are called in messages.

    Raises:
        OptionValueError: there are no records, or they have no such column.
    """

    def __init__(
        self, records: Sequence[Mapping[str, Any]], image_column: str = "image", mask_column: str = "mask",
        title: str = "record",
    ) -> None:  # fmt: skip
        if not len(records):
            raise OptionValueError(f"{title}: there are no records.")
        columns = sorted(records[0])
        for column in (image_column, mask_column):
            if column not in columns:
                raise OptionValueError(f"{title}: there is no column {column!r}; there are {', '.join(columns)}.")
        self.records, self.columns = records, (image_column, mask_column)
        self.names = [f"{title}[{index}]" for index in range(len(records))]

    def image(self, index: int, reading: Reading) -> np.ndarray:
        """Return an image; see `Source`."""
        try:
            value = _picture(self.records[index][self.columns[0]])
            return _fit(_pixels(value, reading.channels) if isinstance(value, Image.Image) else value, reading.channels)
        except InputError as error:
            raise InputError(f"{self.names[index]}: {error}.") from error

    def mask(self, index: int, reading: Reading) -> np.ndarray:
        """Return a mask; see `Source`."""
        try:
            value = _picture(self.records[index][self.columns[1]])
            return reading.labels.of_picture(value) if isinstance(value, Image.Image) else reading.labels.apply(value)
        except InputError as error:
            raise InputError(f"{self.names[index]}: {error}.") from error

    def sizes(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return width and height of image and mask."""
        first, second = (_picture(self.records[index][column]) for column in self.columns)
        return _shape(first), _shape(second)

    def places(self, index: int) -> tuple[str, str]:
        """Return where image and mask are: the record, and the column."""
        return f"{self.names[index]}[{self.columns[0]!r}]", f"{self.names[index]}[{self.columns[1]!r}]"


def _picture(value: Any) -> Any:
    """Return a PIL picture or an array."""
    if isinstance(value, Mapping) and value.get("bytes"):
        return Image.open(io.BytesIO(value["bytes"]))
    if isinstance(value, Image.Image):
        return value
    array = np.asarray(value)
    if array.ndim not in {2, 3} or array.dtype == object:
        raise InputError(f"a picture or an array (H, W) or (H, W, C) is needed, got {type(value).__name__}")
    return array


def _pixels(picture: Image.Image, channels: int) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16)
    if channels in {1, 3} and picture.mode not in {"I", "F"}:
        picture = picture.convert("L" if channels == 1 else "RGB")
    return np.asarray(picture)


def _fit(array: np.ndarray, channels: int) -> np.ndarray:
    """Return an array (H, W, channels) of a type with a known scale; grey is repeated."""
    array = array if array.ndim == 3 else array[..., None]
    if array.shape[2] == 1:
        array = np.broadcast_to(array, (*array.shape[:2], channels))
    if array.shape[2] != channels or array.dtype.name not in {"uint8", "uint16", "float32"}:
        raise InputError(f"{channels} channels of uint8, uint16 or float32 are needed, got {array.dtype} {array.shape}")
    return array


def _shape(value: Any) -> tuple[int, int]:
    return value.size if isinstance(value, Image.Image) else (value.shape[1], value.shape[0])


def load_records(name: str, split: str, image_column: str, mask_column: str) -> Records:
    """Return one split of a dataset by its name on the Hugging Face Hub, or by its folder.

    A folder that ``save_to_disk`` wrote is taken too; one that holds a single split has it as ``"train"``.

    Raises:
        OptionValueError: the package datasets is not installed, or cannot load it.
    """
    try:
        import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        raise OptionValueError(
            f"{name!r} is loaded with the package datasets: pip install segcore-plugin-train[datasets]."
        ) from error
    try:
        if (Path(name) / "state.json").is_file():
            parts = {"train": datasets.load_from_disk(name)}
        elif (Path(name) / "dataset_dict.json").is_file():
            parts = dict(datasets.load_from_disk(name))
        else:
            parts = {split: datasets.load_dataset(name, split=split)}
    except Exception as error:  # of its own kinds, and of the network's
        raise OptionValueError(f"dataset {name!r}, split {split!r}: {type(error).__name__}: {error}") from error
    if split not in parts:
        raise OptionValueError(f"dataset {name!r}: there is no split {split!r}; there is {', '.join(parts)}.")
    return Records(parts[split], image_column, mask_column, f"{name}/{split}")
