"""Which samples form which step. Everything follows from seed and step, so any step can be repeated anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from segcore import OptionValueError

Key = tuple[int, int]
"""Seed of a sample's random numbers, and its index."""


def seed_of(*parts: object) -> int:
    """Return a seed of 63 bits that follows from some values."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How many samples and steps there are.

    Attributes:
        samples: number of images.
        batch: samples of one process in one batch.
        processes: number of processes.
        accumulate: batches per step.
        per_epoch: samples of an epoch, None for all images once; more repeats them, each round in another order.
        seed: of the order and of augmentation.
    """

    samples: int
    batch: int
    processes: int = 1
    accumulate: int = 1
    per_epoch: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = (self.samples, self.batch, self.processes, self.accumulate, self.per_epoch)
        if any(number is not None and number < 1 for number in numbers):
            raise OptionValueError(f"{self!r}: every number must be at least 1.")

    @property
    def together(self) -> int:
        """Samples of one step, of all processes."""
        return self.batch * self.processes * self.accumulate

    @property
    def steps(self) -> int:
        """Steps of an epoch: what does not fill a step is left out, but there is at least one."""
        return max(1, (self.per_epoch or self.samples) // self.together)

    def order(self, epoch: int) -> list[int]:
        """Return the images of an epoch, as many as its steps take."""
        found: list[int] = []
        needed = self.steps * self.together
        while len(found) < needed:
            generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch, len(found)))
            found += torch.randperm(self.samples, generator=generator).tolist()
        return found[:needed]


class StepSampler(Sampler[list[Key]]):
    """The batches of one process in one epoch, from some step on.

    Args:
        plan: of all processes.
        rank: which process this is.
        epoch: number of the epoch.
        start: steps of it that are done.
        stop: steps of it to end at; None for all.
    """

    def __init__(self, plan: Plan, rank: int = 0, epoch: int = 0, start: int = 0, stop: int | None = None) -> None:
        self.plan, self.rank, self.start = plan, rank, start
        self.stop = plan.steps if stop is None else stop
        self._first_epoch = self._epoch = epoch
        self.sampler = self  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from the one that this began with; Lightning calls it."""
        self._epoch = self._first_epoch + epoch

    def __len__(self) -> int:
        return (self.stop - self.start) * self.plan.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        plan = self.plan
        order = plan.order(self._epoch)
        for first in range(self.start * plan.together, self.stop * plan.together, plan.batch * plan.processes):
            mine = first + self.rank * plan.batch
            yield [
                (seed_of("sample", plan.seed, self._epoch, place), order[place])
                for place in range(mine, mine + plan.batch)
            ]
