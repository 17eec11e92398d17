import hashlib
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from segcore_plugin_demo.data import draw_ellipse, load_coins, load_pair
from segcore_plugin_demo.metrics import best_threshold, components, iou, otsu_threshold

from segcore import InputError

DATA = files("segcore_plugin_demo") / "data"


def test_the_photograph_is_the_one_that_the_provenance_file_describes():
    pixels = np.asarray(Image.open(DATA / "coins.png"))
    assert pixels.shape == (303, 384)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() in (DATA / "PROVENANCE.md").read_text()


def test_there_are_24_separate_coins_and_none_lies_in_both_halves():
    pair = load_coins()
    assert len(json.loads((DATA / "coins.json").read_text())["ellipses"]) == 24
    assert components(pair.mask).max() == 24
    assert components(pair.seen(pair.mask)).max() == 12
    assert components(pair.unseen(pair.mask)).max() == 12
    assert not pair.mask[145:155].any()


def test_the_ellipses_lie_on_the_coins():
    # turned the wrong way they fit less well: the sign of the angle is right
    pair = load_coins()
    ellipses = json.loads((DATA / "coins.json").read_text())["ellipses"]
    turned = torch.zeros_like(pair.mask)
    for ellipse in ellipses:
        turned |= draw_ellipse(pair.mask.shape, **(ellipse | {"theta": -ellipse["theta"]}))
    fits = [
        iou(best_threshold(pair.seen(pair.grey), pair.seen(m))(pair.seen(pair.grey)), pair.seen(m))
        for m in (pair.mask, turned)
    ]
    assert fits[0] > fits[1] + 0.01


def test_an_ellipse_has_its_axes_where_the_angle_says():
    upright = draw_ellipse((41, 41), cy=20, cx=20, ry=15, rx=5, theta=0)
    assert upright[5, 20]
    assert upright[35, 20]
    assert upright[20, 25]
    assert not upright[20, 27]
    diagonal = draw_ellipse((41, 41), cy=20, cx=20, ry=15, rx=5, theta=45)  # rows and columns grow together
    assert diagonal[30, 30]
    assert not diagonal[30, 10]


def test_thresholds_on_the_coins():
    pair = load_coins()
    grey, truth = pair.seen(pair.grey), pair.seen(pair.mask)
    for rule, level, expected in ((otsu_threshold, 123, 0.8178), (best_threshold, 132, 0.7240)):
        threshold = rule(grey, truth)
        assert threshold.level == level
        assert iou(pair.unseen(threshold(pair.grey)), pair.unseen(pair.mask)) == pytest.approx(expected, abs=5e-4)


def write(folder: Path, size=(64, 100), mode="L", mask=None):
    """Write an image (H, W) and a mask with an object in each half; return their paths."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    if mode.startswith("I;16"):
        image = Image.fromarray(rng.integers(0, 2**16, size, dtype=np.uint16))
    else:
        image = image.convert(mode)
    if mask is None:
        mask = np.zeros(size, np.uint8)
        mask[5:15, 5:15] = mask[-15:-5, -15:-5] = 1
    paths = folder / "image.tif", folder / "mask.png"
    image.save(paths[0])
    Image.fromarray(mask).save(paths[1])
    return paths


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("I", 1), ("F", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)],
)
def test_images_of_every_mode_become_grey_or_rgb(tmp_path, mode, channels):
    pair = load_pair(*write(tmp_path, mode=mode))
    assert pair.image.shape == (channels, 64, 100)
    assert pair.image.dtype == torch.float32
    assert pair.image.min() >= 0
    assert 0.9 < pair.image.max() <= 1
    assert pair.grey.shape == (64, 100)
    assert torch.equal((pair.image * 255).round() / 255, pair.image)  # 8 bits, as the result folder stores it


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I"])
def test_masks_of_every_mode(tmp_path, mode):
    image, mask = write(tmp_path)
    expected = np.asarray(Image.open(mask)) > 0
    mask = tmp_path / "mask.tif"
    Image.fromarray(np.uint8(expected) * 255).convert(mode).save(mask)
    assert np.array_equal(load_pair(image, mask).mask.numpy(), expected)


def test_the_cut_goes_through_the_middle_of_the_longer_side(tmp_path):
    pair = load_pair(*write(tmp_path, size=(64, 101)))
    assert pair.seen(pair.mask).shape == (64, 50)
    assert pair.unseen(pair.image).shape == (1, 64, 51)
    pair = load_pair(*write(tmp_path, size=(101, 64)))
    assert pair.seen(pair.image).shape == (1, 50, 64)
    assert pair.unseen(pair.mask).shape == (51, 64)
    assert torch.equal(torch.cat([pair.seen(pair.mask), pair.unseen(pair.mask)]), pair.mask)


def fails(image, mask, message):
    with pytest.raises(InputError, match=message):
        load_pair(image, mask)


def test_a_missing_file(tmp_path):
    _image, mask = write(tmp_path)
    fails(tmp_path / "nowhere.png", mask, "no file .*nowhere.png.*Check the path")


def test_a_folder_instead_of_a_file(tmp_path):
    _image, mask = write(tmp_path)
    fails(tmp_path, mask, "cannot be read")


def test_a_file_that_is_no_image(tmp_path):
    image, mask = write(tmp_path)
    mask.write_text("no image")
    fails(image, mask, "no image that Pillow can read")


def test_a_truncated_image(tmp_path):
    image, mask = write(tmp_path)
    Image.open(image).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    fails(tmp_path / "cut.png", mask, "cannot be read")


def test_sizes_differ(tmp_path):
    image, mask = write(tmp_path)
    Image.open(mask).resize((50, 32)).save(mask)
    fails(image, mask, "100 x 64 pixels and .* is 50 x 32.*same size")


def test_an_empty_mask(tmp_path):
    fails(*write(tmp_path, mask=np.zeros((64, 100), np.uint8)), "empty.*Mark the objects")


def test_a_mask_without_background(tmp_path):
    fails(*write(tmp_path, mask=np.full((64, 100), 7, np.uint8)), "no background.*to zero")


@pytest.mark.parametrize(("axis", "half", "name"), [(1, 0, "left"), (1, 1, "right"), (0, 0, "upper"), (0, 1, "lower")])
def test_a_half_without_objects(tmp_path, axis, half, name):
    size = (64, 100) if axis else (100, 64)
    mask = np.zeros(size, np.uint8)
    column = 70 if half == 0 else 20
    (mask if axis else mask.T)[10:30, column : column + 10] = 1
    fails(*write(tmp_path, size=size, mask=mask), f"The {name} half .* has no object.*90 degrees")


def test_a_half_without_background(tmp_path):
    mask = np.ones((64, 100), np.uint8)
    mask[:, :40] = 0
    fails(*write(tmp_path, mask=mask), "The right half .* has no background")


def test_an_image_that_is_too_small_or_too_large(tmp_path, monkeypatch):
    fails(*write(tmp_path, size=(20, 100)), "at least 32 pixels")
    monkeypatch.setattr("segcore_plugin_demo.data.MAX_PIXELS", 5000)
    fails(*write(tmp_path), "million pixels in all. Resize")
