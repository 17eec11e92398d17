"""A model as a graph that takes batches and images of many sizes: what every format starts from."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as tracing
from torch import Tensor

from segcore import InputError, OptionValueError, SegmentationModel
from segcore_plugin_export.errors import ExportError

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as it is exported.

    Attributes:
        network: in evaluation mode on the CPU, float32.
        names: of the outputs: ``mask``, then ``label`` if there is a classification head.
        channels: of the image.
        step: multiple at which the network samples: the least common multiple of its strides and padding.
        size: height and width of the image, if the program is for one size.
        level: of one class, the score above which a pixel belongs to it.
    """

    network: SegmentationModel
    names: tuple[str, ...]
    channels: int
    step: int
    size: Size | None
    level: float

    @property
    def unit(self) -> int:
        """The multiple of the step of which the sizes that are traced and compared consist."""
        return _unit(self.step)


def _unit(step: int) -> int:
    return step * -(-32 // step)  # 32 or more: nobody refuses images of several such units for being small


def outputs_of(answer: object) -> tuple[object, ...]:
    """Return what a model or program returned as a tuple."""
    return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


def subject_of(model: SegmentationModel, size: Size | None) -> Subject:
    """Return what is exported of a model, which stays as it is.

    Raises:
        OptionValueError: the model needs a size, or another one.
        ExportError: the model returns something else than a mask, or a mask and labels.
    """
    tensors = [*itertools.chain(model.parameters(), model.buffers())]
    plain = all(t.device.type == "cpu" and t.dtype in {torch.float32, torch.int64, torch.bool} for t in tensors)
    shared = {id(tensor): tensor for tensor in tensors} if plain else {}
    network = copy.deepcopy(model, shared).eval().cpu().float()
    strides: tuple[int, ...] = model.encoder.strides  # type: ignore[assignment]
    multiple: int = model.encoder.size_multiple  # type: ignore[assignment]
    channels: int = model.encoder.in_channels  # type: ignore[assignment]
    step = math.lcm(max(strides), multiple)
    image = torch.zeros(1, channels, *(size or (4 * _unit(step), 5 * _unit(step))))
    try:
        with torch.inference_mode():
            outputs = outputs_of(network(image))
    except InputError as error:
        advice = "Choose another size." if size else "Export it for one size: size=(height, width), --size HxW."
        raise OptionValueError(
            f"the model refuses images of {image.shape[2]} x {image.shape[3]}: {error} {advice}"
        ) from error
    if not all(isinstance(output, Tensor) for output in outputs) or len(outputs) > 2:
        kinds = ", ".join(type(output).__name__ for output in outputs)
        raise ExportError(
            f"a model that returns a mask, or a mask and labels, can be exported; this one gives {kinds}."
        )
    level = 0.5 if (model.config or {}).get("activation") in {"sigmoid", "softmax"} else 0.0
    return Subject(network, ("mask", "label")[: len(outputs)], channels, step, size, level)


@dataclass(frozen=True, slots=True)
class Plan:
    """One way of tracing.

    Attributes:
        oblivious: whether a size of 1 counts as any other, so that no condition on it is kept.
        multiples: whether height and width are declared as multiples of the step.
    """

    oblivious: bool = False
    multiples: bool = False


def trace(subject: Subject, plan: Plan) -> torch.export.ExportedProgram:
    """Return the graph of a model.

    Raises:
        ExportError: torch cannot trace it.
    """
    height, width = subject.size or (7 * subject.unit, 9 * subject.unit)
    image = torch.zeros(2, subject.channels, height, width)
    try:
        free = torch.export.Dim.DYNAMIC
        dynamic: dict[int, Any] = {0: free}
        if subject.size is None and plan.multiples:
            dynamic |= {2: subject.step * torch.export.Dim("rows"), 3: subject.step * torch.export.Dim("columns")}
        elif subject.size is None:
            dynamic |= {2: free, 3: free}
        with quiet(), torch.no_grad(), tracing.patch(backed_size_oblivious=plan.oblivious):  # type: ignore[attr-defined]
            return torch.export.export(subject.network, (image,), dynamic_shapes=(dynamic,), strict=False)
    except Exception as error:
        raise ExportError(f"torch.export cannot trace the model: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the kind of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and log messages of exporters, which are about their own code, from the user."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
