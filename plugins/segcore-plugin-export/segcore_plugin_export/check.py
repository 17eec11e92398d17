"""An exported program beside its model: the same images through both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from segcore_plugin_export.program import Size, Subject, outputs_of

Run = Callable[[np.ndarray], list[np.ndarray]]
"""Takes images (N, C, H, W), float32, and returns the outputs."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One batch through model and program.

    Attributes:
        batch: number of images.
        height: of the images.
        width: of the images.
        deviation: largest difference of a score divided by the largest score; for whole numbers the share that
            differs. Infinite for another shape, for values that are not finite, and where the program does not run.
        labels: how many pixels have another class.
        problem: why the deviation is infinite, or nothing.
    """

    batch: int
    height: int
    width: int
    deviation: float
    labels: int
    problem: str = ""

    @property
    def shape(self) -> str:
        """The batch and the size, to be read."""
        return f"{self.batch} x {self.height} x {self.width}"


def ordinary_sizes(subject: Subject) -> list[tuple[int, Size]]:
    """Return batches and sizes at which every program is compared: multiples of the step, or its one size."""
    if subject.size:
        return [(1, subject.size), (2, subject.size), (3, subject.size)]
    unit = subject.unit
    return [(1, (4 * unit, 5 * unit)), (2, (5 * unit, 3 * unit)), (3, (2 * unit, 6 * unit))]


def odd_sizes(subject: Subject) -> list[tuple[int, Size]]:
    """Return batches and sizes that are no multiples of the step."""
    unit = subject.unit
    return [(1, (5 * unit + 9, 3 * unit + 5)), (2, (3 * unit - 3, 5 * unit + 1))] if subject.step > 1 else []


def small_sizes(subject: Subject) -> list[int]:
    """Return sides of small images, largest first."""
    step, unit = subject.step, subject.unit
    return sorted({1, max(1, step // 2), step, 2 * step, unit, 2 * unit, 3 * unit}, reverse=True)


def compare(subject: Subject, run: Run, shapes: Iterable[tuple[int, Size]]) -> list[Comparison]:
    """Run the model and the program on random images, the same on every machine."""
    return [_compare(subject, run, batch, size) for batch, size in shapes]


def _compare(subject: Subject, run: Run, batch: int, size: Size) -> Comparison:
    generator = torch.Generator().manual_seed(batch * 1_000_003 + size[0] * 1009 + size[1])
    images = torch.randn(batch, subject.channels, *size, generator=generator)
    try:
        with torch.inference_mode():
            wanted = [np.asarray(output) for output in outputs_of(subject.network(images))]
        got = run(images.numpy())
    except Exception as error:
        return Comparison(batch, *size, float("inf"), 0, f"{type(error).__name__}: {str(error).strip()[:300]}")
    shapes = [[array.shape for array in arrays] for arrays in (got, wanted)]
    if shapes[0] != shapes[1]:
        return Comparison(batch, *size, float("inf"), 0, f"shapes {shapes[0]} instead of {shapes[1]}")
    deviation = max(_deviation(one, two) for one, two in zip(got, wanted, strict=True))
    problem = "" if np.isfinite(deviation) else "values that are not finite"
    one, two = (_labels(mask, subject.level) for mask in (got[0], wanted[0]))
    return Comparison(batch, *size, deviation, int((one != two).sum()), problem)


def _deviation(got: np.ndarray, wanted: np.ndarray) -> float:
    if not np.issubdtype(wanted.dtype, np.floating):
        return float((got != wanted).mean())
    if not (np.isfinite(got).all() and np.isfinite(wanted).all()):
        return float("inf")
    largest = max(float(np.abs(wanted).max()), 1e-12)
    return float(np.abs(got.astype(np.float64) - wanted).max()) / largest


def _labels(mask: np.ndarray, level: float) -> np.ndarray:
    if mask.ndim < 4:
        return mask
    return mask.argmax(1) if mask.shape[1] > 1 else mask > level
