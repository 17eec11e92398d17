import pytest
import torch
from segcore_plugin_demo.train import augment, bce_dice, random_crop, train

from segcore import SegmentationModel
from segcore.testing import TinyDecoder, TinyEncoder


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_small_for_a_sure_right_answer_and_large_for_a_sure_wrong_one():
    target = (torch.rand(2, 1, 8, 8, generator=generator()) < 0.4).float()
    sure = (target * 2 - 1) * 20
    assert bce_dice(sure, target) == pytest.approx(0, abs=1e-3)
    assert bce_dice(-sure, target) > 20


def test_the_loss_of_an_empty_target_is_finite_and_falls_with_the_logits():
    empty = torch.zeros(1, 1, 4, 4)
    high, low = bce_dice(empty + 2, empty), bce_dice(empty - 8, empty)
    assert torch.isfinite(high)
    assert low < high


def test_dice_by_hand():
    logits, target = torch.tensor([[[[100.0, 100.0, -100.0, -100.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
    assert bce_dice(logits, target) == pytest.approx(100 / 4 + 1 - 3 / 4)


def test_crops_are_the_same_square_of_both():
    image = torch.arange(30.0 * 40).reshape(1, 30, 40)
    mask = image[0] % 3 == 0
    corners, rng = set(), generator()
    for _ in range(50):
        part, part_mask = random_crop(image, mask, 16, rng)
        assert part.shape == (1, 16, 16)
        assert torch.equal(part_mask, part[0] % 3 == 0)
        corners.add(part[0, 0, 0].item())
    assert len(corners) > 30
    assert random_crop(image, mask, 96, rng)[0].shape == (1, 30, 30)


def test_augmentation_moves_image_and_mask_together_and_stays_in_range():
    mask = torch.rand(12, 12, generator=generator()) < 0.3
    image = mask[None] * 0.9 + 0.05
    seen = set()
    rng = generator(1)
    for _ in range(40):
        new, new_mask = augment(image, mask, rng)
        assert torch.equal((new[0] > new[0][~new_mask].max()), new_mask)
        assert new.min() >= 0
        assert new.max() <= 1
        seen.add(tuple(new_mask.flatten().tolist()))
    assert len(seen) == 8  # all turns and flips


def tiny():
    torch.manual_seed(0)
    encoder = TinyEncoder(depth=2, in_channels=1)
    decoder = TinyDecoder(encoder.feature_info)
    return SegmentationModel(encoder, decoder, decoder.default_head(1))


def task():
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[10:30, 15:40] = True
    return mask[None] * 0.6 + 0.2, mask


def test_training_lowers_the_loss_and_ends_in_evaluation_mode():
    model, losses = tiny(), []
    train(model, *task(), steps=25, seed=0, crop=24, batch=4, lr=1e-2, on_step=losses.append)
    assert len(losses) == 25
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert not model.training


def test_training_is_deterministic_by_seed():
    def weights(seed):
        model = tiny()
        train(model, *task(), steps=3, seed=seed, crop=16, batch=2)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_one_step_is_enough_to_run():
    train(tiny(), *task(), steps=1, seed=0, crop=16, batch=2)
