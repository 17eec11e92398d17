"""Counts and scores against torchmetrics, segmentation_models_pytorch and the definitions."""

import subprocess
import sys

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchmetrics.classification as tm
from segcore_plugin_losses.metrics import (
    BoundaryIoU,
    ConfusionMatrix,
    Score,
    boundary_stats,
    confusion_matrix,
    get_stats,
    score,
)
from torchmetrics import MetricCollection

from segcore import InputError, OptionValueError

K = 5


def pair(*shape, classes=K, seed=0, ignored=0.0):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(classes, shape, generator=generator)
    true = torch.where(torch.rand(shape, generator=generator) < 0.5, predicted, predicted.roll(1, -1))
    return predicted, true.masked_fill(torch.rand(shape, generator=generator) < ignored, 255)


def by_hand(predicted, true, classes, ignore_index=None):
    """The mIoU of mmsegmentation: areas of intersection and union over the whole set, nan where there is neither."""
    keep = np.ones(true.shape, bool) if ignore_index is None else true.numpy() != ignore_index
    p, t = predicted.numpy()[keep], true.numpy()[keep]
    area = [np.histogram(a, bins=classes, range=(0, classes))[0].astype(float) for a in (p[p == t], p, t)]
    with np.errstate(invalid="ignore"):
        return area[0] / (area[1] + area[2] - area[0]), area[0] / area[2]


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 11), (3, 9, 13), (2, 5, 6, 7)])
def test_get_stats_is_smps_multiclass(shape):
    predicted, true = pair(*shape, ignored=0.2)
    true_smp = true.masked_fill(true == 255, -1)
    for ours, theirs in zip(
        get_stats(predicted, true, "multiclass", 255, num_classes=K),
        smp.metrics.get_stats(predicted, true_smp, mode="multiclass", num_classes=K, ignore_index=-1),
        strict=True,
    ):
        assert ours.dtype == torch.int64
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_get_stats_is_smps_with_a_threshold(mode):
    output, true = torch.rand(3, 1 if mode == "binary" else 4, 9, 13), torch.randint(2, (3, 1, 9, 13))
    true = true.expand_as(output).contiguous()
    expected = smp.metrics.get_stats(output, true, mode=mode, threshold=0.5)
    for ours, theirs in zip(get_stats(output, true, mode, threshold=0.5), expected, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(get_stats(output.logit(), true, mode), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_ignored_pixels_do_not_count_in_any_mode():
    output, true = torch.randn(2, 3, 6, 7), torch.randint(2, (2, 3, 6, 7))
    left = true.clone()
    left[0, 1, 2:] = 255
    tp, fp, fn, tn = get_stats(output, left, "multilabel", 255)
    assert torch.equal(tp + fp + fn + tn, (left != 255).sum((2, 3)))
    assert tp[0, 1] == ((output[0, 1, :2] > 0) & (true[0, 1, :2] == 1)).sum()
    whole = get_stats(output[:, 1:2], left[:, 1], "binary", 255)
    assert [value[0, 0] for value in whole] == [tp[0, 1], fp[0, 1], fn[0, 1], tn[0, 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16])
@pytest.mark.parametrize("ignore_index", [255, -1, -100, 70000])
def test_labels_of_any_integer_type(dtype, ignore_index):
    predicted, true = pair(2, 8, 8)
    expected = confusion_matrix(predicted, true, "multiclass", num_classes=K)
    assert torch.equal(
        confusion_matrix(predicted.to(dtype), true.to(dtype), "multiclass", ignore_index, num_classes=K), expected
    )


def test_an_ignore_index_that_the_type_cannot_hold_ignores_nothing():
    true = torch.tensor([[156, 255]], dtype=torch.uint8)  # -100 and -1 modulo 256
    for ignore_index in (-100, -1):
        with pytest.raises(InputError, match="has the value 255"):
            get_stats(torch.zeros(1, 2, dtype=torch.long), true, "multiclass", ignore_index, num_classes=2)


@pytest.mark.parametrize("classes", [2, 180, 181, 300])
def test_many_classes(classes):
    predicted, true = pair(2, 40, 40, classes=classes, ignored=0.1)
    keep = true != 255 if classes < 256 else torch.ones_like(true, dtype=torch.bool)
    matrix = confusion_matrix(predicted, true, "multiclass", 255 if classes < 256 else None, num_classes=classes)
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    expected.index_put_((true[keep], predicted[keep]), torch.tensor(1), accumulate=True)
    assert torch.equal(matrix, expected)


def test_values_out_of_range_are_told():
    predicted, true = pair(2, 8, 8)
    for wrong in (K, 255, -1, 2**15, 2**16, 2**40):
        bad = true.clone()
        bad[1, 3, 3] = wrong
        with pytest.raises(
            InputError, match=f"the target has the value {wrong}; values from 0 to 4.*ignore_index={wrong}"
        ):
            get_stats(predicted, bad, "multiclass", num_classes=K)
        with pytest.raises(InputError, match=f"the target has the value {wrong};"):
            get_stats(predicted, bad, "multiclass", 7, num_classes=K)
        ignoring = bad.clone()
        ignoring[1, 0] = 7
        with pytest.raises(InputError, match=f"the target has the value {wrong};"):
            get_stats(predicted, ignoring, "multiclass", 7, num_classes=K)
        ignoring[1, 0] = -100
        with pytest.raises(InputError, match=f"the target has the value {wrong};"):
            get_stats(predicted, ignoring, "multiclass", -100, num_classes=K)
        with pytest.raises(InputError, match=f"the output has the value {wrong};"):
            get_stats(bad, true, "multiclass", num_classes=K)
    with pytest.raises(InputError, match="the target has the value 2; values from 0 to 1"):
        get_stats(torch.zeros(1, 1, 2), torch.tensor([[0, 2]]), "binary")


@pytest.mark.parametrize(
    ("output", "target", "mode", "options", "error", "told"),
    [
        (torch.zeros(2, 3, 8), torch.zeros(2, 8), "multiclass", {}, InputError, "integer tensor"),
        (torch.zeros(2, 3, 8), torch.zeros(2, 9).long(), "multiclass", {}, InputError, r"must have shape \(2, 8\)"),
        (
            torch.zeros(2, 8).long(),
            torch.zeros(2, 8).long(),
            "multiclass",
            {},
            OptionValueError,
            "num_classes is needed",
        ),
        (torch.zeros(2, 3, 8), torch.zeros(2, 8).long(), "multiclass", {"threshold": 1}, OptionValueError, "threshold"),
        (torch.zeros(2, 1, 8).long(), torch.zeros(2, 8), "binary", {"threshold": 1}, OptionValueError, "threshold"),
        (torch.zeros(2, 1, 8), torch.full((2, 8), 0.5), "binary", {}, InputError, "in between"),
        (torch.zeros(2, 3, 8), torch.zeros(2, 8), "multilabel", {}, InputError, r"must have shape \(2, 3, 8\)"),
        (torch.zeros(2, 3, 8), [1], "multilabel", {}, InputError, "got a list"),
        (torch.zeros(2, 3, 8), torch.zeros(2, 8), "multi", {}, OptionValueError, "mode='multi'"),
        (
            torch.zeros(2, 3, 8),
            torch.zeros(2, 8),
            "binary",
            {"ignore_index": 0.5},
            OptionValueError,
            "ignore_index=0.5",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused(output, target, mode, options, error, told):
    with pytest.raises(error, match=told):
        get_stats(output, target, mode, **options)


# --- scores against torchmetrics and mmsegmentation ---------------------------------------------------------------------


@pytest.mark.parametrize("ignore_index", [None, 255, 2])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "none"])
def test_iou_is_torchmetrics_jaccard_index(average, ignore_index):
    ours = ConfusionMatrix(K + 2, ignore_index=ignore_index)  # two classes never occur
    theirs = tm.MulticlassJaccardIndex(K + 2, average=average, ignore_index=ignore_index)
    for seed in range(3):
        predicted, true = pair(2, 9, 13, seed=seed, ignored=0.2 if ignore_index == 255 else 0.0)
        ours.update(predicted, true)
        theirs.update(predicted, true)
    value, expected = ours.score("iou", average=average).float(), theirs.compute()
    if average == "none":
        assert value[K:].isnan().all()
        value = value.nan_to_num()
    torch.testing.assert_close(value, expected)


def test_iou_and_recall_are_mmsegmentations():
    predicted, true = pair(4, 17, 19, ignored=0.3)
    iou, acc = by_hand(predicted, true, K + 1, 255)
    seen = ConfusionMatrix(K + 1, ignore_index=255).update(predicted, true)
    np.testing.assert_allclose(seen.score("iou", average=None), iou, rtol=1e-12)
    np.testing.assert_allclose(seen.score("iou"), np.nanmean(iou), rtol=1e-12)
    np.testing.assert_allclose(seen.score("recall"), np.nanmean(acc), rtol=1e-12)
    keep = true != 255
    assert seen.score("accuracy", average="micro") == (predicted == true)[keep].double().mean()


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "none"])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("dice", tm.MulticlassF1Score),
        ("precision", tm.MulticlassPrecision),
        ("recall", tm.MulticlassRecall),
        ("specificity", tm.MulticlassSpecificity),
        ("accuracy", tm.MulticlassAccuracy),
    ],
)
def test_scores_are_those_of_torchmetrics(name, theirs, average):
    predicted, true = pair(4, 9, 13, ignored=0.2)
    expected = theirs(K, average=average, ignore_index=255)(predicted, true)
    ours = ConfusionMatrix(K, ignore_index=255).update(predicted, true).score(name, average=average)
    torch.testing.assert_close(ours.float(), expected)


