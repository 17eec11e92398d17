"""Scores from counts of right and wrong pixels."""

# ruff: noqa: UP006, UP007, UP035, UP045 - signatures equal SMP's, annotations included

import warnings
from collections.abc import Callable, Sequence
from typing import List, Optional, Protocol, Union

import torch
from torch import Tensor

from segcore import OptionValueError
from segcore_smp.metrics.stats import get_stats

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "f1_score",
    "false_discovery_rate",
    "false_negative_rate",
    "false_omission_rate",
    "false_positive_rate",
    "fbeta_score",
    "get_stats",
    "iou_score",
    "negative_likelihood_ratio",
    "negative_predictive_value",
    "positive_likelihood_ratio",
    "positive_predictive_value",
    "precision",
    "recall",
    "sensitivity",
    "specificity",
]

Ratio = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

_SHARED = """

    Args:
        tp: true positives of each image and class, (N, C), as `get_stats` gives them.
        fp: false positives.
        fn: false negatives.
        tn: true negatives.{more}
        reduction: ``"micro"``: counts of all images and classes are added first. ``"macro"``: images are added, the
            mean of the classes is taken. ``"weighted"``: their sum by `class_weights`. ``"micro-imagewise"``: classes
            are added, the mean of the images is taken. ``"macro-imagewise"``, ``"weighted-imagewise"``: the mean of
            all. None or ``"none"``: (N, C).
        class_weights: one number per class, divided by their sum; needed by the weighted reductions. The macro and
            imagewise ones multiply by them too and divide by the number of classes once more, as SMP does.
        zero_division: what stands for 0 / 0, or ``"warn"`` for 0 and a warning. A micro score stays NaN.

    Returns:
        fp32, a scalar or (N, C).

    Raises:
        OptionValueError: an unknown reduction, or a weighted one without weights.
    """
_BETA = "\n        beta: weight of recall."
_REDUCTIONS = ("micro", "macro", "weighted", "micro-imagewise", "macro-imagewise", "weighted-imagewise", "none", None)


class Score(Protocol):
    """A score of counts."""

    __name__: str

    def __call__(
        self,
        tp: torch.LongTensor,
        fp: torch.LongTensor,
        fn: torch.LongTensor,
        tn: torch.LongTensor,
        reduction: Optional[str] = None,
        class_weights: Optional[List[float]] = None,
        zero_division: Union[str, float] = 1.0,
    ) -> Tensor:
        """Return the score."""


def _reduced(
    ratio: Ratio,
    counts: tuple[Tensor, Tensor, Tensor, Tensor],
    reduction: str | None,
    class_weights: Sequence[float] | Tensor | None,
    zero_division: str | float,
) -> Tensor:
    """Return the score of counts (N, C), reduced."""
    if reduction not in _REDUCTIONS:
        raise OptionValueError(f"reduction={reduction!r}: it is one of {', '.join(map(repr, _REDUCTIONS))}.")
    if class_weights is None and reduction in {"weighted", "weighted-imagewise"}:
        raise OptionValueError(f"reduction={reduction!r} needs class_weights, one number per class.")
    weights = torch.as_tensor(1.0 if class_weights is None else class_weights, device=counts[0].device)
    weights = weights / weights.sum()
    if reduction == "micro":
        return ratio(*(count.sum() for count in counts))
    if reduction in {"macro", "weighted"}:
        score = _without_nan(ratio(*(count.sum(0) for count in counts)), zero_division) * weights
        return score.mean() if reduction == "macro" else score.sum()
    if reduction == "micro-imagewise":
        return _without_nan(ratio(*(count.sum(1) for count in counts)), zero_division).mean()
    score = _without_nan(ratio(*counts), zero_division)
    return score if reduction in {"none", None} else (score.mean(0) * weights).mean()


def _without_nan(score: Tensor, zero_division: str | float) -> Tensor:
    missing = torch.isnan(score)
    if zero_division == "warn" and bool(missing.any()):
        warnings.warn("Zero division in a metric: 0 stands for the score.", stacklevel=4)
    value = 0.0 if zero_division == "warn" else float(zero_division)
    return score.masked_fill(missing, value)


