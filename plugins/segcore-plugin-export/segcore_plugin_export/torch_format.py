"""Files of torch.export, ``.pt2``: run by torch without segcore or the packages of the model's parts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from segcore import CheckpointError, OptionValueError
from segcore_plugin_export.check import Run
from segcore_plugin_export.metadata import Facts
from segcore_plugin_export.program import Plan, Subject, first_line, outputs_of, quiet, trace

SUFFIX = ".pt2"
PLANS = (Plan(oblivious=True), Plan(), Plan(multiples=True), Plan(oblivious=True, multiples=True))
METADATA = "segcore.json"


def require() -> None:
    """Do nothing: torch is all that is needed."""


def build(subject: Subject, plan: Plan) -> torch.export.ExportedProgram:
    """Return the model as a graph of torch's operators.

    Raises:
        ExportError: torch cannot trace it.
    """
    return trace(subject, plan)


def save(model: torch.export.ExportedProgram, path: Path, facts: Facts) -> None:
    """Write a graph that `build` gave."""
    with quiet():
        torch.export.save(model, path, extra_files={METADATA: json.dumps(facts.texts(), indent=2)})


def load(path: Path, device: str | None, threads: int | None) -> tuple[Run, Facts, str]:
    """Return a function that runs a file on the CPU, what the file says of itself, and its checksum.

    Raises:
        OptionValueError: for another device, or a number of threads, which is torch's to set.
        CheckpointError: this is no file of segcore's.
    """
    if device not in {None, "cpu"} or threads:
        raise OptionValueError(f"device={device!r}, threads={threads!r}: the check runs on the CPU as torch is set up.")
    extra = {METADATA: ""}
    try:
        with quiet():
            module = torch.export.load(path, extra_files=extra).module()
        texts = json.loads(extra[METADATA] or "{}")
    except Exception as error:
        raise CheckpointError(f"{str(path)!r} is no file that torch.export reads: {first_line(error)}") from error

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [np.asarray(output) for output in outputs_of(module(torch.from_numpy(images)))]

    return run, Facts.read(texts, str(path)), hashlib.sha256(path.read_bytes()).hexdigest()