@pytest.mark.parametrize("name", ["iou", "accuracy", "precision", "recall", "specificity"])
def test_binary_and_multilabel_are_those_of_torchmetrics(name):
    names = {"iou": "JaccardIndex"}
    kind = names.get(name, name.capitalize())
    output, true = torch.rand(3, 4, 9, 9), torch.randint(2, (3, 4, 9, 9))
    expected = getattr(tm, f"Multilabel{kind}")(4, average="none")(output, true)
    seen = ConfusionMatrix(4, "multilabel", threshold=0.5).update(output, true)
    torch.testing.assert_close(seen.score(name, average=None).float(), expected)
    expected = getattr(tm, f"Binary{kind}")()(output[:, 0], true[:, 0])
    seen = ConfusionMatrix(mode="binary", threshold=0.5).update(output[:, :1], true[:, 0])
    torch.testing.assert_close(seen.score(name).float(), expected)


def test_fbeta():
    predicted, true = pair(4, 9, 13)
    ours = ConfusionMatrix(K).update(predicted, true).score("fbeta", beta=2.0)
    torch.testing.assert_close(ours.float(), tm.MulticlassFBetaScore(2.0, K, average="macro")(predicted, true))


def test_per_image_is_the_mean_over_images():
    predicted, true = pair(4, 9, 13)
    stats = get_stats(predicted, true, "multiclass", num_classes=K)
    each = [score([value[i] for value in stats], "iou") for i in range(4)]
    torch.testing.assert_close(score(stats, "iou", per_image=True), torch.stack(each).mean())
    assert score(stats, "iou", per_image=True) != score(stats, "iou")
    per_class = score(stats, "iou", per_image=True, average=None)
    torch.testing.assert_close(
        per_class[1], torch.stack([score([v[i] for v in stats], average=None)[1] for i in range(4)]).mean()
    )


