"""Files of a program: found, read, compared, and replaced whole."""

from __future__ import annotations

import difflib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segcore_smp.migrate.names import DISTRIBUTION, OLD
from segcore_smp.migrate.notebooks import migrated_notebook
from segcore_smp.migrate.source import UnreadableError, migrated
from segcore_smp.migrate.uses import Use, shown

PROGRAMS = {".py", ".pyi", ".pyw", ".ipynb"}
TEXTS = {".cfg", ".ini", ".json", ".md", ".rst", ".toml", ".txt", ".yaml", ".yml"}
_PASSED = {"__pycache__", "node_modules", "site-packages"}
_LARGEST = 2**26


@dataclass
class File:
    """A file that speaks of SMP.

    Attributes:
        path: where it is.
        old: its bytes.
        new: what they become.
        uses: what it uses of SMP.
        problem: why nothing could be said of it, or why it could not be written; None if all is well.
        encoding: of its bytes.
    """

    path: Path
    old: bytes
    new: bytes
    uses: list[Use] = field(default_factory=list)
    problem: str | None = None
    encoding: str = "utf-8"

    def diff(self) -> str:
        """Return the change as a unified diff."""
        texts = (data.decode(self.encoding, "replace") for data in (self.old, self.new))
        before, after = (io.StringIO(text, newline="\n").readlines() for text in texts)  # form feeds end no line
        name = self.path.as_posix()
        rows = difflib.unified_diff(before, after, f"a/{name.lstrip('/')}", f"b/{name.lstrip('/')}")
        return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


def examined(path: Path, *, native: bool) -> Iterator[File]:
    """Yield the files at a path that speak of SMP, in the order of their names.

    Args:
        path: a file, or a folder; links, hidden folders and installed environments are passed over.
        native: as in `migrated`.
    """
    for file in [path] if path.is_file() else _files(path):
        try:
            if file.stat().st_size > _LARGEST:
                continue
            data = file.read_bytes()
        except OSError as error:
            yield File(file, b"", b"", problem=f"it cannot be read ({error.strerror})")
            continue
        if OLD.encode() not in data and DISTRIBUTION.encode() not in data:
            continue
        found = File(file, data, data)
        try:
            if file.suffix == ".ipynb":
                outcome = migrated_notebook(data, native=native)
            elif file.suffix in TEXTS:
                found.uses = list(_lines(data))
                yield found
                continue
            else:
                outcome = migrated(data, native=native)
        except UnreadableError as error:
            found.problem = str(error)
        except Exception as error:
            found.problem = f"it cannot be analysed ({type(error).__name__}: {error})"
        else:
            found.new, found.uses, found.encoding = outcome.data, outcome.uses, outcome.encoding
        yield found


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _PASSED and not Path(root, name, "pyvenv.cfg").exists()
        )
        here = (Path(root, name) for name in sorted(files) if Path(name).suffix in PROGRAMS | TEXTS)
        yield from (file for file in here if not file.is_symlink())  # it may lead out of the folder


def _lines(data: bytes) -> Iterator[Use]:
    """Yield the lines of a text that name SMP."""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if OLD in line or DISTRIBUTION in line:
            yield Use(number, "text", shown(line), "not a program: look at it yourself")


def write(file: File) -> None:
    """Replace a file by its new content, whole; a link's target is replaced, permissions stay.

    Raises:
        OSError: it cannot be written, or was changed meanwhile.
    """
    target = file.path.resolve()
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".new")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(file.new)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.copymode(target, name)
        if target.read_bytes() != file.old:
            raise OSError(0, "it was changed meanwhile")
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
