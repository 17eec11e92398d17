"""Which image belongs to which mask: two folders with the same names, or a table. Needs no torch."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from segcore import InputError, OptionValueError
from segcore_plugin_train.wording import shorten

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".webp", ".bmp"}
MASK_SUFFIXES = {*SUFFIXES, ".npy"}
SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask.

    Attributes:
        name: what the pair is called in messages and reports.
        image: file of the image.
        mask: file of the mask.
        split: ``"train"`` or ``"val"`` if a table says so.
        more: files of the masks of the other classes, where each class has one of its own.
    """

    name: str
    image: Path
    mask: Path
    split: str | None = None
    more: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """All files of masks."""
        return (self.mask, *self.more)


def pairs_of_folders(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    mask_suffix: str = "",
    class_folders: Sequence[str] = (),
) -> list[Pair]:
    """Return the pairs of two folders, searched with all folders in them, sorted by name.

    A mask has the path of its image below the folder, with any image's ending, or ``.npy``: ``images/a/1.jpg`` and
    ``masks/a/1.png``. Masks without an image are left alone.

    Args:
        images: folder.
        masks: folder.
        mask_suffix: what the names of masks have before the ending: ``"_mask"`` for ``1_mask.png``.
        class_folders: folders below `masks`, one for each class, in order; each image has a mask in each of them.

    Raises:
        OptionValueError: a folder is missing or has no image.
        InputError: an image has no mask, or two files of one name.
    """
    found = _by_name(Path(images), SUFFIXES)
    _refuse_twins(found.values())
    places = [Path(masks, name) for name in class_folders] or [Path(masks)]
    columns = [_masks_of(found, place, mask_suffix) for place in places]
    return [
        Pair(name, found[name][0], columns[0][name], more=tuple(column[name] for column in columns[1:]))
        for name in sorted(found)
    ]


def _masks_of(found: Mapping[str, list[Path]], folder: Path, mask_suffix: str) -> dict[str, Path]:
    """Return the mask in a folder of each image."""
    labels = _by_name(folder, MASK_SUFFIXES)
    names = {name: name + mask_suffix for name in found}
    lacking = [str(found[name][0]) for name, mask in names.items() if mask not in labels]
    if lacking:
        wanted = folder / (names[min(n for n, m in names.items() if m not in labels)] + ".*")
        raise InputError(
            f"{len(lacking)} of {len(found)} images have no mask: {shorten(lacking)}. The first would be {wanted}; "
            f"if masks have names of their own, say what is added (--mask-suffix _mask), or list pairs in a CSV file."
        )
    _refuse_twins(labels[mask] for mask in names.values())
    return {name: labels[mask][0] for name, mask in names.items()}


def _refuse_twins(groups: Iterable[list[Path]]) -> None:
    for files in groups:
        if len(files) > 1:
            raise InputError(f"{shorten(files)}: several files of one name; keep one, or list pairs in a CSV file.")


def _by_name(folder: Path, suffixes: Set[str]) -> dict[str, list[Path]]:
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise OptionValueError(f"{str(folder)!r} {what}; paths are relative to {Path.cwd()}.")
    found: dict[str, list[Path]] = {}
    for path in _walk(folder, suffixes):
        found.setdefault(str(path.relative_to(folder).with_suffix("").as_posix()), []).append(path)
    if not found:
        raise OptionValueError(f"{str(folder)!r} holds no image: no file with one of {', '.join(sorted(suffixes))}.")
    return found


def _walk(folder: Path, suffixes: Set[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                yield path


def pairs_of_table(path: str | os.PathLike[str]) -> list[Pair]:
    """Return the pairs that a CSV file lists, in its order.

    The file has the columns ``image`` and ``mask``, paths relative to the file, and may have ``split``, ``train`` or
    ``val`` in each row.

    Raises:
        OptionValueError: the file is missing, or lacks a column or rows.
        InputError: a row has no image or mask, or names a file that does not exist.
    """
    table = Path(path)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionValueError(f"{str(table)!r} cannot be read: {error}. A CSV file in UTF-8 is needed.") from error
    columns = set(rows[0]) if rows else set()
    if not {"image", "mask"} <= columns:
        got = shorten(sorted(map(str, columns))) or "no row"
        raise OptionValueError(f"{str(table)!r} needs a header line with the columns image and mask, got {got}.")
    found = []
    for number, row in enumerate(rows, 2):
        where = f"{table}, line {number}"
        if not row["image"] or not row["mask"]:
            raise InputError(f"{where}: image and mask are needed, got {row['image']!r} and {row['mask']!r}.")
        split = row.get("split") or None
        if split not in {*SPLITS, None}:
            raise InputError(f"{where}: split is 'train' or 'val', got {split!r}.")
        pair = Pair(row["image"], table.parent / row["image"], table.parent / row["mask"], split)
        missing = [str(file) for file in (pair.image, pair.mask) if not file.is_file()]
        if missing:
            raise InputError(f"{where}: there is no file {shorten(missing)}.")
        found.append(pair)
    return found


def divide(names: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices that train and those that validate.

    A name's place is drawn from the name itself and the seed, so it does not change much when files are added.

    Raises:
        OptionValueError: the fraction is not between 0 and 1, or there are fewer than two names.
    """
    if not 0 < fraction < 1:
        raise OptionValueError(f"val_fraction={fraction!r}: a number between 0 and 1 is needed.")
    if len(names) < 2:
        raise OptionValueError(
            f"{len(names)} image cannot be divided into training and validation. Give others to validate with "
            f"(--val-images and --val-masks, or a column split in the CSV file)."
        )
    drawn = sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest())
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    return sorted(drawn[count:]), sorted(drawn[:count])
