"""``segcore predict`` from end to end: finds images, loads the model, predicts while reading and writing, reports."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

import segcore
from segcore import OptionValueError, SegcoreError, SegmentationModel
from segcore_plugin_predict.inference import predict_tiled
from segcore_plugin_predict.inputs import Input, find_inputs
from segcore_plugin_predict.network import Reading
from segcore_plugin_predict.pictures import palette
from segcore_plugin_predict.reading import ReadOptions, read
from segcore_plugin_predict.results import AREAS, Finished, Kinds, finished, save, source_of, workplace, write_areas
from segcore_plugin_predict.settings import fingerprint

LARGE = 2_000_000  # pixels above which an image is predicted in tiles, unless the user says otherwise
TILE = 1024
SOME_FAILED = 3
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@dataclass(frozen=True, slots=True)
class Job:
    """The options of ``segcore predict``, which describes them; `tile` is None for the default and 0 for none."""

    checkpoint: str
    out: Path
    probabilities: bool
    overlays: bool
    flips: str
    tile: int | None
    overlap: int
    blend: str
    batch: int
    threshold: float
    multilabel: bool | None
    reading: ReadOptions
    device: str | None
    threads: int | None
    again: bool
    quiet: bool


def run(job: Job, paths: Sequence[str]) -> int:
    """Predict all images and return the exit code: 0, or 3 if some images failed.

    Raises:
        SegcoreError: nothing can be done: wrong options, no image, no checkpoint, or results cannot be written.
    """
    images = find_inputs(paths, job.out)
    if job.tile and job.overlap >= job.tile:
        raise OptionValueError(f"--overlap {job.overlap} must be less than --tile {job.tile}.")
    if job.threads:
        torch.set_num_threads(job.threads)
    keep_memory()
    model = segcore.from_pretrained(job.checkpoint).to(_device(job.device))
    segcore.preprocessing(model)  # refused now rather than for each image
    reading = Reading.of(model, "probabilities" if job.probabilities else "labels", job.multilabel, job.threshold)
    kinds = _kinds(model, reading, job)
    settings = _settings(model, job)
    console = Console(stderr=True)
    with workplace(job.out) as work:
        done = {} if job.again else {image: finished(job.out, image, kinds, settings) for image in images}
        results = {image: record for image, record in done.items() if record}
        failed = 0
        waiting = [image for image in images if image not in results]
        before = len(results)
        with _progress(console, quiet=job.quiet) as progress:
            task = progress.add_task("predicting", total=len(waiting))
            for image, outcome in _predicted(job, model, reading, kinds, settings, waiting, work):
                if isinstance(outcome, Finished):
                    results[image] = outcome
                else:
                    failed += 1
                    text = f"{type(outcome).__name__}: {outcome}" if not isinstance(outcome, SegcoreError) else outcome
                    console.print(f"Skipped {text}", markup=False, highlight=False, soft_wrap=True)
                progress.advance(task)
        write_areas(job.out, work, [results[image] for image in images if image in results], kinds.names)
    earlier = f", {before} were there already" if before else ""
    trouble = f", {failed} failed" if failed else ""
    click.echo(f"Predicted {len(results) - before} of {len(images)} images{earlier}{trouble}. See {job.out / AREAS}.")
    return SOME_FAILED if failed else 0


def _predicted(
    job: Job,
    model: SegmentationModel,
    reading: Reading,
    kinds: Kinds,
    settings: str,
    images: Sequence[Input],
    work: Path,
) -> Iterator[tuple[Input, Finished | Exception]]:
    """Yield each image with its result or what went wrong; one is read and one is written while one is predicted."""
    assert model.config is not None
    channels: int = model.config["in_channels"]
    colours = palette(len(kinds.names) + kinds.separate)
    writing: deque[tuple[Input, Future[Finished]]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        following = iter(images)
        ahead = deque(reader.submit(_read, image, channels, job.reading) for image in [*_first(following)])
        try:
            for image in images:
                loading = ahead.popleft()
                ahead.extend(reader.submit(_read, other, channels, job.reading) for other in _first(following))
                try:
                    pixels, source = loading.result()
                    labels, probabilities = _result(job, model, reading, pixels)
                except Exception as error:
                    yield image, _named(image, error)
                    continue
                arguments = (source, pixels, labels, probabilities, colours)
                writing.append((image, writer.submit(save, job.out, work, image, kinds, settings, *arguments)))
                del pixels, labels, probabilities, loading, arguments
                while len(writing) > 1:
                    written, future = writing.popleft()
                    yield written, future.result()
            for written, future in writing:
                yield written, future.result()
        finally:
            for loading in ahead:
                loading.cancel()


def _first(images: Iterator[Input]) -> list[Input]:
    found = next(images, None)
    return [] if found is None else [found]


def _read(image: Input, channels: int, options: ReadOptions) -> tuple[np.ndarray, dict[str, int]]:
    source = source_of(image.path)  # before it is read: a file that changes meanwhile is predicted again
    return read(image.path, channels, options), source


def _named(image: Input, error: Exception) -> Exception:
    """Return an error whose message names the image."""
    if str(image.path) in str(error):
        return error
    return segcore.InputError(f"{image.path}: {type(error).__name__}: {error}")


def _result(
    job: Job, model: SegmentationModel, reading: Reading, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the labels, and the probabilities if they are asked for."""
    height, width = pixels.shape[:2]
    tile = job.tile if job.tile is not None else TILE if height * width > LARGE else 0
    predicted = predict_tiled(
        model,
        pixels,
        tile or None,
        min(job.overlap, max(tile - 1, 0)),
        blend=job.blend,
        batch=job.batch,
        output=reading.output,
        flips=job.flips,
        multilabel=job.multilabel,
        threshold=job.threshold,
    )
    if reading.output == "labels":
        return predicted.numpy(), None
    classes = len(predicted)
    separate = classes > 1 and reading.separate(classes)
    labels = torch.empty(
        predicted.shape if separate else predicted.shape[1:], dtype=torch.uint8 if classes <= 256 else torch.int32
    )
    Reading("labels", probable=True, multilabel=reading.multilabel, threshold=job.threshold).labels(predicted, labels)
    return labels.numpy(), predicted.numpy()


def _kinds(model: SegmentationModel, reading: Reading, job: Job) -> Kinds:
    assert model.config is not None
    classes: int = model.config["classes"]
    given = model.config.get("class_names")
    names = tuple(given or (f"class {index}" for index in range(classes)))
    separate = classes > 1 and reading.separate(classes)
    if classes == 1:
        names = ("background", names[0] if given else "object")
    return Kinds(names, bool(given), separate, job.probabilities, job.overlays)


def _settings(model: SegmentationModel, job: Job) -> str:
    options = ("flips", "tile", "overlap", "blend", "threshold", "multilabel")
    reading = ("bands", "alpha", "full_scale", "frame")
    return fingerprint(
        model,
        {name: getattr(job, name) for name in options} | {name: getattr(job.reading, name) for name in reading},
    )


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionValueError(f"--device {name!r} cannot be used: {reason}") from error


def keep_memory() -> None:
    """Let this process keep freed memory: glibc gives the large buffers of each forward back and fetches them again.

    For a program that does nothing but predict; changes nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**30)


class _Speed(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("- images/s" if speed is None else f"{speed:.1f} images/s")


def _progress(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)
