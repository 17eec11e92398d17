"""Georeferenced TIFFs in `segcore predict`."""

import csv
import math

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from PIL import Image
from segcore_plugin_predict import job
from segcore_plugin_predict.tiff import georeferenced
from segcore_plugin_raster import predict_raster

import segcore
from segcore.cli import cli
from segcore.testing import TinyDecoder, TinyEncoder

PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_200_000)}
NAMES = ["water", "wood", "field"]


@pytest.fixture(autouse=True)
def tiny_parts():
    """Register a tiny encoder and decoder for each test."""
    segcore.encoders["reader-tiny-encoder"] = TinyEncoder
    segcore.decoders["reader-tiny-decoder"] = TinyDecoder
    yield
    del segcore.encoders["reader-tiny-encoder"], segcore.decoders["reader-tiny-decoder"]


def checkpoint(folder, classes=3, **options):
    torch.manual_seed(0)
    model = segcore.create_model(
        "reader-tiny-decoder", "reader-tiny-encoder", encoder_depth=3, classes=classes, **options
    )
    with torch.no_grad():
        model.segmentation_head[0].weight.mul_(20)
    how = segcore.Preprocessing((0.4, 0.5, 0.6), (0.25,) * 3)
    model.save_pretrained(folder, class_names=NAMES[:classes], preprocessing=how)
    return folder


