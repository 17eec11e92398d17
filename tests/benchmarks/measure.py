"""Runs pairs of fresh processes in turn and compares what they cost. Linux only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
PATHS = (str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")]))
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "PYTHONDONTWRITEBYTECODE": "",  # a package installed by pip has its bytecode; a checkout must have it too
    "PYTHONPATH": os.pathsep.join(PATHS),
}
EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # freed buffers leave the process, which costs CPU time


@dataclass(frozen=True)
class Side:
    """One of two competitors: Python source, run in a process of its own.

    Attributes:
        statement: what is measured.
        setup: runs before it, unmeasured; None to measure the whole process from the start of the interpreter.
        runs: how often the statement runs in one process; the median counts.
        deducted: a part of the statement that does not count: it runs again afterwards and its time is taken off.
    """

    statement: str
    setup: str | None = None
    runs: int = 1
    deducted: str = ""

    def source(self) -> str:
        """Return the program of the process."""
        if self.setup is None:
            clock = "import time as _time\n_cpu = _time.process_time()\n_status = open('/proc/self/status').read()"
            return f"{self.statement}\n{clock}\nimport child\nchild.whole(_cpu, _status)"
        report = f"child.block({self.statement!r}, globals(), {self.runs}, {self.deducted!r})"
        return f"{self.setup}\nimport child\n{report}"


@dataclass(frozen=True)
class Comparison:
    """What two sides cost.

    Attributes:
        ours: CPU seconds of each of our processes, over all its threads.
        theirs: the same of the other side; taken in turn with ours.
        memory: peaks in MiB, ours and theirs.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    memory: tuple[float, float]

    @property
    def cpu(self) -> tuple[float, float]:
        """Medians of the CPU seconds, ours and theirs."""
        return median(self.ours), median(self.theirs)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest CPU ratio of a pair of neighbouring processes."""
        ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)

    @property
    def added(self) -> float:
        """Median of the CPU seconds by which we exceed them."""
        return median(a - b for a, b in zip(self.ours, self.theirs, strict=True))


def ratio(pair: tuple[float, float]) -> float:
    """Return the first as a multiple of the second."""
    return pair[0] / pair[1] if pair[1] else float("nan")


def run(source: str, **environment: str) -> str:
    """Run a program in a fresh interpreter and return the last line it printed."""
    command = [sys.executable, "-W", "ignore", "-c", source]
    done = subprocess.run(
        command, env=os.environ | ENVIRONMENT | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"a measured process failed:\n{source}\n{done.stderr[-3000:]}")
    return (done.stdout.splitlines() or [""])[-1]


def compare(ours: Side, theirs: Side, repeats: int) -> Comparison:
    """Measure the memory of two sides once, then their CPU time in turn, so that both see the same load."""
    sources = ours.source(), theirs.source()
    memory = [json.loads(run(source, **EXACT_MEMORY))["memory"] for source in sources]
    cpu: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats):
        for index in (0, 1) if repeat % 2 == 0 else (1, 0):
            cpu[index].append(json.loads(run(sources[index]))["cpu"])
    return Comparison(tuple(cpu[0]), tuple(cpu[1]), (memory[0], memory[1]))
