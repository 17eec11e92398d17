"""Losses: where SMP crashes or gives NaN, ours give a number."""

import sys
from pathlib import Path

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
from beside import REGION, run

sys.path.pop(0)

LOW = (torch.float16, torch.bfloat16)


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
