"""What an optimised model gains and what it costs, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Report:
    """An optimised model beside the model that it was made from, on one sample.

    Attributes:
        device: where it was measured.
        dtype: type of the computation.
        channels_last: layout of the maps.
        compiled: whether torch.compile generated code.
        sample: shape of the sample.
        threads: of torch, while measuring.
        preparation: seconds until the first result.
        absolute: largest difference between the results of both.
        relative: that difference as a share of the largest value of the model's own result.
        eager: seconds for the sample with the model, median: of the CPU over all threads, on a GPU of the clock.
        optimized: the same with the optimised model, taken in turn.
        done: what was done and how often.
        left: what could not be done and how often.
    """

    device: str
    dtype: str
    channels_last: bool
    compiled: bool
    sample: tuple[int, ...]
    threads: int
    preparation: float
    absolute: float
    relative: float
    eager: float = math.nan
    optimized: float = math.nan
    done: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """How many times faster than the model it is."""
        return self.eager / self.optimized

    def __str__(self) -> str:
        """Return a few lines for people."""
        layout = "channels last" if self.channels_last else "channels first"
        compiled = ", compiled" if self.compiled else ""
        times = f"eager {self.eager * 1000:.0f} ms, now {self.optimized * 1000:.0f} ms"
        lines = [
            f"{self.speedup:.2f} times as fast ({times}) for {'x'.join(map(str, self.sample))}",
            f"{self.device}, {self.threads} thread(s), {self.dtype}, {layout}{compiled}",
            f"largest deviation {self.absolute:.2g}, relative {self.relative:.2g}",
            f"prepared in {self.preparation:.1f} s",
        ]
        lines += [f"  done: {count} {what}" for what, count in self.done.items()]
        lines += [f"  left: {count} {what}" for what, count in self.left.items()]
        return "\n".join(lines)


def measure(runs: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Return the median seconds of each function, run in turn, after one run of each that does not count.

    Seconds of the CPU over all threads, which other programs disturb least; on a GPU those of the clock.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: list[list[float]] = [[] for _ in runs]
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for index, run in enumerate(runs):
                start = clock()
                run()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if repeat:
                    times[index].append(clock() - start)
    return [median(values) for values in times]


def deviation(expected: Any, got: Any) -> tuple[float, float]:
    """Return the largest difference of two results, and as a share of the largest expected value."""
    largest, relative = 0.0, 0.0
    for one, other in zip(_tensors(expected), _tensors(got), strict=True):
        difference = float((one.double() - other.double()).abs().max())
        scale = float(one.double().abs().max())
        largest = max(largest, difference)
        relative = max(relative, difference / scale if scale else difference and math.inf)
    return largest, relative


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, dict):
        yield from result.values()
    else:
        for item in result:
            yield from _tensors(item)
