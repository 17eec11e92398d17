"""The values of the losses: against other libraries, and against the formulas written out."""

import math

import monai.losses as monai
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import torchmetrics.functional.classification as tm
from monai.losses.cldice import soft_skel
from segcore_plugin_losses import LovaszLoss, OHEMLoss
from segcore_plugin_losses.boundary import distance, signed_distance
from segcore_plugin_losses.cldice import soft_skeleton

from segcore import create_loss

N, K = 3, 4
SPACES = [(23,), (9, 11), (4, 5, 6)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def multiclass(space=(9, 11), classes=K, dtype=torch.float64):
    return torch.randn(N, classes, *space, dtype=dtype) * 2, torch.randint(classes, (N, *space))


def multilabel(space=(9, 11), classes=K, dtype=torch.float64):
    return torch.randn(N, classes, *space, dtype=dtype) * 2, torch.randint(2, (N, classes, *space))


def same(ours, theirs, **close):
    torch.testing.assert_close(ours, theirs.to(ours.dtype), **close)


# --- cross-entropy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_is_torchs(space, reduction):
    x, y = multiclass(space)
    weight = torch.rand(K)
    y[0, 0], y[1, :2] = 255, 1
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.2}, {"weight": weight, "label_smoothing": 0.2}):
        theirs = {**options, **({"weight": weight.double()} if "weight" in options else {})}
        ours = create_loss("ce", mode="multiclass", ignore_index=255, reduction=reduction, **options)
        same(ours(x, y), F.cross_entropy(x, y, ignore_index=255, reduction=reduction, **theirs))
        clean = y.masked_fill(y == 255, 0)
        ours = create_loss("ce", mode="multiclass", reduction=reduction, **options)
        same(ours(x, clean), F.cross_entropy(x, clean, reduction=reduction, **theirs))


@pytest.mark.parametrize("name", ["bce", "ce"])
def test_binary_cross_entropy_is_torchs(name):
    x, y = multilabel()
    same(create_loss(name, mode="multilabel")(x, y), F.binary_cross_entropy_with_logits(x, y.double()))
    same(
        create_loss(name, mode="binary")(x[:, :1], y[:, 0]),
        F.binary_cross_entropy_with_logits(x[:, 0], y[:, 0].double()),
    )
    soft = torch.rand(N, K, 9, 11)
    same(create_loss(name, mode="multilabel")(x, soft), F.binary_cross_entropy_with_logits(x, soft.double()))
    keep = torch.rand_like(x) < 0.7
    left = y.masked_fill(~keep, 255)
    expected = F.binary_cross_entropy_with_logits(x[keep], y[keep].double())
    same(create_loss(name, mode="multilabel", ignore_index=255)(x, left), expected)


def test_binary_cross_entropy_with_weights():
    x, y = multilabel()
    positive, weight = torch.rand(K) * 3, torch.rand(K)
    expected = F.binary_cross_entropy_with_logits(x, y.double(), pos_weight=positive.double()[:, None, None])
    same(create_loss("bce", mode="multilabel", pos_weight=positive)(x, y), expected)
    each = F.binary_cross_entropy_with_logits(x, y.double(), reduction="none").mean((0, 2, 3))
    ours = create_loss("bce", mode="multilabel", weight=weight)
    same(ours(x, y), (each * weight).sum() / weight.sum())
    expected = F.binary_cross_entropy_with_logits(x[:, :1], y[:, :1].double(), pos_weight=torch.tensor(2.5))
    same(create_loss("bce", mode="binary", pos_weight=2.5)(x[:, :1], y[:, :1]), expected)
    x, y = multiclass()
    truth = F.one_hot(y, K).movedim(-1, 1).double()
    same(create_loss("bce", mode="multiclass")(x, y), F.binary_cross_entropy_with_logits(x, truth))


def by_hand_ohem(x, y, threshold, kept, weight=None):
    pixels = [
        (F.cross_entropy(a[None], b[None]).item(), b.item())
        for a, b in zip(x.movedim(1, -1).reshape(-1, K), y.reshape(-1), strict=True)
        if b != 255
    ]
    pixels.sort(reverse=True)
    kept = round(kept * len(pixels)) if isinstance(kept, float) else kept
    hard = [p for rank, p in enumerate(pixels) if rank < kept or p[0] > -math.log(threshold or 1e-300)]
    weights = [1.0 if weight is None else weight[label].item() for _, label in hard]
    return sum(loss * w for (loss, _), w in zip(hard, weights, strict=True)) / sum(weights)


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, 0), (0.0, 20), (0.05, 0.3), (0.7, 20), (1.0, 0), (0.0, 10**6)])
def test_ohem_by_hand(threshold, kept):
    x, y = multiclass()
    y[0, :3] = 255
    weight = torch.rand(K)
    ours = OHEMLoss("multiclass", ignore_index=255, threshold=threshold, min_kept=kept)
    assert ours(x, y).item() == pytest.approx(by_hand_ohem(x, y, threshold, kept))
    ours = OHEMLoss("multiclass", ignore_index=255, threshold=threshold, min_kept=kept, weight=weight)
    assert ours(x, y).item() == pytest.approx(by_hand_ohem(x, y, threshold, kept, weight))


