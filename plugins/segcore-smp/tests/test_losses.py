"""Losses: the numbers and gradients of SMP's, bit for bit; where SMP crashes or gives NaN, a number."""

import copy
import inspect
import pickle
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import segcore

sys.path.insert(0, str(Path(__file__).parent))
from beside import compare, run

sys.path.pop(0)

MODES = ("binary", "multiclass", "multilabel")
REGION = ("DiceLoss", "JaccardLoss", "TverskyLoss")
NAMES = (*REGION, "FocalLoss", "LovaszLoss")
LOW = (torch.float16, torch.bfloat16)
CLASSES = 3

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


# What SMP lacks, crashes at or turns into NaN


def test_half_precision_does_not_overflow():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 256, 256), torch.randint(3, (2, 256, 256))
    for name in REGION:
        assert getattr(smp.losses, name)("multiclass")(x.half(), y).isnan()
        ours = getattr(segcore_smp.losses, name)("multiclass")
        torch.testing.assert_close(ours(x.half(), y).float(), ours(x, y), rtol=2e-3, atol=2e-3)
        assert ours(x.half(), y).dtype is torch.float16
        low, full = (run(ours, z, y).gradient.float() for z in (x.half(), x))
        assert ((low - full).norm() / full.norm()) < 0.05
    p, z = x[:, :1].sigmoid(), y[:, None] % 2
    assert not smp.losses.MCCLoss()(p.half(), z.half()) < 2  # NaN, or 1 - 0 / inf with a gradient of NaN
    ours = segcore_smp.losses.MCCLoss()
    torch.testing.assert_close(ours(p.half(), z.half()).float(), ours(p, z), rtol=2e-3, atol=2e-3)
    assert ours(p.half(), z.half()).dtype is torch.float16
    for name in ("multiclass", "binary"):
        a, b = (x, y) if name == "multiclass" else (x[:, :1], z)
        loss = segcore_smp.losses.LovaszLoss(name)
        torch.testing.assert_close(loss(a.half(), b), loss(a, b), rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(loss(a.double(), b), loss(a, b).double(), rtol=1e-4, atol=1e-4)


def test_focal_of_what_is_ignored():
    x, y = torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 255)
    for mode, target in (("binary", y), ("multiclass", y), ("multilabel", y[:, None].expand(-1, 3, -1, -1))):
        loss = segcore_smp.losses.FocalLoss(mode, ignore_index=255)
        result = run(loss, x[:, :1] if mode == "binary" else x, target)
        assert result.value == 0
        assert not result.gradient.any()
    labels = torch.randint(2, x.shape)
    some = labels.clone()
    some[:, 1, 0] = 255
    with pytest.raises(IndexError):
        smp.losses.FocalLoss("multilabel", ignore_index=255)(x, some)
    each = F.binary_cross_entropy_with_logits(x, labels.float(), reduction="none")
    each = (1 - (-each).exp()) ** 2 * each
    mean = torch.stack([each[:, c][some[:, c] != 255].mean() for c in range(3)]).mean()
    torch.testing.assert_close(segcore_smp.losses.FocalLoss("multilabel", ignore_index=255)(x, some), mean)


@pytest.mark.parametrize("dtype", LOW)
def test_focal_of_low_precision_probabilities(dtype):
    p, y = torch.tensor([[[[1.0, 1.0, 0.25]]]], dtype=dtype), torch.tensor([[[[1, 0, 1]]]])
    assert not smp.losses.FocalLoss("binary", from_logits=False)(p, y).isfinite()
    result = run(segcore_smp.losses.FocalLoss("binary", from_logits=False), p, y)
    assert result.is_number
    assert result.gradient.isfinite().all()
    wide = segcore_smp.losses.FocalLoss("binary", from_logits=False, reduction="none")(p.float(), y)
    kept = segcore_smp.losses.FocalLoss("binary", from_logits=False, reduction="none")(p, y)
    torch.testing.assert_close(kept[[0, 2]].float(), wide[[0, 2]], rtol=2e-2, atol=1e-2)
    assert kept[1] > 5


