"""The Oxford-IIIT Pet dataset (Parkhi et al. 2012, CC BY-SA 4.0), read from its own folders."""

# ruff: noqa: ANN001, ANN204, ANN205 - signatures equal SMP's, which has no annotations
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from segcore_smp.datasets._fetch import download_url, extract_archive
from segcore_smp.losses._checks import RefusedError

URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
MD5 = {"images.tar.gz": "5c4f3ee8e5d25df40f4fd59a7f44e54c", "annotations.tar.gz": "95a8c909bbe2e81eed6a22bccdf3f68f"}

Sample = dict[str, Any]


class OxfordPetDataset(torch.utils.data.Dataset[Sample]):
    """Images and masks of the Oxford-IIIT Pet dataset.

    A sample is a mapping of ``image``, (H, W, 3) uint8; ``mask``, (H, W) float32, 1 for the animal and its outline; and
    ``trimap``, (H, W) uint8, 1 animal, 2 background, 3 outline.

    Args:
        root: folder with ``images`` and ``annotations``; `download` makes it.
        mode: ``"train"`` and ``"valid"``, nine and one tenth of the training half, or ``"test"``.
        transform: called with the three by name; returns the sample.

    Raises:
        OptionValueError: another mode; also an AssertionError.
        FileNotFoundError: the folder lacks the list of images.
    """

    def __init__(self, root, mode="train", transform=None):
        if mode not in {"train", "valid", "test"}:
            raise RefusedError(f"mode={mode!r}: it is 'train', 'valid' or 'test'.")
        self.root = root
        self.mode = mode
        self.transform = transform
        self.images_directory = os.path.join(root, "images")  # noqa: PTH118 - a string, as it was given
        self.masks_directory = os.path.join(root, "annotations", "trimaps")  # noqa: PTH118
        self.filenames = self._read_split()

    def __len__(self) -> int:
        return len(self.filenames)

    def __getitem__(self, idx: int) -> Sample:
        name = self.filenames[idx]
        with Image.open(Path(self.images_directory, f"{name}.jpg")) as file:
            image = np.array(file.convert("RGB"))
        with Image.open(Path(self.masks_directory, f"{name}.png")) as file:
            trimap = np.array(file)
        sample = {"image": image, "mask": self._preprocess_mask(trimap), "trimap": trimap}
        return sample if self.transform is None else self.transform(**sample)

    @staticmethod
    def _preprocess_mask(mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return 1 for the animal and its outline and 0 for the background; other values stay."""
        values = mask.astype(np.float32)
        values[values == 2] = 0
        values[values == 3] = 1
        return values

    def _read_split(self) -> list[str]:
        path = Path(self.root, "annotations", "test.txt" if self.mode == "test" else "trainval.txt")
        if not path.exists():
            raise FileNotFoundError(
                f"{str(path)!r} is missing. Run {type(self).__name__}.download({str(self.root)!r}) first."
            )
        names = [line.partition(" ")[0] for line in path.read_text("utf-8").strip("\n").split("\n")]
        tenth = {"train": False, "valid": True}.get(self.mode)
        return names if tenth is None else [name for i, name in enumerate(names) if (i % 10 == 0) is tenth]

    @staticmethod
    def download(root):
        """Fetch images and annotations, 811 MB, into a folder, and unpack them there. What is there already stays.

        Raises:
            OSError: the server cannot be reached, or `SEGCORE_OFFLINE` forbids it.
            WeightsError: what came is not what was published.
        """
        for name, checksum in MD5.items():
            path = Path(root, name)
            download_url(URL + name, path, md5=checksum)
            extract_archive(path)


class SimpleOxfordPetDataset(OxfordPetDataset):
    """The same in 256 x 256 pixels with channels first: (3, 256, 256), and (1, 256, 256) for mask and trimap."""

    def __getitem__(self, idx: int) -> Sample:
        sample = super().__getitem__(idx)
        for key in ("image", "mask", "trimap"):
            smooth = Image.Resampling.BILINEAR if key == "image" else Image.Resampling.NEAREST
            resized = np.array(Image.fromarray(sample[key]).resize((256, 256), smooth))
            sample[key] = np.moveaxis(resized, -1, 0) if key == "image" else resized[None]
        return sample
