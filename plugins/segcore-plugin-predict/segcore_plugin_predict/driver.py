"""What every engine does around the images: finds them, leaves out what is finished, shows progress, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from segcore import InputError
from segcore_plugin_predict.inputs import Input, find_inputs
from segcore_plugin_predict.job import Job, Worker
from segcore_plugin_predict.results import AREAS, Finished, workplace, write_areas

SOME_FAILED = 3
DISPLACED = (
    "Georeferenced TIFFs: {}. Their results will not say where on the earth they lie, since segcore-plugin-raster is "
    "not installed: pip install segcore-plugin-raster"
)
Outcome = tuple[Input, Finished | InputError]
Predict = Callable[[Worker, Sequence[Input], Path], Iterator[Outcome]]
"""Takes a worker, the images to predict and a folder for unfinished files; yields each image once, in any order, with
its record or with what is wrong with it. What else it raises ends the run."""


def drive(job: Job, paths: Sequence[str], predict: Predict) -> int:
    """Predict all images and return the exit code: 0, or 3 if some images failed.

    Finds the images, loads the model, leaves out what was finished before, and hands the rest to `predict`; shows
    progress, reports images that failed, writes the table of areas and says how it went.

    Args:
        job: what to do.
        paths: files, folders and patterns.
        predict: does it; see `Predict`. The worker that it gets is one of this process.

    Raises:
        SegcoreError: nothing can be done: wrong options, no image, no checkpoint, or results cannot be written.
    """
    images = find_inputs(paths, job.out)
    worker = Worker(job)
    console = Console(stderr=True)
    if not job.quiet:
        console.print(worker.tiling, markup=False, highlight=False, soft_wrap=True)
    with workplace(job.out) as work:
        done = {image: worker.finished(image) for image in images}
        if worker.displaced:
            console.print(DISPLACED.format(worker.displaced), markup=False, highlight=False, soft_wrap=True)
        results = {image: record for image, record in done.items() if record}
        failed = 0
        waiting = [image for image in images if image not in results]
        before = len(results)
        with _progress(console, quiet=job.quiet) as progress:
            task = progress.add_task("predicting", total=len(waiting))
            for image, outcome in predict(worker, waiting, work):
                if isinstance(outcome, Finished):
                    results[image] = outcome
                else:
                    failed += 1
                    console.print(f"Skipped {outcome}", markup=False, highlight=False, soft_wrap=True)
                progress.advance(task)
        write_areas(job.out, work, [results[image] for image in images if image in results], worker.kinds.names)
    earlier = f", {before} were there already" if before else ""
    trouble = f", {failed} failed" if failed else ""
    click.echo(f"Predicted {len(results) - before} of {len(images)} images{earlier}{trouble}. See {job.out / AREAS}.")
    return SOME_FAILED if failed else 0


class _Speed(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("- images/s" if speed is None else f"{speed:.1f} images/s")


def _progress(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)
