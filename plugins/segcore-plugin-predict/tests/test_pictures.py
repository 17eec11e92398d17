"""Palettes, overlays and what label maps keep."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from predict_helpers import call
from segcore_plugin_predict.pictures import borders, clear_class, overlay_jpeg, palette, record_of


class TestPictures:
    def test_colours_differ_and_the_first_is_black(self):
        colours = palette(40)
        assert colours[0].tolist() == [0, 0, 0]
        assert len({tuple(colour) for colour in colours}) == 40
        gaps = [np.abs(colours[i].astype(int) - colours[j]).sum() for i in range(20) for j in range(i)]
        assert min(gaps) > 40

    def test_the_record_is_kept_beside_the_pixels(self, ready):
        model, images, out = ready
        call(model, images / "0.png", "-o", out)
        record = record_of(out / "0.png")
        assert record["classes"] == ["background", "leaf", "stem"]
        assert sum(record["pixels"]) == 40 * 56
        assert str(images) not in json.dumps(record)

    def test_an_overlay_tints_classes_and_leaves_the_background(self):
        image = np.full((60, 60, 3), 100, np.uint8)
        labels = np.zeros((60, 60), np.uint8)
        labels[20:40, 20:40] = 1
        read = np.asarray(Image.open(io.BytesIO(overlay_jpeg(image, labels, palette(2))))).astype(int)
        assert np.abs(read[:10] - 100).max() < 6
        assert np.abs(read[28:32, 28:32] - (60 + 0.4 * palette(2)[1].astype(int))).max() < 12
        assert np.abs(read[20, 25:35] - palette(2)[1].astype(int)).max() < 40
        deep = overlay_jpeg(np.full((8, 9, 1), 65535, np.uint16), labels[:8, :9], palette(2))
        assert np.asarray(Image.open(io.BytesIO(deep))).min() > 245

    def test_overlays_of_large_images_are_made_smaller(self):
        large = overlay_jpeg(np.zeros((3000, 5000, 1), np.uint8), np.zeros((3000, 5000), np.uint8), palette(2))
        assert Image.open(io.BytesIO(large)).size == (1667, 1000)

    def test_borders(self):
        labels = np.zeros((4, 6), np.uint8)
        labels[:, 3:] = 1
        assert borders(labels).astype(int).tolist() == [[0, 0, 1, 1, 0, 0]] * 4
        assert borders(labels, 2)[0].astype(int).tolist() == [0, 1, 1, 1, 1, 0]
        assert not borders(labels[:1, :1]).any()

    @pytest.mark.parametrize(
        ("names", "clear"), [(None, 0), (("Background", "leaf"), 0), (("road", "car"), None), (("leaf",), 0)]
    )
    def test_which_class_is_background(self, names, clear):
        assert clear_class(len(names or "ab"), names) == clear
