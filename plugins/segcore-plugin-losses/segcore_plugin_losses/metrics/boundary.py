"""Boundary IoU (Cheng et al. 2021, arXiv 2103.16562): IoU of the bands along the outlines."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore import InputError
from segcore_plugin_losses.base import one_hot
from segcore_plugin_losses.inputs import MODES, check_choice, check_ignore_index, check_number, where_counted
from segcore_plugin_losses.metrics.confusion import Stats, aligned, check_values, labels_of, masks_of


def boundary_stats(
    output: Tensor,
    target: Tensor,
    mode: str,
    ignore_index: int | None = None,
    threshold: float | None = None,
    num_classes: int | None = None,
    *,
    width: float = 0.02,
) -> Stats:
    """Return `get_stats` of bands inside the outlines of the masks; ``score(stats, "iou")`` is the boundary IoU.

    The band of a mask is what an erosion takes from it, the image's border being outside. For an image it is the same
    as the paper's, whose masks are eroded by 3x3 squares as often as the band is wide.

    Args:
        output: as in `get_stats`, like `target`, `mode`, `ignore_index`, `threshold` and `num_classes`.
        target: with one to three spatial dimensions.
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.
        ignore_index: such pixels are outside of all masks when outlines are found, and do not count.
        threshold: of floating-point outputs.
        num_classes: in multiclass mode with labels.
        width: of the band: a whole number of pixels, at least 1, or a fraction of the image's diagonal below 1.

    Returns:
        Four int64 tensors (N, C).
    """
    check_choice("mode", mode, MODES)
    check_ignore_index(ignore_index)
    check_number("width", width, 0)
    if mode == "multiclass":
        labels, true_labels, classes = labels_of(output, target, num_classes)
        valid = where_counted(true_labels, ignore_index)
        check_values("output", labels, classes)
        check_values("target", true_labels if valid is None else true_labels.where(valid, 0), classes, ignore_index)
        predicted, true = one_hot(labels, classes), one_hot(true_labels, classes)
        if valid is not None:
            valid = valid[:, None]
            predicted, true = predicted & valid, true & valid
    else:
        predicted, true, valid = masks_of(*aligned(output, target, mode), threshold, ignore_index)
    space = true.shape[2:]
    if not 1 <= len(space) <= 3:
        raise InputError(f"boundaries need one to three spatial dimensions, got {len(space)}.")
    pixels = max(1, round(width * math.hypot(*space))) if width < 1 else int(width)
    predicted, true = _band(predicted, pixels).flatten(2), _band(true, pixels).flatten(2)
    hit = (predicted & true).sum(2)
    fp, fn = predicted.sum(2) - hit, true.sum(2) - hit
    seen = torch.full_like(hit, predicted.shape[2]) if valid is None else valid.flatten(2).sum(2).expand_as(hit)
    return Stats(hit, fp, fn, seen - hit - fp - fn)


def _band(mask: Tensor, pixels: int) -> Tensor:
    """Return the pixels of masks (N, C, ...) that are at most so far, by rows and columns, from a pixel outside."""
    rank = mask.ndim - 2
    pools = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
    outside = F.pad((~mask).float(), [pixels] * (2 * rank), value=1.0)
    for axis in range(rank):  # a square is the same as its sides one after the other
        kernel = [2 * pixels + 1 if axis == other else 1 for other in range(rank)]
        outside = pools[rank - 1](outside, kernel, stride=1)
    return mask & (outside > 0)