def test_ohem_of_sigmoids():
    x, y = multilabel()
    each = F.binary_cross_entropy_with_logits(x, y.double(), reduction="none").flatten()
    same(create_loss("ohem", mode="multilabel", threshold=0.0, min_kept=50)(x, y), each.topk(50).values.mean())
    same(create_loss("ohem", mode="multilabel", threshold=0.4, min_kept=0)(x, y), each[each > -math.log(0.4)].mean())
    none = create_loss("ohem", mode="multilabel", threshold=0.0, min_kept=50, reduction="none")(x, y)
    assert (none.shape, (none > 0).sum()) == (x.shape, 50)


# --- focal --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_focal_is_monais(gamma):
    x, y = multiclass()
    truth = F.one_hot(y, K).movedim(-1, 1)
    # their softmax form sums over classes only where it has to: one class is true, so their mean is ours over K
    theirs = monai.FocalLoss(gamma=gamma, use_softmax=True)(x, truth)
    same(create_loss("focal", mode="multiclass", gamma=gamma)(x, y) / K, theirs, rtol=1e-5, atol=1e-6)
    same(
        create_loss("focal", mode="multiclass", gamma=gamma, activation="sigmoid")(x, y),
        monai.FocalLoss(gamma=gamma)(x, truth),
        rtol=1e-5,
        atol=1e-6,
    )
    x, y = multilabel()
    for alpha in (None, 0.25):
        ours = create_loss("focal", mode="multilabel", gamma=gamma, alpha=alpha)
        same(ours(x, y), monai.FocalLoss(gamma=gamma, alpha=alpha)(x, y), rtol=1e-5, atol=1e-6)


def test_focal_by_formula():
    x, y = multiclass()
    y[0, :2] = 255
    weight = torch.rand(K, dtype=torch.float64).float()
    p = x.softmax(1).gather(1, y.masked_fill(y == 255, 0)[:, None])[:, 0]
    keep = y != 255
    each = (-((1 - p) ** 2) * p.log())[keep]
    same(create_loss("focal", mode="multiclass", ignore_index=255)(x, y), each.mean())
    w = weight[y[keep]]
    same(create_loss("focal", mode="multiclass", ignore_index=255, weight=weight)(x, y), (each * w).sum() / w.sum())
    same(create_loss("focal", mode="multiclass", gamma=0)(x, y.clamp_max(3)), F.cross_entropy(x, y.clamp_max(3)))


# --- regions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_region_losses_are_monais(mode, per_image, space):
    x, y = multiclass(space) if mode == "multiclass" else multilabel(space)
    truth = F.one_hot(y, K).movedim(-1, 1) if mode == "multiclass" else y
    act = {"softmax": True} if mode == "multiclass" else {"sigmoid": True}
    ours = {"mode": mode, "per_image": per_image, "absent": "penalise"}
    theirs = {**act, "batch": not per_image}
    same(create_loss("dice", smooth=0.5, **ours)(x, y), monai.DiceLoss(smooth_nr=1, smooth_dr=1, **theirs)(x, truth))
    same(
        create_loss("jaccard", smooth=2.0, **ours)(x, y),
        # they write the union as 2 (P + T - TP), and twice the intersection above it
        monai.DiceLoss(jaccard=True, smooth_nr=4, smooth_dr=4, **theirs)(x, truth),
    )
    same(
        create_loss("tversky", alpha=0.3, beta=0.8, smooth=1.5, **ours)(x, y),
        monai.TverskyLoss(alpha=0.3, beta=0.8, smooth_nr=1.5, smooth_dr=1.5, **theirs)(x, truth),
    )


