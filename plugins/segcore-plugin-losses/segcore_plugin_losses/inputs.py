"""What losses and metrics take: shapes, kinds of numbers and values are checked here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segcore import InputError, OptionValueError

MODES = ("binary", "multiclass", "multilabel")
WIDENED = (torch.uint16, torch.uint32, torch.uint64)  # torch can hold them and do little else


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise OptionValueError unless an option has one of the listed values."""
    if value not in choices:
        raise OptionValueError(f"{name}={value!r}: it is {' or '.join(map(repr, choices))}.")


def check_number(name: str, value: object, least: float, most: float | None = None) -> float:
    """Return the value of an option as a float; raise OptionValueError outside the closed range."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value or (most is not None and value > most):  # type: ignore[operator]
        reach = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionValueError(f"{name}={value!r}: a number {reach} is needed.")
    return float(value)  # type: ignore[arg-type]


def check_ignore_index(value: object) -> None:
    """Raise OptionValueError unless this is a label or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise OptionValueError(f"ignore_index={value!r}: a whole number is needed, or None if every pixel counts.")


def check_tensors(logits: object, target: object, names: tuple[str, str] = ("logits", "target")) -> None:
    """Raise InputError unless both are tensors on one device."""
    for name, value in zip(names, (logits, target), strict=True):
        if isinstance(value, dict | list | tuple):
            kind = f"a {type(value).__name__} of {len(value)} outputs"
            raise InputError(
                f"{name}: one tensor is needed, got {kind}. For deep supervision use "
                f"segcore.create_loss('compound', parts=(...), outputs={{...}}), or pick one output."
            )
        if not isinstance(value, Tensor):
            raise InputError(f"{name}: a tensor is needed, got {type(value).__name__}.")
    if logits.device != target.device:  # type: ignore[attr-defined]
        raise InputError(
            f"{names[0]} are on {logits.device} and {names[1]} on {target.device}: "  # type: ignore[attr-defined]
            f"move one with .to()."
        )


def prepare(
    logits: Tensor, target: Tensor, mode: str, ignore_index: int | None, *, hard: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check a batch and bring it into one form.

    Args:
        logits: (N, C, ...), floating point; C is 1 in binary mode.
        target: multiclass: labels (N, ...), integer. Multilabel: (N, C, ...), binary: (N, ...) or (N, 1, ...), integer,
            bool, or floating point from 0 to 1.
        mode: one of `MODES`.
        ignore_index: value of the target that does not count.
        hard: whether a soft target, a value between 0 and 1, is refused.

    Returns:
        Logits, fp32 or fp64; the target, int64 (N, ...) for multiclass, else (N, C, ...) in the dtype of the logits;
        and where it counts, in the target's shape, None for everywhere. The target is 0 where it does not count.

    Raises:
        InputError: shapes, dtypes, devices or values do not fit. Values are compared on the CPU only: elsewhere that
            would wait for the device at every step.
    """
    check_tensors(logits, target)
    if not logits.is_floating_point():
        raise InputError(
            f"logits must be floating point, got {logits.dtype}. They are what the model gives, not labels."
        )
    if logits.ndim < 3:
        raise InputError(f"logits (N, classes, ...) are needed, got shape {tuple(logits.shape)}.")
    target = fit_target(target, tuple(logits.shape), mode)
    valid = where_counted(target, ignore_index)
    if valid is not None:
        target = target.masked_fill(~valid, 0)
    x = logits if logits.dtype in {torch.float32, torch.float64} else logits.float()
    if mode == "multiclass":
        check_range(target, x.shape[1] - 1, ignore_index)
        return x, target.long(), valid
    check_range(target, 1, ignore_index)
    if hard and target.is_floating_point() and target.device.type == "cpu" and not torch.equal(target, target.round()):
        raise InputError("this loss needs a hard target of 0 and 1, got values in between. Threshold it first.")
    return x, target.to(x.dtype), valid


def fit_target(target: Tensor, shape: tuple[int, ...], mode: str) -> Tensor:
    """Return a target in the shape that belongs to logits of a shape: (N, ...) for multiclass, else (N, C, ...)."""
    n, classes, *space = shape
    if mode == "multiclass" and target.is_floating_point():
        raise InputError(f"multiclass: the target holds labels, an integer tensor, got {target.dtype}. Use .long().")
    if target.dtype in WIDENED:
        target = target.long()
    if target.is_complex():
        raise InputError(f"the target must be integer, bool or floating point, got {target.dtype}.")
    if mode == "multiclass" and classes < 2:
        raise InputError(
            f"multiclass needs two or more channels of logits, got shape {shape}. For one, use mode='binary'."
        )
    if mode == "binary" and classes != 1:
        raise InputError(
            f"binary needs logits (N, 1, ...), got shape {shape}. Use mode='multiclass', or a model with classes=1."
        )
    if mode != "multilabel":
        if tuple(target.shape) == (n, 1, *space):
            target = target[:, 0]
        wanted: tuple[int, ...] = (n, *space)
    else:
        wanted = (n, classes, *space)
    if tuple(target.shape) != wanted:
        raise InputError(
            f"{mode}: for logits of shape {shape} the target must have shape {wanted}, got {tuple(target.shape)}."
        )
    return target[:, None] if mode == "binary" else target


def where_counted(target: Tensor, ignore_index: int | None) -> Tensor | None:
    """Return where a target differs from `ignore_index`, None for everywhere.

    A number that the target's dtype cannot hold is nowhere; torch would compare it modulo 256 with uint8.
    """
    if ignore_index is None or target.dtype is torch.bool:
        return None
    if not target.is_floating_point():
        limits = torch.iinfo(target.dtype)
        if not limits.min <= ignore_index <= limits.max:
            return None
    return target != ignore_index


def check_range(target: Tensor, most: int, ignore_index: int | None) -> None:
    """Raise InputError if a target on the CPU has a value outside 0 to `most`."""
    if (
        target.device.type != "cpu"
        or target.numel() == 0
        or torch.compiler.is_compiling()
        or target.dtype is torch.bool
    ):
        return
    low, high = (value.item() for value in target.aminmax())
    if not (low >= 0 and high <= most):
        wrong = low if not low >= 0 else high
        hint = (
            "" if wrong == ignore_index else f" If {wrong} marks pixels that do not count, give ignore_index={wrong}."
        )
        raise InputError(f"the target has the value {wrong}; values from 0 to {most} are needed.{hint}")
