"""Scores from counts of pixels: what is divided by what, and how classes and images become one number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segcore import OptionValueError
from segcore_plugin_losses.inputs import check_choice, check_number

SCORES = ("iou", "dice", "fbeta", "accuracy", "precision", "recall", "specificity")
AVERAGES = ("macro", "micro", "weighted", "none", None)
ABSENT = ("exclude", "exclude_untrue")


def score(
    stats: Sequence[Tensor],
    name: str = "iou",
    *,
    average: str | None = "macro",
    per_image: bool = False,
    absent: str | float = "exclude",
    class_weights: Tensor | None = None,
    beta: float = 1.0,
    left_out: int | None = None,
    multiclass: bool = False,
) -> Tensor:
    """Return a score of statistics.

    Args:
        stats: tp, fp, fn and tn, each (N, C) or (C,), as `get_stats` gives them.
        name: ``"iou"`` tp / (tp + fp + fn), ``"dice"`` (F1), ``"fbeta"``, ``"precision"`` tp / (tp + fp), ``"recall"``
            tp / (tp + fn), ``"specificity"`` tn / (tn + fp), or ``"accuracy"`` (tp + tn) / all.
        average: ``"macro"``: mean of the classes. ``"weighted"``: by `class_weights`, or by the number of their true
            pixels. ``"micro"``: counts of all classes are added first. None: one score per class.
        per_image: scores each image by itself and takes the mean of the images that have a score; False adds the images
            first, which is how mIoU is defined for ADE20K and Cityscapes.
        absent: what becomes of 0 / 0, the score of a class that is neither there nor predicted: ``"exclude"`` leaves
            it out, a number stands for it. ``"exclude_untrue"`` leaves out every class without true pixels, so that
            predicting it wrongly costs only the other classes.
        class_weights: (C,) for ``"weighted"``.
        beta: weight of recall in ``"fbeta"``.
        left_out: a class without a score, because its pixels are ignored.
        multiclass: takes ``"accuracy"`` as the share of pixels whose label is right: among those of a class, which is
            its recall, or of all with ``average="micro"``. False counts the right negatives of each class too.

    Returns:
        fp64, () or (C,). nan where there is no score: for excluded classes, and where nothing is left.

    Raises:
        OptionValueError: an option has another value.
    """
    check_choice("score", name, SCORES)
    check_choice("average", average, AVERAGES)
    if isinstance(absent, str):
        check_choice("absent", absent, ABSENT)
    else:
        check_number("absent", absent, 0, 1)
    if class_weights is not None and average != "weighted":
        raise OptionValueError(f"class_weights are for average='weighted', got average={average!r}.")
    tp, fp, fn, tn = (value.to(torch.float64) for value in stats)
    if per_image and tp.ndim != 2:
        raise OptionValueError(f"per_image=True needs statistics per image (N, C), got shape {tuple(tp.shape)}.")
    if not per_image and tp.ndim == 2:
        tp, fp, fn, tn = (value.sum(0) for value in (tp, fp, fn, tn))
    if name == "accuracy" and multiclass:
        name = "recall"
    part, whole = _fraction(name, tp, fp, fn, tn, check_number("beta", beta, 0))
    scored = torch.ones(tp.shape[-1], dtype=torch.bool, device=tp.device)
    if left_out is not None and 0 <= left_out < len(scored):
        scored[left_out] = False
    if absent == "exclude_untrue":
        scored = scored & (tp + fn > 0)
    part, whole = part.where(scored, 0), whole.where(scored, 0)
    if average == "micro":
        part, whole, scored = part.sum(-1), whole.sum(-1), scored.any(-1)
    values = part / whole
    if not isinstance(absent, str):
        values = torch.where(scored & (whole == 0), float(absent), values)
    if average == "macro":
        values = values.nanmean(-1)
    elif average == "weighted":
        values = _weighted(values, tp + fn if class_weights is None else class_weights)
    return values.nanmean(0) if per_image else values


def _fraction(name: str, tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    square = 1.0 if name == "dice" else beta**2
    fractions = {
        "iou": (tp, tp + fp + fn),
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }
    return fractions.get(name) or ((1 + square) * tp, (1 + square) * tp + square * fn + fp)


def _weighted(values: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
    weights = torch.as_tensor(weights, dtype=values.dtype, device=values.device)
    if weights.shape[-1:] != values.shape[-1:] or bool((weights < 0).any()):
        raise OptionValueError(f"class_weights: {values.shape[-1]} numbers of at least 0 are needed.")
    weights = weights.expand_as(values).where(~values.isnan(), 0)
    return (values.nan_to_num() * weights).sum(-1) / weights.sum(-1)