def test_region_losses_are_smps_where_every_class_is_there():
    x, y = multiclass()
    same(create_loss("dice", mode="multiclass", smooth=0.0)(x, y), smp.losses.DiceLoss("multiclass")(x, y))
    same(create_loss("jaccard", mode="multiclass", smooth=0.0)(x, y), smp.losses.JaccardLoss("multiclass")(x, y))
    theirs = smp.losses.TverskyLoss("multiclass", alpha=0.2, beta=0.7)
    same(create_loss("tversky", mode="multiclass", alpha=0.2, beta=0.7, smooth=0.0)(x, y), theirs(x, y))


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("per_image", [False, True])
def test_focal_tversky_by_formula(mode, per_image):
    x, y = multiclass() if mode == "multiclass" else multilabel(classes=1 if mode == "binary" else K)
    keep = torch.rand(y.shape) < 0.8
    p = x.softmax(1) if mode == "multiclass" else x.sigmoid()
    t = F.one_hot(y, K).movedim(-1, 1) if mode == "multiclass" else y
    known = keep[:, None] if mode == "multiclass" else keep
    dims = (2, 3) if per_image else (0, 2, 3)
    tp, fp, fn = ((a * known).sum(dims) for a in (p * t, p * (1 - t), (1 - p) * t))
    expected = (1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)) ** 0.75
    ours = {"mode": mode, "ignore_index": 255, "per_image": per_image}
    same(create_loss("focal-tversky", **ours)(x, y.masked_fill(~keep, 255)), expected.mean())
    none = create_loss("focal-tversky", reduction="none", **ours)(x, y.masked_fill(~keep, 255))
    same(none, expected)
    if mode != "binary":
        weight = torch.rand(K)
        share = weight.expand_as(expected).double()
        ours = create_loss("focal-tversky", weight=weight, **ours)
        same(ours(x, y.masked_fill(~keep, 255)), (expected * share).sum() / share.sum())


def test_the_worst_prediction_costs_1_whatever_classes_are_absent():
    y = torch.tensor([0, 1]).repeat(40).view(1, 8, 10)
    x = (torch.stack([1 - y, y, *[torch.zeros_like(y)] * 3], 1).float() * -2 + 1) * 50  # the other of the two
    x[:, 2:] = -50
    for name in ("dice", "jaccard", "tversky", "focal-tversky", "lovasz"):
        options = {} if name == "lovasz" else {"smooth": 0.0}
        assert create_loss(name, mode="multiclass", **options)(x, y).item() == pytest.approx(1, abs=1e-6), name


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "focal-tversky", "lovasz"])
def test_what_is_predicted_where_nothing_is_costs_and_can_be_learned(name):
    y = torch.zeros(1, 8, 10).long()
    x = torch.full((1, 1, 8, 10), 2.0, requires_grad=True)
    value = create_loss(name, mode="binary")(x, y)
    value.backward()
    assert value > 0.9
    assert (x.grad >= 0).all()
    assert x.grad.max() > 0
    assert create_loss(name, mode="binary")(x.detach() - 60, y).item() == pytest.approx(0, abs=1e-4)


# --- Lovász -------------------------------------------------------------------------------------------------------------


