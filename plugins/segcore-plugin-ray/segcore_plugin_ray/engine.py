"""The engine ``ray``: `segcore_plugin_predict.drive` around a Ray Data pipeline of workers."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import pickle
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import ray.data
import ray.exceptions
from segcore_plugin_predict import Finished, Input, Job, Worker, drive, find_inputs

from segcore import InputError, PluginError, SegcoreError
from segcore_plugin_ray.cluster import Plan, connected, plan
from segcore_plugin_ray.manifest import Manifest
from segcore_plugin_ray.worker import Answer, Order, Predictor

GROUPS = 16  # of images for each worker, so that none is left with much when the others are done
LARGEST_GROUP = 256
Outcome = tuple[Input, Finished | InputError]


def run(job: Job, paths: Sequence[str]) -> int:
    """Predict all images and return the exit code: 0, or 3 if some failed. The address is that of ``RAY_ADDRESS``.

    Raises:
        SegcoreError: nothing can be done: wrong options, no image, no checkpoint, no room for the workers, or results
            cannot be written.
    """
    return run_at(job, paths, None)


def run_at(job: Job, paths: Sequence[str], address: str | None) -> int:
    """Predict all images with the Ray at an address, see `cluster.connected`, and return the exit code.

    Raises:
        SegcoreError: see `run`.
    """
    out = job.out.absolute()
    folder = Path(job.checkpoint)
    job = replace(job, out=out, checkpoint=str(folder.absolute()) if folder.exists() else job.checkpoint)
    here = replace(job, device="cpu") if job.backend == "torch" else job  # this process predicts nothing

    def predict(worker: Worker, images: Sequence[Input], work: Path) -> Iterator[Outcome]:
        return _predict(job, paths, address, worker, images, work)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray(\.|$)")  # what Ray deprecates of itself while it is used
        return drive(here, paths, predict)


def _predict(
    job: Job, paths: Sequence[str], address: str | None, worker: Worker, images: Sequence[Input], work: Path
) -> Iterator[Outcome]:
    with Manifest(job.out, secrets.token_hex(4), worker.settings) as manifest:
        waiting = set(images)
        before = [image for image in find_inputs(paths, job.out) if image not in waiting]
        options = {key: value for key, value in asdict(job).items() if key not in {"checkpoint", "out", "again"}}
        manifest.begin(
            {
                "checkpoint": job.checkpoint,
                "settings": worker.settings,
                "options": options,
                "versions": {name: importlib.metadata.version(name) for name in ("segcore", "ray", "torch")},
                "images": len(images) + len(before),
                "finished": len(before),
            }
        )
        for image in before:
            if manifest.lacks(image.name) and worker.finished(image):  # by a run that died before it could say so
                manifest.image(image.name, image.path, "found", {})
        if images:
            with connected(address, len(images)):
                how = plan(job, len(images))
                order = Order(replace(job, threads=how.threads), worker.settings, work, how.workers)
                for index, answer in _answers(order, how, images):
                    image = images[index]
                    if isinstance(answer.outcome, InputError):
                        manifest.image(
                            image.name, image.path, "failed", {"reason": str(answer.outcome), **answer.facts}
                        )
                    else:
                        manifest.image(image.name, image.path, "predicted" if answer.here else "found", answer.facts)
                    yield image, answer.outcome
        manifest.end()


def _answers(order: Order, how: Plan, images: Sequence[Input]) -> Iterator[tuple[int, Answer]]:
    """Yield each image's index and answer as they come."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    size = max(1, min(LARGEST_GROUP, len(images) // (GROUPS * how.workers)))
    with ray.data.DataContext.current(context):
        groups = ray.data.from_arrow([_table(images, start, size) for start in range(0, len(images), size)])
        answered = groups.map_batches(
            Predictor,
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=how.workers),
            fn_constructor_args=(order,),
            num_cpus=how.cpus,
            num_gpus=how.gpus,
        )
    left = set(range(len(images)))
    try:
        for row in answered.iter_rows():
            answer: Answer | SegcoreError = pickle.loads(row["answer"])  # noqa: S301 - made by our own workers
            if isinstance(answer, SegcoreError):
                raise answer
            if row["index"] in left:
                left.remove(row["index"])
                yield row["index"], answer
    except ray.exceptions.RayError as error:
        raise _trouble(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    finally:
        logger.setLevel(level)
    if left:
        raise _trouble(f"nothing was said of {len(left)} images, such as {images[min(left)].path}")


def _trouble(what: str) -> PluginError:
    return PluginError(
        f"Ray has failed: {what}. What is finished stays; start again to do the rest.",
        distribution="segcore-plugin-ray",
    )


def _table(images: Sequence[Input], start: int, size: int) -> pa.Table:
    group = images[start : start + size]
    return pa.table(
        {
            "index": pa.array(range(start, start + len(group)), pa.int64()),
            "path": pa.array([os.fsencode(image.path) for image in group], pa.binary()),
            "name": pa.array([os.fsencode(image.name) for image in group], pa.binary()),
        }
    )
