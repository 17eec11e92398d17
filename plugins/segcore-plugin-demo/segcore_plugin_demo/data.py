"""An image, its mask and the cut between the half to train on and the half to test on."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from segcore import InputError

COINS_SPLIT = 150  # rows 1 and 2 of the coins lie above this y, rows 3 and 4 below
MAX_PIXELS = 8_000_000  # the whole image is predicted at once; more would need tiles
MIN_SIDE = 32  # of either half
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask, cut in two halves.

    Attributes:
        image: (C, H, W) float32 in [0, 1]; C is 1 (grey) or 3 (RGB).
        mask: (H, W) bool, True on objects.
        axis: 0 if the cut separates rows, 1 if it separates columns.
        split: index of the first row or column of the unseen half.
        noun: what an object is called in the results.
    """

    image: Tensor
    mask: Tensor
    axis: int
    split: int
    noun: str = "objects"

    def seen(self, x: Tensor) -> Tensor:
        """Return the half of (..., H, W) that trains: the upper or the left one."""
        return x.narrow(self.axis - 2, 0, self.split)

    def unseen(self, x: Tensor) -> Tensor:
        """Return the half of (..., H, W) that tests: the lower or the right one."""
        return x.narrow(self.axis - 2, self.split, x.shape[self.axis - 2] - self.split)

    @property
    def grey(self) -> Tensor:
        """Grey levels of the image (H, W), uint8."""
        weights = torch.tensor([0.299, 0.587, 0.114]) if len(self.image) == 3 else torch.ones(1)
        return (torch.einsum("c,chw->hw", weights, self.image) * 255).round().to(torch.uint8)


def load_coins() -> Pair:
    """Return the photograph of 24 coins; rows 1 and 2 train, rows 3 and 4 test. See ``data/PROVENANCE.md``."""
    folder = files("segcore_plugin_demo") / "data"
    with (folder / "coins.png").open("rb") as file:
        image = _tensor(Image.open(file))
    height, width = image.shape[-2:]
    mask = torch.zeros(height, width, dtype=torch.bool)
    for ellipse in json.loads((folder / "coins.json").read_text("utf-8"))["ellipses"]:
        mask |= draw_ellipse((height, width), **ellipse)
    return Pair(image, mask, axis=0, split=COINS_SPLIT, noun="coins")


def draw_ellipse(size: tuple[int, int], cy: float, cx: float, ry: float, rx: float, theta: float) -> Tensor:
    """Return a filled ellipse (H, W), bool: centre and half axes in pixels, `theta` in degrees from the row axis."""
    y = torch.arange(size[0], dtype=torch.float64)[:, None] - cy
    x = torch.arange(size[1], dtype=torch.float64)[None, :] - cx
    cos, sin = math.cos(math.radians(theta)), math.sin(math.radians(theta))
    return ((y * cos + x * sin) / ry) ** 2 + ((y * sin - x * cos) / rx) ** 2 <= 1


def load_pair(image_path: Path, mask_path: Path) -> Pair:
    """Read an image and its mask; the left or upper half trains, cut in the middle of the longer side.

    Args:
        image_path: any format that Pillow reads; grey stays grey, everything else becomes RGB.
        mask_path: of the same size; any value but zero is an object.

    Raises:
        InputError: if a file cannot be read, the sizes differ, or a half has nothing to learn or to find.
    """
    image = _tensor(_open(image_path))
    picture = _open(mask_path)
    if picture.mode not in {"P", *GREY_MODES, *DEEP_MODES}:
        picture = picture.convert("RGB")  # drops an alpha channel, which says nothing about objects
    elif picture.mode in {"LA", "La"}:
        picture = picture.convert("L")
    values = np.asarray(picture)
    mask = torch.from_numpy(values.any(axis=2) if values.ndim == 3 else values != 0)
    height, width = mask.shape
    if mask.shape != image.shape[-2:]:
        raise InputError(
            f"{image_path} is {image.shape[-1]} x {image.shape[-2]} pixels and {mask_path} is {width} x {height}; "
            f"image and mask must have the same size. Resize the mask without interpolation (nearest neighbour)."
        )
    axis = 0 if height > width else 1
    split = mask.shape[axis] // 2
    if height * width > MAX_PIXELS or min(split, height, width) < MIN_SIDE:
        raise InputError(
            f"{image_path} is {width} x {height} pixels; the demo takes images whose halves are at least {MIN_SIDE} "
            f"pixels wide and high, up to {MAX_PIXELS // 10**6} million pixels in all. Resize image and mask."
        )
    pair = Pair(image, mask, axis, split)
    _check_mask(pair, mask_path)
    return pair


def _check_mask(pair: Pair, path: Path) -> None:
    if not pair.mask.any():
        raise InputError(f"{path} is empty: every pixel is zero. Mark the objects with any other value.")
    if pair.mask.all():
        raise InputError(f"{path} has no background: no pixel is zero. Set everything but the objects to zero.")
    halves = {"upper": pair.seen, "lower": pair.unseen} if pair.axis == 0 else {"left": pair.seen, "right": pair.unseen}
    for name, half in halves.items():
        part = half(pair.mask)
        if not part.any() or part.all():
            lacks = "object" if not part.any() else "background"
            raise InputError(
                f"The {name} half of {path} has no {lacks}. One half trains and the other tests, so both need objects "
                f"and background: turn image and mask by 90 degrees, or choose another pair."
            )


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise InputError(f"There is no file {str(path)!r}. Check the path; it is relative to {Path.cwd()}.") from None
    except UnidentifiedImageError:
        raise InputError(f"{str(path)!r} is no image that Pillow can read. Convert it to PNG.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}. Check the file, or convert it to PNG.") from error


def _tensor(picture: Image.Image) -> Tensor:
    """Return (1, H, W) or (3, H, W), float32 in [0, 1]; more than 8 bits are stretched from darkest to brightest."""
    if picture.mode in DEEP_MODES:
        deep = np.asarray(picture).astype("float64")
        values = ((deep - deep.min()) / max(float(np.ptp(deep)), 1e-12) * 255).round() / 255  # as image.png keeps it
    else:
        values = np.asarray(picture.convert("L" if picture.mode in GREY_MODES else "RGB")) / 255
    planes = torch.from_numpy(values).float()
    return planes[None] if planes.ndim == 2 else planes.permute(2, 0, 1).contiguous()