def values(bands=3, height=72, width=88):
    coarse = torch.rand(1, bands, 9, 11, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
    return (1 + fine * 254).byte().numpy()


def raster(path, numbers, **options):
    count, height, width = numbers.shape
    shape = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": numbers.dtype}
    with rasterio.open(path, "w", **(shape | PLACE | options)) as file:
        file.write(numbers)
    return path


def call(*words, code=0):
    result = CliRunner().invoke(cli, ["predict", *map(str, words)], standalone_mode=False)
    if result.exception:
        raise result.exception
    assert (result.return_value or 0) == code, result.output
    return result.output


def read(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture
def ready(tmp_path):
    """A checkpoint, a folder with a raster and a picture, and where results go."""
    (tmp_path / "in").mkdir()
    raster(tmp_path / "in/scene.tif", values())
    Image.fromarray(values(height=40, width=48).transpose(1, 2, 0)).save(tmp_path / "in/photograph.png")
    return checkpoint(tmp_path / "model"), tmp_path / "in", tmp_path / "out"


def names(out):
    return {path.name for path in out.iterdir()}


class TestResult:
    def test_it_says_where_it_lies_and_is_what_the_raster_functions_give(self, ready, tmp_path):
        model, images, out = ready
        assert "Predicted 2 of 2 images" in call(model, images, "-o", out)
        assert names(out) == {"scene.tif", "photograph.png", "areas.csv"}
        expected = predict_raster(segcore.from_pretrained(model), images / "scene.tif", tmp_path / "expected.tif")
        with rasterio.open(out / "scene.tif") as file:
            assert (file.crs, file.transform) == (rasterio.CRS.from_string("EPSG:32632"), PLACE["transform"])
            labels = file.read(1)
        assert np.array_equal(labels, read(expected)[0])
        assert len(np.unique(labels)) > 1
        with (out / "areas.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["image"] == "scene"]
        assert [int(row["pixels"]) for row in rows] == np.bincount(labels.ravel(), minlength=3).tolist()
        assert {(row["width"], row["height"]) for row in rows} == {("88", "72")}

    def test_options_are_those_of_windows(self, ready, tmp_path):
        model, images, out = ready
        call(model, images / "scene.tif", "-o", out, "--tile", 32, "--overlap", 8, "--flips", "h", "--bands", "3,2,1")
        expected = predict_raster(
            segcore.from_pretrained(model), images / "scene.tif", tmp_path / "expected.tif", core=32, halo=8, flips="h",
            bands=(3, 2, 1),
        )  # fmt: skip
        assert np.array_equal(read(out / "scene.tif"), read(expected))
        with rasterio.open(out / "scene.tif") as file:
            assert file.block_shapes == [(32, 32)]

    def test_a_window_is_made_to_fit(self, ready):
        model, images, out = ready
        call(model, images / "scene.tif", "-o", out, "--tile", 40, "--overlap", 8)
        with rasterio.open(out / "scene.tif") as file:
            assert file.block_shapes == [(48, 48)]

    def test_probabilities_and_overlays(self, ready, tmp_path):
        model, images, out = ready
        numbers = values()
        numbers[:, :20] = 0
        raster(images / "scene.tif", numbers, nodata=0)
        call(model, images / "scene.tif", "-o", out, "--probabilities", "--overlays")
        assert names(out) == {"scene.tif", "scene.probabilities.tif", "scene.overlay.jpg", "areas.csv"}
        network = segcore.from_pretrained(model)
        expected = predict_raster(network, images / "scene.tif", tmp_path / "expected.tif", output="probabilities")
        with rasterio.open(out / "scene.probabilities.tif") as file:
            assert (file.crs, file.descriptions) == (rasterio.CRS.from_string("EPSG:32632"), tuple(NAMES))
            assert math.isnan(file.nodata)
        assert np.array_equal(read(out / "scene.probabilities.tif"), read(expected), equal_nan=True)
        labels = read(out / "scene.tif")[0]
        assert np.array_equal(labels[20:], read(expected)[:, 20:].argmax(0))
        assert (labels[:20] == 255).all()
        overlay = np.asarray(Image.open(out / "scene.overlay.jpg"))
        assert overlay.shape == (72, 88, 3)
        assert overlay[2:16].max() < 40, "nothing where there is no data"
        assert overlay[24:].mean() > 60

    @pytest.mark.parametrize("probabilities", [(), ("--probabilities",)])
    @pytest.mark.parametrize("classes", [1, 3])
    def test_one_class_and_several_labels(self, ready, tmp_path, classes, probabilities):
        _, images, out = ready
        model = checkpoint(tmp_path / "sigmoid", classes, activation="sigmoid")
        call(model, images / "scene.tif", "-o", out, "--threshold", 0.4, "--overlays", *probabilities)
        network = segcore.from_pretrained(model)
        expected = predict_raster(network, images / "scene.tif", tmp_path / "expected.tif", threshold=0.4)
        labels = read(out / "scene.tif")
        assert np.array_equal(labels, read(expected))
        with (out / "areas.csv").open(newline="") as file:
            pixels = [int(row["pixels"]) for row in csv.DictReader(file)]
        assert pixels == (np.bincount(labels.ravel(), minlength=2) if classes == 1 else labels.sum((1, 2))).tolist()
        assert 0 < labels.mean() < 1
        assert "1 were there already" in call(
            model, images / "scene.tif", "-o", out, "--threshold", 0.4, "--overlays", *probabilities
        )

    def test_several_labels_by_choice(self, ready):
        model, images, out = ready
        call(model, images / "scene.tif", "-o", out, "--multilabel")
        assert read(out / "scene.tif").shape == (3, 72, 88)

    def test_a_grey_raster_for_a_model_of_three_channels(self, ready):
        model, images, out = ready
        grey, three = values(1), images / "three.tif"
        raster(images / "scene.tif", grey)
        raster(three, np.repeat(grey, 3, axis=0))
        call(model, images, "-o", out)
        assert np.array_equal(read(out / "scene.tif"), read(out / "three.tif"))


class TestAgain:
    def test_what_is_finished_is_not_done_again(self, ready):
        model, images, out = ready
        call(model, images, "-o", out)
        before, table = (out / "scene.tif").stat().st_mtime_ns, (out / "areas.csv").read_text()
        assert "Predicted 0 of 2 images, 2 were there already" in call(model, images, "-o", out)
        assert (out / "scene.tif").stat().st_mtime_ns == before
        assert (out / "areas.csv").read_text() == table
        assert "1 were there already" in call(model, images / "scene.tif", "-o", out)
        assert "Predicted 1 of 1" in call(model, images / "scene.tif", "-o", out, "--flips", "h")
        assert "Predicted 1 of 1" in call(model, images / "scene.tif", "-o", out, "--overlays")
        (out / "scene.overlay.jpg").unlink()
        assert "Predicted 1 of 1" in call(model, images / "scene.tif", "-o", out, "--overlays")
        raster(images / "scene.tif", values(height=80))
        assert "Predicted 1 of 1" in call(model, images / "scene.tif", "-o", out, "--overlays")
        (out / "scene.tif").write_bytes((out / "scene.tif").read_bytes()[:700])
        assert "Predicted 1 of 1" in call(model, images / "scene.tif", "-o", out, "--overlays")
        raster(out / "scene.tif", values())  # a stranger's
        assert "Predicted 1 of 1" in call(model, images / "scene.tif", "-o", out, "--overlays")

    def test_a_broken_raster_is_left_out(self, ready):
        model, images, out = ready
        content = (images / "scene.tif").read_bytes()
        numbers = np.random.default_rng(0).integers(0, 256, (3, 400, 400), np.uint8)
        raster(images / "scene.tif", numbers, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
        whole = (images / "scene.tif").read_bytes()
        start = whole.index(b"\x78\x9c", 2000) if b"\x78\x9c" in whole[2000:] else 3000
        (images / "scene.tif").write_bytes(whole[:start] + b"\xff" * 3000 + whole[start + 3000 :])
        assert georeferenced(images / "scene.tif")
        told = call(model, images, "-o", out, code=3)
        assert f"Skipped {images / 'scene.tif'}: " in told
        assert "Predicted 1 of 2 images, 1 failed" in told
        assert names(out) == {"photograph.png", "areas.csv"}
        (images / "scene.tif").write_bytes(content)
        assert "Predicted 1 of 2 images, 1 were there already" in call(model, images, "-o", out)


class TestChoice:
    def test_without_this_package_it_is_said_that_the_place_is_lost(self, ready, monkeypatch):
        model, images, out = ready
        monkeypatch.setattr(job, "find_raster_reader", lambda: None)
        told = call(model, images, "-o", out, "--quiet")
        assert "Georeferenced TIFFs: 1. Their results will not say where" in told
        assert "pip install segcore-plugin-raster" in told
        assert names(out) == {"scene.png", "photograph.png", "areas.csv"}
        assert "Georeferenced TIFFs: 1." in call(model, images, "-o", out)
        assert "Georeferenced" not in call(model, images / "photograph.png", "-o", out)

    def test_it_is_done_once_more_when_this_package_came_later(self, ready, monkeypatch):
        model, images, out = ready
        with monkeypatch.context() as before:
            before.setattr(job, "find_raster_reader", lambda: None)
            call(model, images, "-o", out)
        told = call(model, images, "-o", out)
        assert "Predicted 1 of 2 images, 1 were there already" in told
        assert "Georeferenced" not in told

    def test_pages_are_pictures(self, ready):
        model, images, out = ready
        call(model, images / "scene.tif", "-o", out, "--frame", 0)
        assert names(out) == {"scene.png", "areas.csv"}

    @pytest.mark.parametrize(
        "options", [{}, {"BIGTIFF": "YES"}, {"crs": None}, {"driver": "COG"}, {"ENDIANNESS": "BIG"}]
    )
    def test_what_is_seen_without_gdal(self, tmp_path, options):
        numbers = values(height=600, width=600)
        assert georeferenced(raster(tmp_path / "a.tif", numbers, **options))

    def test_what_has_no_place(self, tmp_path):
        Image.fromarray(values().transpose(1, 2, 0)).save(tmp_path / "a.tif")
        Image.fromarray(values().transpose(1, 2, 0)).save(tmp_path / "a.png")
        (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:30])
        assert not any(georeferenced(tmp_path / name) for name in ("a.tif", "a.png", "b.tif", "absent.tif"))
