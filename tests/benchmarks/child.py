"""What a measured process runs: reads its own clock and peak, and prints them as one line of JSON."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from types import CodeType


def memory(field: str, status: str = "") -> int:
    """Return a field of this process in KiB: ``VmRSS``, what it holds now, or ``VmHWM``, the most it has held."""
    status = status or Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


def whole(cpu: float, status: str) -> None:
    """Report the process from its start until it read its clock and its status."""
    print(json.dumps({"cpu": cpu, "memory": memory("VmHWM", status) / 1024}))


def block(statement: str, namespace: dict[str, object], runs: int, deducted: str) -> None:
    """Report a statement alone: the median of its CPU times, and how far its first run exceeded the memory before.

    What the statement `deducted` costs afterwards, at best of three, is taken off the time.
    """
    code = compile(statement, "<measured>", "exec")
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak falls to what is held now
    first = _timed(code, namespace)
    extra = max(0, memory("VmHWM") - before)
    times = [first, *(_timed(code, namespace) for _ in range(runs - 1))]
    gc.disable()
    again = compile(deducted, "<deducted>", "exec")
    rest = min(_timed(again, namespace) for _ in range(3)) if deducted else 0.0
    print(json.dumps({"cpu": sorted(times)[runs // 2] - rest, "memory": extra / 1024}))


def _timed(code: CodeType, namespace: dict[str, object]) -> float:
    start = time.process_time()
    exec(code, namespace)
    return time.process_time() - start
