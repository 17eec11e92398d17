"""What the demo leaves behind: a table or JSON on the screen, and the files of the result folder."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from segcore_plugin_demo.data import Pair
from segcore_plugin_demo.picture import draw_result, to_picture

PREDICT = '''\
"""Reload the checkpoint beside this file and predict the image again. Written by `segcore demo`."""

from pathlib import Path

import numpy as np
import segcore
import torch
from PIL import Image

here = Path(__file__).resolve().parent
model = segcore.from_pretrained(here / "checkpoint")

pixels = np.asarray(Image.open(here / "image.png"), dtype=np.float32) / 255
image = torch.tensor(np.atleast_3d(pixels)).permute(2, 0, 1)  # ({channels}, {height}, {width}) in [0, 1]
logits = model.predict(segcore.preprocessing(model)(image[None]))  # (1, 1, {height}, {width})
mask = logits[0, 0] > 0
Image.fromarray(mask.numpy()).save(here / "mask.png")

truth = torch.tensor(np.asarray(Image.open(here / "truth.png")))
seen, truth = mask[{unseen}], truth[{unseen}]  # the half that the model never saw
print(f"IoU on the unseen half: {{(seen & truth).sum() / (seen | truth).sum():.4f}}")
'''


@dataclass(frozen=True, slots=True)
class Score:
    """How good one method is on the unseen half."""

    method: str
    iou: float
    found: int
    objects: int


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that ``--json`` prints; the first score is the model's."""

    scores: list[Score]
    encoder: str
    decoder: str
    steps: int
    seed: int
    seconds: float
    noun: str
    out: str


def print_result(result: Result, as_json: bool) -> None:
    """Print JSON, or a table and where to look next."""
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
        return
    table = Table(title="On the half that the model never saw")
    table.add_column("method")
    table.add_column("IoU", justify="right")
    table.add_column(f"{result.noun} found", justify="right")
    for number, score in enumerate(result.scores):
        style = "bold green" if number == 0 else None
        table.add_row(score.method, f"{score.iou:.3f}", f"{score.found} of {score.objects}", style=style)
    console = Console()
    console.print(table)
    console.print(
        f"Trained from scratch for {result.steps} steps and tested in {result.seconds:.0f} s.", highlight=False
    )
    out = Path(result.out)
    click.echo(f"Look at {out / 'overlay.png'}, then run: python {out / 'predict.py'}")


def write_files(out: Path, pair: Pair, mask: Tensor, result: Result) -> None:
    """Write the result folder, except the checkpoint; each file is replaced whole, others are left alone."""
    height, width = mask.shape
    model, best, otsu, again = result.scores
    trained = f"after {result.steps} training steps from scratch"
    training, unseen = f"{best.iou:.3f} best and {otsu.iou:.3f} Otsu", f"{again.iou:.3f} Otsu"
    lines = [
        f"Unseen half: IoU {model.iou:.3f}, {model.found} of {model.objects} {result.noun} found, {trained}.",
        f"A single grey level: {training} of the training half, {unseen} of the unseen half.",
    ]
    half = f"{pair.split}:" if pair.axis == 0 else f":, {pair.split}:"
    script = PREDICT.format(channels=len(pair.image), height=height, width=width, unseen=half)
    files = {
        "overlay.png": _png(draw_result(pair, mask, model.method, lines)),
        "image.png": _png(to_picture(pair.image)),
        "truth.png": _png(Image.fromarray(pair.mask.numpy())),
        "mask.png": _png(Image.fromarray(mask.numpy())),
        "result.json": (json.dumps(asdict(result), indent=2) + "\n").encode(),
        "predict.py": script.encode(),
    }
    for name, content in files.items():
        part = out / f".{name}.part"
        part.write_bytes(content)
        part.replace(out / name)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
