"""Measures how fast models predict, beside SMP and the machine's peak: ``python tests/benchmarks/speed.py --help``.

All ways of running a model take turns, one run at a time, each in a process that waits while the others compute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from measure import ENVIRONMENT, HERE, run
from speed_child import PEAK_FLOPS

PAGE = HERE.parents[1] / "docs" / "reference" / "inference-speed.md"
HEADER = (
    "| model | computed by | CPU, ms | times SMP eager | times SMP's best | % of peak | largest deviation |\n"
    "| --- | --- | --- | --- | --- | --- | --- |\n"
)
GOALS_HEADER = (
    "| model | fp32 | by | goal | met | % of peak | goal | met | bf16 | by | goal | met |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)


@dataclass(frozen=True)
class Model:
    """A model and what it should reach: times SMP eager in fp32 and in bf16, and a share of the peak in fp32."""

    name: str
    title: str
    encoder: str
    fp32: float
    bf16: float
    peak: float | None = None


MODELS = (
    Model("unet/resnet34", "Unet", "resnet34", 1.4, 2.5, 0.9),
    Model("fpn/resnet34", "FPN", "resnet34", 1.4, 2.5, 0.9),
    Model("deeplabv3plus/resnet34", "DeepLabV3Plus", "resnet34", 1.4, 2.5, 0.9),
    Model("unet/efficientnet-b0", "Unet", "efficientnet-b0", 1.9, 3.5),
    Model("segformer/mit_b0", "Segformer", "mit_b0", 2.8, 5.0),
)


@dataclass(frozen=True)
class Way:
    """A way of running a model: its words in the table, its process, and whether it is one of ours in fp32 or bf16."""

    words: str
    process: str
    ours: str | None = None


WAYS = {
    "peak": Way("", "plain"),
    "peak_bf16": Way("", "plain"),
    "smp": Way("SMP, eager", "plain"),
    "smp_channels_last": Way("SMP, channels_last", "plain"),
    "smp_compile": Way("SMP, torch.compile", "plain"),
    "eager": Way("segcore, eager", "plain"),
    "optimized": Way("optimize_for_inference", "plain", "fp32"),
    "kept": Way("optimize_for_inference, keep_memory", "kept", "fp32"),
    "compiled": Way("optimize_for_inference, keep_memory, compile", "kept", "fp32"),
    "onnxruntime": Way("segcore export, ONNX Runtime", "others", "fp32"),
    "openvino": Way("segcore export, OpenVINO", "others", "fp32"),
    "kept_bf16": Way("optimize_for_inference, keep_memory, bf16", "kept", "bf16"),
    "compiled_bf16": Way("optimize_for_inference, keep_memory, compile, bf16", "kept", "bf16"),
    "openvino_bf16": Way("segcore export, OpenVINO, bf16", "others", "bf16"),
}
SMPS = ("smp", "smp_channels_last", "smp_compile")


@dataclass
class Found:
    """What was measured of one model.

    Attributes:
        model: the model.
        flops: of one run, as SMP's modules compute.
        times: CPU seconds of each way.
        deviations: of each way, from SMP's result.
        problems: why a way could not be measured.
    """

    model: Model
    flops: float
    times: dict[str, list[float]] = field(default_factory=dict)
    deviations: dict[str, float | None] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def cpu(self, way: str) -> float:
        """Return the median of a way."""
        return median(self.times[way])

    def gain(self, way: str) -> float:
        """Return how many times faster than SMP a way is, eager both."""
        return self.cpu("smp") / self.cpu(way)

    def share(self, way: str) -> float:
        """Return the share of the peak in fp32 that a way reaches."""
        return self.flops / self.cpu(way) / (PEAK_FLOPS / self.cpu("peak"))

    def best(self, kind: str) -> str | None:
        """Return our fastest way of a kind."""
        ours = [name for name in self.times if WAYS[name].ours == kind]
        return min(ours, key=self.cpu, default=None)

    def rows(self) -> Iterator[str]:
        """Yield the lines of the table."""
        best = min((self.cpu(name) for name in SMPS if name in self.times), default=0.0)
        for name, way in WAYS.items():
            if name in self.problems:
                yield f"| {self.model.name} | {way.words} | - | - | - | - | {self.problems[name]} |"
            if name in self.times and way.words:
                cells = [self.model.name, way.words, f"{self.cpu(name) * 1000:.0f}", f"{self.gain(name):.2f}"]
                cells += [f"{best / self.cpu(name):.2f}", f"{self.share(name) * 100:.0f}"]
                yield f"| {' | '.join([*cells, f'{self.deviations[name]:.1e}'])} |"

    def goals(self) -> str:
        """Return the line of the table of goals."""
        cells = [self.model.name]
        for kind, goal in (("fp32", self.model.fp32), ("bf16", self.model.bf16)):
            way = self.best(kind)
            if way is None:
                cells += ["-", "-", f"{goal}", "not measured"]
            else:
                cells += [f"{self.gain(way):.2f}", WAYS[way].words, f"{goal}", _met(self.gain(way) >= goal)]
            if kind == "fp32":
                wanted = self.model.peak
                share = self.share(way) if way else None
                cells += ["-" if share is None else f"{share * 100:.0f}", f"{wanted * 100:.0f}" if wanted else ""]
                cells.append("" if wanted is None else "not measured" if share is None else _met(share >= wanted))
        return f"| {' | '.join(cells)} |"


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


def prepare(model: Model, size: int, folder: Path) -> float:
    """Save a random model with SMP, an image and its result, and return the number of operations."""
    source = f"""
