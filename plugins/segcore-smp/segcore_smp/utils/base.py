"""Losses and metrics with a name, under which a training loop logs them."""

# ruff: noqa: ANN001, ANN204 - signatures equal SMP's, which has no annotations here
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import re

from torch import Tensor, nn

from segcore import OptionValueError


class BaseObject(nn.Module):
    """A module with a name: the one given, or that of its class in snake case."""

    def __init__(self, name=None):
        super().__init__()
        self._name: str | None = name

    @property
    def __name__(self) -> str:
        if self._name is not None:
            return self._name
        name = type(self).__qualname__.rpartition(".")[2]
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()


class Metric(BaseObject):
    """A metric with a name."""


class Loss(BaseObject):
    """A loss with a name; losses can be added, and multiplied by numbers."""

    def __add__(self, other: object) -> SumOfLosses:
        if not isinstance(other, Loss):
            raise OptionValueError(f"a loss plus {type(other).__name__}: only losses of utils can be added.")
        return SumOfLosses(self, other)

    def __radd__(self, other: object) -> SumOfLosses:
        return self + other

    def __mul__(self, value: object) -> MultipliedLoss:
        if not isinstance(value, int | float):
            raise OptionValueError(f"a loss times {type(value).__name__}: a number is needed.")
        return MultipliedLoss(self, value)

    def __rmul__(self, other: object) -> MultipliedLoss:
        return self * other


class SumOfLosses(Loss):
    """Two losses, added."""

    def __init__(self, l1, l2):
        super().__init__(name=f"{l1.__name__} + {l2.__name__}")
        self.l1 = l1
        self.l2 = l2

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the sum; sums and products of losses may be parts of it."""
        total: Tensor = self.l1(*inputs) + self.l2(*inputs)
        return total


class MultipliedLoss(Loss):
    """A loss times a number."""

    def __init__(self, loss, multiplier):
        name = f"({loss.__name__})" if "+" in loss.__name__ else loss.__name__
        super().__init__(name=f"{multiplier} * {name}")
        self.loss = loss
        self.multiplier = multiplier

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the product."""
        product: Tensor = self.multiplier * self.loss(*inputs)
        return product
