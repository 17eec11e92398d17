"""Metrics: SMP's counts and scores, with every option, on random and odd inputs."""

import inspect
import warnings

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

SCORES = [name for name in smp.metrics.__all__ if name != "get_stats"]
REDUCTIONS = ("micro", "macro", "weighted", "micro-imagewise", "macro-imagewise", "weighted-imagewise", "none", None)


def equal(theirs, ours):
    for a, b in zip(theirs, ours, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), (a, b)


def both(*args, **options):
    return [library.metrics.get_stats(*args, **options) for library in (smp, segcore_smp)]


@pytest.mark.parametrize("ignore", [None, -1, 255])
@pytest.mark.parametrize("classes", [1, 2, 3, 21])
def test_stats_of_labels(classes, ignore):
    torch.manual_seed(0)
    for shape in ((3, 8, 5), (1, 4), (2, 3, 4, 5)):
        output, target = torch.randint(classes, shape), torch.randint(classes, shape)
        equal(*both(output, target, "multiclass", ignore_index=ignore, num_classes=classes))
        target[..., 0] = ignore or 0
        equal(*both(output, target, "multiclass", ignore_index=ignore, num_classes=classes))
        for dtype in (torch.int32, torch.int16):
            args = (output.to(dtype), target.to(dtype), "multiclass")
            equal(*both(*args, ignore_index=ignore, num_classes=classes))
        outside = (output + 1) % (classes + 1) - 1, target.where(target % 2 == 0, 300)  # labels of no class
        equal(*both(*outside, "multiclass", ignore_index=ignore, num_classes=classes))
        equal(*both(output, torch.full_like(target, ignore or 0), "multiclass", ignore, num_classes=classes))


def test_stats_of_bytes_and_slices():
    output, target = torch.randint(4, (2, 8, 6)).byte(), torch.randint(4, (2, 8, 6)).byte()
    target[0, 0] = 255
    equal(*both(output, target, "multiclass", ignore_index=255, num_classes=4))
    equal(*both(output.bool(), target.bool(), "multiclass", num_classes=2))
    equal(*both(output.mT, target.mT, "multiclass", num_classes=4))
    with pytest.raises(RuntimeError, match="view"):
        smp.metrics.get_stats(output.mT, target.mT, "multiclass", ignore_index=255, num_classes=4)
    straight = segcore_smp.metrics.get_stats(output, target, "multiclass", ignore_index=255, num_classes=4)
    equal(straight, segcore_smp.metrics.get_stats(output.mT, target.mT, "multiclass", 255, num_classes=4))


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_stats_of_masks(mode):
    torch.manual_seed(0)
    channels = 1 if mode == "binary" else 3
    for space in ((8, 5), (4,), (2, 3, 4), ()):
        shape = (2, channels, *space)
        output, target = torch.randint(2, shape), torch.randint(2, shape)
        equal(*both(output, target, mode))
        equal(*both(output.int(), target.byte(), mode))
        equal(*both(output.bool(), target.bool(), mode))
        equal(*both(torch.rand(shape), target, mode, threshold=0.5))
        equal(*both(torch.randn(shape).half(), target, mode, threshold=0.0))
        equal(*both(output * 255, target * 255, mode))  # wrong in both
    straight = segcore_smp.metrics.get_stats(torch.ones(2, 1, 3, 4).long().mT, torch.ones(2, 1, 4, 3).long(), mode)
    assert straight[0].tolist() == [[12], [12]]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 4),
    st.integers(1, 7),
    st.integers(1, 30),
    st.sampled_from([None, -1, 9]),
    st.integers(-2, 0),
    st.integers(0, 2**16),
)
def test_any_labels(n, classes, pixels, ignore, low, seed):
    torch.manual_seed(seed)
    output, target = torch.randint(low, classes + 2, (n, pixels)), torch.randint(low, classes + 3, (n, pixels))
    equal(*both(output, target, "multiclass", ignore_index=ignore, num_classes=classes))