def test_powers_have_gradients():
    x, y = torch.tensor([[[[40.0, -40.0]]]]), torch.tensor([[[[1, 0]]]])
    for loss in (
        segcore_smp.losses.FocalLoss("binary", gamma=0.5),
        segcore_smp.losses.TverskyLoss("binary", gamma=0.75),
        segcore_smp.losses.TverskyLoss("binary", gamma=1.5),
    ):
        result = run(loss, x, y)
        assert result.value.item() == pytest.approx(0, abs=1e-6)
        assert result.gradient.isfinite().all()
    assert run(smp.losses.FocalLoss("binary", gamma=0.5), x, y).gradient.isnan().any()
    assert run(smp.losses.TverskyLoss("binary", gamma=0.75), x, torch.zeros_like(y)).gradient.isnan().any()
    below = torch.tensor([-1.2e-7])  # what rounding leaves of 1 - 1
    assert smp.losses.TverskyLoss("binary", gamma=0.75).aggregate_loss(below).isnan()
    assert segcore_smp.losses.TverskyLoss("binary", gamma=0.75).aggregate_loss(below) == 0


def test_lovasz_without_pixels():
    x, y = torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 255)
    for options in ({"ignore_index": 255}, {"ignore_index": 255, "per_image": True}, {}):
        result = run(segcore_smp.losses.LovaszLoss("multiclass", **options), x, y)
        assert result.value == 0
        assert result.value.shape == ()
        assert not result.gradient.any()
    assert smp.losses.LovaszLoss("multiclass", ignore_index=255)(x, y).numel() == 0
    half = y.clone()
    half[0] = torch.randint(3, (4, 4))
    one = segcore_smp.losses.LovaszLoss("multiclass")(x[:1], half[:1])
    both = segcore_smp.losses.LovaszLoss("multiclass", ignore_index=255, per_image=True)(x, half)
    torch.testing.assert_close(both, one / 2)  # an image without pixels counts as 0, as SMP's binary mode has it


def test_defaults_of_soft_losses():
    x, y = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    with pytest.raises(TypeError):
        smp.losses.SoftCrossEntropyLoss()(x, y)
    ours = segcore_smp.losses.SoftCrossEntropyLoss()
    torch.testing.assert_close(ours(x, y), F.cross_entropy(x, y))
    torch.testing.assert_close(ours(x, y.byte()), F.cross_entropy(x, y))
    z = y % 2
    with pytest.raises(ValueError, match="size"):
        smp.losses.SoftBCEWithLogitsLoss()(x[:, :1], z.float())
    expected = F.binary_cross_entropy_with_logits(x[:, 0], z.float())
    for target in (z, z.bool(), z[:, None], z.float()):
        torch.testing.assert_close(segcore_smp.losses.SoftBCEWithLogitsLoss()(x[:, :1], target), expected)
        smooth = segcore_smp.losses.SoftBCEWithLogitsLoss(smooth_factor=0.0)
        torch.testing.assert_close(smooth(x[:, :1], target), expected)
    inf = torch.where(z[:, None] == 1, torch.inf, x[:, :1])
    hidden = torch.where(z == 1, 255, z)
    result = run(segcore_smp.losses.SoftBCEWithLogitsLoss(ignore_index=255), inf, hidden)
    assert result.is_number
    assert run(smp.losses.SoftBCEWithLogitsLoss(ignore_index=255), inf, hidden[:, None].float()).value.isnan()


# What programs see of them


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_signatures():
    assert set(segcore_smp.losses.__all__) == set(smp.losses.__all__)
    for name in smp.losses.__all__:
        theirs, ours = getattr(smp.losses, name), getattr(segcore_smp.losses, name)
        if isinstance(theirs, str):
            assert theirs == ours
            continue
        assert inspect.signature(theirs) == inspect.signature(ours), name
        assert issubclass(ours, torch.nn.modules.loss._Loss) == issubclass(theirs, torch.nn.modules.loss._Loss)
        module = theirs.__module__.replace("segmentation_models_pytorch", "segcore_smp")
        assert ours is getattr(sys.modules[module], name)
        for method in ("forward", "compute_score", "aggregate_loss"):
            if hasattr(theirs, method):
                assert parameters(getattr(theirs, method)) == parameters(getattr(ours, method)), (name, method)
    assert issubclass(segcore_smp.losses.TverskyLoss, segcore_smp.losses.DiceLoss)


