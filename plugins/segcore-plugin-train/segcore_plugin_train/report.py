"""The report of a run or of an evaluation: one HTML file with everything in it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from segcore_plugin_predict import palette

import segcore
from segcore import SegmentationModel
from segcore_plugin_train.dataset import WholeSet, pair
from segcore_plugin_train.evaluate import Evaluation, labels_of, predicted
from segcore_plugin_train.sources import Reading, Source
from segcore_plugin_train.state import write_text

SIDE = 320  # pixels of the pictures, at most
IGNORED = (128, 128, 128)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .7em; text-align: right }
td:first-child, th:first-child { text-align: left } tr + tr td { border-top: 1px solid #ddd }
figure { margin: 1.2em 0 } figcaption { font-weight: 600 } img { width: 32%; image-rendering: pixelated }
.key { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border: 1px solid #999 }
svg { background: #fafafa; border: 1px solid #ddd } .note { color: #666 }
"""


def write_report(
    path: Path,
    evaluation: Evaluation,
    model: SegmentationModel,
    source: Source,
    reading: Reading,
    *,
    worst: int = 12,
    title: str = "segcore",
    log: Sequence[dict[str, str]] = (),
    notes: Sequence[str] = (),
    tile: int | None = None,
    overlap: int = 64,
) -> None:
    """Write the report.

    Args:
        path: of the file.
        evaluation: what was measured on the source.
        model: predicts the worst images once more, to show them.
        source: pairs.
        reading: how they become arrays.
        worst: number of images.
        title: of the page.
        log: lines of the training log, for the curve.
        notes: lines below the title.
        tile: as in `evaluate`.
        overlap: as in `evaluate`.
    """
    colours = palette(len(evaluation.names) + 1)
    if evaluation.multilabel:
        colours = colours[1:]  # black is for none of the classes
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class=note>{html.escape(note)}</p>" for note in notes),
        f"<p>Mean IoU <b>{_number(evaluation.mean_iou)}</b>, accuracy {_number(evaluation.accuracy)}.</p>",
        _curve(log),
        _classes(evaluation, colours),
        "<h2>Right and wrong pixels</h2>" if evaluation.multilabel else "<h2>Confusion matrix</h2>",
        _matrix(evaluation),
        f"<h2>The worst {min(worst, len(evaluation.images))} images</h2>",
        "<p class=note>Image, truth, prediction. Grey does not count."
        + (" Pixels of several classes have the mean of their colours.</p>" if evaluation.multilabel else "</p>"),
    ]
    places = {name: index for index, name in enumerate(source.names)}
    for name, iou in evaluation.images[:worst]:
        parts.append(_figure(name, iou, places[name], model, source, reading, colours, tile, overlap))
    write_text(path, "\n".join(parts) + "\n")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _classes(evaluation: Evaluation, colours: np.ndarray) -> str:
    rows = ["<h2>Classes</h2><table><tr><th>class<th>IoU<th>pixels"]
    for name, iou, pixels, colour in zip(
        evaluation.names, evaluation.iou, evaluation.pixels, colours.tolist(), strict=False
    ):
        key = f'<span class=key style="background:rgb{tuple(colour)}"></span>'
        rows.append(f"<tr><td>{key}{html.escape(name)}<td>{_number(iou)}<td>{pixels}")
    return "\n".join([*rows, "</table>"])


def _matrix(evaluation: Evaluation) -> str:
    """Return the matrix, each cell tinted by its share of the row."""
    names = [html.escape(name) for name in evaluation.names]
    corner = "class" if evaluation.multilabel else "true \\ found"
    rows = [f"<table><tr><th>{corner}" + "".join(f"<th>{html.escape(name)}" for name in evaluation.columns)]
    for name, counts in zip(names, evaluation.matrix, strict=True):
        whole = sum(counts) or 1
        cells = "".join(
            f'<td style="background:rgba(30,110,190,{0.75 * n / whole:.3f})" title="{n / whole:.2%}">{n}'
            for n in counts
        )
        rows.append(f"<tr><td>{name}{cells}")
    return "\n".join([*rows, "</table>"])


def _curve(log: Sequence[dict[str, str]]) -> str:
    """Return the validation IoU over steps as a drawing."""
    points = [(int(row["step"]), float(row["val_iou"])) for row in log if row.get("val_iou")]
    points = [(step, iou) for step, iou in points if iou == iou]  # noqa: PLR0124 - not nan
    if len(points) < 2:
        return ""
    last = points[-1][0]
    line = " ".join(f"{10 + 580 * step / last:.1f},{210 - 200 * iou:.1f}" for step, iou in points)
    return (
        "<h2>Validation IoU</h2><svg viewBox='0 0 600 230' width=600 role=img aria-label='IoU over steps'>"
        f"<polyline points='{line}' fill=none stroke='#1e6ebe' stroke-width=2 /><text x=10 y=226 font-size=11>0</text>"
        f"<text x=590 y=226 font-size=11 text-anchor=end>step {last}</text><text x=12 y=20 font-size=11>1</text></svg>"
    )


def _figure(
    name: str, iou: float | None, index: int, model: SegmentationModel, source: Source, reading: Reading,
    colours: np.ndarray, tile: int | None, overlap: int,
) -> str:  # fmt: skip
    image, mask = pair(source, index, reading)
    x, _, _ = WholeSet(source, reading, [index], segcore.preprocessing(model))[0]
    logits = predicted(model, x[None], tile, overlap)
    found = labels_of(logits, reading.labels.mode)[0].cpu().numpy()
    pictures = [shown(image), _coloured(mask, colours, reading), _coloured(found, colours, reading)]
    images = "".join(f'<img src="{_embedded(picture)}" alt="">\n' for picture in pictures)
    return f"<figure><figcaption>{html.escape(name)}: IoU {_number(iou)}</figcaption>{images}</figure>"


def shown(image: np.ndarray) -> Image.Image:
    """Return an image (H, W, C) as it can be looked at: its first three channels, or the first alone."""
    scale = {"uint8": 1.0, "uint16": 255 / 65535}.get(image.dtype.name, 255.0)
    picture = np.rint(np.clip(image.astype(np.float32) * scale, 0, 255)).astype(np.uint8)
    return Image.fromarray(picture[..., :3] if picture.shape[2] >= 3 else picture[..., 0])


def _coloured(labels: np.ndarray, colours: np.ndarray, reading: Reading) -> Image.Image:
    """Return labels (H, W) in colours, or the mean colour of the classes of each pixel for (H, W, classes)."""
    left_out = labels == reading.labels.ignore
    if labels.ndim == 3:
        there = (labels == 1).astype(np.float32)
        out = there @ colours[: labels.shape[2]].astype(np.float32) / np.maximum(there.sum(2, keepdims=True), 1)
        left_out = left_out.all(2)
    else:
        out = colours[np.minimum(labels, len(colours) - 1)]
    out = np.where(left_out[..., None], np.array(IGNORED, np.uint8), out)
    return Image.fromarray(out.astype(np.uint8))


def _embedded(picture: Image.Image) -> str:
    """Return a picture, made small without mixing colours, as the address of itself."""
    step = -(-max(picture.size) // SIDE)
    small = picture.resize((max(1, picture.width // step), max(1, picture.height // step)), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
