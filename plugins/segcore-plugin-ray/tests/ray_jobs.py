"""Checkpoints, images, and a backend whose processes die or wait where a test wants it; it counts what it predicts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
from PIL import Image

import segcore

HALF = segcore.Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SPAWN = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
BACKEND = '''
import os, pathlib, signal, time
import torch
import segcore

class Counted(torch.nn.Module):
    """Predicts, and writes down each image; the brightness of its first pixel says which it is."""

    def __init__(self, model, folder):
        super().__init__()
        self.model, self.config, self.tile_step, self.digest = model, model.config, 4, "counted"
        self.folder = pathlib.Path(folder)

    def forward(self, x):
        number = round((float(x[0, 0, 0, 0]) * 0.25 + 0.5) * 255)
        line = f"{number} {os.getpid()}\\n"
        with open(self.folder / "predicted", "a") as file:
            file.write(line)
        if (self.folder / f"always-{number}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            (self.folder / f"once-{number}").unlink()
        except FileNotFoundError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
        before = (self.folder / "predicted").read_text().splitlines(keepends=True).index(line)
        while before >= int(os.environ.get("WAITS_AFTER", before + 1)) and not (self.folder / "go").exists():
            time.sleep(0.05)
        return self.model(x)

def load(checkpoint, device, threads):
    model = segcore.from_pretrained(checkpoint).eval()
    return Counted(model, pathlib.Path(checkpoint).parent)
'''


def checkpoint(folder):
    torch.manual_seed(0)
    model = segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(16, 8), classes=3)
    with torch.no_grad():
        model.segmentation_head[0].weight.mul_(20)  # so that classes mix
    model.save_pretrained(folder, class_names=["background", "leaf", "stem"], preprocessing=HALF)
    return folder


def photographs(folder, count):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        pixels = np.array(coarse.resize((56, 40)))
        pixels[0, 0] = index
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def scene(path):
    """Write a georeferenced TIFF of three bands."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 70, 90), np.uint8)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with rasterio.open(path, "w", driver="GTiff", width=90, height=70, count=3, dtype="uint8", **place) as file:
        file.write(pixels)


def install_backend(site):
    """Make a package in a folder that offers the backend ``counted``."""
    information = site / "counted-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "counted_backend.py").write_text(BACKEND)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: counted\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[segcore_predict.backends]\ncounted = counted_backend:load\n")
    return site


def predicted(folder):
    """Return the numbers of the images that the backend was called with, as often as it was."""
    path = folder / "predicted"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def label_maps(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def start(site, *words, **variables):
    """Start Python in a process of its own, which will have a Ray of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in {"RAY_ADDRESS", "WAITS_AFTER"}}
    environment |= SPAWN | {"PYTHONPATH": str(site)} | variables
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