def make(library):
    losses = library.losses
    yield from (losses.DiceLoss("binary"), losses.JaccardLoss("multiclass", classes=[0], class_weights=[1, 2]))
    yield from (losses.TverskyLoss("multilabel", gamma=2.0), losses.LovaszLoss("binary"), losses.MCCLoss())
    yield losses.FocalLoss("multiclass", alpha=0.3, class_weights=[1.0, 2.0])
    yield losses.SoftBCEWithLogitsLoss(weight=torch.ones(2), pos_weight=torch.ones(1))
    yield losses.SoftCrossEntropyLoss(smooth_factor=0.1)


def test_attributes():
    for theirs, ours in zip(make(smp), make(segcore_smp), strict=True):
        assert repr(ours) == repr(theirs)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert vars(ours).keys() == vars(theirs).keys()
        for name, value in vars(theirs).items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(getattr(ours, name), value)
                assert getattr(ours, name).dtype == value.dtype
            elif not name.startswith("_") and name != "focal_loss_fn":
                assert getattr(ours, name) == value
        assert repr(pickle.loads(pickle.dumps(ours))) == repr(copy.deepcopy(ours)) == repr(ours)
    theirs, ours = (library.losses.FocalLoss("binary", alpha=0.3).focal_loss_fn for library in (smp, segcore_smp))
    assert ours.keywords == theirs.keywords


def test_class_lists_of_every_kind():
    x, y = batch("multiclass", (8, 6))
    for classes in ([0, 2], (1,), torch.tensor([2]), np.array([0, 1]), range(2)):
        for weights in (None, [1.0, 2.0, 3.0], torch.tensor([1.0, 2.0, 3.0])):
            theirs, ours = (
                library.losses.DiceLoss("multiclass", classes=classes, class_weights=weights)(x, y)
                for library in (smp, segcore_smp)
            )
            assert torch.equal(theirs, ours)


def test_subclasses():
    def of(library):
        class Squared(library.losses.DiceLoss):
            def compute_score(self, output, target, smooth=0.0, eps=1e-7, dims=None):
                return super().compute_score(output, target, smooth, eps, dims).square()

            def aggregate_loss(self, loss):
                return super().aggregate_loss(loss) + loss.max()

        return Squared("multiclass", smooth=0.5)

    x, y = batch("multiclass", (8, 6))
    assert compare(of(smp), of(segcore_smp), x, y, "a subclass") == "equal"


def test_errors():
    x, y = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    for library in (smp, segcore_smp):
        for name in NAMES:
            with pytest.raises(AssertionError):
                getattr(library.losses, name)("multi")
            if name != "LovaszLoss":
                with pytest.raises(ValueError, match="class_weights"):
                    getattr(library.losses, name)("binary", class_weights=[1.0])
            if name in REGION:
                with pytest.raises(AssertionError):
                    getattr(library.losses, name)("binary", classes=[0])
                with pytest.raises(AssertionError):
                    getattr(library.losses, name)("multiclass")(x, y[:1])
        with pytest.raises(AssertionError):
            library.losses._functional.soft_dice_score(x, y)
    with pytest.raises(segcore.OptionValueError, match=r"mode='multi': it is 'binary', 'multiclass' or 'multilabel'"):
        segcore_smp.losses.DiceLoss("multi")
    for probas, classes in ((torch.rand(2, 4, 4), "present"), (torch.rand(2, 1, 4, 4), "all")):
        for library in (smp, segcore_smp):
            with pytest.raises(ValueError):
                library.losses.lovasz._lovasz_softmax(probas, torch.zeros(2, 4, 4), classes=classes)


def with_options(function, options, x, y):
    return function(x, y, **options)


