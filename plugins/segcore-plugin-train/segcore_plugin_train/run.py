"""A training run from its settings: data, model, trainer, and what is left in the folder of the run."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

import segcore
from segcore import CheckpointError, OptionValueError, SegmentationModel
from segcore_plugin_train import keeper as keeping
from segcore_plugin_train import state as states
from segcore_plugin_train.bands import LabelBands, check_class_folders
from segcore_plugin_train.build import make_data, make_model, make_task, read_options
from segcore_plugin_train.data import SegmentationData
from segcore_plugin_train.engine import (
    Callback,
    MisconfigurationException,
    TQDMProgressBar,
    Trainer,
)
from segcore_plugin_train.errors import TrainingError
from segcore_plugin_train.evaluate import Evaluation, evaluate
from segcore_plugin_train.files import pairs_of_folders, pairs_of_table
from segcore_plugin_train.keeper import Interrupted, Keeper
from segcore_plugin_train.log import read_log, tensorboard
from segcore_plugin_train.machine import trainer_options
from segcore_plugin_train.masks import LabelMap
from segcore_plugin_train.report import write_report
from segcore_plugin_train.settings import Settings
from segcore_plugin_train.sharding import check_sharding
from segcore_plugin_train.sources import Files, Reading
from segcore_plugin_train.task import SegmentationTask

Tell = Callable[[str], None]
_FULL = ("out of memory", "can't allocate memory", "not enough memory")


def train(settings: Settings, tell: Tell = print) -> Evaluation | None:
    """Train a model, and write checkpoints, log and report into the folder ``settings.out``.

    Files: ``best/`` and ``last/``, checkpoints; ``training.safetensors``, from which ``resume`` goes on; ``log.csv``;
    ``best.json`` and ``report.html``; ``run.json``, the settings.

    Args:
        settings: of the run.
        tell: prints a line; called in the first process only.

    Returns:
        What the best checkpoint reaches in validation; None in other processes than the first.

    Raises:
        InputError: files cannot be used; told before the first step.
        OptionValueError: settings make no sense, or differ from those of the run that is to be resumed.
        TrainingError: the loss is not finite, or memory is full. What was saved last is kept.
        KeyboardInterrupt: the run was told to stop by SIGINT, SIGTERM or SIGUSR1, and has saved its state.
    """
    rank, started = keeping.rank_from_environment()
    if settings.strategy == "fsdp":
        check_sharding()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    _quiet()
    out = Path(settings.out)
    state = _state(out, settings)
    model, preprocessing = make_model(settings)
    data = make_data(settings, preprocessing)
    names = _names(settings, model)
    local, nodes = _devices(settings, started)
    processes = local * nodes
    if len(data.val_indices) < processes:
        raise OptionValueError(
            f"{len(data.val_indices)} images to validate with are too few for {processes} processes."
        )
    if state is None and rank < started:  # processes that Lightning starts come after one that has looked
        for line in _checked(data, settings, rank, started):
            tell(line)
    plan = data.plan(processes)
    steps = settings.steps or settings.epochs * plan.steps
    facts = {"settings": settings.constant(), "steps": steps, "together": plan.together}
    task = make_task(settings, model, data.ignore, steps)
    keeper = Keeper(
        out,
        json.loads(json.dumps(facts)),
        preprocessing=preprocessing,
        names=names,
        image_size=data.crop,
        image_names=list(data.val_source.names),
        patience=settings.patience,
        save_every=settings.save_every,
        log_every=settings.log_every,
        tell=tell,
    )
    if rank == 0:
        if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and keeping.store_is_shared():
            tell("Note: workers may not find each other after a restart; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.")
        _prepare(out, settings)
        parts = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        tell(
            f"{len(data.train_indices)} images to train on, {len(data.val_indices)} to validate with; {parts:.1f} M "
            f"parameters; {steps} steps of {plan.together} samples" + (f"; goes on at {state.step}" if state else "")
        )
    if state is not None:
        _restore(task, keeper, data, state, processes, plan.steps)
    data.continue_from(task.first_step, steps, processes)
    if not keeper.finished:
        _fit(settings, task, data, keeper, tell if rank == 0 else _silent, local, nodes, steps - task.first_step)
    return _report(out, data, settings, tell) if rank == 0 else None


def _silent(line: str) -> None:
    """Print nothing: this is not the first process."""


def _names(settings: Settings, model: SegmentationModel) -> list[str]:
    names = settings.names or list((model.config or {}).get("class_names") or [])
    classes = int((model.config or {})["classes"])
    if names and len(names) != classes:
        raise OptionValueError(f"{len(names)} names are given for {classes} classes: {', '.join(names)}.")
    return names


def _devices(settings: Settings, processes: int) -> tuple[int, int]:
    """Return devices of this machine, and machines."""
    if processes == 1:
        return settings.devices or 1, 1
    if "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
    else:
        local = processes // int(os.environ.get("SLURM_NNODES", "1"))
    return local, processes // local


def _checked(data: SegmentationData, settings: Settings, rank: int, processes: int) -> list[str]:
    """Look at this process's share of the data and return what is worth knowing, if the share is all."""
    if settings.check == "none":
        return []
    found = data.check(settings.check, (rank, processes))
    lines = []
    counts = found["train"].pixels
    if counts is not None and processes == 1:
        lacking = [str(label) for label, count in enumerate(counts.tolist()) if not count]
        if lacking:
            lines.append(f"Note: no pixel of the training masks has the class {', '.join(lacking)}.")
    return lines


