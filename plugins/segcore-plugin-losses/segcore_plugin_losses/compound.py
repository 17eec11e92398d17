"""A weighted sum of losses over one output or several, which is deep supervision."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore import InputError, OptionValueError, UnknownOptionError, create_loss
from segcore_plugin_losses.inputs import MODES, check_choice, check_ignore_index, check_number

MAIN = "logits"


class CompoundLoss(nn.Module):
    """Weighted sum of losses, of one output or of several.

    Outputs may be a tensor; a mapping by name, as models with auxiliary heads give in training
    (``{"logits": ..., "aux_0": ...}``); or a list, finest first. An output of another size than the target is resized
    to it, linearly.

    Args:
        mode: ``"binary"``, ``"multiclass"`` or ``"multilabel"``, for every part.
        parts: names of losses, each of any installed package or registered, or a mapping from names to weights.
        weights: factors by part, 1 where not given.
        outputs: factors by name of the output, or by shell-style pattern, ``{"logits": 1, "aux_*": 0.4}``; the first
            that matches counts, and an output that none matches is left out. A list has the names ``"0"``, ``"1"``.
            None: 1 for ``"logits"`` and 0.4 for all others of a mapping; for a list halves, 1, 1/2, 1/4, ..., scaled
            to the sum of 1.
        options: options by part, ``{"dice": {"smooth": 0.0}}``.
        ignore_index: for every part; one that does not take it is an error.
        weight: per class, likewise.

    Raises:
        OptionValueError, UnknownOptionError, UnknownNameError: when built.
        InputError: when called with outputs that cannot be used.
    """

    def __init__(
        self,
        mode: str,
        *,
        parts: Sequence[str] | Mapping[str, float] = ("dice", "ce"),
        weights: Mapping[str, float] | None = None,
        outputs: Mapping[str, float] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        check_choice("mode", mode, MODES)
        check_ignore_index(ignore_index)
        names = (parts,) if isinstance(parts, str) else tuple(parts)
        if not names or len(set(names)) < len(names):
            raise OptionValueError(f"parts={parts!r}: one or more names of losses are needed, each once.")
        given = {**(dict(parts) if isinstance(parts, Mapping) else {}), **(weights or {})}
        for what, keys in (("weights", given), ("options", options or {})):
            for name in keys:
                if name not in names:
                    raise UnknownOptionError(f"{what} has {name!r}, which is no part; parts are {', '.join(names)}.")
        self.mode = mode
        self.weights = {name: check_number(f"weights[{name!r}]", given.get(name, 1.0), 0) for name in names}
        self.outputs = outputs and {
            name: check_number(f"outputs[{name!r}]", factor, 0) for name, factor in outputs.items()
        }
        shared = {"ignore_index": ignore_index, "weight": weight}
        shared = {name: value for name, value in shared.items() if value is not None}
        built = {name: create_loss(name, mode=mode, **shared, **(options or {}).get(name, {})) for name in names}
        for name, part in built.items():
            if getattr(part, "reduction", "mean") == "none":
                raise OptionValueError(f"{name!r} is a part of a sum, so reduction='none' cannot be used.")
        self.parts = nn.ModuleList(part if isinstance(part, nn.Module) else _Module(part) for part in built.values())

    def forward(self, output: Tensor | Mapping[str, Tensor] | Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the sum of `terms`."""
        return torch.stack(list(self.terms(output, target).values())).sum()

    def terms(self, output: Tensor | Mapping[str, Tensor] | Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Return what the sum consists of, weighted, for logging: by part, or by output and part, ``"aux_0/dice"``."""
        found = {}
        for name, logits, factor in self._chosen(output):
            fitted = _fit(logits, target)
            for (part, weight), loss in zip(self.weights.items(), self.parts, strict=True):
                found[f"{name}/{part}" if name else part] = factor * weight * loss(fitted, target)
        return found

    def _chosen(self, output: Any) -> list[tuple[str, Tensor, float]]:
        """Return name, logits and factor of every output that counts."""
        if isinstance(output, Tensor):
            return [("", output, 1.0)]
        if isinstance(output, list):
            named = {str(index): value for index, value in enumerate(output)}
            factors = [2.0**-index for index in range(len(output))]
            default = {name: factor / sum(factors) for name, factor in zip(named, factors, strict=True)}
        elif isinstance(output, Mapping):
            named, default = dict(output), {MAIN: 1.0, "*": 0.4}
        else:
            hint = " A model with a classification head gives (mask, label): pass the mask." * isinstance(output, tuple)
            raise InputError(f"a tensor, a mapping or a list of outputs is needed, got {type(output).__name__}.{hint}")
        factors_by_name = default if self.outputs is None else self.outputs
        chosen = []
        for name, value in named.items():
            factor = next((f for pattern, f in factors_by_name.items() if fnmatch.fnmatchcase(name, pattern)), 0.0)
            if factor:
                chosen.append((name, value, factor))
        if not chosen:
            raise InputError(f"no output counts: there are {', '.join(named) or 'none'}, and outputs={self.outputs!r}.")
        return chosen

    def extra_repr(self) -> str:
        """Return the factors."""
        return f"{self.mode!r}, weights={self.weights}" + (f", outputs={self.outputs}" if self.outputs else "")


class _Module(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.function(output, target)


def _fit(logits: Tensor, target: Tensor) -> Tensor:
    """Return logits in fp32 or fp64, so that the gradients of the parts are added in that, resized to the target."""
    if not isinstance(logits, Tensor) or not isinstance(target, Tensor):
        return logits  # the parts say what is wrong
    if logits.dtype in {torch.float16, torch.bfloat16}:
        logits = logits.float()
    if not 3 <= logits.ndim <= 5:
        return logits
    rank = logits.ndim - 2
    size = target.shape[-rank:]
    if logits.shape[2:] == size or target.ndim < rank + 1:
        return logits
    return F.interpolate(logits, size=size, mode=("linear", "bilinear", "trilinear")[rank - 1], align_corners=False)
