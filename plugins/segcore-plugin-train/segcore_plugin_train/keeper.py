"""The callback that keeps a run: saves its state, the best and the last checkpoint, logs, stops early or when told."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from segcore import Preprocessing
from segcore_plugin_train.engine import Callback, LightningModule, Trainer
from segcore_plugin_train.evaluate import Evaluation
from segcore_plugin_train.log import Log
from segcore_plugin_train.sharding import gathered
from segcore_plugin_train.state import NAME, State, save_state, write_text
from segcore_plugin_train.task import SegmentationTask

BEST = "best.json"
ASK_EVERY = 5  # steps between questions whether another process was told to stop


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The run was told to stop, and has saved its state."""


class Keeper(Callback):
    """Keeps a run in a folder.

    Args:
        folder: of the run.
        facts: what the state remembers of how the run was made.
        preprocessing: recorded in checkpoints.
        names: of the classes.
        image_size: height and width of what is trained on; None is unknown.
        image_names: of the images to validate with, by index.
        patience: validations without a better IoU before the end; None for no such end.
        save_every: steps between saves.
        log_every: steps between lines of the log.
        tell: prints a line.
        mirror: a logger of Lightning's that gets the same numbers.
    """

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        *,
        preprocessing: Preprocessing,
        names: list[str],
        image_size: tuple[int, int] | None,
        image_names: list[str],
        patience: int | None,
        save_every: int,
        log_every: int,
        tell: Callable[[str], None],
        mirror: Any = None,
    ) -> None:
        self.folder, self.facts = folder, facts
        self.preprocessing, self.names, self.image_names = preprocessing, names, image_names
        self.image_size = image_size
        self.patience, self.save_every, self.log_every = patience, save_every, log_every
        self.tell, self.mirror = tell, mirror
        self.best, self.waited, self.finished = -1.0, 0, False
        self.log_file: Log | None = None
        self.saved_step = -1
        self._scaler: dict[str, Any] = {}
        self._told_to_stop = False
        self._steps_of_epoch = 0
        self._last_loss = math.nan

    def remember(self, facts: dict[str, Any]) -> None:
        """Take over what a state remembers."""
        self.best, self.waited, self.finished = facts["best"], facts["waited"], facts["finished"]
        self._scaler = facts.get("scaler") or {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the log and listen to signals; Lightning's own reactions to them would not save."""
        task = _task(pl_module)
        if self._scaler:
            trainer.precision_plugin.load_state_dict(self._scaler)
        if trainer.is_global_zero:
            self.log_file = Log(self.folder, task.first_step, self.mirror)
        if threading.current_thread() is threading.main_thread():
            for number in _signals():
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._told_to_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._told_to_stop = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Log, save, or stop, after a step."""
        task = _task(pl_module)
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        last = batch_idx + 1 == trainer.num_training_batches
        if (last or task.step % self.log_every == 0) and isinstance(loss, Tensor):
            mean = trainer.strategy.reduce(loss.detach(), reduce_op="mean")  # of all processes
            self._last_loss = float(mean) * trainer.accumulate_grad_batches
            if self.log_file is not None:
                rate = trainer.optimizers[0].param_groups[-1]["lr"]
                epoch = task.first_epoch + trainer.current_epoch
                self.log_file.add(task.step, epoch, lr=rate, loss=self._last_loss)
        if self._must_stop(trainer, task.step) and not last:
            self.save(trainer, task)
            raise Interrupted
        if task.step % self.save_every == 0 and not last:  # the last step of an epoch saves after validation
            self.save(trainer, task)

    def _must_stop(self, trainer: Trainer, step: int) -> bool:
        if trainer.world_size == 1:
            return self._told_to_stop
        if step % ASK_EVERY:
            return False
        return trainer.strategy.reduce_boolean_decision(self._told_to_stop, all=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best, save, and stop if nothing gets better."""
        task = _task(pl_module)
        if trainer.sanity_checking:
            return
        values = {name: float(trainer.callback_metrics[name]) for name in ("val_loss", "val_iou")}
        iou = values["val_iou"]
        better = iou > self.best or self.best < 0
        self.waited = 0 if better else self.waited + 1
        epoch = task.first_epoch + trainer.current_epoch
        if better:
            self.best = 0.0 if math.isnan(iou) else iou
            images = self._gathered(task)
            self._save_model(trainer, task, "best")
            if trainer.is_global_zero:
                evaluation = Evaluation.of(task.confusion, self.names, images)
                write_text(self.folder / BEST, evaluation.as_json() + "\n")
        if self.log_file is not None:
            self.log_file.add(task.step, epoch, **values)
            star = "  *" if better else ""
            self.tell(
                f"epoch {epoch + 1:>3}  step {task.step:>6}  loss {self._last_loss:.4f}  "
                f"val_loss {values['val_loss']:.4f}  IoU {iou:.4f}{star}"
            )
        ended = self.patience is not None and self.waited >= self.patience
        self.finished = ended or task.step >= self.facts["steps"]
        if ended:
            trainer.should_stop = True
            if trainer.is_global_zero:
                self.tell(f"No better IoU in {self.waited} epochs: stopped early.")
        self.save(trainer, task)
        if not self.finished and self._must_stop(trainer, 0):
            raise Interrupted

    def _gathered(self, task: SegmentationTask) -> dict[str, float]:
        parts: list[Any] = [task.per_image]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, task.per_image)
        return {self.image_names[index]: iou for part in parts for index, iou in part.items()}

    def save(self, trainer: Trainer, task: SegmentationTask) -> None:
        """Write the state and the last checkpoint: all processes gather them, the first alone writes."""
        if self.saved_step != task.step:
            first = trainer.is_global_zero
            facts = self.facts | {"best": self.best, "waited": self.waited, "finished": self.finished}
            facts["scaler"] = trainer.precision_plugin.state_dict()  # of the loss, with fp16; else empty
            average = {} if task.averaged is None else task.averaged.state_dict()
            parts = (task.model.state_dict(), average, trainer.optimizers[0].state_dict())
            model, average, optimizer = (gathered(part, keep=first) for part in parts)
            if first:
                rule = trainer.lr_scheduler_configs[0].scheduler
                save_state(self.folder / NAME, State(task.step, model, average, optimizer, rule.state_dict(), facts))
            self._save_model(trainer, task, "last")
        self.saved_step = task.step

    def _save_model(self, trainer: Trainer, task: SegmentationTask, name: str) -> None:
        model = task.whole_result(keep=trainer.is_global_zero)
        if model is not None:
            names = self.names if len(self.names) == task.classes else None
            model.save_pretrained(
                self.folder / name, class_names=names, preprocessing=self.preprocessing, image_size=self.image_size
            )


def _task(module: LightningModule) -> SegmentationTask:
    assert isinstance(module, SegmentationTask)
    return module


def _signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGUSR1")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the reactions to signals at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def store_is_shared() -> bool:
    """Return whether torchrun keeps the addresses of dead workers in the store that their successors ask."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def rank_from_environment() -> tuple[int, int]:
    """Return rank and number of processes that torchrun or SLURM has set, 0 and 1 without them."""
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return int(os.environ.get("LOCAL_RANK", "0")), 1
