"""`export`: a model to a file of another runtime, which is kept only if it gives what the model gives."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import segcore
from segcore import OptionValueError, SegmentationModel
from segcore_plugin_export import onnx_format, openvino_format, torch_format
from segcore_plugin_export.check import Comparison, compare, odd_sizes, ordinary_sizes, small_sizes
from segcore_plugin_export.errors import ExportError
from segcore_plugin_export.metadata import Facts
from segcore_plugin_export.program import Size, Subject, subject_of

FORMATS: dict[str, ModuleType] = {
    "onnx": onnx_format,
    "torch-export": torch_format,
    "openvino": openvino_format,
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What `export` wrote.

    Attributes:
        path: of the file.
        format: its format.
        facts: the metadata in it.
        comparisons: all batches that it was compared on with the model.
    """

    path: Path
    format: str
    facts: Facts
    comparisons: tuple[Comparison, ...]

    @property
    def deviation(self) -> float:
        """Largest difference from the model, as a share of the largest score."""
        return max(comparison.deviation for comparison in self.comparisons)

    @property
    def labels(self) -> int:
        """Number of pixels of all batches whose class differs from the model's."""
        return sum(comparison.labels for comparison in self.comparisons)

    @property
    def sizes(self) -> str:
        """Which images the file takes, in words."""
        facts = self.facts
        if facts.size:
            return f"{facts.size[0]} x {facts.size[1]}"
        many = "any size" if facts.size_multiple == 1 else f"multiples of {facts.size_multiple}"
        return f"{many} from {facts.smallest} x {facts.smallest}"


def export(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the word for it
    *,
    size: Size | None = None,
    tolerance: float = 1e-4,
    licence: str | None = None,
) -> Exported:
    """Write a model for another runtime, and check the file by running it beside the model.

    The file takes batches of any number, and images of any height and width unless `size` is given. It is compared
    with the model on random images of several batches and sizes, small ones included, and appears under its name only
    if it agrees. Preprocessing is not part of the program; it is in the metadata, with all that `Facts` lists. The
    model is left as it is; what is exported is its form of evaluation, on the CPU, in float32.

    Args:
        model: built by `segcore.create_model` or loaded.
        path: of the file, with the suffix of the format; for OpenVINO a file ``.bin`` is written beside it.
        format: ``"onnx"`` (``.onnx``), ``"torch-export"`` (``.pt2``) or ``"openvino"`` (``.xml``); None for what the
            suffix says.
        size: height and width, for a program of one size; None for many. Networks built for one size need it.
        tolerance: largest deviation that is accepted: difference of a score divided by the largest score.
        licence: of the weights; None for that of the weights which the encoder started from.

    Returns:
        What was written, which images it takes and how much it deviates.

    Raises:
        ExportError: a library is missing, the model cannot be translated, or the program deviates from it.
        OptionValueError: for an unknown format, a suffix of another, a size that the model does not take, or a model
            without a config.
    """
    target = Path(path)
    name, kind = _format(target, format)
    if not tolerance > 0:
        raise OptionValueError(f"tolerance={tolerance!r} must be above 0.")
    kind.require()
    subject = subject_of(model, size)
    facts = _facts(model, subject, licence)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        draft = Path(folder) / target.name
        facts, comparisons = _written(kind, subject, draft, facts, tolerance)
        for file in sorted(Path(folder).iterdir()):  # .bin before .xml
            file.chmod(0o666 & ~_umask())
            file.replace(target.with_name(file.name))
    return Exported(target, name, facts, comparisons)


def _format(target: Path, name: str | None) -> tuple[str, ModuleType]:
    if name is None:
        name = next((key for key, kind in FORMATS.items() if target.suffix == kind.SUFFIX), None)
    if name not in FORMATS:
        known = ", ".join(f"{key!r} ({kind.SUFFIX})" for key, kind in FORMATS.items())
        raise OptionValueError(f"format={name!r} of {target.name!r}: a format is needed, one of {known}.")
    kind = FORMATS[name]
    if target.suffix != kind.SUFFIX:
        raise OptionValueError(f"a file of the format {name!r} ends in {kind.SUFFIX}, got {target.name!r}.")
    return name, kind


