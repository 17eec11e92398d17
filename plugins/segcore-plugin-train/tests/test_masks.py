import numpy as np
import pytest
from PIL import Image
from segcore_plugin_train import LabelMap

from segcore import InputError, OptionValueError


def save(path, array, palette=None):
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(palette)
    picture.save(path)
    return path


def test_numbers_are_their_own_classes(tmp_path):
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    assert LabelMap(4).read(save(tmp_path / "m.png", mask)).tolist() == mask.tolist()
    assert LabelMap(4).read(save(tmp_path / "m.tif", mask.astype(np.uint16))).dtype == np.uint8


def test_a_palette_keeps_its_numbers_and_can_be_read_by_colour(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1]], np.uint8), [10, 20, 30, 255, 0, 0])
    assert LabelMap(2).read(path).tolist() == [[0, 1]]
    assert LabelMap(3, {"#0a141e": 2, "#ff0000": 0}).read(path).tolist() == [[2, 0]]


def test_values_are_mapped_and_left_out(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 7, 255]], np.uint8))
    labels = LabelMap(2, {0: 0, "7": 1}, ignore_label=255)
    assert labels.read(path).tolist() == [[0, 1, labels.ignore]]
    assert LabelMap(2, {"0": 0, "7": "ignore", "255": 1}).read(path).tolist() == [[0, 255, 1]]


def test_16_bit_masks_and_more_than_255_classes(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 299, 1000]], np.uint16))
    labels = LabelMap(300, ignore_label=1000)
    assert labels.read(path).tolist() == [[0, 299, 65535]]
    assert labels.read(path).dtype == np.uint16


def test_one_bit_masks_are_0_and_1(tmp_path):
    path = save(tmp_path / "m.png", np.array([[False, True]]))
    assert LabelMap(1).read(path).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("mask", "options", "text"),
    [
        ([[0, 4]], {"classes": 4}, r"out of range: 4 \(1 pixels\); 4 classes are 0 to 3.*--classes"),
        ([[0, 255]], {"classes": 1}, r"--label 0=0 --label 255=1"),
        ([[1, 2, 255]], {"classes": 3}, r"--ignore-label 255"),
        ([[0, 9]], {"classes": 3, "labels": {0: 0}}, r"not mapped: 9 \(1 pixels\)"),
    ],
)
def test_what_has_no_class_is_told_with_the_file_and_what_to_do(tmp_path, mask, options, text):
    path = save(tmp_path / "m.png", np.array(mask, np.uint8))
    with pytest.raises(InputError, match=rf"m\.png: .*{text}"):
        LabelMap(**options).read(path)


def test_colours_without_a_map_and_unknown_colours(tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 9]]], np.uint8))
    with pytest.raises(InputError, match="are colours"):
        LabelMap(2).read(path)
    with pytest.raises(InputError, match="#000009"):
        LabelMap(2, {"#ff0000": 1}).read(path)


def test_grey_saved_as_rgb_is_read(tmp_path):
    path = save(tmp_path / "m.png", np.full((2, 2, 3), 2, np.uint8))
    assert LabelMap(3).read(path).tolist() == [[2, 2], [2, 2]]


def test_jpeg_masks_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"m\.jpg: a JPEG changes"):
        LabelMap(2).read(save(tmp_path / "m.jpg", np.zeros((8, 8), np.uint8)))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_unreadable_masks_are_named(tmp_path, content):
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.png"):
        LabelMap(2).read(tmp_path / "m.png")


@pytest.mark.parametrize(
    "options",
    [
        {"classes": 0},
        {"classes": True},
        {"classes": 70000},
        {"classes": 2, "labels": {"red": 1}},
        {"classes": 2, "labels": {0: 2}},
        {"classes": 2, "labels": {0: 0, "#ff0000": 1}},
        {"classes": 2, "labels": {"#ff0000": 1}, "ignore_label": 3},
    ],
)
def test_maps_that_make_no_sense(options):
    with pytest.raises(OptionValueError):
        LabelMap(**options)
