"""The state of a run as one safetensors file: what is needed to go on at the same step. No pickle, one rename."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from segcore import CheckpointError
from segcore_plugin_train.errors import TrainingError
from segcore_plugin_train.sharding import divided_like

NAME = "training.safetensors"
FORMAT = 1
_KEY = "segcore_training"


@dataclass(frozen=True, slots=True)
class State:
    """A run between two steps.

    Attributes:
        step: steps done.
        model: state dict.
        average: state dict of the moving average, empty if there is none.
        optimizer: state dict.
        schedule: state dict.
        facts: what else is remembered, JSON-able.
    """

    step: int
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    facts: dict[str, Any]


def write_atomically(path: Path, write: Any) -> None:
    """Let `write` fill a temporary file, then give it its name; a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask says; safetensors writes for the owner alone
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a text file as one."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def remove_litter(folder: Path) -> None:
    """Remove temporary files of runs that were killed while they saved."""
    for name in (NAME, "run.json", "best.json", "log.csv", "report.html"):
        for path in folder.glob(f".{name}.*.tmp"):
            path.unlink(missing_ok=True)


def save_state(path: Path, state: State) -> None:
    """Write a state.

    Raises:
        TrainingError: a weight is not finite, so nothing is written and the last state is kept.
    """
    for name, tensor in state.model.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(
                f"{name} is not finite after step {state.step}; what was saved before is kept. Lower the "
                f"learning rate (--lr), or clip gradients (--clip 1)."
            )
    tensors = {f"model.{name}": tensor for name, tensor in state.model.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state.optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    record = {
        "format": FORMAT,
        "step": state.step,
        "plain": plain,
        "groups": state.optimizer["param_groups"],
        "schedule": {name: value for name, value in state.schedule.items() if name != "lr_lambdas"},
        "facts": state.facts,
    }
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    write_atomically(path, lambda temporary: save_file(ready, temporary, {_KEY: text}))


def load_state(path: Path) -> State:
    """Read a state.

    Raises:
        CheckpointError: the file is damaged, or of a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if record["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {record['format']!r}; this version reads {FORMAT}. Upgrade.")
        states: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in record["plain"].items()}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                states.setdefault(int(index), {})[key] = tensor
        return State(
            record["step"],
            _below(tensors, "model."),
            _below(tensors, "average."),
            {"state": states, "param_groups": record["groups"]},
            record["schedule"] | {"lr_lambdas": [None]},
            record["facts"],
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no state of a run, or is damaged ({type(error).__name__}: {error}). Begin anew in another "
            f"folder; what was saved in last/ and best/ can be used with --checkpoint."
        ) from error


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def like_parameters(optimizer: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    """Return an optimiser's state whose tensors lie in memory as the parameters do, and are divided like them."""
    states = {
        index: {
            name: divided_like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape and value.ndim
            else value
            for name, value in values.items()
        }
        for index, values in optimizer["state"].items()
    }
    return {"state": states, "param_groups": optimizer["param_groups"]}