# --- absent classes and weights -----------------------------------------------------------------------------------------


def test_absent_classes():
    predicted, true = torch.tensor([[0, 0, 2, 1]]), torch.tensor([[0, 0, 1, 1]])  # 2 is not there, 3 nowhere
    stats = get_stats(predicted, true, "multiclass", num_classes=4)
    assert score(stats).item() == pytest.approx((1 + 0.5 + 0) / 3)
    assert score(stats, absent="exclude_untrue").item() == pytest.approx((1 + 0.5) / 2)
    assert score(stats, absent=1.0).item() == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert score(stats, absent=0.0).item() == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert score(stats, average=None).isnan().tolist() == [False, False, False, True]
    nothing = [torch.zeros(2, 3, dtype=torch.long)] * 4
    for average in ("macro", "micro", "weighted"):
        for per_image in (False, True):
            assert score(nothing, average=average, per_image=per_image).isnan()
            if average != "weighted":
                assert score(nothing, average=average, per_image=per_image, absent=1.0) == 1


def test_a_perfect_prediction_scores_one_with_every_average():
    predicted, _ = pair(3, 9, 13)
    stats = get_stats(predicted, predicted, "multiclass", num_classes=K)
    for average in ("macro", "micro", "weighted"):
        for per_image in (False, True):
            assert score(stats, average=average, per_image=per_image).item() == pytest.approx(1)
    weights = torch.tensor([1.0, 2, 3, 4, 0])
    assert score(stats, average="weighted", class_weights=weights, per_image=True).item() == pytest.approx(1)


