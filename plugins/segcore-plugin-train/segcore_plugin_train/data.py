"""`SegmentationData`: images and masks for training and validation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from segcore import InputError, OptionValueError, Preprocessing
from segcore_plugin_train.augment import as_transform
from segcore_plugin_train.bands import LabelBands, check_class_folders
from segcore_plugin_train.checks import CHECKS, Checked, check_pairs, refuse
from segcore_plugin_train.dataset import Groups, TrainSet, WholeSet, by_size
from segcore_plugin_train.engine import LightningDataModule
from segcore_plugin_train.files import Pair, divide, pairs_of_folders, pairs_of_table
from segcore_plugin_train.masks import LabelMap
from segcore_plugin_train.sampler import Plan, StepSampler
from segcore_plugin_train.sources import Files, Reading, Records, Source, load_records
from segcore_plugin_train.wording import shorten

IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class SegmentationData(LightningDataModule):
    """Images and masks: random crops to train on, whole images to validate with.

    Every random number of a sample follows from the seed, the epoch and the sample's place in it, not from workers or
    processes. In a `Trainer` of your own with several processes pass ``use_distributed_sampler=False``: this divides
    the samples itself, and counts none twice.

    Args:
        train: pairs; see `from_folders`, `from_table`, `from_dataset`.
        val: pairs; None divides `train`.
        classes: number of classes; 1 is one class against the background.
        labels: what numbers or colours in masks mean; see `LabelMap`.
        ignore_label: number in masks that does not count.
        multilabel: whether a pixel may have several classes: masks have a band of 0 and 1 for each class; see
            `segcore_plugin_train.bands.LabelBands`.
        channels: of the images, as the model takes them.
        preprocessing: of the model; None is ImageNet's mean and standard deviation, fitted to `channels`.
        crop: height and width of samples, or one number for both; None leaves images as the transform gives them.
        batch_size: samples of one process in one batch.
        val_batch_size: whole images of one process at a time; those of one size are predicted together.
        samples_per_epoch: None is every image once.
        val_fraction: share of the pairs that validates, if `val` is None.
        augment: see `segcore_plugin_train.augment.as_transform`.
        accumulate: batches per step.
        workers: processes that read, per process that trains.
        seed: of division, order, crops and augmentation.
        read_options: of `segcore_plugin_predict.read_image` for files: ``bands``, ``alpha``, ``full_scale``.

    Raises:
        OptionValueError: a value makes no sense, or there is nothing to train on or to validate with.
    """

    def __init__(
        self,
        train: Source | Sequence[Pair],
        val: Source | Sequence[Pair] | None = None,
        *,
        classes: int,
        labels: Mapping[Any, Any] | None = None,
        ignore_label: int | None = None,
        multilabel: bool = False,
        channels: int = 3,
        preprocessing: Preprocessing | None = None,
        crop: int | tuple[int, int] | None = 256,
        batch_size: int = 8,
        val_batch_size: int = 1,
        samples_per_epoch: int | None = None,
        val_fraction: float = 0.2,
        augment: str | Callable[..., Any] | None = "default",
        accumulate: int = 1,
        workers: int = 0,
        seed: int = 0,
        read_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.train_source = _source(train)
        self.train_indices = list(range(len(self.train_source.names)))
        self.val_source, self.val_indices = self.train_source, self.train_indices
        if val is not None:
            self.val_source = _source(val)
            self.val_indices = list(range(len(self.val_source.names)))
        elif isinstance(self.train_source, Files) and any(pair.split for pair in self.train_source.pairs):
            splits = [pair.split or "train" for pair in self.train_source.pairs]
            self.train_indices = [i for i, split in enumerate(splits) if split == "train"]
            self.val_indices = [i for i, split in enumerate(splits) if split == "val"]
        else:
            self.train_indices, self.val_indices = divide(self.train_source.names, val_fraction, seed)
        if not self.train_indices or not self.val_indices:
            raise OptionValueError(
                f"{len(self.train_indices)} pairs to train on and {len(self.val_indices)} to validate with: "
                f"at least one of each is needed."
            )
        shared = {self.train_source.names[i] for i in self.train_indices} & {
            self.val_source.names[i] for i in self.val_indices if self.val_source is self.train_source
        }
        if shared:
            raise OptionValueError(f"{shorten(sorted(shared))}: a pair cannot both train and validate.")
        kind = LabelBands if multilabel else LabelMap
        self.reading = Reading(channels, kind(classes, labels, ignore_label), dict(read_options or {}))
        self.preprocessing = (preprocessing or IMAGENET).for_channels(channels)
        self.crop = (crop, crop) if isinstance(crop, int) else crop
        if self.crop is not None and min(self.crop) < 1:
            raise OptionValueError(f"crop={crop!r}: height and width of at least 1 are needed.")
        if batch_size < 1 or val_batch_size < 1 or workers < 0:
            raise OptionValueError(
                f"batch_size={batch_size!r}, val_batch_size={val_batch_size!r}, workers={workers!r}: too small."
            )
        self.transform = as_transform(augment)
        self.batch_size, self.val_batch_size, self.workers = batch_size, val_batch_size, workers
        self.samples_per_epoch, self.accumulate, self.seed = samples_per_epoch, accumulate, seed
        self.first_epoch = self.done_steps = 0
        self.last_step: int | None = None

    @classmethod
    def from_folders(
        cls,
        images: str | os.PathLike[str],
        masks: str | os.PathLike[str],
        *,
        val_images: str | os.PathLike[str] | None = None,
        val_masks: str | os.PathLike[str] | None = None,
        mask_suffix: str = "",
        class_folders: Sequence[str] = (),
        **options: Any,
    ) -> SegmentationData:
        """Return the data of two folders, and of two others to validate with if they are given.

        Args:
            images: folder; see `segcore_plugin_train.files.pairs_of_folders`, which says what is refused.
            masks: folder.
            val_images: folder; None divides the first two.
            val_masks: folder.
            mask_suffix: what the names of masks have before the ending.
            class_folders: folders below the folders of masks, one for each class; needs ``multilabel=True``.
            **options: of `SegmentationData`.
        """
        check_class_folders(class_folders, options.get("multilabel", False), options.get("classes"))
        if (val_images is None) != (val_masks is None):
            raise OptionValueError("val_images and val_masks belong together; give both.")
        more = mask_suffix, class_folders
        val = None if val_images is None or val_masks is None else pairs_of_folders(val_images, val_masks, *more)
        return cls(pairs_of_folders(images, masks, *more), val, **options)

    @classmethod
    def from_table(cls, path: str | os.PathLike[str], **options: Any) -> SegmentationData:
        """Return the data that a CSV file lists; see `segcore_plugin_train.files.pairs_of_table`."""
        return cls(pairs_of_table(path), **options)

    @classmethod
    def from_dataset(
        cls,
        dataset: str | Sequence[Mapping[str, Any]],
        *,
        val: str | Sequence[Mapping[str, Any]] | None = None,
        split: str = "train",
        image_column: str = "image",
        mask_column: str = "mask",
        **options: Any,
    ) -> SegmentationData:
        """Return the data of a Hugging Face dataset.

        Args:
            dataset: its name or folder, which is loaded with the package datasets, or one of its splits, loaded.
            val: name of the split to validate with, or the split; None divides the first.
            split: name of the split to train on.
            image_column: column of images.
            mask_column: column of masks.
            **options: of `SegmentationData`.
        """

        def records(part: str | Sequence[Mapping[str, Any]]) -> Records:
            if isinstance(part, str):
                if not isinstance(dataset, str):
                    raise OptionValueError(f"val={part!r}: a loaded split has no other splits; pass the split itself.")
                return load_records(dataset, part, image_column, mask_column)
            return Records(part, image_column, mask_column)

        train = records(split if isinstance(dataset, str) else dataset)
        return cls(train, None if val is None else records(val), **options)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.reading.labels.classes

    @property
    def ignore(self) -> int:
        """Number in the batches' labels that does not count."""
        return self.reading.labels.ignore

    def check(
        self, how: str = "full", share: tuple[int, int] = (0, 1), tell: Callable[[int, int], None] | None = None
    ) -> dict[str, Checked]:
        """Look at all pairs, or a share of them, before the first step.

        Args:
            how: ``"full"``, ``"sizes"`` or ``"none"``; see `segcore_plugin_train.checks.check_pairs`.
            share: which one of how many equal shares, so that several processes divide the work.
            tell: called with numbers of pairs, done and all.

        Returns:
            What was found, by ``"train"`` and ``"val"``; empty for ``"none"``.

        Raises:
            InputError: names the first ten files that cannot be used, and says what is wrong with each.
        """
        if how not in CHECKS:
            raise OptionValueError(f"check={how!r}: it is {', '.join(map(repr, CHECKS))}.")
        if how == "none":
            return {}
        parts = {"train": (self.train_source, self.train_indices), "val": (self.val_source, self.val_indices)}
        found = {
            name: check_pairs(source, indices[share[0] :: share[1]], self.reading, how, tell)
            for name, (source, indices) in parts.items()
        }
        problems = [problem for part in found.values() for problem in part.problems]
        refuse(problems, sum(len(part.sizes) for part in found.values()) + len(problems))
        return found

    def plan(self, processes: int = 1) -> Plan:
        """Return how many steps an epoch has with so many processes."""
        return Plan(
            len(self.train_indices), self.batch_size, processes, self.accumulate, self.samples_per_epoch, self.seed
        )

    def continue_from(self, step: int, last_step: int | None, processes: int) -> None:
        """Begin the next epoch of the trainer at a step, counted over all epochs, and end at another one."""
        per_epoch = self.plan(processes).steps
        self.first_epoch, self.done_steps = divmod(step, per_epoch)
        self.last_step = last_step

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the batches of the current epoch: images (N, C, H, W) float32, and labels.

        Labels are (N, H, W), or (N, classes, H, W) where a pixel may have several.
        """
        rank, processes, passed = self._place()
        plan = self.plan(processes)
        epoch = self.first_epoch + passed
        stop = plan.steps if self.last_step is None else min(plan.steps, self.last_step - epoch * plan.steps)
        sampler = StepSampler(plan, rank, self.first_epoch, self.done_steps if passed == 0 else 0, stop)
        sampler.set_epoch(passed)
        return _Lazy(
            TrainSet(
                self.train_source, self.reading, self.train_indices, self.preprocessing, self.crop, self.transform
            ),
            batch_sampler=sampler,
            num_workers=self.workers,
            pin_memory=self._on_gpu(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return this process's share of the whole images, as lists of batches of one size."""
        rank, processes, _ = self._place()
        mine = self.val_indices[rank::processes]
        return _Lazy(
            WholeSet(self.val_source, self.reading, mine, self.preprocessing),
            batch_size=self.val_batch_size,
            num_workers=self.workers,
            collate_fn=_grouped,
            pin_memory=self._on_gpu(),
        )

    def _place(self) -> tuple[int, int, int]:
        """Return rank, number of processes, and epochs that the trainer has done."""
        if self.trainer is None:
            return 0, 1, 0
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.current_epoch

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


class _Lazy(DataLoader[Any]):
    """Starts to read when the first batch is asked for; Lightning makes some iterators that it does not use.

    What is wrong with a file is told as it would be without workers, which add where it was raised.
    """

    def __iter__(self) -> Any:
        try:
            yield from super().__iter__()
        except InputError as error:
            text = str(error).rpartition("\nsegcore.errors.InputError: ")[2]
            if text == str(error):
                raise
            raise InputError(text.strip()) from error


def _grouped(samples: list[tuple[Tensor, Tensor, int]]) -> Groups:
    return by_size(samples)


def _source(pairs: Source | Sequence[Pair]) -> Source:
    """Return pairs as a source."""
    if isinstance(pairs, Sequence):
        if not pairs:
            raise OptionValueError("there are no pairs of images and masks.")
        return Files(pairs)
    return pairs
