import numpy as np
import pytest
import torch
from segcore_plugin_train import Augmentation
from segcore_plugin_train.augment import apply, as_transform, seed_all

from segcore import InputError, OptionValueError


def example(dtype=np.uint8, size=(80, 120)):
    mask = np.zeros(size, np.uint8)
    mask[16:48, 20:80] = 1
    full = {"uint8": 255, "uint16": 65535}.get(np.dtype(dtype).name, 1)
    return (mask[..., None] * 0.8 * full).repeat(3, axis=2).astype(dtype), mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", ["default", "aerial", "flips"])
def test_image_and_mask_move_together_and_keep_their_type(dtype, name):
    transform = as_transform(name)
    image, mask = example(dtype)
    seen = set()
    for seed in range(12):
        seed_all(seed, transform)
        new, labels = apply(transform, image, mask)
        assert new.dtype == dtype
        assert labels.dtype == np.uint8
        bright = new[..., 0].astype(float) > (float(new.max()) + float(new.min())) / 2
        assert (bright == labels.astype(bool)).mean() > 0.97
        seen.add(labels.tobytes())
    assert len(seen) > 1


def test_the_same_seed_gives_the_same_result():
    transform = as_transform("default")
    results = []
    for _ in range(2):
        seed_all(5, transform)
        results.append(apply(transform, *example())[0])
    assert np.array_equal(*results)


def test_nothing_happens_with_everything_off():
    off = Augmentation(hflip=0, scale=(1, 1), brightness=0, contrast=0, noise=0)
    image, mask = example()
    new, labels = apply(off, image, mask)
    assert np.array_equal(new, image)
    assert np.array_equal(labels, mask)


def test_a_callable_of_albumentations_shape_is_seeded_by_its_own_method():
    class Flip:
        def set_random_seed(self, seed):
            self.random = np.random.default_rng(seed)

        def __call__(self, *, image, mask):
            if self.random.random() < 0.5:
                image, mask = image[:, ::-1], mask[:, ::-1]
            return {"image": image, "mask": mask}

    flip = as_transform(Flip())
    found = []
    for seed in (*range(8), *range(8)):
        seed_all(seed, flip)
        found.append(apply(flip, *example())[1].tobytes())
    assert found[:8] == found[8:]
    assert len(set(found)) == 2


def test_a_transform_of_torchvision():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    transform = as_transform(v2.Compose([v2.RandomHorizontalFlip(1.0), v2.ToDtype(torch.float32, scale=True)]))
    image, mask = example()
    new, labels = apply(transform, image, mask)
    assert np.array_equal(labels, mask[:, ::-1])
    assert np.allclose(new, image[:, ::-1] / 255, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda image, mask: (image, mask),
        lambda image, mask: {"image": image},
        lambda image, mask: {"image": image[:5], "mask": mask},
        lambda image, mask: {"image": image, "mask": mask / 2},
    ],
)
def test_transforms_that_return_something_else(wrong):
    with pytest.raises(InputError, match="a transform must return"):
        apply(as_transform(wrong), *example())


def test_unknown_names_and_values():
    with pytest.raises(OptionValueError, match="'flips'"):
        as_transform("flip")
    with pytest.raises(OptionValueError):
        Augmentation(scale=(2, 1))
    assert as_transform(None) is None
    assert as_transform("none") is None
