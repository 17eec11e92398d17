"""The log of a run, a CSV file that grows by a line, and what is shown while it runs."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segcore_plugin_train.state import write_text

NAME = "log.csv"
COLUMNS = ("step", "epoch", "lr", "loss", "val_loss", "val_iou", "seconds")


class Log:
    """Appends lines to ``log.csv``.

    Args:
        folder: of the run.
        step: steps that are done; later lines, of steps that will be repeated, are removed.
        mirror: a logger of Lightning's that gets the same numbers, or None.
    """

    def __init__(self, folder: Path, step: int, mirror: Any = None) -> None:
        self.path = folder / NAME
        self.mirror = mirror
        kept = [row for row in read_log(self.path) if int(row["step"]) <= step] if step else []
        self._begin = time.monotonic() - (float(kept[-1]["seconds"]) if kept else 0.0)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self.path, text.getvalue())

    def add(self, step: int, epoch: int, **values: float) -> None:
        """Append a line; it is in the file when this returns."""
        row = {"step": step, "epoch": epoch, **{name: f"{value:.7g}" for name, value in values.items()}}
        row["seconds"] = f"{time.monotonic() - self._begin:.2f}"
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        if self.mirror is not None:
            self.mirror.log_metrics(values, step)


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the whole lines of a log; one that a crash cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    return [row for row in rows if row.get("step") and row.get("seconds")]


def tensorboard(folder: Path, step: int, tell: Callable[[str], None]) -> Any:
    """Return a logger for TensorBoard, or None, which is told, if it is not installed."""
    try:
        from segcore_plugin_train.engine import TensorBoardLogger

        return TensorBoardLogger(str(folder), name="tensorboard", version="", purge_step=step + 1 if step else None)
    except ModuleNotFoundError:
        tell("TensorBoard is not installed; the log is log.csv alone (pip install tensorboard).")
        return None