def test_class_weights():
    predicted, true = pair(3, 9, 13)
    stats = get_stats(predicted, true, "multiclass", num_classes=K)
    weights = torch.tensor([1.0, 2, 3, 4, 0])
    expected = (score(stats, average=None) * weights).sum() / 10
    torch.testing.assert_close(score(stats, average="weighted", class_weights=weights), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "miou"},
        {"average": "mean"},
        {"absent": "skip"},
        {"absent": "a number"},
        {"absent": 2.0},
        {"class_weights": torch.ones(K)},
        {"average": "weighted", "class_weights": torch.ones(K + 1)},
        {"beta": -1.0, "name": "fbeta"},
    ],
)
def test_wrong_options_of_scores(options):
    stats = get_stats(*pair(1, 4, 4), "multiclass", num_classes=K)
    with pytest.raises(OptionValueError, match=r"miou|mean|absent|2\.0|class_weights|beta"):
        score(stats, **options)
    with pytest.raises(OptionValueError, match="per image"):
        score([value[0] for value in stats], per_image=True)


# --- streaming ----------------------------------------------------------------------------------------------------------


def test_batches_add_up_to_the_whole():
    predicted, true = pair(6, 9, 13, ignored=0.2)
    whole = ConfusionMatrix(K, ignore_index=255).update(predicted, true)
    first, second = ConfusionMatrix(K, ignore_index=255), ConfusionMatrix(K, ignore_index=255)
    first.update(predicted[:1], true[:1]).update(predicted[1:4], true[1:4])
    second.update(predicted[4:], true[4:])
    first += second
    assert torch.equal(first.matrix, whole.matrix)
    assert repr(whole) == f"<ConfusionMatrix: multiclass, 5 classes, {(true != 255).sum()} pixels>"
    for ours, stats in zip(whole.stats(), get_stats(predicted, true, "multiclass", 255, num_classes=K), strict=True):
        assert torch.equal(ours, stats.sum(0))
    first.reset()
    assert first.matrix.sum() == 0
    with pytest.raises(InputError, match="count different things"):
        whole += ConfusionMatrix(K)
    with pytest.raises(InputError, match="logits"):
        whole.update(torch.zeros(1, 3, 4), torch.zeros(1, 4).long())
    with pytest.raises(InputError, match="num_classes is 3"):
        ConfusionMatrix(3, "multilabel").update(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))


def test_logits_and_labels_count_the_same():
    logits, true = torch.randn(2, K, 9, 13), torch.randint(K, (2, 9, 13))
    ours = ConfusionMatrix(K).update(logits, true)
    assert torch.equal(ours.matrix, ConfusionMatrix(K).update(logits.argmax(1), true[:, None]).matrix)


@pytest.mark.parametrize(
    ("classes", "mode"),
    [(None, "multiclass"), (1, "multiclass"), (2, "binary"), (0, "multilabel"), (2.0, "multiclass")],
)
def test_numbers_of_classes(classes, mode):
    with pytest.raises(OptionValueError, match="num_classes="):
        ConfusionMatrix(classes, mode)


WORKER = """
import sys, torch, torch.distributed as dist
from segcore_plugin_losses.metrics import ConfusionMatrix
rank, path = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
seen = ConfusionMatrix(3)
seen.update(torch.full((1, 4 + rank), rank), torch.full((1, 4 + rank), 1))
whole = seen.reduce()
assert seen.matrix.sum() == 4 + rank, "the own counts stay"
assert whole.matrix.tolist() == [[0, 0, 0], [4, 5, 0], [0, 0, 0]], whole.matrix
dist.destroy_process_group()
"""


def test_counts_of_two_processes_are_added(tmp_path):
    command = [sys.executable, "-c", WORKER]
    running = [subprocess.Popen([*command, str(rank), str(tmp_path / "meet")]) for rank in range(2)]
    assert [process.wait() for process in running] == [0, 0]


def test_without_distribution_reduce_is_a_copy():
    seen = ConfusionMatrix(2).update(torch.zeros(1, 3).long(), torch.zeros(1, 3).long())
    whole = seen.reduce().update(torch.ones(1, 3).long(), torch.zeros(1, 3).long())
    assert (seen.matrix.sum(), whole.matrix.sum()) == (3, 6)


# --- boundary IoU -------------------------------------------------------------------------------------------------------