def test_functional():
    theirs, ours = smp.losses._functional, segcore_smp.losses._functional
    assert set(ours.__all__) == set(theirs.__all__)
    names = [name for name, value in vars(theirs).items() if inspect.isfunction(value)]
    assert {"to_tensor", "soft_tversky_score", "label_smoothed_nll_loss"} < set(names)
    for name in names:
        assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(theirs, name)), name
    torch.manual_seed(0)
    x, y, labels = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    calls = {
        "focal_loss_with_logits": [
            (y, {**a, **b})
            for a in ({}, {"gamma": 1.5}, {"alpha": None}, {"normalized": True}, {"reduced_threshold": 0.4})
            for b in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"reduction": "batchwise_mean"})
        ],
        "softmax_focal_loss_with_logits": [
            (labels, {**a, **b})
            for a in ({}, {"gamma": 1.5}, {"normalized": True}, {"reduced_threshold": 0.4})
            for b in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"reduction": "batchwise_mean"})
        ],
        "soft_dice_score": [(y, {}), (y, {"dims": (0, 2)}), (y, {"dims": 1, "smooth": 1.0, "eps": 0.1})],
        "soft_jaccard_score": [(y, {}), (y, {"dims": (0, 2)}), (y, {"dims": 1, "smooth": 1.0, "eps": 0.1})],
        "soft_tversky_score": [(y, {"alpha": 0.2, "beta": 0.9}), (y, {"alpha": 1, "beta": 0, "dims": (2, 3)})],
        "wing_loss": [(y * 20, {"reduction": r, "width": w}) for r in ("mean", "sum", "none") for w in (5, 0.5)],
        "label_smoothed_nll_loss": [
            (target, {"epsilon": 0.1, "dim": 1, "ignore_index": ignore, "reduction": r})
            for target in (labels, labels[:, None])
            for ignore in (None, 1)
            for r in ("mean", "sum", "none")
        ],
    }
    for name, cases in calls.items():
        for target, options in cases:
            a, b = (partial(with_options, getattr(library, name), options) for library in (theirs, ours))
            assert compare(a, b, x, target, (name, options)) == "equal"
    for value in ([1, 2], (1.5,), np.ones(2), torch.ones(2)):
        for dtype in (None, torch.long):
            a, b = theirs.to_tensor(value, dtype), ours.to_tensor(value, dtype)
            assert torch.equal(a, b)
            assert a.dtype == b.dtype
    assert ours.to_tensor(3) is theirs.to_tensor(3) is None


def test_lovasz_functions():
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    theirs, ours = smp.losses.lovasz, segcore_smp.losses.lovasz
    for name in ("_lovasz_softmax", "_lovasz_hinge"):
        assert parameters(getattr(theirs, name)) == parameters(getattr(ours, name))
    for classes in ("present", "all", [0, 2]):
        for per_image in (False, True):
            for ignore in (None, 1):
                options = {"classes": classes, "per_image": per_image, "ignore": ignore}
                a, b = (partial(with_options, f._lovasz_softmax, options) for f in (theirs, ours))
                assert compare(a, b, x, y, (classes, per_image, ignore)) == "equal"
    one = torch.rand(2, 4, 5)
    a, b = (lambda x, y, f=f: f._lovasz_softmax(x, y, [0]) for f in (theirs, ours))
    assert compare(a, b, one, y, "one class") == "equal"
    a, b = (lambda x, y, f=f: f._lovasz_hinge(x, y) for f in (theirs, ours))
    assert compare(a, b, one, y % 2, "hinge") == "equal"
    assert torch.equal(theirs._lovasz_grad(torch.tensor([1, 0, 1])), ours._lovasz_grad(torch.tensor([1, 0, 1])))


def test_correct_losses_are_beside_them():
    """The constants of the modes serve both interfaces."""
    x, y = batch("multiclass", (8, 6))
    loss = segcore.create_loss("dice", mode=segcore_smp.losses.MULTICLASS_MODE, smooth=0.0)
    torch.testing.assert_close(loss(x, y), segcore_smp.losses.DiceLoss("multiclass")(x, y))