def _state(out: Path, settings: Settings) -> states.State | None:
    """Return the state to go on from, if there is one and it is wanted.

    Raises:
        OptionValueError: the folder holds a run and it is not to be resumed, or settings differ.
    """
    path = out / states.NAME
    if out.exists() and not out.is_dir():
        raise OptionValueError(f"{str(out)!r} is no folder. Choose another place with --out.")
    if not path.exists():
        return None
    if not settings.resume:
        if keeping.rank_from_environment()[0]:
            return None  # the first process has just begun this run
        raise OptionValueError(f"{str(out)!r} holds a run. Continue it with --resume, or choose another --out.")
    state = states.load_state(path)
    old, new = state.facts["settings"], json.loads(json.dumps(settings.constant()))
    changed = [
        name for name in new if name in old and old[name] != new[name] and name not in {"batch_size", "accumulate"}
    ]
    if changed:
        details = ", ".join(f"{name} {old[name]!r} is now {new[name]!r}" for name in changed)
        raise OptionValueError(f"the run in {str(out)!r} began with other settings: {details}. Give the same ones.")
    return state


def _restore(
    task: SegmentationTask, keeper: Keeper, data: SegmentationData, state: states.State, processes: int, per_epoch: int
) -> None:
    together = data.plan(processes).together
    if state.facts["together"] != together or state.facts["steps"] != keeper.facts["steps"]:
        raise OptionValueError(
            f"the run took {state.facts['together']} samples a step, and {state.facts['steps']} steps, but now "
            f"it would be {together} and {keeper.facts['steps']}. Keep the images, and batch size x "
            f"processes x accumulate, as they were."
        )
    try:
        task.model.load_state_dict(state.model)
        if task.averaged is not None:
            task.averaged.load_state_dict(state.average)
        trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    except RuntimeError as error:
        raise CheckpointError(f"{states.NAME} does not fit the model: {error}") from error
    known = sum(len(group["params"]) for group in state.optimizer["param_groups"])
    if known != len(trained):
        raise CheckpointError(f"{states.NAME} has {known} trained parameters, and the model {len(trained)}.")
    keeper.remember(state.facts)
    task.restore(state.optimizer, state.schedule, state.step, state.step // per_epoch)


def _prepare(out: Path, settings: Settings) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        states.remove_litter(out)
        states.write_text(out / "run.json", json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    except OSError as error:
        raise OptionValueError(f"nothing can be written to {str(out)!r}: {error}. Choose another --out.") from error


def _fit(
    settings: Settings,
    task: SegmentationTask,
    data: SegmentationData,
    keeper: Keeper,
    tell: Tell,
    local: int,
    nodes: int,
    steps: int,
) -> None:
    if tell is not _silent:
        keeper.mirror = tensorboard(keeper.folder, task.first_step, tell)
    if settings.compile:
        task.model.compile()
    bar: list[Callback] = [TQDMProgressBar(leave=False)] if sys.stderr.isatty() else []
    try:
        with keeping.signals_kept(), _expected_warnings():
            trainer = _trainer(
                **trainer_options(settings, local, nodes),
                max_epochs=settings.epochs if settings.steps is None else -1,
                max_steps=steps,
                accumulate_grad_batches=settings.accumulate,
                gradient_clip_val=settings.clip,
                callbacks=[*bar, keeper],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=bool(bar),
                enable_model_summary=False,
                num_sanity_val_steps=0,
                reload_dataloaders_every_n_epochs=1,
                use_distributed_sampler=False,
                default_root_dir=str(keeper.folder),
            )
            trainer.fit(task, datamodule=data)
    except Interrupted:
        tell(f"Stopped and saved at step {keeper.saved_step}. The same command with --resume goes on.")
        raise KeyboardInterrupt from None
    except SystemExit as error:  # Lightning's answer to a second Ctrl-C
        raise KeyboardInterrupt from error
    except (RuntimeError, MemoryError, OSError, SafetensorError) as error:
        if (advice := _advice(error)) is None:
            raise
        raise TrainingError(f"{advice} What was saved before is kept; --resume goes on.") from error
    finally:
        if keeper.mirror is not None:
            keeper.mirror.finalize("success")


def _trainer(**options: Any) -> Trainer:
    """Return a trainer.

    Raises:
        OptionValueError: this machine does not have what was asked for.
    """
    try:
        return Trainer(**options)
    except (MisconfigurationException, ValueError) as error:
        asked = ", ".join(f"{name}={options[name]!r:.60}" for name in ("accelerator", "devices", "strategy"))
        raise OptionValueError(f"{asked}: Lightning cannot use this here: {error}") from error


def _advice(error: Exception) -> str | None:
    """Return what a run that ended so can do, None if that is not known."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _FULL):
        return (
            f"memory is full: {text[:120]}. Use a smaller --batch-size (with --accumulate for the same step) or "
            f"--crop, or --precision bf16."
        )
    if "DataLoader worker" in text:
        return f"a process that reads images ended: {text[:200]} If memory is full, use fewer --workers."
    if isinstance(error, OSError | SafetensorError):
        return f"a file cannot be read or written: {text[:200]}. Make room, or repair the place."
    return None


def _report(out: Path, data: SegmentationData, settings: Settings, tell: Tell) -> Evaluation:
    """Write the report of the best checkpoint and return what it reached."""
    path = out / keeping.BEST
    evaluation = Evaluation.from_json(path.read_text(encoding="utf-8"))
    model = segcore.from_pretrained(out / "best")
    notes = [f"{settings.decoder} / {settings.encoder}"] if settings.checkpoint is None else [settings.checkpoint]
    log = read_log(out / "log.csv")
    write_report(
        out / "report.html", evaluation, model, data.val_source, data.reading,
        worst=settings.worst, title="Validation", log=log, notes=notes, tile=settings.tile, overlap=settings.overlap,
    )  # fmt: skip
    tell(evaluation.text())
    tell(f"Best checkpoint: {out / 'best'}. Report: {out / 'report.html'}")
    return evaluation


def evaluate_files(
    checkpoint: str, settings: Settings, *, report: Path | None = None, worst: int = 12, device: str = "auto"
) -> Evaluation:
    """Measure a checkpoint on the files that settings name, and write a report if a path is given.

    Raises:
        OptionValueError: no data are named, or they do not belong to the model.
        InputError: a file cannot be used.
        CheckpointError: this is no checkpoint.
    """
    if bool(settings.table) == bool(settings.images and settings.masks):
        raise OptionValueError("the data are needed once: --images and --masks, or --table.")
    if report is not None and not report.parent.is_dir():
        raise OptionValueError(f"--report {str(report)!r}: there is no folder {str(report.parent)!r}.")
    model = segcore.from_pretrained(checkpoint)
    config = model.config or {}
    if settings.table:
        pairs = pairs_of_table(settings.table)
    else:
        check_class_folders(settings.class_folders, settings.multilabel, config["classes"])
        pairs = pairs_of_folders(
            settings.images or "", settings.masks or "", settings.mask_suffix, settings.class_folders
        )
    kind = LabelBands if settings.multilabel else LabelMap
    labels = kind(int(config["classes"]), settings.label, settings.ignore_label)
    reading = Reading(int(config["in_channels"]), labels, read_options(settings))
    source = Files(pairs)
    tiles: dict[str, Any] = {"tile": settings.tile, "overlap": settings.overlap}
    evaluation = evaluate(model, source, reading, names=settings.names, device=device, **tiles)
    if report is not None:
        write_report(
            report, evaluation, model, source, reading, worst=worst, title="Evaluation", notes=[checkpoint], **tiles
        )
    return evaluation


def _quiet() -> None:
    """Leave out Lightning's hints on hardware; what matters is printed here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


EXPECTED_WARNINGS = (
    "does not have many workers",  # workers are the user's choice, 0 by default
    "It is recommended to use `self.log",  # what is logged is the same in all processes
    "module.s. in eval mode",  # frozen parts, and the moving average
    "Starting from v1.9.0, `tensorboardX`",  # no logger of Lightning's is used unless TensorBoard is there
    "The `srun` command is available",  # one process was asked for
    "GPU available but not used",  # accelerator=cpu was asked for
    "`max_epochs` was not set",  # the number of steps ends the run
    "Detected call of `lr_scheduler.step",  # fp16 leaves out steps until the loss is scaled well
    "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning's own use of torch
)


class _expected_warnings(warnings.catch_warnings):  # noqa: N801 - used like a function
    """Leave out warnings of Lightning's about what is meant to be as it is."""

    def __enter__(self) -> Any:
        log = super().__enter__()
        for text in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", f".*{text}")
        return log
