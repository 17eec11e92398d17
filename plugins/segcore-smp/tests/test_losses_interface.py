"""Losses: what programs see of them, and the functions behind them."""

import copy
import inspect
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch

import segcore

sys.path.insert(0, str(Path(__file__).parent))
from beside import NAMES, REGION, batch, compare

sys.path.pop(0)


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
