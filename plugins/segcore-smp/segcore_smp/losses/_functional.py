"""The formulas behind the losses, as functions that programs import."""

# ruff: noqa: ANN001, ANN202, UP045 - signatures equal SMP's, annotations included
# mypy: disable-error-code="no-untyped-def"

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcore_smp.losses._checks import check_sizes

__all__ = [
    "focal_loss_with_logits",
    "soft_dice_score",
    "soft_jaccard_score",
    "softmax_focal_loss_with_logits",
    "wing_loss",
]

_FLOAT16_SAFE = int(torch.finfo(torch.float16).max) // 4  # summands of at most 1 of which fp16 can hold four sums


def to_tensor(x, dtype=None) -> Tensor:
    """Return a tensor, array, list or tuple as a tensor, converted to `dtype` if given; None for anything else."""
    if isinstance(x, list | tuple):
        x = np.array(x)
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(x)
    if not isinstance(x, Tensor):
        return None  # type: ignore[return-value]  # SMP does so: such a value counts as not given
    return x if dtype is None else x.type(dtype)


def focal_loss_with_logits(
    output: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: Optional[float] = 0.25,
    reduction: str = "mean",
    normalized: bool = False,
    reduced_threshold: Optional[float] = None,
    eps: float = 1e-6,
) -> Tensor:
    """Return the focal loss of sigmoids (Lin et al. 2017, arXiv 1708.02002).

    Args:
        output: logits of any shape.
        target: 0 and 1, or between, in the same shape and any dtype.
        gamma: exponent of the probability of being wrong.
        alpha: factor of positives, that of negatives being ``1 - alpha``; None for neither.
        reduction: ``"mean"``, ``"sum"``, ``"batchwise_mean"`` (which adds up the first dimension); anything else leaves
            the values as they are.
        normalized: divides by the sum of the powers; with ``"mean"`` the number of values divides once more.
        reduced_threshold: probabilities of the truth below it keep their whole loss (arXiv 1903.01347).
        eps: least divisor of `normalized`.

    Returns:
        A scalar, or one value per element.
    """
    target = target.to(output)
    loss = F.binary_cross_entropy_with_logits(output, target, reduction="none")
    factor = _focus(loss, gamma, reduced_threshold)
    value = factor * loss
    if alpha is not None:
        value = value * (alpha * target + (1 - alpha) * (1 - target))
    if normalized:
        value = value / factor.sum().clamp_min(eps)
    return _reduced(value, reduction)


def softmax_focal_loss_with_logits(
    output: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    reduction="mean",
    normalized=False,
    reduced_threshold: Optional[float] = None,
    eps: float = 1e-6,
) -> Tensor:
    """Return the focal loss of the softmax.

    Args:
        output: logits (N, C, ...).
        target: labels (N, ...), int64.
        gamma: as in `focal_loss_with_logits`, like all that follow.
        reduction: ``"mean"``, ``"sum"``, ``"batchwise_mean"`` or none.
        normalized: divides by the sum of the powers.
        reduced_threshold: probabilities below it keep their whole loss.
        eps: least divisor of `normalized`.

    Returns:
        A scalar, or one value per pixel (N, ...).
    """
    loss = F.nll_loss(F.log_softmax(output, dim=1), target, reduction="none")
    factor = _focus(loss, gamma, reduced_threshold)
    value = factor * loss
    if normalized:
        value = value / factor.sum().clamp_min(eps)
    return _reduced(value, reduction)


def _focus(loss: Tensor, gamma: float, reduced_threshold: float | None) -> Tensor:
    """Return the focal factor of values of a cross-entropy."""
    p = torch.exp(-loss)
    miss = 1.0 - p
    if reduced_threshold is not None:
        miss = miss / reduced_threshold
    factor = power(miss, gamma) if 0 < gamma < 1 else miss.pow(gamma)
    if reduced_threshold is not None:
        factor[p < reduced_threshold] = 1  # in place, which leaves the order in memory, and so that of later sums
    return factor


def power(base: Tensor, exponent: float) -> Tensor:
    """Return a power whose value and gradient are 0 where the base is not above 0, rather than NaN or infinite."""
    some = base > 0
    return torch.where(some, torch.where(some, base, 1) ** exponent, 0)


def _reduced(value: Tensor, reduction: str | None) -> Tensor:
    if reduction in {"mean", "sum"}:
        return value.mean() if reduction == "mean" else value.sum()
    return value.sum(0) if reduction == "batchwise_mean" else value


def soft_jaccard_score(output: Tensor, target: Tensor, smooth: float = 0.0, eps: float = 1e-7, dims=None) -> Tensor:
    """Return the soft intersection over union: `soft_tversky_score` with alpha and beta of 1."""
    return soft_tversky_score(output, target, 1.0, 1.0, smooth, eps, dims)


