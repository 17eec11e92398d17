"""Checks of the options that several decoders share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from segcore import OptionValueError

INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")


def check_choice(who: str, option: str, value: object, choices: Iterable[object]) -> None:
    """Raise OptionValueError unless `value` is one of `choices`."""
    choices = tuple(choices)
    if value not in choices:
        raise OptionValueError(f"{who}: {option}={value!r} is unknown; it is one of {', '.join(map(repr, choices))}.")


def check_probability(who: str, option: str, value: float) -> None:
    """Raise OptionValueError unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise OptionValueError(f"{who}: {option}={value!r} is no probability; it lies in [0, 1), 0 for none.")


def check_positive(who: str, option: str, *values: int) -> None:
    """Raise OptionValueError unless all values are whole numbers of at least 1."""
    if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in values):
        shown = values[0] if len(values) == 1 else values
        raise OptionValueError(f"{who}: {option}={shown!r} must be whole numbers of at least 1.")


def _check_sequence(who: str, option: str, given: object) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise OptionValueError(f"{who}: {option}={given!r} must be a sequence of whole numbers, such as (64, 32).")


def channels_of_blocks(
    who: str, given: Sequence[int] | None, strides: Sequence[int], option: str = "channels"
) -> tuple[int, ...]:
    """Return the channels of each upsampling block, deepest first.

    Args:
        who: the decoder's name, for messages.
        given: what the user asks for; None for 16 channels times the stride that a block produces, at most 256, which
            is (256, 128, 64, 32, 16) for the usual five blocks.
        strides: stride that each block produces.
        option: name of the option, for messages.

    Raises:
        OptionValueError: if there is not one positive number per block.
    """
    default = tuple(min(16 * stride, 256) for stride in strides)
    if given is None:
        return default
    _check_sequence(who, option, given)
    if len(given) != len(strides):
        raise OptionValueError(
            f"{who}: {option}={tuple(given)!r} has {len(given)} entries; this encoder needs {len(strides)}, one per "
            f"block producing stride {', '.join(map(str, strides))}. Leave it out for {default}, "
            f"or change encoder_depth."
        )
    check_positive(who, option, *given)
    return tuple(given)


def channels_of_levels(
    who: str, given: Sequence[int] | None, default: Sequence[int], count: int, option: str = "intermediate_channels"
) -> tuple[int, ...]:
    """Return `count` numbers of channels: the user's, or the first of the default, whose last is repeated as needed."""
    if given is None:
        return tuple(default[min(index, len(default) - 1)] for index in range(count))
    _check_sequence(who, option, given)
    if len(given) != count:
        raise OptionValueError(
            f"{who}: {option}={tuple(given)!r} has {len(given)} entries; this encoder needs {count}, one per feature "
            f"map. Leave it out, or change encoder_depth."
        )
    check_positive(who, option, *given)
    return tuple(given)
