"""The engine ``local``: one process; images are read and written while others are predicted."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from segcore import InputError
from segcore_plugin_predict.driver import Outcome, drive
from segcore_plugin_predict.inputs import Input
from segcore_plugin_predict.job import Job, Picture, Worker
from segcore_plugin_predict.results import Finished

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def run(job: Job, paths: Sequence[str]) -> int:
    """Predict all images in this process and return the exit code: 0, or 3 if some images failed.

    Raises:
        SegcoreError: see `drive`.
    """
    keep_memory()
    return drive(job, paths, _predict)


def _predict(worker: Worker, images: Sequence[Input], work: Path) -> Iterator[Outcome]:
    batch = worker.job.batch
    writing: deque[tuple[Input, Future[Finished]]] = deque()
    ahead: deque[tuple[Input, Future[Picture]]] = deque()
    following = iter(images)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:

        def read_ahead() -> None:
            for image in itertools.islice(following, batch - len(ahead)):
                ahead.append((image, reader.submit(worker.read, image)))

        try:
            read_ahead()
            while ahead:
                image, loading = ahead.popleft()
                read_ahead()
                try:
                    group = [loading.result()]
                except InputError as error:
                    yield image, error
                    continue
                while len(group) < batch and ahead and _joins(worker, group[0], ahead[0][1]):
                    group.append(ahead.popleft()[1].result())
                    read_ahead()
                outcomes = worker.predict_together(group)
                for picture, outcome in zip(group, outcomes, strict=True):
                    if isinstance(outcome, InputError):
                        yield picture.image, outcome
                    else:
                        writing.append((picture.image, writer.submit(worker.save, outcome, work)))
                del group, outcomes, picture, outcome, loading
                while len(writing) > batch:
                    written, future = writing.popleft()
                    yield written, future.result()
            for written, future in writing:
                yield written, future.result()
        finally:
            for _, loading in ahead:
                loading.cancel()


def _joins(worker: Worker, first: Picture, loading: Future[Picture]) -> bool:
    """Return whether the next image is predicted in the same call of the network; waits until it is read."""
    return loading.exception() is None and worker.together(first, loading.result())


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
