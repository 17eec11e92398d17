"""Losses by name: one, or a sum such as ``"dice+ce"``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segcore.errors import OptionValueError, PluginError
from segcore.options import factory_of, resolve_options, takes_option
from segcore.registry import losses
from segcore.specs import LossSpec, qualified_name


def create_loss(
    loss: str | LossSpec | Callable[..., Callable[..., Any]], *, mode: str | None = None, **options: Any
) -> Callable[..., Any]:
    """Build a loss: a callable of a model's output and the target.

    Args:
        loss: name (``"dice"``, or qualified ``"losses/dice"``), record, or a class. Names joined by ``+``
            (``"dice+ce"``) are built as the loss ``"compound"`` with the option ``parts=("dice", "ce")``.
        mode: what the classes are, ``"binary"``, ``"multiclass"`` or ``"multilabel"``; given to losses that take it.
        **options: of the loss; each is checked against what the loss takes.

    Returns:
        What the loss's factory returns, a module if it comes from one of this project's packages.

    Raises:
        UnknownNameError, AmbiguousNameError: no loss, or several, have this name.
        UnknownOptionError, OptionValueError: an option, or its value, does not exist; or the loss needs a mode.
        PluginError: a plugin failed.

    Example:
        >>> create_loss("dice", mode="multiclass", ignore_index=255).mode
        'multiclass'
    """
    spec, more = _spec(loss)
    factory = factory_of(spec)
    if takes_option(factory, "mode"):
        if mode is None:
            raise OptionValueError(
                f"{spec.name!r} needs mode='binary', 'multiclass' or 'multilabel': what the classes of the target are."
            )
        more["mode"] = mode
    built: Callable[..., Any] = factory(**spec.options, **resolve_options(spec, factory, more | options))
    if not callable(built):
        raise PluginError(
            f"the factory of {qualified_name(spec)!r} must return a callable of output and target, got {built!r:.80}.",
            distribution=spec.provenance.distribution if spec.provenance else None,
            phase="contract",
        )
    return built


def _spec(loss: object) -> tuple[LossSpec, dict[str, Any]]:
    if isinstance(loss, LossSpec):
        return loss, {}
    if isinstance(loss, str):
        if "+" not in loss or loss in losses:
            return losses.resolve(loss), {}
        parts = tuple(loss.split("+"))
        if not all(parts):
            raise OptionValueError(f"loss={loss!r}: a sum is written as names joined by '+', such as 'dice+ce'.")
        return losses.resolve("compound"), {"parts": parts}
    if isinstance(loss, type):
        return LossSpec(loss.__name__.lower(), factory=loss), {}
    raise OptionValueError(f"loss={loss!r:.80}: a name, a LossSpec or a class is needed.")
