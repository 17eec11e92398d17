"""Batches for losses, and a loss of SMP's beside ours."""

import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F

MODES = ("binary", "multiclass", "multilabel")
REGION = ("DiceLoss", "JaccardLoss", "TverskyLoss")
NAMES = (*REGION, "FocalLoss", "LovaszLoss")
CLASSES = 3


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


def batch(mode, space):
    x = torch.randn(2, 1 if mode == "binary" else CLASSES, *space)
    return x, torch.randint(CLASSES, (2, *space)) if mode == "multiclass" else torch.randint(2, x.shape)


def inputs(mode):
    """Yield a label, logits and a target; targets with 255 have a label that says so."""
    torch.manual_seed(0)
    channels = 1 if mode == "binary" else CLASSES
    for space in ((7,), (2, 3, 4)):
        x, y = batch(mode, space)
        yield f"{space}", x, y
        ignored = y.clone()
        ignored[0] = 255
        yield f"255 {space}", x, ignored
    x, y = batch(mode, (8, 6))
    ignored = y.clone()
    ignored[..., 0] = 255
    ignored[0] = 255
    yield "random", x, y
    yield "nothing there", x, torch.zeros_like(y)
    yield "everything there", x, torch.ones_like(y)
    yield "saturated", x.sign() * 60, y
    yield "large", x * 1000, y
    yield "perfect", (F.one_hot(y, 3).movedim(-1, 1) if mode == "multiclass" else y) * 40.0 - 20, y
    yield "255", x, ignored
    yield "all 255", x, torch.full_like(y, 255)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        yield str(dtype), x.to(dtype), y
        yield f"255 {dtype}", x.to(dtype), ignored
    for dtype in (torch.uint8, torch.int32):
        yield str(dtype), x, y.to(dtype)
    if mode != "multiclass":
        yield "soft", x, torch.rand(y.shape)
        yield "target float", x, y.float()
        yield "target 255 float", x, ignored.float()
    if mode == "binary":
        yield "target without channel", x, y[:, 0]
    x = torch.randn(2, 8, 6, channels).movedim(-1, 1)
    yield "not contiguous", x, torch.randint(2, (2, *(() if mode == "multiclass" else (channels,)), 6, 8)).mT
    yield "one pixel", torch.randn(1, channels, 1, 1), torch.ones_like(y[:1, ..., :1, :1])