def _facts(model: SegmentationModel, subject: Subject, licence: str | None) -> Facts:
    config = model.config
    if config is None:
        raise OptionValueError("the model was assembled by hand and has no config. Build it with segcore.create_model.")
    if not isinstance(config["activation"], str | None):
        raise OptionValueError(
            f"activation={config['activation']!r} cannot be described in a file. Use a name such as 'sigmoid', or None."
        )
    origin: dict[str, Any] = config["encoder"].get("weights") or {}
    preprocessing, image_size = config.get("preprocessing"), config.get("image_size")
    return Facts(
        version=segcore.__version__,
        decoder=config["decoder"]["name"],
        encoder=config["encoder"]["name"],
        in_channels=subject.channels,
        classes=config["classes"],
        class_names=config.get("class_names"),
        activation=config["activation"],
        preprocessing=dict(preprocessing) if preprocessing else None,
        image_size=list(image_size) if image_size else None,
        licence=licence or origin.get("license"),
        outputs=list(subject.names),
        output_stride=max(model.encoder.strides),  # type: ignore[arg-type]
        tile_step=subject.step,
        size=list(subject.size) if subject.size else None,
    )


def _written(
    kind: ModuleType, subject: Subject, draft: Path, facts: Facts, tolerance: float
) -> tuple[Facts, tuple[Comparison, ...]]:
    """Write the file in the way that takes most sizes, and return its metadata and what was compared."""
    trouble = ""
    second: tuple[Any, list[Comparison]] | None = None
    for plan in kind.PLANS:
        if plan.multiples and (subject.size or second or subject.step == 1):
            continue
        try:
            graph = kind.build(subject, plan)
            kind.save(graph, draft, facts)
        except ExportError as error:
            trouble = trouble or str(error)
            continue
        run = kind.load(draft, None, None)[0]
        done = compare(subject, run, ordinary_sizes(subject))
        problem = _problem(done, tolerance)
        if problem:
            trouble = trouble or problem
            continue
        odd = [] if subject.size else compare(subject, run, odd_sizes(subject))
        if not _problem(odd, tolerance):
            return _finished(kind, graph, subject, draft, facts, [*done, *odd], tolerance)
        second = second or (graph, done)
    if second is None:
        raise ExportError(f"{facts.decoder} with {facts.encoder} cannot be exported: {trouble}")
    return _finished(kind, second[0], subject, draft, replace(facts, size_multiple=subject.step), second[1], tolerance)


def _problem(done: Sequence[Comparison], tolerance: float) -> str:
    worst = max(done, key=lambda comparison: comparison.deviation, default=None)
    if worst is None or worst.deviation <= tolerance:
        return ""
    if worst.problem:
        return f"for images of {worst.shape} it fails: {worst.problem}"
    return (
        f"for images of {worst.shape} it deviates by {worst.deviation:.1e} of the largest score, "
        f"{tolerance:.0e} is allowed."
    )


def _finished(
    kind: ModuleType,
    graph: Any,
    subject: Subject,
    draft: Path,
    facts: Facts,
    done: list[Comparison],
    tolerance: float,
) -> tuple[Facts, tuple[Comparison, ...]]:
    """Find out down to which size the program agrees, and write it with its final metadata."""
    kind.save(graph, draft, facts)
    if subject.size is None:
        run = kind.load(draft, None, None)[0]
        smallest = 4 * subject.unit
        for side in [side for side in small_sizes(subject) if side % facts.size_multiple == 0]:
            small = compare(subject, run, [(1, (side, side))])
            if _problem(small, tolerance):
                break
            smallest = side
            done += small
        facts = replace(facts, smallest=smallest)
        kind.save(graph, draft, facts)
    run, facts, _ = kind.load(draft, None, None)
    last = compare(subject, run, ordinary_sizes(subject)[:1])
    problem = _problem(last, tolerance)
    if problem:
        raise ExportError(f"the written file cannot be used: {problem}")
    return facts, tuple(done)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