def _score(name: str, ratio: Ratio, summary: str) -> Score:
    """Return a public function for a ratio."""

    def score(
        tp: torch.LongTensor,
        fp: torch.LongTensor,
        fn: torch.LongTensor,
        tn: torch.LongTensor,
        reduction: Optional[str] = None,
        class_weights: Optional[List[float]] = None,
        zero_division: Union[str, float] = 1.0,
    ) -> Tensor:
        return _reduced(ratio, (tp, fp, fn, tn), reduction, class_weights, zero_division)

    score.__name__ = score.__qualname__ = name
    score.__doc__ = summary + _SHARED.format(more="")
    return score


def _fbeta(tp: Tensor, fp: Tensor, fn: Tensor, beta: float) -> Tensor:
    hits = (1 + beta**2) * tp
    return hits / (hits + beta**2 * fn + fp)


def fbeta_score(
    tp: torch.LongTensor,
    fp: torch.LongTensor,
    fn: torch.LongTensor,
    tn: torch.LongTensor,
    beta: float = 1.0,
    reduction: Optional[str] = None,
    class_weights: Optional[List[float]] = None,
    zero_division: Union[str, float] = 1.0,
) -> Tensor:
    """Return F beta, the mean of precision and recall in which recall has the weight beta²."""
    return _reduced(
        lambda tp, fp, fn, _: _fbeta(tp, fp, fn, beta), (tp, fp, fn, tn), reduction, class_weights, zero_division
    )


fbeta_score.__doc__ = f"{fbeta_score.__doc__}{_SHARED.format(more=_BETA)}"


def _hit_rate(tp: Tensor, _fp: Tensor, fn: Tensor, _tn: Tensor) -> Tensor:
    return tp / (tp + fn)


def _clear_rate(_tp: Tensor, fp: Tensor, _fn: Tensor, tn: Tensor) -> Tensor:
    return tn / (tn + fp)


def _hit_trust(tp: Tensor, fp: Tensor, _fn: Tensor, _tn: Tensor) -> Tensor:
    return tp / (tp + fp)


def _clear_trust(_tp: Tensor, _fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
    return tn / (tn + fn)


f1_score = _score("f1_score", lambda tp, fp, fn, _: _fbeta(tp, fp, fn, 1.0), "Return F1, also called Dice.")
iou_score = _score("iou_score", lambda tp, fp, fn, _: tp / (tp + fp + fn), "Return the intersection over union.")
accuracy = _score(
    "accuracy", lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn), "Return the share of right answers."
)
sensitivity = _score("sensitivity", _hit_rate, "Return the share of true pixels that are found: recall.")
specificity = _score("specificity", _clear_rate, "Return the share of other pixels that are left alone.")
balanced_accuracy = _score(
    "balanced_accuracy",
    lambda *counts: (_hit_rate(*counts) + _clear_rate(*counts)) / 2,
    "Return the mean of sensitivity and specificity.",
)
positive_predictive_value = _score(
    "positive_predictive_value", _hit_trust, "Return the share of predicted pixels that are true: precision."
)
negative_predictive_value = _score(
    "negative_predictive_value", _clear_trust, "Return the share of pixels left alone that are rightly so."
)
false_negative_rate = _score("false_negative_rate", lambda *counts: 1 - _hit_rate(*counts), "Return 1 - sensitivity.")
false_positive_rate = _score("false_positive_rate", lambda *counts: 1 - _clear_rate(*counts), "Return 1 - specificity.")
false_discovery_rate = _score("false_discovery_rate", lambda *counts: 1 - _hit_trust(*counts), "Return 1 - precision.")
false_omission_rate = _score(
    "false_omission_rate", lambda *counts: 1 - _clear_trust(*counts), "Return 1 - negative predictive value."
)
positive_likelihood_ratio = _score(
    "positive_likelihood_ratio",
    lambda *counts: _hit_rate(*counts) / (1 - _clear_rate(*counts)),
    "Return sensitivity / false positive rate.",
)
negative_likelihood_ratio = _score(
    "negative_likelihood_ratio",
    lambda *counts: (1 - _hit_rate(*counts)) / _clear_rate(*counts),
    "Return false negative rate / specificity.",
)

precision = positive_predictive_value
recall = sensitivity
