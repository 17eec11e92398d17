"""Lovász losses (Berman et al. 2018, arXiv 1705.08790)."""

# ruff: noqa: ANN204, UP045 - signatures equal SMP's, annotations included

from collections.abc import Callable, Sequence
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.loss import _Loss

from segcore import OptionValueError
from segcore_smp.losses._checks import check_mode
from segcore_smp.losses.constants import MULTICLASS_MODE

__all__ = ["LovaszLoss"]


class LovaszLoss(_Loss):
    """Lovász softmax of the classes that are there, or the Lovász hinge of all pixels and labels together.

    Args:
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``, with the shapes of `DiceLoss`.
        per_image: the mean of the images' losses instead of the loss of the batch.
        ignore_index: value of the target that does not count.
        from_logits: has no effect: predictions are always logits, as in SMP.

    Raises:
        OptionValueError: a wrong mode; also an AssertionError.
    """

    def __init__(
        self,
        mode: str,
        per_image: bool = False,
        ignore_index: Optional[int] = None,
        from_logits: bool = True,
    ):
        check_mode(mode)
        super().__init__()
        del from_logits
        self.mode = mode
        self.ignore_index = ignore_index
        self.per_image = per_image

    def forward(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Return the loss, a scalar; fp32 for logits of fp16 and bf16."""
        if self.mode == MULTICLASS_MODE:
            return _lovasz_softmax(y_pred.softmax(dim=1), y_true, per_image=self.per_image, ignore=self.ignore_index)
        return _lovasz_hinge(y_pred, y_true, per_image=self.per_image, ignore=self.ignore_index)


def _lovasz_hinge(logits: Tensor, labels: Tensor, per_image: bool = True, ignore: int | None = None) -> Tensor:
    """Return the Lovász hinge of logits and labels 0 and 1 of any one number of elements.

    Args:
        logits: (N, ...).
        labels: (N, ...).
        per_image: the mean over images instead of the batch as one.
        ignore: label that does not count.
    """

    def of(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.reshape(-1), y.reshape(-1)
        if ignore is not None:
            valid = y != ignore
            x, y = x[valid], y[valid]
        if not len(y):
            return x.sum() * 0.0
        errors = 1.0 - x * (2.0 * y.float() - 1.0)
        return _extension(errors, y, F.relu)

    return _of_images(of, logits, labels) if per_image else of(logits, labels)


def _lovasz_softmax(
    probas: Tensor,
    labels: Tensor,
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    ignore: int | None = None,
) -> Tensor:
    """Return the Lovász softmax.

    Args:
        probas: probabilities (N, C, ...), or (N, H, W) of one class.
        labels: (N, ...).
        classes: ``"present"`` for those with pixels, ``"all"``, or a list.
        per_image: the mean over images instead of the batch as one.
        ignore: label that does not count.
    """

    def of(p: Tensor, y: Tensor) -> Tensor:
        p, y = p.movedim(1, -1).reshape(-1, p.size(1)), y.reshape(-1)
        if ignore is not None:
            valid = y != ignore
            p, y = p[valid], y[valid]
        return _of_classes(p, y, classes)

    if probas.dim() == 3:
        probas = probas.unsqueeze(1)
    if probas.dtype in {torch.float16, torch.bfloat16}:
        probas = probas.float()
    return _of_images(of, probas, labels) if per_image else of(probas, labels)


def _of_classes(p: Tensor, y: Tensor, classes: str | Sequence[int]) -> Tensor:
    """Return the mean loss of classes from probabilities (P, C) and labels (P,); 0 if there is none."""
    count = p.size(1)
    if count == 1 and len(classes) > 1:
        if not p.numel():
            return p.sum() * 0.0
        if classes != "present" or bool((y == 0).any()):
            raise OptionValueError("the Lovász softmax needs two or more classes; for one use mode='binary'.")
    losses = []
    for label in range(count) if isinstance(classes, str) else classes:
        truth = (y == label).type_as(p)
        if len(y) and (classes != "present" or truth.sum() != 0):
            losses.append(_extension((truth - p[:, 0 if count == 1 else label]).abs(), truth))
    return _mean(losses) if losses else p.sum() * 0.0


def _of_images(of: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return _mean([of(a[None], b[None]) for a, b in zip(x, y, strict=False)])


def _mean(values: Sequence[Tensor]) -> Tensor:
    """Return a mean, added up from the left in the dtype of the first."""
    total = values[0]
    for value in values[1:]:
        total += value
    return total / len(values)


def _extension(errors: Tensor, truth: Tensor, shape: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Return the Lovász extension of the Jaccard loss at errors (P,)."""
    ordered, order = torch.sort(errors, dim=0, descending=True)
    return torch.dot(shape(ordered), _lovasz_grad(truth[order]).to(ordered.dtype))


def _lovasz_grad(gt_sorted: Tensor) -> Tensor:
    """Return the steps of the Jaccard loss as pixels (P,), sorted by their errors, are missed one after the other."""
    truth, total = gt_sorted.float(), gt_sorted.sum()
    loss = 1.0 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    return torch.cat([loss[:1], loss[1:] - loss[:-1]])
