"""What a program that knows SMP can do where published weights are not to be had."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import segcore


@contextlib.contextmanager
def advice(name: str, tag: object) -> Iterator[None]:
    """Add to errors about weights what to do.

    Args:
        name: of the encoder.
        tag: that was asked for.

    Raises:
        WeightsError: with the advice.
    """
    try:
        yield
    except segcore.WeightsError as error:
        raise segcore.WeightsError(
            f"{error} (encoder_weights={tag!r} of {name!r}: SMP's default are published weights, fetched once. "
            f"Without a network write encoder_weights=None for random weights, fetch them where there is one with "
            f"`segcore weights fetch`, or name a mirror; see `segcore weights --help`.)"
        ) from error
