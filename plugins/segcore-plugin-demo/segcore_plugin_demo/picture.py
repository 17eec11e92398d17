"""The picture of a result: the photograph, the outlines of truth and prediction, and a legend."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from segcore_plugin_demo.data import Pair

WIDTH = 1152  # of the longer side, in pixels: the coins at three times their size
MARGIN, TEXT = 18, 25
BACKGROUND, INK, PALE = (22, 24, 29), (238, 238, 238), (165, 170, 180)
TRUTH, PREDICTED = (60, 190, 255), (255, 120, 0)  # told apart with every kind of colour vision
GREY_STEP = 6  # of the palette of a grey picture: keeps its file small

Pixels = npt.NDArray[np.float32]


def draw_result(pair: Pair, mask: Tensor, title: str, lines: list[str]) -> Image.Image:
    """Return the photograph with the true outline everywhere and the predicted one on the unseen half.

    Args:
        mask: (H, W) bool, predicted.
        title: names the model in the legend.
        lines: further lines of the legend.
    """
    height, width = mask.shape
    scale = WIDTH / max(height, width)
    size = (round(width * scale), round(height * scale))
    cut = round(pair.split * scale)
    canvas = np.asarray(to_picture(pair.image).convert("RGB").resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    seen = np.zeros((size[1], size[0], 1), np.float32)
    (seen if pair.axis == 0 else seen.swapaxes(0, 1))[:cut] = 1
    canvas = canvas * (1 - 0.35 * seen)
    canvas = _paint(canvas, _outline(pair.mask, size, width=6), TRUTH)
    canvas = _paint(canvas, _outline(mask, size, width=3) * (1 - seen), PREDICTED)
    photograph = Image.fromarray(canvas.round().clip(0, 255).astype(np.uint8))
    _mark_halves(photograph, cut, pair.axis)
    entries = [(TRUTH, "annotation"), (PREDICTED, f"prediction of {title}")]
    legend = _legend(size[0], entries, lines)
    result = Image.new("RGB", (legend.width, size[1] + legend.height), BACKGROUND)
    result.paste(photograph, (0, 0))
    result.paste(legend, (0, size[1]))
    if len(pair.image) == 3:
        return result
    return result.quantize(palette=_palette(), dither=Image.Dither.NONE)


def to_picture(image: Tensor) -> Image.Image:
    """Return an image (C, H, W) in [0, 1] as a grey or RGB picture."""
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])


def _palette() -> Image.Image:
    """Return the colours of a grey picture: grey levels, and the two line colours blended into some of them."""
    greys = [(level,) * 3 for level in range(0, 256, GREY_STEP)]
    blends = [
        tuple(round(share * ink + (1 - share) * level) for ink in colour)
        for colour in (TRUTH, PREDICTED)
        for share in (1, 0.75, 0.5, 0.25)
        for level in ((0,) if share == 1 else (20, 60, 110, 160, 220))
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in [BACKGROUND, *greys, *blends] for part in colour])
    return palette


def _outline(mask: Tensor, size: tuple[int, int], width: float) -> Pixels:
    """Return the opacity (H, W, 1) of a smooth line of `width` pixels along the border of a mask, at another size."""
    blur = 4.0  # pixels; turns the border into a ramp of known slope, so that its level lines are at known distances
    picture = Image.fromarray(mask.byte().numpy() * 255).resize(size, Image.Resampling.BICUBIC)
    level = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)[..., None] / 255
    distance = np.abs(level - 0.5) * (blur * math.sqrt(2 * math.pi))
    opacity: Pixels = np.clip(width / 2 + 0.5 - distance, 0, 1, dtype=np.float32)
    return opacity


def _paint(canvas: Pixels, opacity: Pixels, colour: tuple[int, int, int]) -> Pixels:
    ink = np.array(colour, np.float32)
    painted: Pixels = canvas * (1 - opacity) + opacity * ink
    return painted


def _mark_halves(photograph: Image.Image, cut: int, axis: int) -> None:
    """Draw a broken line between the halves and say what each is."""
    draw = ImageDraw.Draw(photograph)
    length = photograph.width if axis == 0 else photograph.height
    for start in range(0, length, 24):
        line = [(start, cut), (start + 12, cut)]
        draw.line(line if axis == 0 else [(y, x) for x, y in line], fill=INK, width=2)
    _label(draw, (8, 8), "la", "the half that trained the model")
    anchor = ((8, photograph.height - 8), "ld") if axis == 0 else ((photograph.width - 8, 8), "ra")
    _label(draw, *anchor, "the half that the model never saw")


def _label(draw: ImageDraw.ImageDraw, at: tuple[int, int], anchor: str, text: str) -> None:
    font = ImageFont.load_default(TEXT - 4)
    left, top, right, bottom = draw.textbbox(at, text, font, anchor)
    draw.rectangle((left - 8, top - 8, right + 8, bottom + 8), fill=BACKGROUND)
    draw.text(at, text, INK, font, anchor)


def _legend(width: int, entries: list[tuple[tuple[int, int, int], str]], lines: list[str]) -> Image.Image:
    """Return the text below the photograph, at least `width` pixels wide."""
    font, row = ImageFont.load_default(TEXT), TEXT + 12
    needed = [sum(102 + font.getlength(text) for _, text in entries), *(font.getlength(text) for text in lines)]
    width = max(width, 2 * MARGIN + round(max(needed)))
    legend = Image.new("RGB", (width, 2 * MARGIN + row * (1 + len(lines))), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    x, y = MARGIN, MARGIN + row // 2
    for colour, text in entries:
        draw.line([(x, y), (x + 44, y)], fill=colour, width=6)
        draw.text((x + 58, y), text, INK, font, "lm")
        x += 102 + round(font.getlength(text))
    for number, text in enumerate(lines, start=1):
        draw.text((MARGIN, y + number * row), text, PALE, font, "lm")
    return legend
