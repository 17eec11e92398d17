"""Sums of softmax probabilities per class, with the memory of one map of probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segcore_plugin_losses.base import one_hot


class SoftmaxSums(torch.autograd.Function):
    """Logits (N, C, P) to two sums over pixels, (N, C) each: the probability where it is true, and the probability.

    Written by hand because most of the time of such a loss goes into memory: neither the truth as (N, C, P) nor
    products with it are needed. There is no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, labels: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sum over the pixels that count; `labels` and `valid` are (N, P)."""
        p = x.log_softmax(1).exp_()
        if valid is not None:
            p.mul_(valid[:, None])  # zero in every sum and in the gradient
        true = p.gather(1, labels[:, None])[:, 0]
        ctx.save_for_backward(p, true, labels)
        return _by_label(p, true, labels), p.sum(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_hit: Tensor, to_all: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the logits: p (g - sum of p g), g being the gradient of the probabilities."""
        p, true, labels = ctx.saved_tensors
        at_true = true * to_hit.gather(1, labels)
        mean = at_true + _weighted(p, to_all)
        gradient = (to_all[:, :, None] - mean[:, None]).mul_(p)
        gradient.scatter_add_(1, labels[:, None], at_true[:, None])
        return gradient, None, None


def _by_label(p: Tensor, true: Tensor, labels: Tensor) -> Tensor:
    """Return the sums of `true` (N, P) by label, (N, C), in double precision where that costs nothing."""
    n, classes = p.shape[:2]
    if p.device.type != "cpu":
        return torch.where(one_hot(labels, classes), p, 0).sum(2)  # in a fixed order, unlike a sum by index there
    rows = torch.arange(n, device=p.device)[:, None] * classes
    sums = torch.bincount((labels + rows).flatten(), true.flatten().double(), n * classes)
    return sums.view(n, classes).to(p.dtype)


def label_counts(labels: Tensor, valid: Tensor | None, classes: int) -> Tensor:
    """Return how often each label occurs in each row of (N, P) where it counts: (N, C)."""
    n = len(labels)
    if valid is not None:
        labels = labels.masked_fill(~valid, classes)
    if labels.device.type != "cpu":
        return one_hot(labels, classes).sum(2)
    rows = torch.arange(n, device=labels.device)[:, None] * (classes + 1)
    return torch.bincount((labels + rows).flatten(), minlength=n * (classes + 1)).view(n, -1)[:, :classes]


def _weighted(p: Tensor, factors: Tensor) -> Tensor:
    """Return the sum over classes of p times factors (N, C), without a product of the size of p."""
    total = torch.zeros_like(p[:, 0])
    for index in range(p.shape[1]):
        total.addcmul_(p[:, index], factors[:, index, None])
    return total