def band_by_hand(mask, steps):
    inner = np.pad(mask, 1)
    for _ in range(steps):
        shifted = [np.roll(inner, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        inner = np.logical_and.reduce(shifted)
        inner[[0, -1]] = inner[:, [0, -1]] = False
    return mask & ~inner[1:-1, 1:-1]


@pytest.mark.parametrize("width", [1, 3, 0.05])
def test_boundary_iou_is_that_of_masks_eroded_by_hand(width):
    y, x = np.mgrid[:40, :50]
    a = ((y - 20) ** 2 + (x - 20) ** 2 < 200) | (x > 44)
    b = (y - 18) ** 2 + (x - 22) ** 2 < 220
    steps = width if width >= 1 else round(width * np.hypot(40, 50))
    one, other = band_by_hand(a, steps), band_by_hand(b, steps)
    stats = boundary_stats(torch.tensor(a)[None, None], torch.tensor(b)[None], "binary", width=width)
    assert [v.item() for v in stats] == [
        (one & other).sum(),
        (one & ~other).sum(),
        (~one & other).sum(),
        (~one & ~other).sum(),
    ]
    both = boundary_stats(
        torch.tensor(a)[None].long(), torch.tensor(b)[None].long(), "multiclass", num_classes=2, width=width
    )
    assert [v[0, 1].item() for v in both] == [v.item() for v in stats]


def test_boundaries_in_other_dimensions_and_with_ignored_pixels():
    for space in ((9,), (5, 6, 7)):
        labels = torch.randint(3, (2, *space))
        assert score(boundary_stats(labels, labels, "multiclass", num_classes=3, width=1)) == 1
    labels = torch.zeros(1, 9, 9, dtype=torch.long)
    labels[:, 3:6, 3:6] = 1
    target = labels.clone()
    target[:, 0] = 255
    stats = boundary_stats(labels, target, "multiclass", 255, num_classes=2, width=1)
    assert (stats.tp + stats.fp + stats.fn + stats.tn).tolist() == [[72, 72]]
    assert stats.tp[0, 1] == 8
    with pytest.raises(InputError, match="has the value"):
        boundary_stats(labels, labels + 3, "multiclass", num_classes=3)
    with pytest.raises(InputError, match="one to three spatial dimensions, got 4"):
        boundary_stats(torch.zeros(1, 1, 2, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2), "binary")


# --- torchmetrics -------------------------------------------------------------------------------------------------------


def test_metrics_of_torchmetrics():
    metrics = MetricCollection(
        {
            "iou": Score("iou", K, ignore_index=255),
            "per_image": Score("iou", K, ignore_index=255, per_image=True),
            "each": Score("dice", K, ignore_index=255, average=None, per_image=True),
            "boundary": BoundaryIoU(K, ignore_index=255, width=1),
        }
    )
    predicted, true = pair(6, 9, 13, ignored=0.2)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        metrics.update(predicted[part], true[part])
    stats = get_stats(predicted, true, "multiclass", 255, num_classes=K)
    values = metrics.compute()
    torch.testing.assert_close(values["iou"], score(stats))
    torch.testing.assert_close(values["per_image"], score(stats, per_image=True))
    torch.testing.assert_close(values["each"], score(stats, "dice", per_image=True, average=None))
    bands = boundary_stats(predicted, true, "multiclass", 255, num_classes=K, width=1)
    torch.testing.assert_close(values["boundary"], score(bands))
    metrics.reset()
    metrics.update(predicted[:1], predicted[:1])
    assert metrics.compute()["iou"] == 1


def test_a_metric_of_a_batch_and_of_other_modes():
    metric = Score("dice", mode="binary", threshold=0.5)
    output, true = torch.rand(2, 1, 8, 8), torch.randint(2, (2, 8, 8))
    torch.testing.assert_close(metric(output, true), score(get_stats(output, true, "binary", threshold=0.5), "dice"))
    metric = Score("accuracy", 4, "multilabel")
    output, true = torch.randn(2, 4, 8), torch.randint(2, (2, 4, 8))
    assert metric(output, true) == ((output > 0) == true).double().mean()
    with pytest.raises(OptionValueError, match="score='miou'"):
        Score("miou", 3)


def test_without_torchmetrics_the_rest_works():
    code = (
        "import sys; sys.modules['torchmetrics'] = None\n"
        "import segcore_plugin_losses.metrics as m\n"
        "assert not hasattr(m, 'Nothing')\n"
        "try: m.Score\n"
        "except ModuleNotFoundError as error: assert 'segcore-plugin-losses[metrics]' in str(error), error\n"
        "else: raise SystemExit('Score was found')"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
