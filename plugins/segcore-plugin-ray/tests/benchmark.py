"""What the engine costs beside one process on this machine, in one run: ``python tests/benchmark.py``.

Each engine in turn predicts a few images and then many, into new folders. The difference is what images cost, the rest
is start and end. CPU time is that of all processes that a command starts, and depends little on what else the machine
does; speed does. Ratios are medians over the rounds. Linux only.
"""

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import segcore

FEW = 4
ENGINES = {
    "local, 1 thread": ("--threads", "1"),
    "local, 2 threads": ("--threads", "2"),
    "ray, 2 workers": ("--engine", "ray", "--workers", "2"),
}


def prepare(folder, count, size):
    torch.manual_seed(0)
    model = segcore.create_model("unet", "resnet18", classes=5)
    how = segcore.Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    model.save_pretrained(folder / "model", preprocessing=how)
    rng = np.random.default_rng(0)
    for name, number in {"few": FEW, "many": FEW + count}.items():
        (folder / name).mkdir()
        for index in range(number):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
            coarse.resize((size, size)).save(folder / name / f"{index:04}.png")


def cpu_seconds(mark, seen):
    """Note the CPU time of each process that has a mark in its environment."""
    tick = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (folder / "environ").read_bytes():
                continue
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        seen[folder.name, fields[19]] = (int(fields[11]) + int(fields[12])) / tick  # user and system, since its start


def measured(folder, images, out, words):
    """Return the seconds and the CPU seconds of a run."""
    mark = f"BENCHMARK={secrets.token_hex(8)}"
    variables = {key: value for key, value in os.environ.items() if key not in {"OMP_NUM_THREADS", "RAY_ADDRESS"}}
    variables |= {"OMP_WAIT_POLICY": "PASSIVE", "BENCHMARK": mark.partition("=")[2]}
    command = [sys.executable, "-m", "segcore", "predict", "-q", folder / "model", folder / images, "-o", out, *words]
    seen = {}
    started = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=variables, **quiet) as process:
        while process.poll() is None:
            cpu_seconds(mark.encode(), seen)
            time.sleep(0.1)
    assert process.returncode == 0
    return np.array([time.perf_counter() - started, sum(seen.values())])


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=200)
    options.add_argument("--size", type=int, default=192)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    starts, costs = ({name: [] for name in ENGINES} for _ in range(2))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        prepare(folder, given.images, given.size)
        for turn in range(given.rounds):
            for number, (name, words) in enumerate(ENGINES.items()):
                few = measured(folder, "few", folder / f"few-{turn}-{number}", words)
                many = measured(folder, "many", folder / f"many-{turn}-{number}", words)
                starts[name].append(few)
                costs[name].append((many - few) / given.images)
                print(f"round {turn + 1}: {name}: start {few}, image {costs[name][-1]}", file=sys.stderr)
            first, *others = (folder / f"many-{turn}-{number}" for number in range(len(ENGINES)))
            for path in first.glob("*.png"):
                assert all((other / path.name).read_bytes() == path.read_bytes() for other in others), path.name
    print(f"Unet/resnet18, {given.images} images of {given.size} x {given.size}, {given.rounds} rounds, same bytes\n")
    print("| engine | speed / local, 1 thread | CPU time of an image / local, 1 thread | start and end, s | CPU s |")
    print("|---|---|---|---|---|")
    base = np.array(costs["local, 1 thread"])
    for name in ENGINES:
        ratios = np.array(costs[name]) / base
        cells = [
            f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for values in ((1 / ratios[:, 0]).tolist(), ratios[:, 1].tolist())
        ]
        seconds, cpu = np.median(np.array(starts[name]), axis=0)
        print(f"| {name} | {cells[0]} | {cells[1]} | {seconds:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