def soft_dice_score(output: Tensor, target: Tensor, smooth: float = 0.0, eps: float = 1e-7, dims=None) -> Tensor:
    """Return the soft Dice score: `soft_tversky_score` with alpha and beta of 0.5."""
    return soft_tversky_score(output, target, 0.5, 0.5, smooth, eps, dims)


def soft_tversky_score(
    output: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    smooth: float = 0.0,
    eps: float = 1e-7,
    dims=None,
) -> Tensor:
    """Return the Tversky index TP / (TP + alpha FP + beta FN), for soft targets too (Wang et al. 2023).

    TP is half of what the two sums have beyond the sum of absolute differences (arXiv 2302.05666, 2303.16296): for hard
    targets the sum of products, for soft ones that of the smaller values.

    Args:
        output: probabilities, of any shape.
        target: 0 to 1, in the same shape and dtype.
        alpha: factor of false positives.
        beta: factor of false negatives.
        smooth: added to numerator and denominator.
        eps: least denominator.
        dims: dimensions that are added up; None for all.

    Returns:
        The dtype of `output`. Sums that fp16 might not hold are taken in fp32.

    Raises:
        OptionValueError: the shapes differ; also an AssertionError.
    """
    check_sizes(output, target)
    kind = _kind_of_sums(output, dims)
    predicted = torch.sum(output, dim=dims, dtype=kind)
    true = torch.sum(target, dim=dims, dtype=kind)
    apart = torch.linalg.vector_norm(output - target, ord=1, dim=dims, dtype=kind)
    tp = (predicted + true - apart) / 2
    fp, fn = predicted - tp, true - tp  # in this order, which is that in which gradients are added up
    whole = tp + alpha * fp + beta * fn + smooth
    score: Tensor = (tp + smooth) / whole.clamp_min(eps)
    return score.to(output.dtype)


def _kind_of_sums(output: Tensor, dims: int | Sequence[int] | None) -> torch.dtype | None:
    """Return fp32 where sums of fp16 could overflow, else None, which keeps every bit as it is in SMP."""
    if output.dtype is not torch.float16:
        return None
    each = range(output.ndim) if dims is None else (dims,) if isinstance(dims, int) else dims
    return torch.float32 if math.prod(output.shape[d] for d in each) > _FLOAT16_SAFE else None


def wing_loss(output: Tensor, target: Tensor, width=5, curvature=0.5, reduction="mean"):
    """Return the wing loss of regression (Feng et al. 2018, arXiv 1711.06753).

    Args:
        output: any shape.
        target: the same shape.
        width: differences below it go through a logarithm, others are linear.
        curvature: of the logarithm.
        reduction: ``"mean"``, ``"sum"``; anything else leaves the values as they are.
    """
    distance = (target - output).abs()
    offset = width - width * math.log(1 + width / curvature)
    value = torch.where(distance < width, width * torch.log1p(distance / curvature), distance - offset)
    return value.mean() if reduction == "mean" else value.sum() if reduction == "sum" else value


def label_smoothed_nll_loss(
    lprobs: Tensor,
    target: Tensor,
    epsilon: float,
    ignore_index=None,
    reduction="mean",
    dim=-1,
) -> Tensor:
    """Return the negative log-likelihood of smoothed labels.

    Args:
        lprobs: logarithms of probabilities.
        target: labels, of any integer dtype, without the dimension `dim` or with 1 there.
        epsilon: probability that is spread evenly over all classes.
        ignore_index: label whose loss is 0. The mean is over all pixels, those included.
        reduction: ``"mean"``, ``"sum"``; anything else gives a value per pixel, with 1 at `dim` if there is an
            `ignore_index`.
        dim: the dimension of classes.
    """
    labels = target.long()
    if labels.dim() == lprobs.dim() - 1:
        labels = labels.unsqueeze(dim)
    ignored = None if ignore_index is None else target.eq(ignore_index).view_as(labels)
    if ignored is not None:
        labels = labels.masked_fill(ignored, 0)
    terms = [-lprobs.gather(dim=dim, index=labels)]
    if epsilon:
        terms.append(-lprobs.sum(dim=dim, keepdim=True))
    terms = [term.squeeze(dim) if ignored is None else term.masked_fill(ignored, 0.0) for term in terms]
    if reduction in {"mean", "sum"}:
        terms = [term.mean() if reduction == "mean" else term.sum() for term in terms]
    if not epsilon:
        return terms[0]
    loss: Tensor = (1.0 - epsilon) * terms[0] + epsilon / lprobs.size(dim) * terms[1]
    return loss
