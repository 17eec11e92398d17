"""OpenVINO files, a pair of ``.xml`` and ``.bin``: read from the ONNX graph, run by OpenVINO in float32."""

from __future__ import annotations

import hashlib
import io
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from segcore import CheckpointError, OptionValueError
from segcore_plugin_export import onnx_format
from segcore_plugin_export.check import Run
from segcore_plugin_export.errors import ExportError
from segcore_plugin_export.libraries import library
from segcore_plugin_export.metadata import PREFIX, Facts
from segcore_plugin_export.program import Plan, Subject, first_line

SUFFIX = ".xml"
EXTRA = "openvino"
PLANS = onnx_format.PLANS
_GROUP = "segcore"


def require() -> None:
    """Raise ExportError unless all that writing and checking need is installed."""
    onnx_format.require_exporter(EXTRA)
    library("openvino", EXTRA)


def build(subject: Subject, plan: Plan) -> Any:
    """Return the model as an OpenVINO graph in memory.

    Raises:
        ExportError: it cannot be translated.
    """
    from onnxscript import ir

    graph = onnx_format.build(subject, plan)
    buffer = io.BytesIO(ir.to_proto(graph).SerializeToString())
    try:
        return library("openvino", EXTRA).Core().read_model(buffer)
    except Exception as error:
        raise ExportError(f"OpenVINO does not read the model's ONNX graph: {first_line(error)}") from error


def save(model: Any, path: Path, facts: Facts) -> None:
    """Write a graph that `build` gave; the ``.xml`` knows the checksum of its ``.bin``."""
    openvino = library("openvino", EXTRA)
    for sums in (False, True):
        written = replace(facts, weights_sha256=_digest(_weights(path)) if sums else None)
        for name, text in written.texts().items():
            model.set_rt_info(text, [_GROUP, name.removeprefix(PREFIX)])
        openvino.save_model(model, path, compress_to_fp16=False)


def load(path: Path, device: str | None, threads: int | None) -> tuple[Run, Facts, str]:
    """Return a function that runs a pair of files, what it says of itself, and its checksum.

    Args:
        path: of the ``.xml``.
        device: ``"cpu"``, the default, or what OpenVINO offers, such as ``"gpu"``.
        threads: on the CPU; None for what OpenVINO chooses.

    Raises:
        ExportError: OpenVINO is missing.
        OptionValueError: the device is not there.
        CheckpointError: these are no files of segcore's, or do not belong together.
    """
    core = library("openvino", EXTRA).Core()
    place = (device or "cpu").upper()
    if place not in core.available_devices:
        raise OptionValueError(f"device={device!r}: OpenVINO finds {', '.join(core.available_devices).lower()} here.")
    try:
        digest = _digest(_weights(path))
        model = core.read_model(path)
        told = [field.name for field in fields(Facts) if model.has_rt_info([_GROUP, field.name])]
        texts = {f"{PREFIX}{name}": str(model.get_rt_info([_GROUP, name]).value) for name in told}
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}.") from error
    except Exception as error:
        raise CheckpointError(f"{str(path)!r} is no file that OpenVINO takes: {first_line(error)}") from error
    facts = Facts.read(texts, str(path))
    if facts.weights_sha256 != digest:
        raise CheckpointError(
            f"{str(path)!r} and {str(_weights(path))!r} do not belong together. Export the model again."
        )
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where the processor has it
    if threads and place == "CPU":
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, place, options)

    def run(images: np.ndarray) -> list[np.ndarray]:
        answers = compiled([images])
        return [np.array(answers[index]) for index in range(len(compiled.outputs))]

    return run, facts, hashlib.sha256(path.read_bytes() + digest.encode()).hexdigest()


def _weights(path: Path) -> Path:
    return path.with_suffix(".bin")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
