"""The deprecated training loop: SMP's numbers, names and logs."""

import importlib
import inspect
import warnings

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import segcore_smp.utils.base
    import segcore_smp.utils.functional
    import segcore_smp.utils.meter
    import segmentation_models_pytorch.utils.base
    import segmentation_models_pytorch.utils.functional
    import segmentation_models_pytorch.utils.meter

BOTH = (smp, segcore_smp)
LOSSES = ("JaccardLoss", "DiceLoss", "L1Loss", "MSELoss", "CrossEntropyLoss", "NLLLoss", "BCELoss", "BCEWithLogitsLoss")
METRICS = ("IoU", "Fscore", "Accuracy", "Recall", "Precision")


def test_it_is_deprecated():
    for library in BOTH:
        with pytest.warns(DeprecationWarning, match="utils"):
            importlib.reload(library.utils)


def test_signatures():
    for module in ("base", "functional", "losses", "meter", "metrics", "train"):
        theirs, ours = (getattr(library.utils, module) for library in BOTH)
        for name, value in vars(theirs).items():
            if getattr(value, "__module__", None) != theirs.__name__ or name.startswith("_"):
                continue
            mine = getattr(ours, name)
            assert inspect.signature(mine) == inspect.signature(value), (module, name)
            for method, function in vars(value).items() if inspect.isclass(value) else ():
                if inspect.isfunction(function) and not method.startswith("__"):
                    a, b = inspect.signature(function), inspect.signature(getattr(mine, method))
                    assert list(a.parameters) == list(b.parameters) or method == "_format_logs", (name, method)


@pytest.mark.parametrize("name", ["iou", "jaccard", "f_score", "accuracy", "precision", "recall"])
def test_functions(name):
    torch.manual_seed(0)
    theirs, ours = (getattr(library.utils.functional, name) for library in BOTH)
    pr, gt = torch.rand(2, 3, 4, 5), torch.randint(2, (2, 3, 4, 5)).float()
    for a, b in ((pr, gt), (pr, torch.zeros_like(gt)), (gt, gt), (pr.half(), gt.half()), (pr.double(), gt.double())):
        for threshold in (None, 0.5, 0.9):
            for ignored in (None, [0], (1, 2)):
                options = {"threshold": threshold, "ignore_channels": ignored}
                options |= {} if name == "accuracy" else {"eps": 1e-3}
                assert torch.equal(theirs(a, b, **options), ours(a, b, **options)), (name, options)
    if name == "f_score":
        assert torch.equal(theirs(pr, gt, 2.0), ours(pr, gt, 2.0))


def make(library, name, /, **options):
    return getattr(library.utils.losses if name.endswith("Loss") else library.utils.metrics, name)(**options)


@pytest.mark.parametrize("name", [*LOSSES, *METRICS])
def test_classes(name):
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    if name in {"CrossEntropyLoss", "NLLLoss"}:
        y = torch.randint(3, (2, 4, 5))
    x = x.sigmoid() if name == "BCELoss" else x.log_softmax(1) if name == "NLLLoss" else x
    own = name in {"JaccardLoss", "DiceLoss", *METRICS}
    for options in ({}, {"activation": "sigmoid"}, {"ignore_channels": [0], "name": "mine"})[: 3 if own else 1]:
        theirs, ours = (make(library, name, **options) for library in BOTH)
        assert theirs.__name__ == ours.__name__
        assert torch.equal(theirs(x, y), ours(x, y)), (name, options)


def test_sums_and_products():
    torch.manual_seed(0)
    x, y = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    for combine in (
        lambda u: u.DiceLoss() + u.BCELoss(),
        lambda u: 2 * u.DiceLoss(),
        lambda u: u.DiceLoss() * 0.5,
    ):
        theirs, ours = (combine(library.utils.losses) for library in BOTH)
        assert theirs.__name__ == ours.__name__
        assert torch.equal(theirs(x, y), ours(x, y))
    named = [2 * (library.utils.losses.DiceLoss() + library.utils.losses.BCELoss()) for library in BOTH]
    assert named[0].__name__ == named[1].__name__ == "2 * (dice_loss + bce_loss)"
    u = smp.utils.losses
    with pytest.raises(NotImplementedError):
        (u.DiceLoss() + u.BCELoss() + u.L1Loss())(x, y)
    u = segcore_smp.utils.losses
    parts = sum(loss(x, y) for loss in (u.DiceLoss(), 2 * u.BCELoss(), u.L1Loss()))
    assert torch.equal((u.DiceLoss() + 2 * u.BCELoss() + u.L1Loss())(x, y), parts)
    for library in BOTH:
        with pytest.raises(ValueError):
            library.utils.losses.DiceLoss() + 1
        with pytest.raises(ValueError):
            library.utils.losses.DiceLoss() * "x"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,11}", fullmatch=True))
def test_names_of_classes(name):
    theirs, ours = (type(name, (library.utils.base.Metric,), {})().__name__ for library in BOTH)
    assert theirs == ours


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 3)), max_size=6))
def test_meter(values):
    meters = [library.utils.meter.AverageValueMeter() for library in BOTH]
    for meter in meters:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a standard deviation of sums is not real
            for value, n in values:
                meter.add(value, n)
    theirs, ours = ({key: str(value) for key, value in vars(meter).items()} for meter in meters)
    assert theirs == ours
    assert [str(value) for value in meters[0].value()] == [str(value) for value in meters[1].value()]
    for meter in meters:
        meter.reset()
    assert {k: str(v) for k, v in vars(meters[0]).items()} == {k: str(v) for k, v in vars(meters[1]).items()}


def test_epochs(capsys):
    def trained(library):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1), torch.nn.BatchNorm2d(1), torch.nn.Sigmoid())
        data = [(torch.randn(2, 3, 8, 8), torch.randint(2, (2, 1, 8, 8)).float()) for _ in range(3)]
        u = library.utils
        options = {"loss": u.losses.DiceLoss(), "metrics": [u.metrics.IoU(threshold=0.5), u.metrics.Fscore()]}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train = u.train.TrainEpoch(model, optimizer=optimizer, device="cpu", verbose=False, **options)
        valid = u.train.ValidEpoch(model, device="cpu", verbose=False, **options)
        logs = [{k: float(v) for k, v in epoch.run(data).items()} for epoch in (train, valid, train)]
        loud = u.train.ValidEpoch(model, **options)
        assert loud.run(data).keys() == logs[0].keys()
        assert model.training is False
        return logs, model.state_dict()

    (theirs, a), (ours, b) = trained(smp), trained(segcore_smp)
    assert theirs == ours
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert list(ours[0]) == ["dice_loss", "iou_score", "fscore"]
    lines = [line.split("\r")[-1] for line in capsys.readouterr().out.split("\n")]
    assert any("valid: 100%" in line and "dice_loss - " in line for line in lines)