def by_hand_lovasz(errors, truth):
    """The definition: errors in descending order, each times what its pixel adds to the Jaccard loss of the set."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, wrong, before = 0.0, set(), 0.0
    positives = {i for i, t in enumerate(truth) if t}
    for i in order:
        wrong.add(i)
        after = len(wrong) / len(positives | wrong)  # wrong pixels over the union of truth and wrong ones
        total += errors[i] * (after - before)
        before = after
    return total


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_softmax_by_definition(per_image):
    x, y = multiclass((5, 6))
    y[0][y[0] == 2] = 1
    keep = torch.rand(y.shape) < 0.8
    p = x.softmax(1)
    values = []
    for images in [slice(i, i + 1) for i in range(N)] if per_image else [slice(None)]:
        known = keep[images]
        for c in range(K):
            truth = y[images][known] == c
            if truth.any():
                errors = (truth.double() - p[images, c][known]).abs()
                values.append(by_hand_lovasz(errors.tolist(), truth.tolist()))
    ours = LovaszLoss("multiclass", ignore_index=255, per_image=per_image)(x, y.masked_fill(~keep, 255))
    assert ours.item() == pytest.approx(np.mean(values))


def test_lovasz_hinge_by_definition():
    x, y = multilabel((5, 6))
    y[:, 2] = 0  # absent
    errors = (1 - x * (2 * y - 1)).clamp_min(0)
    values = [by_hand_lovasz(errors[:, c].flatten().tolist(), y[:, c].flatten().tolist()) for c in range(K)]
    assert LovaszLoss("multilabel")(x, y).item() == pytest.approx(np.mean([values[c] for c in (0, 1, 3)]))
    assert LovaszLoss("multilabel", absent="penalise")(x, y).item() == pytest.approx(np.mean(values))
    assert LovaszLoss("binary")(x[:, 2:3], y[:, 2]).item() == pytest.approx(errors[:, 2].max().item())


def test_lovasz_is_smps_on_probabilities_and_sorts_fp32_as_fp64():
    x, y = multiclass((40, 50), dtype=torch.float32)
    same(LovaszLoss("multiclass")(x, y), smp.losses.LovaszLoss("multiclass")(x, y), rtol=1e-4, atol=1e-5)
    x.requires_grad_()
    double = x.detach().double().requires_grad_()
    one, other = LovaszLoss("multiclass")(x, y), LovaszLoss("multiclass")(double, y)
    same(one, other)
    one.backward()
    other.backward()
    same(x.grad, double.grad, rtol=1e-4, atol=1e-9)


# --- MCC, boundary, clDice ----------------------------------------------------------------------------------------------


def test_mcc_is_that_of_soft_counts_and_smps():
    x, y = multilabel()
    p, t = x.sigmoid(), y.double()
    tp, fp, fn, tn = ((a).sum((0, 2, 3)) for a in (p * t, p * (1 - t), (1 - p) * t, (1 - p) * (1 - t)))
    mcc = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()
    same(create_loss("mcc", mode="multilabel")(x, y), (1 - mcc).mean())
    same(create_loss("mcc", mode="multilabel", reduction="none")(x, y), 1 - mcc)
    ours = create_loss("mcc", mode="binary")(x[:, :1], y[:, 0])
    same(ours, smp.losses.MCCLoss(eps=0.0)(p[:, :1], t[:, :1]))


def test_mcc_of_certain_predictions_is_torchmetrics():
    predicted, y = torch.randint(2, (N, 1, 9, 11)), torch.randint(2, (N, 9, 11))
    expected = 1 - tm.binary_matthews_corrcoef(predicted[:, 0], y)
    same(create_loss("mcc", mode="binary")((predicted * 2.0 - 1) * 50, y), expected)


def test_mcc_of_few_pixels_among_many_keeps_its_digits():
    y = torch.zeros(1, 1024, 1024, dtype=torch.long)
    y[:, :3, :3] = 1
    x = torch.where(y == 1, 3.0, -9.0)[:, None]
    x[..., 5, :9] = 2.0
    double = create_loss("mcc", mode="binary")(x.double(), y)
    same(create_loss("mcc", mode="binary")(x, y).double(), double, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("space", [(17,), (13, 19), (7, 8, 9)])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
def test_distances_are_exact(space, density):
    mask = torch.rand(2, 2, *space) < density
    mask[..., 0] = True  # none is empty
    places = torch.stack(torch.meshgrid(*map(torch.arange, space), indexing="ij"), -1).view(-1, len(space)).float()
    for found, one in zip(distance(mask).flatten(0, 1), mask.flatten(0, 1), strict=True):
        expected = torch.cdist(places, places[one.flatten()], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        torch.testing.assert_close(found.flatten(), expected)


def test_signed_distances_along_a_line():
    mask = torch.tensor([[[0, 0, 1, 1, 1, 0, 0, 0]], [[0] * 8], [[1] * 8]]).bool()
    expected = torch.tensor([[[2.0, 1, 0, -1, 0, 1, 2, 3]], [[0.0] * 8], [[0.0] * 8]])
    assert torch.equal(signed_distance(mask), expected)
    x, keep = torch.randn(3, 1, 8), torch.ones(3, 8, dtype=torch.bool)
    y = mask[:, 0].long()
    same(create_loss("boundary", mode="binary")(x, y), (x.sigmoid() * expected).mean())
    keep[0, 6:] = False
    left = y.masked_fill(~keep, 255)
    ours = create_loss("boundary", mode="binary", ignore_index=255)(x, left)
    same(ours, (x.sigmoid() * expected)[:, 0][keep].mean())


@pytest.mark.parametrize("space", [(20, 21), (9, 10, 11)])
def test_cldice_is_monais(space):
    x = torch.randn(1, 1, *space, dtype=torch.float64)
    x = F.avg_pool2d(x, 3, 1, 1) * 4 if len(space) == 2 else F.avg_pool3d(x, 3, 1, 1) * 4
    y = (x.roll(1, -1) + torch.randn_like(x) > 0.3).double()
    same(soft_skeleton(x.sigmoid(), 3), soft_skel(x.sigmoid(), 3))
    ours = create_loss("cldice", mode="binary", iterations=4, smooth=0.5)(x, y)
    same(ours, monai.SoftclDiceLoss(iter_=4, smooth_nr=0.5, smooth_dr=0.5, smooth=1e-12, sigmoid=True)(x, y))


def test_cldice_of_equal_lines_is_0_and_of_disjoint_ones_1():
    y = torch.zeros(1, 20, 20).long()
    y[:, 4, 2:18], y[:, 14:17, 2:18] = 1, 1
    x = (y[:, None] * 2.0 - 1) * 60
    loss = create_loss("cldice", mode="binary", smooth=0.0)
    assert loss(x, y).item() == pytest.approx(0, abs=1e-6)
    assert loss(x.roll(3, 2), y).item() == pytest.approx(1, abs=1e-6)
