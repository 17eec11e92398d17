"""Losses: the numbers and gradients of SMP's, bit for bit."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from beside import MODES, NAMES, REGION, batch, compare, inputs

sys.path.pop(0)


OPTIONS = {
    "DiceLoss": [
        {},
        {"log_loss": True},
        {"smooth": 1.0},
        {"eps": 1e-3},
        {"from_logits": False},
        {"ignore_index": 255},
        {"ignore_index": 1},
        {"ignore_index": 255, "log_loss": True, "smooth": 0.5},
    ],
    "FocalLoss": [
        {},
        {"alpha": 0.25},
        {"gamma": 0.0},
        {"gamma": 0.5},
        {"gamma": 1.5},
        {"from_logits": False},
        {"from_logits": False, "eps": 1e-3},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"reduction": "batchwise_mean"},
        {"normalized": True},
        {"reduced_threshold": 0.5},
        {"ignore_index": 255},
        {"ignore_index": 1, "alpha": 0.25},
        {"ignore_index": 255, "normalized": True, "reduction": "sum"},
    ],
    "LovaszLoss": [
        {},
        {"per_image": True},
        {"from_logits": False},
        {"ignore_index": 255},
        {"ignore_index": 1, "per_image": True},
        {"ignore_index": 255, "per_image": True},
    ],
}
OPTIONS["JaccardLoss"] = OPTIONS["DiceLoss"]
OPTIONS["TverskyLoss"] = [
    *OPTIONS["DiceLoss"],
    {"alpha": 0.3, "beta": 0.7},
    {"gamma": 2.0},
    {"gamma": 0.75},
    {"gamma": 4 / 3, "ignore_index": 255, "log_loss": True},
]
SEVERAL_CLASSES = [
    {"class_weights": [1.0, 2.0, 0.5]},
    {"class_weights": [1, 2, 3], "ignore_index": 255},
]
CHOSEN_CLASSES = [{"classes": [0, 2]}, {"classes": [0, 2], "class_weights": [1.0, 2.0, 0.5], "ignore_index": 255}]


def options_of(name, mode):
    more = [] if mode == "binary" or name == "LovaszLoss" else SEVERAL_CLASSES
    return OPTIONS[name] + more + (CHOSEN_CLASSES if mode != "binary" and name in REGION else [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(name, mode):
    seen = Counter()
    for options in options_of(name, mode):
        theirs, ours = (getattr(library.losses, name)(mode, **options) for library in (smp, segcore_smp))
        for label, x, y in inputs(mode):
            if "255" in label and options.get("ignore_index") != 255:
                continue  # labels that are none
            if name == "LovaszLoss" and label in {"soft", "target float", "target 255 float"} and mode != "binary":
                continue
            if name == "LovaszLoss" and mode == "multiclass" and x.ndim == 3:
                continue  # taken for images of one class
            if options.get("from_logits") is False and name != "LovaszLoss":
                x = x.softmax(1) if mode == "multiclass" else x.sigmoid()  # noqa: PLW2901
            seen[compare(theirs, ours, x, y, (name, mode, options, label))] += 1
    assert seen["equal"] > 0.6 * seen.total(), seen
    assert seen["refused"] < 0.1 * seen.total(), seen


def test_soft_cross_entropy():
    seen = Counter()
    for options in (
        {},
        {"smooth_factor": 0.0},
        {"smooth_factor": 0.1},
        {"smooth_factor": 0.1, "ignore_index": None},
        {"smooth_factor": 0.1, "reduction": "sum"},
        {"smooth_factor": 0.1, "reduction": "none"},
        {"smooth_factor": 0.1, "reduction": "none", "ignore_index": None},
        {"smooth_factor": 0.1, "ignore_index": 255},
        {"smooth_factor": 0.0, "ignore_index": 1},
    ):
        theirs, ours = (library.losses.SoftCrossEntropyLoss(**options) for library in (smp, segcore_smp))
        for label, x, y in inputs("multiclass"):
            if "255" not in label or options.get("ignore_index") == 255:
                seen[compare(theirs, ours, x, y, (options, label))] += 1
    assert seen["equal"] > 0.6 * seen.total(), seen
    assert not seen["refused"]


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_soft_bce(mode):
    seen = Counter()
    for options in (
        {},
        {"ignore_index": None},
        {"ignore_index": 255},
        {"smooth_factor": 0.1},
        {"smooth_factor": 0.1, "ignore_index": 255, "reduction": "sum"},
        {"reduction": "none"},
        {"pos_weight": torch.tensor(2.0), "weight": torch.tensor([0.5])},
    ):
        theirs, ours = (library.losses.SoftBCEWithLogitsLoss(**options) for library in (smp, segcore_smp))
        for label, x, y in inputs(mode):
            seen[compare(theirs, ours, x, y, (options, label))] += 1
            seen[compare(theirs, ours, x, y.to(x.dtype), (options, label, "floating"))] += 1
    assert seen["equal"] > 0.5 * seen.total(), seen
    assert not seen["refused"]


def test_mcc():
    seen = Counter()
    for options in ({}, {"eps": 1e-2}):
        theirs, ours = (library.losses.MCCLoss(**options) for library in (smp, segcore_smp))
        for label, x, y in inputs("binary"):
            if "255" in label or x.dtype is torch.float16:
                continue
            seen[compare(theirs, ours, x.sigmoid(), y, (options, label))] += 1
    assert seen["equal"] == seen.total() > 20


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(
    name=st.sampled_from(NAMES),
    mode=st.sampled_from(MODES),
    shape=st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(1, 5), st.integers(1, 5)),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    ignore=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_batch(name, mode, shape, scale, share, ignore, seed):
    torch.manual_seed(seed)
    n, c, h, w = shape
    x = torch.randn(n, 1 if mode == "binary" else c, h, w) * scale
    y = torch.randint(c, (n, h, w)) if mode == "multiclass" else (torch.rand(x.shape) < share).long()
    if ignore:
        y[torch.rand(y.shape) < share] = 255
    options = {"ignore_index": 255} if ignore else {}
    theirs, ours = (getattr(library.losses, name)(mode, **options) for library in (smp, segcore_smp))
    compare(theirs, ours, x, y, (name, mode, options))


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives_and_autocast(mode):
    x, y = batch(mode, (8, 6))
    for name in NAMES:
        results = []
        for library in (smp, segcore_smp):
            loss = getattr(library.losses, name)(mode)
            z = x.clone().requires_grad_()
            (first,) = torch.autograd.grad(loss(z, y), z, create_graph=True)
            second = torch.autograd.grad(first.square().sum(), z)[0] if first.requires_grad else first
            with torch.autocast("cpu", torch.bfloat16):
                results.append((second.detach(), loss(x.bfloat16(), y) if name != "LovaszLoss" else loss(x, y)))
        for theirs, ours in zip(*results, strict=True):
            assert theirs.dtype == ours.dtype
            assert torch.equal(theirs, ours), (name, theirs, ours)


@pytest.mark.parametrize("name", ["DiceLoss", "FocalLoss", "TverskyLoss"])
def test_compiled_without_a_break(name):
    x, y = batch("multiclass", (4, 4))
    x.requires_grad_()
    y[0] = 255
    for library in (smp, segcore_smp):
        loss = getattr(library.losses, name)("multiclass", ignore_index=255)
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x, y), loss(x, y))
