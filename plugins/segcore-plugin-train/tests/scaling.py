"""Measures what a second process costs: CPU and wall time per sample of one process, and of two with half the batch.

    OMP_NUM_THREADS=1 python scaling.py [--steps 30] [--size 96] [--batch 16]

Each is the difference between a long run and one of two steps, so that starting does not count; the runs take turns. On a
machine that does other work the wall times say little, and the CPU times say what exchanging gradients costs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from shapes import make


def measure(folder: Path, processes: int, steps: int, batch: int, size: int) -> tuple[float, float]:
    """Return CPU and wall seconds of a whole run."""
    out = tempfile.mkdtemp(dir=folder)
    words = [
        "train", "--images", folder / "images", "--masks", folder / "masks", "--out", out, "--classes", 4, "--crop", size,
        "--encoder", "resnet18", "--batch-size", batch // processes, "--steps", steps, "--samples-per-epoch", batch * steps,
        "--check", "none", "--worst", 0, "--augment", "flips", "--val-fraction", 0.04, "--save-every", 10**6,
    ]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes] if processes > 1 else []
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        list(map(str, [sys.executable, *launcher, "-m", "segcore", *words])),
        check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begin
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, 48, options.size, 0)
        for number in range(options.rounds):
            found = {}
            for processes in (1, 2):
                short, long = (
                    measure(folder, processes, n, options.batch, options.size) for n in (2, 2 + options.steps)
                )
                found[processes] = [(b - a) / options.steps for a, b in zip(short, long, strict=True)]
            (cpu1, wall1), (cpu2, wall2) = found[1], found[2]
            print(
                f"round {number}: load {os.getloadavg()[0]:.1f}; a step of {options.batch} samples: 1 process {cpu1:.2f} "
                f"CPU-s, {wall1:.2f} s; 2 processes {cpu2:.2f} CPU-s, {wall2:.2f} s; CPU efficiency {cpu1 / cpu2:.2f}, "
                f"speed-up {wall1 / wall2:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
