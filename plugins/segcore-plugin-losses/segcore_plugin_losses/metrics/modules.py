"""Metrics as torchmetrics classes, which Lightning resets, reduces over processes and logs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segcore_plugin_losses.inputs import check_number
from segcore_plugin_losses.metrics.boundary import boundary_stats
from segcore_plugin_losses.metrics.confusion import ConfusionMatrix, Stats, get_stats
from segcore_plugin_losses.metrics.scores import score


class _Counted(Metric):
    """Scores of statistics, which are added up over batches; or of each image, of which the mean is kept."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor
    total: Tensor
    images: Tensor

    def __init__(self, counter: ConfusionMatrix, per_image: bool, options: dict[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.counter, self.per_image, self.options = counter, per_image, options
        self._scored(Stats(*torch.zeros(4, 1, counter.num_classes, dtype=torch.int64)))  # wrong options show here
        shape = (4, counter.num_classes)
        if per_image:
            classes = () if options["average"] not in {None, "none"} else (counter.num_classes,)
            self.add_state("total", torch.zeros(classes, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("images", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        else:
            self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch; see `segcore_plugin_losses.metrics.get_stats`."""
        stats = self._stats(output, target)
        if not self.per_image:
            self.counts = self.counts + torch.stack([value.sum(0) for value in stats])
            return
        for image in zip(*stats, strict=True):
            value = self._scored(Stats(*(row[None] for row in image)))
            self.total = self.total + value.nan_to_num()
            self.images = self.images + ~value.isnan()

    def compute(self) -> Tensor:
        """Return the score of all batches, fp64; see `segcore_plugin_losses.metrics.score`."""
        return self.total / self.images if self.per_image else self._scored(Stats(*self.counts))

    def _stats(self, output: Tensor, target: Tensor) -> Stats:
        raise NotImplementedError

    def _scored(self, stats: Stats) -> Tensor:
        multiclass = self.counter.mode == "multiclass"
        left_out = self.counter.ignore_index if multiclass else None
        return score(stats, **self.options, left_out=left_out, multiclass=multiclass)

    def _classes(self) -> int | None:
        return self.counter.num_classes if self.counter.mode == "multiclass" else None


class Score(_Counted):
    """One score as a torchmetrics metric.

    Args:
        name: ``"iou"``, ``"dice"``, ``"fbeta"``, ``"accuracy"``, ``"precision"``, ``"recall"`` or ``"specificity"``.
        num_classes: None for binary mode.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        ignore_index: value of the target that does not count.
        threshold: as in `segcore_plugin_losses.metrics.get_stats`.
        average: ``"macro"``, ``"micro"``, ``"weighted"`` or None.
        per_image: the mean of the scores of the images instead of the score of all pixels.
        absent: ``"exclude"``, ``"exclude_untrue"`` or a number; see `segcore_plugin_losses.metrics.score`.
        class_weights: for ``"weighted"``.
        beta: for ``"fbeta"``.
        **settings: of `torchmetrics.Metric`, such as ``dist_sync_on_step``.
    """

    def __init__(
        self,
        name: str = "iou",
        num_classes: int | None = None,
        mode: str = "multiclass",
        *,
        ignore_index: int | None = None,
        threshold: float | None = None,
        average: str | None = "macro",
        per_image: bool = False,
        absent: str | float = "exclude",
        class_weights: Tensor | None = None,
        beta: float = 1.0,
        **settings: Any,
    ) -> None:
        options = {"name": name, "average": average, "absent": absent, "class_weights": class_weights, "beta": beta}
        counter = ConfusionMatrix(num_classes, mode, ignore_index=ignore_index, threshold=threshold)
        super().__init__(counter, per_image, options, **settings)

    def _stats(self, output: Tensor, target: Tensor) -> Stats:
        c = self.counter
        return get_stats(output, target, c.mode, c.ignore_index, c.threshold, self._classes())


class BoundaryIoU(_Counted):
    """Boundary IoU as a torchmetrics metric.

    Args:
        num_classes: None for binary mode.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        ignore_index: value of the target that does not count.
        threshold: as in `segcore_plugin_losses.metrics.get_stats`.
        average: ``"macro"``, ``"micro"``, ``"weighted"`` or None.
        per_image: the mean of the scores of the images instead of the score of all pixels.
        absent: ``"exclude"``, ``"exclude_untrue"`` or a number.
        width: as in `segcore_plugin_losses.metrics.boundary_stats`.
        **settings: of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        mode: str = "multiclass",
        *,
        ignore_index: int | None = None,
        threshold: float | None = None,
        average: str | None = "macro",
        per_image: bool = False,
        absent: str | float = "exclude",
        width: float = 0.02,
        **settings: Any,
    ) -> None:
        self.width = check_number("width", width, 0)
        counter = ConfusionMatrix(num_classes, mode, ignore_index=ignore_index, threshold=threshold)
        super().__init__(counter, per_image, {"name": "iou", "average": average, "absent": absent}, **settings)

    def _stats(self, output: Tensor, target: Tensor) -> Stats:
        c = self.counter
        return boundary_stats(output, target, c.mode, c.ignore_index, c.threshold, self._classes(), width=self.width)