from segcore import guard_torchvision; guard_torchvision()
import torch, segmentation_models_pytorch as smp
from torch.utils.flop_counter import FlopCounterMode
torch.manual_seed(0)
model = smp.{model.title}({model.encoder!r}, encoder_weights=None).eval()
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.running_mean.normal_(std=0.1), module.running_var.uniform_(0.5, 1.5)
model.save_pretrained({str(folder / "smp")!r})
x = torch.randn(1, 3, {size}, {size})
with torch.inference_mode(), FlopCounterMode(display=False) as counter:
    torch.save(model(x), {str(folder / "expected.pt")!r})
torch.save(x, {str(folder / "x.pt")!r})
print(counter.get_total_flops())
"""
    return float(run(source))


class Child:
    """A process that runs a model in several ways when told to."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-W", "ignore", str(HERE / "speed_child.py"), str(folder)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, text=True, **pipes)

    def ask(self, way: str) -> dict[str, Any]:
        """Return the answer to the name of a way."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{way}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        return {"problem": f"the process ended with {self.process.wait()}"}

    def end(self) -> None:
        """End the process."""
        self.process.communicate()


def measured(model: Model, ways: Sequence[str], size: int, rounds: int) -> Found:
    """Measure one model: every way once in each round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = Found(model, prepare(model, size, folder))
        found.problems = {way: "not measured" for way, known in WAYS.items() if known.words and way not in ways}
        children = {process: Child(folder) for process in {WAYS[way].process for way in ways}}
        try:
            for _ in range(rounds):
                for way in ways:
                    if way in found.problems:
                        continue
                    answer = children[WAYS[way].process].ask(way)
                    if "problem" in answer:
                        found.problems[way] = answer["problem"]
                        found.times.pop(way, None)
                    else:
                        found.times.setdefault(way, []).append(answer["cpu"])
                        found.deviations[way] = answer["deviation"]
        finally:
            for child in children.values():
                child.end()
    return found


def main() -> None:
    """Measure, print the tables, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], metavar="MODEL", help="beginnings of models' names")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="all by default")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way, 3 by default")
    parser.add_argument("--size", type=int, default=512, help="height and width of the image")
    parser.add_argument("--write", action="store_true", help=f"write docs/reference/{PAGE.name}; needs all models")
    arguments = parser.parse_args()
    models = [model for model in MODELS if model.name.startswith(tuple(arguments.only))]
    if not models or arguments.rounds < 1:
        parser.error("no such model" if not models else "--rounds must be at least 1")
    if arguments.write and (len(models) < len(MODELS) or arguments.size != 512):
        parser.error("--write needs every model at 512 x 512, so it goes without --only and --size")
    ways = list(dict.fromkeys(["peak", "smp", *arguments.ways]))
    print(HEADER, end="", flush=True)
    found, loads = [], [os.getloadavg()[0]]
    for model in models:
        found.append(measured(model, ways, arguments.size, arguments.rounds))
        print(*found[-1].rows(), sep="\n", flush=True)
        loads.append(os.getloadavg()[0])
    print("\n" + GOALS_HEADER + "\n".join(one.goals() for one in found))
    if arguments.write:
        rows = [row for one in found for row in one.rows()]
        goals = [one.goals() for one in found]
        PAGE.write_text(page(rows, goals, setting(found, arguments.rounds, loads)), encoding="utf-8")


def setting(found: Sequence[Found], rounds: int, loads: Sequence[float]) -> str:
    """Return a paragraph on what was measured with."""
    names = ("segcore", "segmentation_models_pytorch", "timm", "onnxruntime", "openvino")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    fp32, bf16 = (
        PEAK_FLOPS / median(one.cpu(way) for one in found if way in one.times) / 1e9 for way in ("peak", "peak_bf16")
    )
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    units = ", ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags)
    return (
        f"One thread, {platform.machine()} with {units}, Python {platform.python_version()}, torch "
        f"{_version('torch').partition('+')[0]}, {versions}; {rounds} rounds. Peak: {fp32:.0f} GFLOP/s in fp32, "
        f"{bf16:.0f} in bf16. The load of the machine, this run included, was {min(loads):.1f} to {max(loads):.1f}."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def page(rows: Iterable[str], goals: Iterable[str], measured_with: str) -> str:
    """Return the page of the documentation."""
    return f"""# Inference speed

How fast models predict one image of 512 x 512 on one CPU core: segcore's ways beside those of
segmentation_models_pytorch (SMP), measured in one run. This page is written by `python tests/benchmarks/speed.py
--write`; without `--write` the script prints the figures of your machine. [](../how-to/make-models-faster.md) says how
to use each way.

{measured_with}

## Goals

Each model's fastest way of segcore's, as a multiple of SMP eager. In fp32 all ways are exact up to rounding.

{GOALS_HEADER}{chr(10).join(goals)}

## Every way

{HEADER}{chr(10).join(rows)}

## How it is measured

The model has random weights and norm statistics, saved by SMP and loaded by both libraries. Every way is prepared and
run once; then in each round each way runs twice and the second run counts, so that all see the same load of the machine.
CPU is user and system time of the process, median of the rounds. `keep_memory`, which changes a process as a whole, has
a process of its own, and so have the other runtimes; a process waits while another computes.

The peak is what a well-shaped convolution reaches in the same run (3x3, 256 to 256 channels, 64 x 64, packed weights).
% of peak is always that of fp32, and counts the operations of SMP's modules (`torch.utils.flop_counter`); a way that
needs fewer products for the same result, as `optimize_for_inference` does, can exceed 100.

SMP's best is the fastest of eager, `channels_last` and `torch.compile`. The deviation is the largest difference from
SMP's result as a share of its largest value.
"""


if __name__ == "__main__":
    main()
