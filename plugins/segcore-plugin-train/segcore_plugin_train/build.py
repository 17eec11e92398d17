"""From settings to a model, its data and its task."""

from __future__ import annotations

from typing import Any

import torch

import segcore
from segcore import OptionValueError, SegmentationModel
from segcore_plugin_train.data import IMAGENET, SegmentationData
from segcore_plugin_train.settings import Settings
from segcore_plugin_train.task import SegmentationTask


def make_model(settings: Settings) -> tuple[SegmentationModel, segcore.Preprocessing]:
    """Return the model to train, and how its images are prepared."""
    if settings.classes is None and settings.checkpoint is None:
        raise OptionValueError("classes are needed: --classes 4, or 1 for one class against the background.")
    torch.manual_seed(settings.seed)
    if settings.checkpoint is not None:
        model = segcore.from_pretrained(settings.checkpoint, classes=settings.classes, in_channels=None)
        model.requires_grad_(True)
    else:
        model = segcore.create_model(
            settings.decoder,
            encoder=settings.encoder,
            encoder_weights=settings.encoder_weights,
            in_channels=settings.channels,
            classes=settings.classes or 1,
            **settings.option,
        )
    if (model.config or {}).get("preprocessing"):
        return model, segcore.preprocessing(model)
    return model, IMAGENET.for_channels(settings.channels)


def make_data(settings: Settings, preprocessing: segcore.Preprocessing) -> SegmentationData:
    """Return the data that the settings name."""
    given = [name for name in ("images", "table", "dataset") if getattr(settings, name)]
    if len(given) != 1 or (settings.images and not settings.masks):
        raise OptionValueError("the data are needed once: --images and --masks, or --table, or --dataset.")
    classes = settings.classes
    if classes is None:
        classes = _saved_classes(settings)
    options: dict[str, Any] = {
        "classes": classes,
        "labels": settings.label,
        "ignore_label": settings.ignore_label,
        "multilabel": settings.multilabel,
        "channels": settings.channels,
        "preprocessing": preprocessing,
        "crop": settings.crop,
        "batch_size": settings.batch_size,
        "val_batch_size": settings.val_batch_size,
        "samples_per_epoch": settings.samples_per_epoch,
        "val_fraction": settings.val_fraction,
        "augment": settings.augment,
        "accumulate": settings.accumulate,
        "workers": settings.workers,
        "seed": settings.seed,
        "read_options": read_options(settings),
    }
    if settings.dataset:
        return SegmentationData.from_dataset(
            settings.dataset,
            val=settings.dataset_val_split,
            split=settings.dataset_split,
            image_column=settings.image_column,
            mask_column=settings.mask_column,
            **options,
        )
    if settings.table:
        return SegmentationData.from_table(settings.table, **options)
    assert settings.images is not None
    assert settings.masks is not None
    return SegmentationData.from_folders(
        settings.images,
        settings.masks,
        val_images=settings.val_images,
        val_masks=settings.val_masks,
        mask_suffix=settings.mask_suffix,
        class_folders=settings.class_folders,
        **options,
    )


def _saved_classes(settings: Settings) -> int:
    assert settings.checkpoint is not None
    config = segcore.from_pretrained(settings.checkpoint).config or {}
    return int(config["classes"])


def read_options(settings: Settings) -> dict[str, Any]:
    """Return how files of images are read."""
    return {"bands": tuple(settings.bands) or None, "alpha": settings.alpha, "full_scale": settings.full_scale}


def make_task(settings: Settings, model: SegmentationModel, ignore: int, steps: int) -> SegmentationTask:
    """Return the task that the settings describe."""
    task = SegmentationTask(
        model,
        settings.loss,
        mode="multilabel" if settings.multilabel else None,
        loss_options=settings.loss_option,
        ignore_index=ignore,
        optimizer=settings.optimizer,
        lr=settings.lr,
        encoder_lr=settings.encoder_lr,
        weight_decay=settings.weight_decay,
        lr_schedule=settings.schedule,
        warmup=settings.warmup,
        steps=steps,
        freeze=settings.freeze,
        unfreeze_epoch=settings.unfreeze_epoch,
        ema=settings.ema,
        channels_last=settings.channels_last,
        seed=settings.seed,
        tile=settings.tile,
        overlap=settings.overlap,
    )
    return task.double() if settings.precision == "64" else task
