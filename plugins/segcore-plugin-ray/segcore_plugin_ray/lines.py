"""Files of JSON lines that only grow, and are whole up to their last line whoever is killed while writing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self


class Lines:
    """Appends to a file. A line that an earlier writer did not finish is ended, and readers leave it out.

    Each line is handed to the operating system as it comes: a process that is killed afterwards does not lose it.

    Args:
        path: of the file, made if it is absent; its folder must exist.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.lseek(self._file, 0, os.SEEK_END)
        if size:
            os.lseek(self._file, size - 1, os.SEEK_SET)
            if os.read(self._file, 1) != b"\n":
                os.write(self._file, b"\n")

    def add(self, line: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            OSError: it cannot be written.
        """
        data = json.dumps(line, default=str).encode() + b"\n"
        while data:
            data = data[os.write(self._file, data) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole; none if there is no file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except ValueError:  # its writer was killed
                continue
            if isinstance(line, dict):
                yield line
