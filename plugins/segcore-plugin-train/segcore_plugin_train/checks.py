"""What can be known about the data before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from segcore import InputError
from segcore_plugin_train.dataset import pair, same_size
from segcore_plugin_train.sources import Reading, Source

SHOWN = 10
CHECKS = ("full", "sizes", "none")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        pixels: of each class, int64 (classes,), of background and object for one; None if masks were not read.
        sizes: height and width of each pair that can be used.
        problems: what is wrong with each of the others; begins with its name.
    """

    pixels: np.ndarray | None
    sizes: list[tuple[int, int]]
    problems: list[str]


def check_pairs(
    source: Source,
    indices: Sequence[int],
    reading: Reading,
    how: str = "full",
    tell: Callable[[int, int], None] | None = None,
) -> Checked:
    """Read every pair once.

    Args:
        source: pairs.
        indices: which of them.
        reading: how they become arrays.
        how: ``"full"`` decodes images and masks and looks at every label, ``"sizes"`` reads headers only.
        tell: called with the number of pairs that are done and the number of all.
    """

    def one(index: int) -> tuple[np.ndarray | None, tuple[int, int], str | None]:
        try:
            if how == "full":
                _, mask = pair(source, index, reading)
                return reading.labels.count(mask), (mask.shape[0], mask.shape[1]), None
            image, size = source.sizes(index)
            same_size(source, index, image, size)
            return None, (size[1], size[0]), None
        except InputError as error:
            return None, (0, 0), str(error)

    found = []
    with ThreadPoolExecutor(4) as pool:
        for done, result in enumerate(pool.map(one, indices), 1):
            found.append(result)
            if tell is not None:
                tell(done, len(indices))
    counted = [counts for counts, _, _ in found if counts is not None]
    return Checked(
        np.sum(counted, axis=0) if counted else None,
        [size for _, size, problem in found if not problem],
        [problem for _, _, problem in found if problem],
    )


def refuse(problems: Sequence[str], count: int) -> None:
    """Raise InputError with the first ten problems, if there are any, of so many pairs."""
    if problems:
        more = f"\n... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(
            f"{len(problems)} of {count} pairs cannot be used:\n" + "\n".join(problems[:SHOWN]) + more + "\n"
            "Repair them or take them away, images with their masks, or list the others in a CSV file (--table)."
        )
