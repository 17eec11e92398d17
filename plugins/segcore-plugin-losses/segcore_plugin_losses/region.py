"""Region losses: one formula, the Tversky index (Salehi et al. 2017, arXiv 1706.05721), under four names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segcore_plugin_losses.base import Loss
from segcore_plugin_losses.inputs import check_choice, check_number
from segcore_plugin_losses.processes import totals
from segcore_plugin_losses.sums import SoftmaxSums, label_counts


class TverskyLoss(Loss):
    """1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth) of each class, with probabilities for the prediction.

    Args:
        mode: any. In binary and multilabel mode a target between 0 and 1 is taken as it is.
        ignore_index: value of the target that does not count.
        weight: per class; the mean is divided by the sum of the weights of the classes that count.
        reduction: ``"mean"`` over classes (and images), ``"sum"``, or ``"none"`` for (C,), or (N, C) per image, 0 where
            a class is skipped.
        alpha: factor of false positives.
        beta: factor of false negatives.
        smooth: pixels added to numerator and denominator. It gives pixels that are predicted where there are none a
            gradient, which the fraction alone does not have.
        per_image: sums over each image instead of over the batch.
        absent: what becomes of a class without pixels in the sum: ``"skip"`` leaves it out of the mean, ``"penalise"``
            counts it, so that what is predicted of it costs. None: penalise in binary mode, skip in the others.
    """

    alpha: float
    beta: float
    gamma: float = 1.0

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        alpha: float = 0.5,
        beta: float = 0.5,
        smooth: float = 1.0,
        per_image: bool = False,
        absent: str | None = None,
    ) -> None:
        super().__init__(mode, ignore_index=ignore_index, weight=weight, reduction=reduction)
        check_choice("absent", absent, (None, "skip", "penalise"))
        self.alpha, self.beta = check_number("alpha", alpha, 0), check_number("beta", beta, 0)
        self.smooth = check_number("smooth", smooth, 0)
        self.per_image, self.absent = per_image, absent or ("penalise" if mode == "binary" else "skip")

    def compute(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """Return the loss of what `prepare` gives."""
        hit, predicted, true = self._sums(x, y, valid)
        if not self.per_image:
            hit, predicted, true = totals(hit, predicted, true)
        whole = hit + self.alpha * (predicted - hit) + self.beta * (true - hit) + self.smooth
        some = whole > 0
        loss = (1 - (hit + self.smooth) / whole.where(some, 1)).where(
            some, 0
        )  # 0 / 0: nothing there, nothing predicted
        if self.gamma != 1:
            loss = loss.clamp_min(1e-7) ** self.gamma  # the power has no gradient at 0
        counts = true > 0
        if self.absent == "penalise":
            counts = torch.ones_like(counts) if valid is None else self._any(valid, loss)
        return self.reduce_classes(loss, counts)

    def _sums(self, x: Tensor, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return, per class, the probability on true pixels, the probability, and the truth: (C,) or (N, C)."""
        if self.mode == "multiclass":
            labels, known = y.flatten(1), None if valid is None else valid.flatten(1)
            hit, predicted = SoftmaxSums.apply(x.flatten(2), labels, known)  # type: ignore[no-untyped-call]
            true = label_counts(labels, known, x.shape[1]).to(hit.dtype)
            return (hit, predicted, true) if self.per_image else (hit.sum(0), predicted.sum(0), true.sum(0))
        p = self.probabilities(x)
        dims = tuple(range(2, x.ndim)) if self.per_image else (0, *range(2, x.ndim))
        if valid is not None:
            p = p * valid
        return (p * y).sum(dims), p.sum(dims), y.sum(dims)

    def _any(self, valid: Tensor, loss: Tensor) -> Tensor:
        """Return whether any pixel counts, in the shape of the loss."""
        if self.mode == "multiclass":
            valid = valid[:, None]
        seen = valid.flatten(2).any(2)
        if not self.per_image:
            seen = totals(seen.sum(0))[0] > 0
        return seen.expand_as(loss)


class DiceLoss(TverskyLoss):
    """1 - Dice: `TverskyLoss` with alpha = beta = 0.5, so 1 - (2 TP + 2 smooth) / (P + T + 2 smooth).

    P and T are the sums of prediction and truth. Source: Milletari et al. 2016, without the squares of V-Net's
    denominator.

    Args:
        mode: as in `TverskyLoss`, like all that follow.
        ignore_index: value of the target that does not count.
        weight: per class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        smooth: in pixels.
        per_image: sums over each image instead of over the batch.
        absent: None, ``"skip"`` or ``"penalise"``.
    """

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        smooth: float = 1.0,
        per_image: bool = False,
        absent: str | None = None,
    ) -> None:
        super().__init__(
            mode,
            ignore_index=ignore_index,
            weight=weight,
            reduction=reduction,
            alpha=0.5,
            beta=0.5,
            smooth=smooth,
            per_image=per_image,
            absent=absent,
        )


class JaccardLoss(TverskyLoss):
    """1 - intersection over union: `TverskyLoss` with alpha = beta = 1.

    Args:
        mode: as in `TverskyLoss`, like all that follow.
        ignore_index: value of the target that does not count.
        weight: per class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        smooth: in pixels.
        per_image: sums over each image instead of over the batch.
        absent: None, ``"skip"`` or ``"penalise"``.
    """

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        smooth: float = 1.0,
        per_image: bool = False,
        absent: str | None = None,
    ) -> None:
        super().__init__(
            mode,
            ignore_index=ignore_index,
            weight=weight,
            reduction=reduction,
            alpha=1.0,
            beta=1.0,
            smooth=smooth,
            per_image=per_image,
            absent=absent,
        )


class FocalTverskyLoss(TverskyLoss):
    """(1 - Tversky index) ** gamma of each class (Abraham and Khan 2018, arXiv 1810.07842).

    The defaults are the paper's, whose alpha is our beta and whose gamma of 4/3 is the inverse of ours.

    Args:
        mode: as in `TverskyLoss`, like all that follow.
        ignore_index: value of the target that does not count.
        weight: per class.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        alpha: factor of false positives.
        beta: factor of false negatives.
        gamma: exponent, above 0; below 1 it raises the loss of classes that are almost right.
        smooth: in pixels.
        per_image: sums over each image instead of over the batch.
        absent: None, ``"skip"`` or ``"penalise"``.
    """

    def __init__(
        self,
        mode: str,
        *,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
        reduction: str = "mean",
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 1.0,
        per_image: bool = False,
        absent: str | None = None,
    ) -> None:
        super().__init__(
            mode,
            ignore_index=ignore_index,
            weight=weight,
            reduction=reduction,
            alpha=alpha,
            beta=beta,
            smooth=smooth,
            per_image=per_image,
            absent=absent,
        )
        self.gamma = check_number("gamma", gamma, 1e-3)
