"""What the engine costs beside one process on this machine, in one run: ``python tests/benchmark.py``.

For each engine in turn the command predicts the same images into a new folder. The time from the first label map to
the last gives the speed; what is left of the run is start and end. Ratios are medians over the rounds.
"""

import argparse
import os
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
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
        coarse.resize((size, size)).save(folder / f"in/{index:04}.png")


def measured(folder, out, words):
    """Return images per second, and the seconds of start and end."""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("OMP_NUM_THREADS", None)
    started = time.time()
    command = [sys.executable, "-m", "segcore", "predict", "-q", folder / "model", folder / "in", "-o", out, *words]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = time.time() - started
    written = sorted(path.stat().st_mtime for path in out.glob("*.png"))
    return (len(written) - 1) / (written[-1] - written[0]), whole - (written[-1] - written[0])


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=160)
    options.add_argument("--size", type=int, default=192)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    speeds, starts = ({name: [] for name in ENGINES} for _ in range(2))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        prepare(folder, given.images, given.size)
        for turn in range(given.rounds):
            for number, (name, words) in enumerate(ENGINES.items()):
                out = folder / f"out-{turn}-{number}"
                speed, start = measured(folder, out, words)
                speeds[name].append(speed)
                starts[name].append(start)
                print(f"round {turn + 1}: {name}: {speed:.2f} images/s, {start:.1f} s", file=sys.stderr)
            first, *others = (folder / f"out-{turn}-{number}" for number in range(len(ENGINES)))
            for path in first.glob("*.png"):
                assert all((other / path.name).read_bytes() == path.read_bytes() for other in others), path.name
    base = speeds["local, 1 thread"]
    print(f"Unet/resnet18, {given.images} images of {given.size} x {given.size}, {given.rounds} rounds, same bytes\n")
    print("| engine | images/s | beside local, 1 thread | start and end, s |\n|---|---|---|---|")
    for name in ENGINES:
        ratios = [speed / one for speed, one in zip(speeds[name], base, strict=True)]
        print(
            f"| {name} | {statistics.median(speeds[name]):.1f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(starts[name]):.1f} |"
        )


if __name__ == "__main__":
    main()
