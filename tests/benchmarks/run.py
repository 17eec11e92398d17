"""Measures segcore and segmentation_models_pytorch side by side: ``python tests/benchmarks/run.py --help``. Linux only.

The page has goals, and says which are missed; nothing here fails because of one.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from cases import KINDS, Case, Model, cases, prepare
from measure import EXACT_MEMORY, Comparison, compare, ratio, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "benchmarks.md"
HEADER = (
    "| measurement | segcore: CPU; MiB | other: CPU; MiB | CPU ratio | memory ratio | goal | met |\n"
    "| --- | --- | --- | --- | --- | --- | --- |\n"
)


def main() -> None:
    """Run the chosen measurements, print the table as it grows and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="beginnings of measurements' names")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of processes per measurement, 5 by default")
    parser.add_argument("--list", action="store_true", help="print the names of all measurements")
    parser.add_argument(
        "--write", action="store_true", help=f"write the table, or the rows of --only, to docs/reference/{PAGE.name}"
    )
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    with tempfile.TemporaryDirectory() as name:
        every = list(cases(Path(name)))
        names = [case.name for case in every]
        chosen = [case for case in every if case.name.startswith(tuple(arguments.only))]
        if not chosen:
            parser.error(f"no measurement's name begins with {' or '.join(arguments.only)}")
        if arguments.list:
            print(*(case.name for case in chosen), sep="\n")
            return
        print(HEADER, end="", flush=True)
        rows, loads = [], [os.getloadavg()[0]]
        for line in measured(chosen, Path(name), arguments.repeats):
            print(line, flush=True)
            rows.append(line)
            loads.append(os.getloadavg()[0])
    if arguments.write:
        measured_with = setting(arguments.repeats, loads)
        if len(rows) < len(names):
            rows, measured_with = merged(PAGE.read_text(encoding="utf-8"), rows, names, arguments.only, measured_with)
        PAGE.write_text(page(rows, measured_with), encoding="utf-8")


def merged(
    old: str, rows: Iterable[str], names: Iterable[str], only: Iterable[str], measured_with: str
) -> tuple[list[str], str]:
    """Return the rows of a page of which some were measured anew, and what the page says they were measured with."""
    found = {line.split("`")[1]: line for line in old.splitlines() if line.startswith("| `")}
    found |= {row.split("`")[1]: row for row in rows}
    whole, *apart = re.findall(r"^(?:Measured apart, .*: )?\d+ cores, .*$", old, flags=re.MULTILINE)
    which = f"Measured apart, {', '.join(f'`{name}`' for name in only)}: "
    kept = [line for line in apart if not line.startswith(which)]
    return [found[name] for name in names if name in found], "\n\n".join([whole, *kept, which + measured_with])


def measured(chosen: Iterable[Case], folder: Path, repeats: int) -> Iterator[str]:
    """Yield one row of the table per case."""
    prepared: set[Model] = set()
    for case in chosen:
        if case.model and case.model not in prepared:
            run(prepare(case.model, folder))
            prepared.add(case.model)
        yield row(case, compare(case.ours, case.theirs, repeats))


def row(case: Case, found: Comparison) -> str:
    """Return a line of the table."""
    checks = (
        (case.added, found.added, f"adds at most {(case.added or 0) * 1000:.0f} ms CPU"),
        (case.cpu, ratio(found.cpu), f"CPU at most {case.cpu}"),
        (case.memory, ratio(found.memory), f"memory at most {case.memory}"),
        (case.mib, found.memory[0], f"at most {case.mib} MiB"),
    )
    goals = [(goal, "yes" if value <= limit else "**no**") for limit, value, goal in checks if limit is not None]
    low, high = found.spread
    added = f", adds {found.added * 1000:.1f} ms" if case.added is not None else ""
    cells = (
        f"`{case.name}`",
        *(f"{_short(cpu * 1000, 10)} ms; {mib:.0f}" for cpu, mib in zip(found.cpu, found.memory, strict=True)),
        f"{_short(ratio(found.cpu))} ({_short(low)} to {_short(high)}){added}",
        _short(ratio(found.memory)),
        "; ".join(goal for goal, _ in goals),
        "; ".join(met for _, met in goals),
    )
    return f"| {' | '.join(cells)} |"


def _short(value: float, whole: float = 100) -> str:
    """Return a positive number with two digits or two decimals, and without decimals from `whole` on."""
    if not math.isfinite(value):
        return "-"
    if value >= whole:
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def page(rows: Iterable[str], measured_with: str) -> str:
    """Return the page of the documentation."""
    kinds = "\n".join(f"- `{name}`: {text}." for name, text in KINDS.items())
    return f"""# Benchmarks

segcore and segmentation_models_pytorch (SMP), measured side by side in one run. This page is written by
`python tests/benchmarks/run.py --write`; without `--write` the script prints the figures of your machine, and
`--only load` or the like restricts it to some measurements, and with `--write` replaces their rows. It needs Linux, a checkout with its test requirements, SMP
and timm; nothing is downloaded.

{measured_with}

{HEADER}{chr(10).join(rows)}

## How it is measured

Both sides run in fresh processes, one after the other and then the other way round, so that both see the same load of
the machine. What is measured within a process begins after a garbage collection. Read the ratios: absolute times are those of one machine, which may have done other work.

CPU is user and system time of the process over all its threads, the median of its processes. The CPU ratio is
segcore's median divided by the other side's; in brackets the smallest and the largest ratio of two neighbouring
processes.

Memory is the peak of the resident set (`VmHWM`) of one more process, with `{_exact_memory()}`, so that large
buffers that are freed leave it: of the whole process where that is measured, otherwise what came on top of what the
process held before. Pages of a mapped file count as soon as they are touched. segcore maps a checkpoint and does not
read the weights until they are used: `load` shows what loading costs, `use` what the model needs once it has worked.

## What the names mean

The other side is SMP unless something else is said.

{kinds}
"""


def _exact_memory() -> str:
    return ", ".join(f"{name}={value}" for name, value in EXACT_MEMORY.items())


def setting(repeats: int, loads: list[float]) -> str:
    """Return a paragraph on what was measured with, and on what else the machine did."""
    names = ("segcore", "segmentation_models_pytorch", "timm", "safetensors")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch').partition('+')[0]} on the "
        f"CPU with one thread, {versions}; {repeats} pairs of processes for each measurement. The load of the machine, "
        f"this run included, was {min(loads):.1f} to {max(loads):.1f}."
    )


if __name__ == "__main__":
    main()
