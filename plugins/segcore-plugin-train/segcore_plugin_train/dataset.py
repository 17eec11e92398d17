"""Datasets of torch: samples to train on, cut and augmented, and whole images to measure on."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from segcore import InputError, Preprocessing
from segcore_plugin_train.augment import Transform, apply, seed_all
from segcore_plugin_train.sampler import Key
from segcore_plugin_train.sources import Reading, Source

ENOUGH = 0.75  # of a crop; where one class fills more, another place is tried
TRIES = 4


class TrainSet(Dataset[tuple[Tensor, Tensor]]):
    """Samples to train on.

    Args:
        source: pairs.
        reading: how they become arrays.
        indices: pairs of the source that belong to it.
        preprocessing: of the model.
        crop: height and width of samples; smaller images are padded, and padding does not count. None leaves images
            as the transform gives them.
        transform: see `segcore_plugin_train.augment.as_transform`.
    """

    def __init__(
        self,
        source: Source,
        reading: Reading,
        indices: list[int],
        preprocessing: Preprocessing,
        crop: tuple[int, int] | None,
        transform: Transform | None,
    ) -> None:
        self.source, self.reading, self.indices = source, reading, indices
        self.preprocessing, self.crop, self.transform = preprocessing, crop, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Return image (C, H, W) float32 and labels, see `as_labels`, of a sampler's key."""
        seed, place = key
        seed_all(seed, self.transform)
        index = self.indices[place]
        image, mask = pair(self.source, index, self.reading)
        if self.transform is not None:
            try:
                image, mask = apply(self.transform, image, mask)
            except InputError as error:
                raise InputError(f"{self.source.names[index]}: {error}") from error
        if self.crop is not None:
            top, left = self._corner(mask, *self.crop)
            area = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
            image, mask = image[area], mask[area]
        x, labels = self.preprocessing(np.ascontiguousarray(image)), as_labels(mask)
        if self.crop is not None:
            right, below = self.crop[1] - labels.shape[-1], self.crop[0] - labels.shape[-2]
            if right or below:  # zero is the mean colour
                x = F.pad(x, (0, right, 0, below))
                labels = F.pad(labels, (0, right, 0, below), value=self.reading.labels.ignore)
        return x, labels

    def _corner(self, mask: np.ndarray, height: int, width: int) -> tuple[int, int]:
        """Return where a crop begins: a random place, not all of one class if a few tries find one."""
        tops, lefts = max(0, mask.shape[0] - height), max(0, mask.shape[1] - width)
        corner = 0, 0
        for _ in range(TRIES if tops or lefts else 1):
            corner = int(torch.randint(tops + 1, ())), int(torch.randint(lefts + 1, ()))
            part = mask[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
            if self.reading.labels.largest_share(part) < ENOUGH:
                break
        return corner


class WholeSet(Dataset[tuple[Tensor, Tensor, int]]):
    """Whole images to measure on.

    Args:
        source: pairs.
        reading: how they become arrays.
        indices: pairs of the source that belong to it.
        preprocessing: of the model.
    """

    def __init__(self, source: Source, reading: Reading, indices: list[int], preprocessing: Preprocessing) -> None:
        self.source, self.reading, self.indices = source, reading, indices
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, int]:
        """Return image (C, H, W) float32, labels, see `as_labels`, and the index in the source."""
        index = self.indices[place]
        image, mask = pair(self.source, index, self.reading)
        return self.preprocessing(np.ascontiguousarray(image)), as_labels(mask), index


def pair(source: Source, index: int, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Return image (H, W, C) and mask (H, W), or (H, W, classes) where a pixel may have several.

    Raises:
        InputError: one cannot be read, or their sizes differ.
    """
    image, mask = source.image(index, reading), source.mask(index, reading)
    same_size(source, index, (image.shape[1], image.shape[0]), (mask.shape[1], mask.shape[0]))
    return image, mask


def same_size(source: Source, index: int, image: tuple[int, int], mask: tuple[int, int]) -> None:
    """Raise InputError, with the names of both, unless image and mask have one width and height."""
    if image != mask:
        names = source.places(index)
        raise InputError(
            f"{names[1]}: the mask is {mask[0]} x {mask[1]} pixels, and its image {names[0]} {image[0]} x {image[1]}. "
            f"Resize the mask without interpolation (nearest neighbour)."
        )


def as_labels(mask: np.ndarray) -> Tensor:
    """Return labels as a tensor that torch can compute with: uint8, or int32 instead of uint16.

    Its shape is (H, W), or (classes, H, W) where a pixel may have several.
    """
    if mask.ndim == 3:
        mask = np.moveaxis(mask, -1, 0)
    if mask.dtype == np.uint16:
        mask = mask.astype(np.int32)
    return torch.from_numpy(np.ascontiguousarray(mask))


Groups = list[tuple[Tensor, Tensor, list[int]]]


def by_size(samples: list[tuple[Tensor, Tensor, int]]) -> Groups:
    """Return batches of images of one size out of whole images: images, labels and indices."""
    groups: dict[tuple[int, ...], list[tuple[Tensor, Tensor, int]]] = {}
    for sample in samples:
        groups.setdefault(tuple(sample[0].shape), []).append(sample)
    return [
        (torch.stack([s[0] for s in group]), torch.stack([s[1] for s in group]), [s[2] for s in group])
        for group in groups.values()
    ]
