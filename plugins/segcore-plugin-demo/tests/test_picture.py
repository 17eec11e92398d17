import numpy as np
import pytest
import torch
from segcore_plugin_demo.data import Pair, load_coins
from segcore_plugin_demo.picture import PREDICTED, TRUTH, WIDTH, draw_result, to_picture


def near(picture, colour, tolerance=12):
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return (np.abs(pixels - colour) <= tolerance).all(axis=2)


def example(channels=1, axis=0, size=(60, 40)):
    image = torch.full((channels, *size), 0.4)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[10:20, 5:15] = mask[40:52, 22:34] = True
    return Pair(image, mask, axis, size[axis] // 2)


def test_the_coins_at_three_times_their_size():
    pair = load_coins()
    picture = draw_result(pair, pair.mask, "a / b", ["line"])
    assert picture.width == WIDTH == 3 * 384
    assert picture.height > 3 * 303


def test_the_prediction_is_drawn_on_the_unseen_half_only_and_the_annotation_on_both():
    pair = example()
    picture = draw_result(pair, pair.mask, "", [])
    cut, bottom = round(pair.split * WIDTH / 60), WIDTH
    predicted, truth = near(picture, PREDICTED)[:bottom], near(picture, TRUTH)[:bottom]
    assert not predicted[:cut].any()
    assert predicted[cut:].any()
    assert truth[:cut].any()
    assert truth[cut:].any()


def test_outlines_lie_where_the_borders_are():
    pair = example()
    picture = near(draw_result(pair, torch.zeros_like(pair.mask), "", []), TRUTH)[: WIDTH // 2]
    rows, columns = picture.nonzero()
    scale = WIDTH / 60
    assert rows.min() == pytest.approx(10 * scale, abs=6)
    assert rows.max() == pytest.approx(20 * scale, abs=6)
    assert columns.min() == pytest.approx(5 * scale, abs=6)
    assert columns.max() == pytest.approx(15 * scale, abs=6)


def test_the_training_half_is_darker():
    for axis in (0, 1):
        pixels = np.asarray(draw_result(example(axis=axis), example().mask, "", []).convert("L"))
        assert pixels[90, 90] < 0.8 * pixels[-250, 700 if axis == 1 else 300]


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_pictures_have_a_small_palette_and_colour_stays(channels):
    picture = draw_result(example(channels), example().mask, "unet / resnet18", ["a", "b"])
    assert picture.mode == ("P" if channels == 1 else "RGB")


def test_the_legend_grows_with_its_lines():
    heights = [draw_result(example(), example().mask, "", ["x"] * n).height for n in (0, 3)]
    assert heights[0] < heights[1]


def test_a_large_image_is_shrunk():
    assert max(draw_result(example(size=(2400, 1600)), example(size=(2400, 1600)).mask, "", []).size) <= WIDTH + 100


def test_an_image_becomes_the_same_picture():
    image = torch.arange(12).reshape(1, 3, 4) / 255
    assert np.asarray(to_picture(image)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert to_picture(image.repeat(3, 1, 1)).mode == "RGB"
