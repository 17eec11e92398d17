"""The process that predicts: loads the model once, and goes through small groups of images. Needs no ray."""

from __future__ import annotations

import os
import pickle
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from segcore_plugin_predict import Finished, Input, Job, Worker, keep_memory

from segcore import InputError, OptionValueError, PluginError, SegcoreError
from segcore_plugin_ray.lines import Lines, read_lines

ATTEMPTS = 3  # so often may a process die of an image, or while it loads the model
LOADING = "loading.jsonl"


@dataclass(frozen=True, slots=True)
class Order:
    """What every process of a run is told; it is pickled.

    Attributes:
        job: what to do, with absolute paths.
        settings: the checksum that the results must carry.
        work: the folder for unfinished files, which all processes share.
        workers: how many there are.
    """

    job: Job
    settings: str
    work: Path
    workers: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one image.

    Attributes:
        outcome: its record, or what is wrong with it.
        facts: who did it, for the manifest.
        here: whether this run predicted it; otherwise it was finished already.
    """

    outcome: Finished | InputError
    facts: dict[str, Any]
    here: bool


class Predictor:
    """Predicts groups of images; Ray makes one in each process and starts it again when that is killed.

    A group that was interrupted comes again as a whole. Its journal, a file in the shared folder, says what became of
    it so far, so that nothing is done twice and an image of which processes die is given up.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._me = {"host": platform.node(), "process": os.getpid()}
        self._problem: SegcoreError | None = None
        try:
            self._worker = self._load(order)
        except SegcoreError as error:  # raised here it would reach nobody; a process that cannot begin is begun again
            self._problem = error

    def _load(self, order: Order) -> Worker:
        me = f"host {self._me['host']!r}"
        if not order.work.is_dir():
            raise OptionValueError(
                f"{me} does not see {str(order.work)!r}. All machines must reach the results, the images and the "
                f"checkpoint under the same paths: use a shared file system."
            )
        events = [line["event"] for line in read_lines(order.work / LOADING)]
        lost = events.count("begin") - events.count("end") - order.workers + 1
        if lost >= ATTEMPTS:
            raise OptionValueError(
                f"{lost} processes died while they loaded the model, perhaps of too little memory. Use fewer --workers."
            )
        with Lines(order.work / LOADING) as lines:
            lines.add({"event": "begin", **self._me})
            keep_memory()
            worker = Worker(replace(order.job, again=False))  # what is to be done again is decided here
            lines.add({"event": "end", **self._me})
        if worker.settings != order.settings:
            raise OptionValueError(
                f"{me} has another checkpoint at {order.job.checkpoint!r}, or another version of what reads it. All "
                f"machines need the same."
            )
        return worker

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Predict a group.

        Args:
            batch: columns: ``index`` of each image, ascending, its ``path`` and its ``name`` as bytes.

        Returns:
            The columns ``index``, and ``answer``: a pickled `Answer` for each image, or a pickled `SegcoreError`, after
            which nothing more can be done.
        """
        indices = [int(index) for index in batch["index"]]
        images = [
            Input(Path(os.fsdecode(path)), os.fsdecode(name))
            for path, name in zip(batch["path"], batch["name"], strict=True)
        ]
        answers: list[Answer | SegcoreError] = [self._problem] if self._problem else []
        try:
            answers.extend(() if self._problem else self._group(indices, images))
        except SegcoreError as error:
            answers.append(error)
        except OSError as error:
            answers.append(
                OptionValueError(f"{str(self._order.work)!r} cannot be written: {error}. Mend it, and start again.")
            )
        except Exception as error:
            answers.append(PluginError(f"{images[len(answers)].path}: {type(error).__name__}: {error}", phase="build"))
        return {"index": indices[: len(answers)], "answer": [pickle.dumps(answer) for answer in answers]}

    def _group(self, indices: list[int], images: list[Input]) -> Iterator[Answer]:
        path = self._order.work / f"group-{indices[0]}.jsonl"
        earlier: dict[int, list[dict[str, Any]]] = {index: [] for index in indices}
        for line in read_lines(path):
            earlier[line["index"]].append(line)
        with Lines(path) as journal:
            for index, image in zip(indices, images, strict=True):
                yield self._one(index, image, earlier[index], journal)

    def _one(self, index: int, image: Input, earlier: list[dict[str, Any]], journal: Lines) -> Answer:
        ended = next((line for line in earlier if line["event"] != "begin"), None)
        if ended and ended["event"] == "failed":
            return Answer(InputError(ended["reason"]), _who(ended), here=True)
        if ended or not self._order.job.again:
            record = self._worker.finished(image)
            if record:
                attempt = ended or (earlier[-1] if earlier else None)  # none: someone else finished it meanwhile
                return Answer(record, _who(attempt or {}), here=attempt is not None)
        if not ended and len(earlier) >= ATTEMPTS:
            reason = f"{image.path}: {len(earlier)} processes died of it, perhaps of too little memory. See --tile."
            journal.add({"index": index, "event": "failed", "reason": reason, **self._me})
            return Answer(InputError(reason), self._me, here=True)
        journal.add({"index": index, "event": "begin", **self._me})
        started = time.perf_counter()
        outcome: Finished | InputError
        try:
            outcome = self._worker.run(image, self._order.work)
        except InputError as error:
            outcome = error
        seconds = round(time.perf_counter() - started, 3)
        facts: dict[str, Any] = {**self._me, "seconds": seconds}
        if isinstance(outcome, InputError):
            journal.add({"index": index, "event": "failed", "reason": str(outcome), **facts})
        else:
            journal.add({"index": index, "event": "done", **facts})
        return Answer(outcome, facts, here=True)


def _who(line: dict[str, Any]) -> dict[str, Any]:
    return {key: line[key] for key in ("host", "process", "seconds") if key in line}
