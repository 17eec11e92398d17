"""How good a mask is, and what the simplest method, one grey level for the whole picture, would give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def iou(mask: Tensor, truth: Tensor) -> float:
    """Return intersection over union of two bool masks of one shape; 1 if both are empty."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def components(mask: Tensor) -> Tensor:
    """Number the connected regions of a bool mask (H, W): int64, 0 outside, 1, 2, ... inside.

    Pixels are connected through their four edges. Every region is named by its last pixel: each pixel points to a
    later one of its region, and of two regions that touch, the earlier is made to point to the later.
    """
    number = torch.arange(mask.numel()).reshape(mask.shape)
    across, along = mask[1:] & mask[:-1], mask[:, 1:] & mask[:, :-1]
    first = torch.cat([number[:-1][across], number[:, :-1][along]])
    second = torch.cat([number[1:][across], number[:, 1:][along]])
    points_to = number.flatten()
    while len(first):
        points_to.scatter_reduce_(0, torch.minimum(first, second), torch.maximum(first, second), "amax")
        while not torch.equal(further := points_to[points_to], points_to):
            points_to = further
        first, second = points_to[first], points_to[second]
        apart = first != second
        first, second = first[apart], second[apart]
    labels = torch.zeros_like(number)
    labels[mask] = torch.unique(points_to.reshape(mask.shape)[mask], return_inverse=True)[1] + 1
    return labels


def objects_found(mask: Tensor, truth: Tensor) -> tuple[int, int]:
    """Return how many objects of `truth` (H, W) were found in `mask` (H, W), and how many there are.

    An object is a connected region of `truth`. It is found if one connected region of `mask` has an IoU of more than
    0.5 with it. So at least half of its pixels must be there, two objects that run into one region are not both
    found, and no region counts twice.
    """
    predicted, objects = components(mask), components(truth)
    total = int(objects.max())
    both = (predicted > 0) & (objects > 0)
    pairs, overlap = torch.unique(torch.stack([predicted[both], objects[both]]), dim=1, return_counts=True)
    union = predicted.flatten().bincount()[pairs[0]] + objects.flatten().bincount()[pairs[1]] - overlap
    return int((overlap / union > 0.5).sum()), total


@dataclass(frozen=True, slots=True)
class Threshold:
    """Calls everything brighter than a grey level an object, or everything else."""

    level: int
    brighter: bool

    def __call__(self, grey: Tensor) -> Tensor:
        """Return the mask of uint8 grey levels."""
        return (grey > self.level) == self.brighter


def otsu_threshold(grey: Tensor, truth: Tensor) -> Threshold:
    """Return the level that best separates the grey levels in two groups; `truth` decides which group the objects are.

    Otsu, "A threshold selection method from gray-level histograms", 1979: largest variance between the groups.
    """
    share = torch.bincount(grey.flatten().int(), minlength=256).double() / grey.numel()
    below, moment = share.cumsum(0), (share * torch.arange(256)).cumsum(0)
    between = (moment[-1] * below - moment) ** 2 / (below * (1 - below)).clamp_min(1e-12)
    return _better_side(int(between[:-1].argmax()), grey, truth)


def best_threshold(grey: Tensor, truth: Tensor) -> Threshold:
    """Return the threshold with the best IoU of all 256."""
    return max((_better_side(level, grey, truth) for level in range(256)), key=lambda t: iou(t(grey), truth))


def _better_side(level: int, grey: Tensor, truth: Tensor) -> Threshold:
    return max((Threshold(level, side) for side in (True, False)), key=lambda t: iou(t(grey), truth))