def stats(kind):
    torch.manual_seed(0)
    random = [torch.randint(1, 50, (4, 3)) for _ in range(4)]
    if kind == "absent":
        random[0][:, 1] = random[1][:, 1] = random[2][:, 1] = 0
    if kind == "empty":
        return [torch.zeros(4, 3).long() for _ in range(4)]
    if kind == "no negatives":
        random[3][:] = random[1][:] = 0
    return [count[:, :1] if kind == "binary" else count for count in random]


def outcome(library, name, counts, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = getattr(library.metrics, name)(*counts, **options)
        except ValueError as error:
            return ValueError, None, isinstance(error, ValueError)
    return value, [w.category for w in caught], True


@pytest.mark.parametrize("kind", ["random", "absent", "empty", "no negatives", "binary"])
@pytest.mark.parametrize("name", SCORES)
def test_scores(name, kind):
    counts, compared = stats(kind), 0
    weights = [1.0] if kind == "binary" else [0.2, 3.0, 1.0]
    extra = [{}, {"beta": 2.0}, {"beta": 0.5}] if name == "fbeta_score" else [{}]
    for reduction in (*REDUCTIONS, "wrong"):
        for class_weights in (None, weights, [int(w) + 1 for w in weights]):
            for zero_division in (1.0, 0.0, 0, "warn", float("nan")):
                for more in extra:
                    options = {"class_weights": class_weights, "zero_division": zero_division, **more}
                    (a, wa, _), (b, wb, _) = (
                        outcome(library, name, counts, reduction=reduction, **options) for library in (smp, segcore_smp)
                    )
                    if a is ValueError:
                        assert b is ValueError
                        continue
                    assert wa == wb, (name, reduction, options)
                    assert a.dtype == b.dtype
                    assert a.shape == b.shape
                    assert torch.equal(a.nan_to_num(9e9), b.nan_to_num(9e9)), (name, reduction, options, a, b)
                    compared += 1
    assert compared >= 100


def test_warning_points_to_the_caller():
    with pytest.warns(UserWarning, match="Zero division") as caught:
        segcore_smp.metrics.iou_score(*stats("empty"), reduction="macro", zero_division="warn")
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="Zero division") as caught:
        segcore_smp.metrics.fbeta_score(*stats("empty"), zero_division="warn")
    assert caught[0].filename == __file__


def test_weights_as_a_tensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMP copies a tensor as torch advises against
        theirs = smp.metrics.iou_score(*stats("random"), reduction="weighted", class_weights=torch.tensor([1.0, 2, 3]))
    ours = segcore_smp.metrics.iou_score(
        *stats("random"), reduction="weighted", class_weights=torch.tensor([1.0, 2, 3])
    )
    assert torch.equal(theirs, ours)


def test_signatures():
    assert set(segcore_smp.metrics.__all__) == set(smp.metrics.__all__)
    for name in smp.metrics.__all__:
        theirs, ours = getattr(smp.metrics, name), getattr(segcore_smp.metrics, name)
        assert inspect.signature(theirs) == inspect.signature(ours), name
        assert theirs.__name__ == ours.__name__
        assert len(inspect.getdoc(ours)) > 100
        assert getattr(segcore_smp.metrics.functional, name) is ours
    assert segcore_smp.metrics.precision is segcore_smp.metrics.positive_predictive_value
    assert segcore_smp.metrics.recall is segcore_smp.metrics.sensitivity


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), "binary"), {"threshold": 0.5}),
        ((torch.zeros(1, 1, 2), torch.zeros(1, 1, 2).long(), "binary"), {}),
        ((torch.zeros(1, 2), torch.zeros(1, 2).long(), "multiclass"), {"threshold": 0.5}),
        ((torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), "multi"), {}),
        ((torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), "multiclass"), {"threshold": 0.5, "num_classes": 2}),
        ((torch.zeros(1, 1, 2).long(), torch.zeros(1, 2).long(), "binary"), {}),
        ((torch.zeros(1, 1, 2).long(), torch.zeros(1, 1, 2).long(), "binary"), {"ignore_index": 255}),
        ((torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), "multiclass"), {}),
        ((torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), "multiclass"), {"num_classes": 2, "ignore_index": 1}),
    ],
)
def test_what_is_refused(args, options):
    for library in (smp, segcore_smp):
        with pytest.raises(ValueError):
            library.metrics.get_stats(*args, **options)
