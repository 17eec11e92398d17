"""Makes a set of images with exact masks: discs, bars and rings on textured ground, in overlapping colours.

    python shapes.py FOLDER [--count 64] [--size 64] [--seed 0]

writes FOLDER/images/000.png and FOLDER/masks/000.png with the classes of `NAMES`. Colour alone does not tell the classes
apart: each object draws its colour from one range. Light falls unevenly and there is noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("ground", "disc", "bar", "ring")


def scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (size, size, 3) and its mask (size, size), uint8."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    wave = np.sin((rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)) * 40 / size)
    image = rng.uniform(60, 120, 3) + 12 * wave[..., None]
    mask = np.zeros((size, size), np.uint8)
    for kind in rng.permutation([1, 2, 3, *rng.integers(1, 4, 2)]):
        y, x, radius = rng.uniform(0.15, 0.85) * size, rng.uniform(0.15, 0.85) * size, rng.uniform(0.1, 0.17) * size
        distance = np.hypot(rows - y, columns - x)
        if kind == 1:
            inside = distance < radius
        elif kind == 2:
            angle = rng.uniform(0, np.pi)
            along = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
            across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
            inside = (np.abs(along) < 1.5 * radius) & (np.abs(across) < 0.45 * radius)
        else:
            inside = (distance < 1.2 * radius) & (distance > 0.6 * radius)
        mask[inside] = kind
        image[inside] = rng.uniform(120, 230, 3) - 8 * wave[inside][:, None]
    light = 1 + 0.3 * ((rows - size / 2) * rng.uniform(-1, 1) + (columns - size / 2) * rng.uniform(-1, 1)) / size
    image = image * light[..., None] + rng.normal(0, 8, image.shape)
    return np.rint(image.clip(0, 255)).astype(np.uint8), mask


def make(folder: Path, count: int, size: int, seed: int) -> None:
    """Write the set; the same seed gives the same files."""
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, mask = scene(rng, size)
        Image.fromarray(image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.folder, options.count, options.size, options.seed)
