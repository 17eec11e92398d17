"""ONNX files: written by torch's exporter, run by onnxruntime. Running needs onnxruntime alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore import CheckpointError, OptionValueError
from segcore_plugin_export.check import Run
from segcore_plugin_export.errors import ExportError
from segcore_plugin_export.libraries import library
from segcore_plugin_export.metadata import Facts
from segcore_plugin_export.program import Plan, Subject, first_line, quiet, trace

SUFFIX = ".onnx"
EXTRA = "onnx"
PLANS = (Plan(), Plan(oblivious=True))
LARGEST = 2**31 - 2**24  # a protocol buffer has 2 GiB


def require() -> None:
    """Raise ExportError unless all that writing and checking need is installed."""
    require_exporter(EXTRA)
    library("onnxruntime", EXTRA)


def require_exporter(extra: str) -> None:
    """Raise ExportError unless what torch's exporter needs is installed."""
    for name in ("onnx", "onnxscript"):
        library(name, extra)


def build(subject: Subject, plan: Plan) -> Any:
    """Return the model as an ONNX graph in memory.

    Raises:
        ExportError: it is too large for one file, or the exporter cannot translate it.
    """
    tensors = subject.network.state_dict().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > LARGEST:
        raise ExportError(
            f"the model has {size / 2**30:.1f} GiB, and one ONNX file 2 at most. Export it as torch-export."
        )
    program = trace(subject, plan)
    from segcore_plugin_export.operators import translations  # needs onnxscript

    try:
        with quiet():
            exported = torch.onnx.export(program, dynamo=True, verbose=False, custom_translation_table=translations())
    except Exception as error:
        raise ExportError(f"torch.onnx cannot translate the model: {_cause(error)}") from error
    assert exported is not None
    _tidy(exported.model, subject)
    return exported.model


def _cause(error: Exception) -> str:
    """Return what is behind the exporter's error, whose own message is advice for its developers."""
    lines = [line.strip() for line in str(error).splitlines() if "<class" in line]
    return lines[0] if lines else first_line(error)


def _tidy(model: Any, subject: Subject) -> None:
    """Name inputs, outputs and axes, and drop the exporter's notes: they hold file names of this machine."""
    graph = model.graph
    for value, name in zip([*graph.inputs, *graph.outputs], ("image", *subject.names), strict=True):
        value.name = name
    free = {0: "batch"} if subject.size else {0: "batch", 2: "height", 3: "width"}
    kind = type(graph.inputs[0].shape)
    for value in (graph.inputs[0], graph.outputs[0]):
        dims = value.shape
        value.shape = kind([free.get(axis, dims[axis]) for axis in range(len(dims))])
    outputs = set(graph.outputs)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in outputs:
                value.shape = None
    model.metadata_props.clear()


def save(model: Any, path: Path, facts: Facts) -> None:
    """Write a graph that `build` gave."""
    from onnxscript import ir

    model.metadata_props.update(facts.texts())
    ir.save(model, path)


def load(path: Path, device: str | None, threads: int | None) -> tuple[Run, Facts, str]:
    """Return a function that runs a file, what the file says of itself, and its checksum.

    Args:
        path: of the file.
        device: ``"cpu"``, the default, or ``"cuda"`` where onnxruntime has it.
        threads: on the CPU; None for what onnxruntime chooses.

    Raises:
        ExportError: onnxruntime is missing.
        OptionValueError: the device is unknown or not there.
        CheckpointError: this is no ONNX file of segcore's.
    """
    runtime = library("onnxruntime", EXTRA)
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    if threads:
        options.intra_op_num_threads = threads
    try:
        content = path.read_bytes()
        session = runtime.InferenceSession(content, options, providers=_providers(runtime, device))
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}.") from error
    except OptionValueError:
        raise
    except Exception as error:
        raise CheckpointError(f"{str(path)!r} is no ONNX file that onnxruntime takes: {first_line(error)}") from error
    facts = Facts.read(session.get_modelmeta().custom_metadata_map, str(path))
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {name: images})  # type: ignore[no-any-return]

    return run, facts, hashlib.sha256(content).hexdigest()


def _providers(runtime: Any, device: str | None) -> list[str]:
    wanted = {None: "CPUExecutionProvider", "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if device not in wanted:
        raise OptionValueError(f"device={device!r}: the backend onnxruntime knows 'cpu' and 'cuda'.")
    provider = wanted[device]
    if provider not in runtime.get_available_providers():
        raise OptionValueError(
            f"device={device!r}: this onnxruntime offers {', '.join(runtime.get_available_providers())}. For 'cuda' "
            f"install onnxruntime-gpu in its place."
        )
    return [provider]
