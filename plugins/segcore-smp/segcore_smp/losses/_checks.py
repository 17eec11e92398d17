"""Checks that all losses share."""

from __future__ import annotations

from torch import Tensor

from segcore import OptionValueError
from segcore_smp.losses.constants import BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE

MODES = (BINARY_MODE, MULTICLASS_MODE, MULTILABEL_MODE)


class RefusedError(OptionValueError, AssertionError):
    """Something that SMP refuses by an assertion; programs that expect an AssertionError get one."""


def check_mode(mode: object) -> None:
    """Raise RefusedError unless this is one of the three modes."""
    if mode not in MODES:
        raise RefusedError(f"mode={mode!r}: it is {', '.join(map(repr, MODES[:2]))} or {MODES[2]!r}.")


def check_class_weights(class_weights: object, mode: str) -> None:
    """Raise OptionValueError for weights per class where there is one class."""
    if class_weights is not None and mode == BINARY_MODE:
        raise OptionValueError("class_weights: mode='binary' has one class. Leave them out, or use another mode.")


def check_batches(y_pred: Tensor, y_true: Tensor) -> None:
    """Raise RefusedError unless both hold as many images."""
    if y_true.size(0) != y_pred.size(0):
        raise RefusedError(f"y_pred holds {y_pred.size(0)} images and y_true {y_true.size(0)}: give both alike.")


def check_sizes(output: Tensor, target: Tensor) -> None:
    """Raise RefusedError unless both have the same shape."""
    if output.size() != target.size():
        raise RefusedError(
            f"output has shape {tuple(output.shape)} and target {tuple(target.shape)}: one shape is needed."
        )
