"""What is trained how fast: parameter groups, schedules, frozen parts, and a moving average of the weights."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segcore import OptionValueError, SegmentationModel
from segcore_plugin_train.sharding import own_part
from segcore_plugin_train.wording import near_match, shorten

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("poly", "cosine", "constant")


def parameter_groups(
    model: SegmentationModel, lr: float, encoder_lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return up to four groups: encoder and the rest, each with and without weight decay.

    Biases and the parameters of norms, all that have one dimension, do not decay.

    Args:
        model: what is trained; parameters without gradient are left out.
        lr: learning rate.
        encoder_lr: factor of the encoder's.
        weight_decay: of all other parameters.
    """
    inside = {id(parameter) for parameter in model.encoder.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in inside, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise OptionValueError("there is nothing to train: every parameter is frozen.")
    return [
        {
            "params": parameters,
            "lr": lr * (encoder_lr if of_encoder else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
            "name": ("encoder" if of_encoder else "rest") + ("" if decays else ", no decay"),
        }
        for (of_encoder, decays), parameters in sorted(groups.items())
    ]


def make_optimizer(name: str, groups: list[dict[str, Any]], momentum: float = 0.9) -> torch.optim.Optimizer:
    """Return an optimiser: ``"adamw"``, or ``"sgd"`` with Nesterov momentum."""
    if name == "adamw":
        return torch.optim.AdamW(groups)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0)
    raise OptionValueError(
        f"optimizer={name!r} is unknown; it is {' or '.join(map(repr, OPTIMIZERS))}." + near_match(name, OPTIMIZERS)
    )


def schedule(name: str, steps: int, warmup: int = 0) -> Callable[[int], float]:
    """Return the factor of the learning rate at a step, counted from 0.

    Args:
        name: ``"poly"``, (1 - t)^0.9; ``"cosine"``, half a wave; ``"constant"``. t goes from 0 to 1 over the steps.
        steps: number of all.
        warmup: first steps, over which the factor grows linearly to 1.

    Raises:
        OptionValueError: for another name.
    """
    if name not in SCHEDULES:
        raise OptionValueError(
            f"schedule={name!r} is unknown; it is {', '.join(map(repr, SCHEDULES))}." + near_match(name, SCHEDULES)
        )

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        t = min(1.0, (step - warmup) / max(1, steps - warmup))
        if name == "poly":
            return float((1 - t) ** 0.9)
        return 0.5 * (1 + math.cos(math.pi * t)) if name == "cosine" else 1.0

    return factor


class Frozen:
    """Parts of a model that are not trained: no gradients, and evaluation mode.

    Args:
        model: the model.
        patterns: names of modules, ``"encoder"`` or ``"encoder.layer1"``, shell-style patterns of them, or classes of
            modules, ``"BatchNorm2d"``.

    Raises:
        OptionValueError: a pattern fits no module.
    """

    def __init__(self, model: nn.Module, patterns: Sequence[str]) -> None:
        named = {name: module for name, module in model.named_modules() if name}
        self.modules: list[nn.Module] = []
        for pattern in patterns:
            found = [
                module
                for name, module in named.items()
                if fnmatch.fnmatchcase(name, pattern) or type(module).__name__ == pattern
            ]
            if not found:
                close = near_match(pattern, named) or f" Modules are {shorten(named, 8)}."
                raise OptionValueError(f"freeze={pattern!r} fits no module of the model.{close}")
            self.modules += found

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of the parts; other objects once the model is divided over processes."""
        return list({id(p): p for module in self.modules for p in module.parameters()}.values())

    def set_gradients(self, wanted: bool) -> None:
        """Let the parameters have gradients, or not."""
        for parameter in self.parameters:
            parameter.requires_grad_(wanted)

    def drop_gradients(self) -> None:
        """Forget gradients, so that an optimiser leaves the parameters alone."""
        for parameter in self.parameters:
            parameter.grad = None

    def set_mode(self, training: bool) -> None:
        """Put the modules into training mode, or into evaluation mode, in which norms do not learn statistics."""
        for module in self.modules:
            module.train(training)


class MovingAverage:
    """Averages a model into another one: ``average = d * average + (1 - d) * model``, statistics of norms included.

    Args:
        decay: d, reached slowly: at step n it is at most (1 + n) / (10 + n).

    Raises:
        OptionValueError: the decay is not between 0 and 1.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise OptionValueError(f"ema={decay!r}: a decay between 0 and 1 is needed, such as 0.999.")
        self.decay = decay

    @torch.no_grad()
    def update(self, average: nn.Module, model: nn.Module, step: int) -> None:
        """Take a model into the average after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
        real = [(own_part(old), own_part(new)) for old, new in pairs if old.is_floating_point()]
        if real:
            olds: list[Tensor] = [old for old, _ in real]
            torch._foreach_lerp_(olds, [new for _, new in real], 1 - decay)
        for old, new in pairs:
            if not old.is_floating_point():
                old.copy_(new)
