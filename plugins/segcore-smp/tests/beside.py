"""Runs a loss of SMP's and ours beside each other."""

import warnings
from typing import NamedTuple

import torch


class Result(NamedTuple):
    value: torch.Tensor | None  # None: an exception, or no tensor
    gradient: torch.Tensor | None
    error: Exception | None

    @property
    def is_number(self):
        return self.value is not None and self.value.numel() > 0 and bool(self.value.isfinite().all())


def run(loss, x, y):
    x = x.detach().clone().requires_grad_()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that broadcast
            value = loss(x, y.clone())
        if not isinstance(value, torch.Tensor):
            return Result(None, None, None)
        return Result(value.detach(), torch.autograd.grad(value.float().sum(), x)[0], None)
    except Exception as error:
        return Result(None, None, error)


def compare(theirs, ours, x, y, what):
    """Assert that ours equals theirs bit for bit, or gives a number where theirs gives none; say which it was."""
    a, b = run(theirs, x, y), run(ours, x, y)
    if a.error and b.error:
        assert type(a.error) in type(b.error).__mro__, (what, a.error, b.error)
        return "refused"
    assert b.value is not None, (what, a, b)
    if not a.is_number:
        assert b.is_number, (what, a, b)
        assert b.gradient.isfinite().all(), what
        return "repaired"
    assert (a.value.dtype, a.value.shape) == (b.value.dtype, b.value.shape), (what, a.value, b.value)
    assert torch.equal(a.value, b.value), (what, a.value, b.value)
    if a.gradient.isnan().any():
        assert b.gradient.isfinite().all(), what
        return "repaired"
    assert torch.equal(a.gradient, b.gradient), (what, (a.gradient - b.gradient).abs().max())
    return "equal"
