"""The engine ``local``: one process; one image is read and one is written while one is predicted."""

from __future__ import annotations

import ctypes
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
    writing: deque[tuple[Input, Future[Finished]]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        following = iter(images)
        ahead: deque[Future[Picture]] = deque(reader.submit(worker.read, image) for image in _next(following))
        try:
            for image in images:
                loading = ahead.popleft()
                ahead.extend(reader.submit(worker.read, other) for other in _next(following))
                try:
                    prediction = worker.predict(loading.result())
                except InputError as error:
                    yield image, error
                    continue
                writing.append((image, writer.submit(worker.save, prediction, work)))
                del prediction, loading
                while len(writing) > 1:
                    written, future = writing.popleft()
                    yield written, future.result()
            for written, future in writing:
                yield written, future.result()
        finally:
            for loading in ahead:
                loading.cancel()


def _next(images: Iterator[Input]) -> list[Input]:
    found = next(images, None)
    return [] if found is None else [found]


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
