"""Where the numbers differ from segmentation_models_pytorch's, as the README says, and which options give theirs."""

import pytest
import segmentation_models_pytorch as smp
import torch
from segcore_plugin_losses.metrics import get_stats, score

from segcore import create_loss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(2, 4, 8, 8), torch.randint(4, (2, 8, 8))


@pytest.mark.parametrize(("name", "theirs"), [("dice", smp.losses.DiceLoss), ("jaccard", smp.losses.JaccardLoss)])
def test_absent_classes(name, theirs):
    y = torch.randint(2, (1, 8, 8))
    x = torch.full((1, 5, 8, 8), -50.0)
    x.scatter_(1, 1 - y[:, None], 50.0)  # the wrong one of the two classes that are there
    assert theirs("multiclass")(x, y).item() == pytest.approx(0.4, abs=1e-5)
    assert create_loss(name, mode="multiclass", smooth=0.0)(x, y).item() == pytest.approx(1, abs=1e-5)
    empty, all_positive = torch.zeros(1, 1, 8, 8).long(), torch.full((1, 1, 8, 8), 50.0)
    assert theirs("binary")(all_positive, empty) == 0
    assert create_loss(name, mode="binary")(all_positive, empty) > 0.9


@pytest.mark.parametrize(("name", "theirs"), [("dice", smp.losses.DiceLoss), ("jaccard", smp.losses.JaccardLoss)])
def test_smooth_means_the_same(batch, name, theirs):
    x, y = batch
    ours = create_loss(name, mode="multiclass", smooth=3.0)
    torch.testing.assert_close(ours(x, y), theirs("multiclass", smooth=3.0)(x, y))


def test_gamma_is_per_class(batch):
    x, y = batch
    whole = create_loss("focal-tversky", mode="multiclass", alpha=0.3, beta=0.7, gamma=2.0, smooth=0.0)(x, y)
    each = create_loss("tversky", mode="multiclass", alpha=0.3, beta=0.7, smooth=0.0, reduction="none")(x, y)
    theirs = smp.losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=2.0)(x, y)
    torch.testing.assert_close(whole, each.square().mean())
    torch.testing.assert_close(theirs, each.mean().square())


def test_focal(batch):
    x, y = batch
    theirs = smp.losses.FocalLoss("multiclass")(x, y)
    torch.testing.assert_close(create_loss("focal", mode="multiclass", activation="sigmoid")(x, y), theirs)
    assert create_loss("focal", mode="multiclass")(x, y) > 1.5 * theirs
    assert smp.losses.FocalLoss("multiclass", ignore_index=1)(x, torch.ones_like(y)).isnan()
    assert create_loss("focal", mode="multiclass", ignore_index=1)(x, torch.ones_like(y)) == 0


def test_means_over_ignored_pixels(batch):
    x, y = batch
    y[:, :4] = 255
    theirs = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255)(x, y)
    torch.testing.assert_close(create_loss("ce", mode="multiclass", ignore_index=255)(x, y), 2 * theirs)
    z = torch.where(y == 255, 255, y % 2)[:, None].float()
    theirs = smp.losses.SoftBCEWithLogitsLoss(ignore_index=255)(x[:, :1], z)
    torch.testing.assert_close(create_loss("bce", mode="binary", ignore_index=255)(x[:, :1], z), 2 * theirs)


def test_lovasz_and_mcc(batch):
    x, y = batch
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=1)(x, torch.ones_like(y))
    assert theirs.numel() != 1
    assert create_loss("lovasz", mode="multiclass", ignore_index=1)(x, torch.ones_like(y)) == 0
    z = (y % 2)[:, None]
    ours, theirs = create_loss("mcc", mode="binary"), smp.losses.MCCLoss(eps=0.0)
    torch.testing.assert_close(ours(x[:, :1], z), theirs(x[:, :1].sigmoid(), z))
    assert abs(ours(x[:, :1], z) - theirs(x[:, :1], z)) > 1e-3  # logits are taken for probabilities


def test_half_precision(batch):
    x, y = batch
    x = x.repeat(1, 1, 64, 64).half()
    y = y.repeat(1, 64, 64)
    assert smp.losses.DiceLoss("multiclass")(x, y).isnan()
    assert create_loss("dice", mode="multiclass")(x, y).isfinite()


def test_scores():
    y = torch.randint(4, (2, 8, 8))
    stats, weights = get_stats(y, y, "multiclass", num_classes=4), [1.0, 2, 3, 4]
    assert smp.metrics.iou_score(*stats, reduction="macro", class_weights=weights).item() == pytest.approx(0.25)
    assert score(stats, average="weighted", class_weights=torch.tensor(weights)).item() == pytest.approx(1)
    y, wrong = torch.zeros(1, 8, 8).long(), torch.zeros(1, 8, 8).long()
    wrong[:, :4] = 1
    stats = get_stats(wrong, y, "multiclass", num_classes=10)
    assert smp.metrics.iou_score(*stats, reduction="macro").item() == pytest.approx(0.85)
    assert score(stats, absent=1.0).item() == pytest.approx(0.85)
    assert score(stats).item() == pytest.approx(0.25)
    assert score(stats, average="micro").float() == smp.metrics.iou_score(*stats, reduction="micro")
    for ours, theirs in ({"average": "macro"}, "macro-imagewise"), ({"average": "micro"}, "micro-imagewise"):
        expected = smp.metrics.iou_score(*stats, reduction=theirs)
        torch.testing.assert_close(score(stats, per_image=True, absent=1.0, **ours).float(), expected)
