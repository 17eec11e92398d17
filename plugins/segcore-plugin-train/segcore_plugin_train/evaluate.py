"""How good a model is on images and masks: one confusion matrix, and the IoU of each image."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from segcore_plugin_losses import metrics
from torch import Tensor
from torch.utils.data import DataLoader

from segcore import OptionValueError, SegmentationModel
from segcore_plugin_train.dataset import WholeSet, by_size
from segcore_plugin_train.sources import Reading, Source
from segcore_plugin_train.task import classes_of, iou_of_each, main_output
from segcore_plugin_train.tiling import by_tiles

OUTCOMES = ("rightly not", "wrongly found", "missed", "found")


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        names: of the classes; of background and object for one class.
        matrix: pixels of each class, the row, that were taken for each class, the column. Where a pixel may have
            several classes, a row for each class with numbers of pixels: rightly not found, wrongly found, missed,
            found.
        iou: of each class that has a score, None for a class that neither is there nor was predicted. For one class
            the background has none.
        mean_iou: mean of these.
        accuracy: share of pixels that are right; of pixels and classes where a pixel may have several.
        images: name and mean IoU of each image, the worst first; None where no pixel counts.
        multilabel: whether a pixel may have several classes.
    """

    names: list[str]
    matrix: list[list[int]]
    iou: list[float | None]
    mean_iou: float | None
    accuracy: float | None
    images: list[tuple[str, float | None]]
    multilabel: bool = False

    @property
    def pixels(self) -> list[int]:
        """Number of pixels of each class in truth."""
        return [sum(row[2:]) if self.multilabel else sum(row) for row in self.matrix]

    @property
    def columns(self) -> list[str]:
        """Titles of the columns of `matrix`."""
        return list(OUTCOMES) if self.multilabel else self.names

    @classmethod
    def of(cls, confusion: metrics.ConfusionMatrix, names: Sequence[str], images: dict[str, float]) -> Evaluation:
        """Return what follows from counts."""
        binary = confusion.mode == "binary"
        shown = list(names) or [str(index) for index in range(confusion.num_classes)]
        if binary and len(shown) < 2:
            shown = ["background", *(names or ["object"])]
        scores = [_or_none(value) for value in confusion.score("iou", average=None).flatten().tolist()]
        matrix = confusion.matrix.cpu()
        pixels, right = int(matrix.sum()), int(matrix.diagonal(dim1=-2, dim2=-1).sum())
        ranked = sorted(images.items(), key=lambda item: (math.isnan(item[1]), item[1], item[0]))
        return cls(
            shown,
            matrix.flatten(1).tolist(),
            [None, *scores] if binary else scores,
            _or_none(float(confusion.score("iou"))),
            right / pixels if pixels else None,
            [(name, _or_none(iou)) for name, iou in ranked],
            confusion.mode == "multilabel",
        )

    def as_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Return what `as_json` wrote."""
        data = json.loads(text)
        return cls(**{**data, "images": [(name, iou) for name, iou in data["images"]]})

    def text(self) -> str:
        """Return the IoU of each class and the confusion matrix as text."""
        width = max(map(len, self.names))
        lines = [f"{'class':{width}}     IoU      pixels"]
        for name, iou, pixels in zip(self.names, self.iou, self.pixels, strict=True):
            lines.append(f"{name:{width}}  {'-' if iou is None else f'{iou:.4f}':>6}  {pixels:>10}")
        mean = "-" if self.mean_iou is None else f"{self.mean_iou:.4f}"
        accuracy = "-" if self.accuracy is None else f"{self.accuracy:.4f}"
        lines += ["", f"mean IoU {mean}, accuracy {accuracy}, {len(self.images)} images", ""]
        cells = [[str(value) for value in row] for row in self.matrix]
        columns = self.columns
        widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(columns)]
        head = "  ".join(name.rjust(size) for name, size in zip(columns, widths, strict=True))
        corner = "class" if self.multilabel else "true \\ found"
        lines += [f"{corner:{max(width, 12)}}  {head}"]
        for name, texts in zip(self.names, cells, strict=True):
            values = "  ".join(value.rjust(size) for value, size in zip(texts, widths, strict=True))
            lines.append(f"{name:{max(width, 12)}}  {values}")
        return "\n".join(lines)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def evaluate(
    model: SegmentationModel,
    source: Source,
    reading: Reading,
    *,
    indices: Sequence[int] | None = None,
    names: Sequence[str] = (),
    device: str = "auto",
    batch_size: int = 1,
    tile: int | None = None,
    overlap: int = 64,
) -> Evaluation:
    """Measure a model on whole images.

    Args:
        model: with recorded preprocessing, as `train` saves it.
        source: pairs.
        reading: how they become arrays.
        indices: which pairs; None for all.
        names: of the classes; empty takes those of the model.
        device: where to compute; ``"auto"`` is a GPU if there is one.
        batch_size: images that are read together; those of one size are predicted together.
        tile: height and width of tiles, in which larger images are predicted; None for whole images.
        overlap: least number of pixels that tiles share.

    Raises:
        OptionValueError: the numbers of classes or channels differ.
        InputError: a file cannot be used.
    """
    import segcore

    classes = classes_of(model)
    if reading.labels.classes != classes or (
        names and len(names) not in {classes, classes + (reading.labels.mode == "binary")}
    ):
        raise OptionValueError(
            f"the model has {classes} classes, the masks {reading.labels.classes}, and there are {len(names)} names."
        )
    config: dict[str, Any] = model.config or {}
    place = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = list(range(len(source.names)) if indices is None else indices)
    dataset = WholeSet(source, reading, chosen, segcore.preprocessing(model))
    mode = reading.labels.mode
    confusion = metrics.ConfusionMatrix(classes, mode, ignore_index=reading.labels.ignore)
    found: dict[str, float] = {}
    try:
        model = model.to(place)
    except (AssertionError, RuntimeError) as error:  # of torch, where it was built without it or there is none
        raise OptionValueError(f"device {device!r} cannot be used: {str(error)[:200]}. Use 'cpu' or 'auto'.") from error
    for samples in DataLoader(dataset, batch_size=batch_size, collate_fn=list):
        for images, labels, numbers in by_size(samples):
            logits = predicted(model, images, tile, overlap)
            truth = labels.to(place)
            confusion.update(logits, truth)
            ious = iou_of_each(logits, truth, mode, reading.labels.ignore)
            found |= {source.names[i]: iou for i, iou in zip(numbers, ious, strict=True)}
    return Evaluation.of(confusion, names or config.get("class_names") or (), found)


def predicted(model: SegmentationModel, images: Tensor, tile: int | None, overlap: int) -> Tensor:
    """Return logits (N, classes, H, W) of images (N, C, H, W), of those larger than a tile tile by tile."""
    parameter = next(model.parameters())
    images = images.to(parameter.device, parameter.dtype)
    found = by_tiles(model, images, tile, overlap)
    return main_output(model.predict(images)) if found is None else found


def labels_of(logits: Tensor, mode: str) -> Tensor:
    """Return labels of logits (N, classes, H, W): (N, H, W), or (N, H, W, classes) in multilabel mode."""
    if mode == "multilabel":
        return (logits > 0).movedim(1, -1).to(torch.uint8)
    return logits.argmax(1) if mode == "multiclass" else (logits[:, 0] > 0).long()
