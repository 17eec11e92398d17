"""What was done: one line for each run and for each image, in a file beside the results."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from segcore import OptionValueError
from segcore_plugin_ray.lines import Lines, read_lines

MANIFEST = "manifest.jsonl"
DONE = ("predicted", "found")


def read_manifest(out: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a result folder's manifest, oldest first; the last line of an image is what holds.

    A line that was not finished, since its writer was killed, is left out.

    Args:
        out: the result folder.

    Raises:
        FileNotFoundError: it has no manifest.
    """
    path = Path(out) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: segcore predict --engine ray writes it.")
    return list(read_lines(path))


class Manifest:
    """The manifest while a run writes it. A line follows what it tells of, so all lines are true at any time.

    Args:
        out: the result folder.
        run: name of the run.
        settings: what makes a result another one, as a checksum.

    Raises:
        OptionValueError: the file cannot be written.
    """

    def __init__(self, out: Path, run: str, settings: str) -> None:
        self._path = out / MANIFEST
        self._run = run
        self._counts: dict[str, int] = {}
        try:
            self._recorded = _recorded(self._path, settings)
            self._lines = Lines(self._path)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Record that the run begins, and what it is asked to do."""
        self._add("begin", {**facts, "host": platform.node(), "process": os.getpid()})

    def image(self, name: str, path: Path, outcome: str, facts: Mapping[str, Any]) -> None:
        """Record an image: ``"predicted"``, ``"found"`` finished, or ``"failed"``."""
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        self._add("image", {"image": name, "path": str(path), "outcome": outcome, **facts})

    def lacks(self, name: str) -> bool:
        """Return whether no earlier run recorded that an image is finished, with the settings of this run."""
        return name not in self._recorded

    def end(self) -> None:
        """Record that all images of the run have been dealt with."""
        self._add("end", {outcome: self._counts.get(outcome, 0) for outcome in ("predicted", "found", "failed")})

    def _add(self, event: str, facts: Mapping[str, Any]) -> None:
        try:
            self._lines.add({"event": event, "run": self._run, "time": _now(), **facts})
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.__exit__()


def _recorded(path: Path, settings: str) -> set[str]:
    """Return the images whose last line says that they are finished, with these settings."""
    fitting: dict[str, bool] = {}
    recorded: set[str] = set()
    for line in read_lines(path):
        run, name = line.get("run"), line.get("image")
        if line.get("event") == "begin":
            fitting[str(run)] = line.get("settings") == settings
        elif line.get("event") == "image" and isinstance(name, str):
            if line.get("outcome") in DONE and fitting.get(str(run)):
                recorded.add(name)
            else:
                recorded.discard(name)
    return recorded


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _unwritable(path: Path, error: OSError) -> OptionValueError:
    return OptionValueError(
        f"{str(path)!r} cannot be written: {error}. What is finished stays; start again when that is mended."
    )
