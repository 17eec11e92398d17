"""The demo from end to end: data, model, training, checkpoint, prediction, comparison, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

import segcore
from segcore import IncompatiblePartsError, OptionValueError, SegmentationModel
from segcore_plugin_demo.data import Pair, load_coins, load_pair
from segcore_plugin_demo.metrics import best_threshold, iou, objects_found, otsu_threshold
from segcore_plugin_demo.report import Result, Score, print_result, write_files
from segcore_plugin_demo.train import preprocessing, train

DEFAULT_PAIR = ("unet", "resnet18")
DEFAULT_OPTIONS: dict[str, Any] = {
    "encoder_depth": 4,
    "decoder_channels": (96, 64, 32, 16),
}  # less work


def run(
    encoder: str,
    decoder: str,
    steps: int,
    seed: int,
    out: Path,
    *,
    threads: int | None = None,
    image: Path | None = None,
    mask: Path | None = None,
    as_json: bool = False,
) -> Result:
    """Train, test, write the files and print the result; the arguments are the options of ``segcore demo``."""
    if (image is None) != (mask is None):
        raise OptionValueError("--image and --mask belong together: give both, or neither for the coins.")
    if threads:
        torch.set_num_threads(threads)
    pair = load_pair(image, mask) if image and mask else load_coins()
    make_folder(out)
    start = time.perf_counter()
    model = build(encoder, decoder, len(pair.image), seed)
    predict(model, pair.seen(pair.image)[:, :96, :96])  # a decoder that gives no plain mask is refused now
    fit(model, pair, steps, seed, Console(stderr=True, quiet=as_json))
    model.save_pretrained(out / "checkpoint", preprocessing=preprocessing(len(pair.image)))
    predicted = predict(segcore.from_pretrained(out / "checkpoint"), pair.image)  # what is saved is what is measured
    seconds = time.perf_counter() - start
    scores = [score(f"{decoder} / {encoder}", predicted, pair), *baselines(pair)]
    result = Result(scores, encoder, decoder, steps, seed, round(seconds, 1), pair.noun, str(out))
    write_files(out, pair, predicted, result)
    print_result(result, as_json)
    return result


def build(encoder: str, decoder: str, in_channels: int, seed: int) -> SegmentationModel:
    """Return an untrained model for one class."""
    torch.manual_seed(seed)
    options = DEFAULT_OPTIONS if (decoder, encoder) == DEFAULT_PAIR else {}
    return segcore.create_model(decoder, encoder=encoder, in_channels=in_channels, classes=1, **options)


def fit(model: SegmentationModel, pair: Pair, steps: int, seed: int, console: Console) -> None:
    """Train on the seen half, with a progress bar."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=steps, loss=float("nan"))
        train(
            model,
            pair.seen(pair.image),
            pair.seen(pair.mask),
            steps=steps,
            seed=seed,
            on_step=lambda loss: progress.update(task, advance=1, loss=loss),
        )


def predict(model: SegmentationModel, image: Tensor) -> Tensor:
    """Return the mask (H, W), bool, of an image (C, H, W) in [0, 1]."""
    logits = model.predict(preprocessing(len(image))(image[None]))
    if not isinstance(logits, Tensor):
        raise IncompatiblePartsError(
            f"the demo trains models that return one mask, and this decoder returns {type(logits).__name__}. "
            f"Choose another decoder."
        )
    return logits[0, 0] > 0


def score(method: str, mask: Tensor, pair: Pair) -> Score:
    """Return how good a mask is on the unseen half."""
    mask, truth = pair.unseen(mask), pair.unseen(pair.mask)
    found, total = objects_found(mask, truth)
    return Score(method, round(iou(mask, truth), 4), found, total)


def baselines(pair: Pair) -> list[Score]:
    """Return the scores of three grey levels: two chosen on the seen half, as the model is, one on the unseen half."""
    grey, seen_mask = pair.grey, pair.seen(pair.mask)
    best = best_threshold(pair.seen(grey), seen_mask)
    otsu = otsu_threshold(pair.seen(grey), seen_mask)
    again = otsu_threshold(pair.unseen(grey), pair.unseen(pair.mask))
    return [
        score(f"best grey level of the training half ({best.level})", best(grey), pair),
        score(f"Otsu's level of the training half ({otsu.level})", otsu(grey), pair),
        score(f"Otsu's level of the unseen half itself ({again.level})", again(grey), pair),
    ]


def make_folder(out: Path) -> None:
    """Create the result folder before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionValueError(f"--out {str(out)!r} cannot be made a folder: {error}. Choose another place.") from error
