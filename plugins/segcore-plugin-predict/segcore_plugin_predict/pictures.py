"""Label maps that can be looked at: a palette, indexed PNGs, and overlays."""

from __future__ import annotations

import colorsys
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

KEY = "segcore"
MAX_SIDE = 2048  # of an overlay; it is to be looked at
GOLDEN_ANGLE = 0.381966
BACKGROUNDS = {"background", "bg", "other", "none", "void", "unlabeled", "unlabelled", "ignore"}
Colours = np.ndarray
"""Colours of classes, uint8 (classes, 3)."""


def palette(classes: int) -> Colours:
    """Return a colour for each class: the first is black, the others have hues that lie far apart.

    Neighbouring numbers differ by the golden angle in hue, and the brightness changes every seven.
    """
    rows = [(0.0, 0.0, 0.0)]
    for index in range(classes - 1):
        value = (1.0, 0.75, 0.55)[index // 7 % 3]
        rows.append(colorsys.hsv_to_rgb((0.03 + index * GOLDEN_ANGLE) % 1, 0.9 - 0.25 * (index % 2), value))
    colours: Colours = np.rint(np.array(rows) * 255).astype(np.uint8)
    return colours


def label_png(labels: np.ndarray, colours: Colours, record: Mapping[str, Any]) -> bytes:
    """Return labels (H, W) as a PNG whose values are the classes, with a palette if there are at most 256.

    Args:
        labels: uint8, or int32 up to 65535.
        colours: see `palette`.
        record: JSON-able facts that are kept in the file and can be read without decoding it; see `record_of`.
    """
    if labels.dtype == np.uint8:
        picture = Image.fromarray(labels)
        picture.putpalette(colours[:256].tobytes())
    else:
        picture = Image.fromarray(labels.astype(np.uint16))
    info = PngInfo()
    info.add_text(KEY, json.dumps(record))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def overlay_jpeg(image: np.ndarray, labels: np.ndarray, colours: Colours, clear: int | None = 0) -> bytes:
    """Return an image with its classes painted over: a tint, and an opaque line where classes meet.

    Args:
        image: (H, W, C), uint8, uint16 or float in [0, 1]; the first three channels are shown.
        labels: (H, W).
        colours: see `palette`.
        clear: class that is not tinted.
    """
    step = -(-max(labels.shape) // MAX_SIDE)
    image, labels = image[::step, ::step], labels[::step, ::step]
    shown = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    scale = {"uint8": 1, "uint16": 255 / 65535}.get(image.dtype.name, 255)
    canvas = np.clip(shown.astype(np.float32) * scale, 0, 255)
    ink = colours[np.minimum(labels, len(colours) - 1)].astype(np.float32)
    tinted = np.where((labels == clear)[..., None], canvas, canvas * 0.6 + ink * 0.4)
    border = borders(labels, max(1, max(labels.shape) // 512))
    line = np.where((labels == clear)[..., None], canvas, ink)
    tinted = np.where(border[..., None], line, tinted)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(tinted).astype(np.uint8)).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def borders(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """Return where a pixel has another class within `width` pixels up, down, left or right: bool (H, W)."""
    found = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for distance in range(1, min(width, labels.shape[axis] - 1) + 1):
            ahead = [slice(None)] * 2
            behind = [slice(None)] * 2
            ahead[axis], behind[axis] = slice(distance, None), slice(None, -distance)
            differs = labels[tuple(ahead)] != labels[tuple(behind)]
            found[tuple(ahead)] |= differs
            found[tuple(behind)] |= differs
    return found


def record_of(path: Any) -> dict[str, Any] | None:
    """Return the record of a label map, or None if the file is none of ours or is not whole."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            text = picture.info.get(KEY)
        record = json.loads(text) if isinstance(text, str) else None
    except Exception:  # whatever is wrong with it, it is predicted again
        return None
    return record if isinstance(record, dict) else None


def clear_class(classes: int, names: Sequence[str] | None) -> int | None:
    """Return which class an overlay leaves untinted: the first, unless a name says that it is no background."""
    if names is None or classes <= 1 or names[0].strip().lower() in BACKGROUNDS:
        return 0
    return None
