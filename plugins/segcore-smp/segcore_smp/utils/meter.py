"""Meters: running statistics of a training loop."""

# ruff: noqa: ANN001, ANN201, ANN204 - signatures equal SMP's, which has no annotations here
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from typing import Any

import numpy as np


class Meter:
    """The interface of meters, which does nothing."""

    def reset(self):
        """Forget all values."""

    def add(self, value):
        """Take a value."""

    def value(self):
        """Return the statistic."""


class AverageValueMeter(Meter):
    """Mean and standard deviation of values.

    Attributes:
        val: the latest value.
        sum: of all values.
        var: sum of their squares.
        n: how many they are.
        mean: of all values; NaN if there is none.
        std: with n - 1; NaN without a value, infinite with one.
    """

    def __init__(self):
        super().__init__()
        self.reset()
        self.val: Any = 0

    def reset(self):
        """Forget all values."""
        self.n = 0
        self.sum: Any = 0.0
        self.var: Any = 0.0
        self.val = 0.0
        self.mean: Any = np.nan
        self.mean_old: Any = 0.0
        self.m_s: Any = 0.0
        self.std: Any = np.nan

    def add(self, value, n=1):
        """Take a value; n is by how much the count grows, and values are meant to be sums of so many."""
        self.val = value
        self.sum = self.sum + value
        self.var = self.var + value * value
        self.n += n
        if self.n == 0:
            self.mean, self.std = np.nan, np.nan
        elif self.n == 1:
            self.mean, self.std, self.m_s = 0.0 + self.sum, np.inf, 0.0
            self.mean_old = self.mean
        else:
            self.mean = self.mean_old + (value - n * self.mean_old) / float(self.n)
            self.m_s = self.m_s + (value - self.mean_old) * (value - self.mean)
            self.std = np.sqrt(self.m_s / (self.n - 1.0))
            self.mean_old = self.mean

    def value(self):
        """Return mean and standard deviation."""
        return self.mean, self.std
