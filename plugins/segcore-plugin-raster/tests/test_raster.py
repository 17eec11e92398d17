"""Rasters in, rasters out."""

import itertools
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from segcore_plugin_predict import palette, predict, read_image
from segcore_plugin_raster import predict_raster

import segcore
from segcore import InputError, OptionValueError
from segcore.cli import main
from segcore.testing import TinyDecoder, TinyEncoder

PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_200_000)}


@pytest.fixture(autouse=True)
def tiny_parts():
    """Register a tiny encoder and decoder for each test."""
    segcore.encoders["raster-tiny-encoder"] = TinyEncoder
    segcore.decoders["raster-tiny-decoder"] = TinyDecoder
    yield
    del segcore.encoders["raster-tiny-encoder"], segcore.decoders["raster-tiny-decoder"]


def network(channels=4, classes=3, depth=3, **options):
    torch.manual_seed(0)
    model = segcore.create_model(
        "raster-tiny-decoder",
        "raster-tiny-encoder",
        in_channels=channels,
        encoder_depth=depth,
        classes=classes,
        **options,
    )
    with torch.no_grad():
        model.segmentation_head[0].weight.mul_(20)
    how = segcore.Preprocessing(tuple(0.3 + 0.1 * (i % 3) for i in range(channels)), (0.25,) * channels)
    model.config |= {"preprocessing": how.as_dict(), "class_names": ["water", "wood", "field"][:classes]}
    return model.eval()


def raster(path, values, nodata=None, **options):
    """Write values (bands, H, W) with a place."""
    count, height, width = values.shape
    place = {} if "gcps" in options else PLACE
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": values.dtype,
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **(profile | place | options)) as file:
        file.write(values)
    return path


def smooth(bands=4, height=200, width=264, dtype=np.uint16, seed=0):
    coarse = torch.rand(1, bands, 9, 11, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0].numpy()
    return (fine * np.iinfo(dtype).max).astype(dtype) if np.dtype(dtype).kind in "iu" else fine.astype(dtype)


def whole(model, values, **options):
    return predict(model, values.transpose(1, 2, 0), **options).numpy()


def read(path):
    with rasterio.open(path) as file:
        return file.read()


class TestResult:
    def test_it_has_the_place_and_blocks_and_says_what_its_values_mean(self, tmp_path):
        values = smooth()
        source = raster(tmp_path / "a.tif", values)
        assert predict_raster(network(), source, tmp_path / "b.tif", core=64, halo=64) == tmp_path / "b.tif"
        with rasterio.open(tmp_path / "b.tif") as file:
            assert (file.crs, file.transform) == (rasterio.CRS.from_string("EPSG:32632"), PLACE["transform"])
            assert (file.count, file.dtypes, file.shape, file.nodata) == (1, ("uint8",), (200, 264), 255)
            assert file.block_shapes == [(64, 64)]
            assert file.colormap(1)[1] == (*palette(3)[1].tolist(), 255)
            assert file.tags(1) == {"class_0": "water", "class_1": "wood", "class_2": "field"}
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_a_halo_as_wide_as_the_network_sees_makes_windows_invisible(self, tmp_path):
        """Sides are multiples of the stride, so that the whole image is sampled as the windows are."""
        model, values = network(), smooth()
        source = raster(tmp_path / "a.tif", values)
        expected = whole(model, values, output="probabilities")
        errors = {}
        for halo in (0, 8, 64):
            predict_raster(model, source, tmp_path / "b.tif", core=64, halo=halo, output="probabilities")
            errors[halo] = np.abs(read(tmp_path / "b.tif") - expected).max()
        assert errors[64] < 1e-4
        assert errors[0] > 0.01 > errors[64]
        predict_raster(model, source, tmp_path / "c.tif", core=64, halo=64)
        assert (read(tmp_path / "c.tif")[0] == whole(model, values)).mean() > 0.9999

    def test_one_window_is_the_whole_image(self, tmp_path):
        model, values = network(), smooth(height=48, width=64)
        predict_raster(model, raster(tmp_path / "a.tif", values), tmp_path / "b.tif")
        assert np.array_equal(read(tmp_path / "b.tif")[0], whole(model, values))

    def test_sides_that_are_no_multiple_of_the_stride_are_padded_by_repeating_the_edge(self, tmp_path):
        model, values = network(), smooth(height=45, width=61)
        predict_raster(model, raster(tmp_path / "a.tif", values), tmp_path / "b.tif")
        padded = np.pad(values, [(0, 0), (0, 3), (0, 3)], mode="edge")
        assert np.array_equal(read(tmp_path / "b.tif")[0], whole(model, padded)[:45, :61])

    def test_a_halo_is_made_a_multiple_of_the_stride(self, tmp_path):
        model, source = network(), raster(tmp_path / "a.tif", smooth())
        predict_raster(model, source, tmp_path / "b.tif", core=64, halo=41)
        predict_raster(model, source, tmp_path / "c.tif", core=64, halo=48)
        assert np.array_equal(read(tmp_path / "b.tif"), read(tmp_path / "c.tif"))

    @pytest.mark.parametrize(
        ("size", "core"), [(None, 512), ((400, 300), 304), ((64, 64), 256), ((512, 640), 512), ((65536, 65536), 4096)]
    )
    def test_windows_have_the_size_of_training(self, tmp_path, size, core):
        model, source = network(depth=2), raster(tmp_path / "a.tif", smooth(height=16, width=700))
        model.config["image_size"] = None if size is None else list(size)
        with rasterio.open(predict_raster(model, source, tmp_path / "b.tif", halo=0)) as file:
            assert file.block_shapes[0][1] == core

    def test_probabilities_have_a_band_for_each_class(self, tmp_path):
        model, values = network(), smooth(height=48, width=64)
        predict_raster(model, raster(tmp_path / "a.tif", values), tmp_path / "b.tif", output="probabilities", flips="h")
        with rasterio.open(tmp_path / "b.tif") as file:
            assert file.descriptions == ("water", "wood", "field")
            assert math.isnan(file.nodata)
            np.testing.assert_allclose(file.read(), whole(model, values, output="probabilities", flips="h"), atol=1e-6)

    def test_one_class_and_several_labels(self, tmp_path):
        values = smooth(height=48, width=64)
        source = raster(tmp_path / "a.tif", values)
        one = network(classes=1)
        predict_raster(one, source, tmp_path / "b.tif", threshold=0.4)
        assert np.array_equal(read(tmp_path / "b.tif")[0], whole(one, values, threshold=0.4))
        several = network(activation="sigmoid")
        predict_raster(several, source, tmp_path / "c.tif")
        assert np.array_equal(read(tmp_path / "c.tif"), whole(several, values))

    def test_cloud_optimised(self, tmp_path):
        model, source = network(), raster(tmp_path / "a.tif", smooth())
        predict_raster(model, source, tmp_path / "plain.tif", core=64, halo=16)
        predict_raster(model, source, tmp_path / "cog.tif", core=64, halo=16, cloud_optimised=True)
        assert np.array_equal(read(tmp_path / "cog.tif"), read(tmp_path / "plain.tif"))
        with rasterio.open(tmp_path / "cog.tif") as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.overviews(1)
            assert file.nodata == 255
            assert file.colormap(1)[1] == (*palette(3)[1].tolist(), 255)
        assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "plain.tif", "cog.tif"}


class TestSource:
    def test_without_data_there_is_no_class(self, tmp_path):
        model, values = network(), smooth()
        values = np.maximum(values, 1)
        values[:, 20:40, 30:50] = 0
        values[:, 64:128, 64:128] = 0  # a whole window
        predict_raster(model, raster(tmp_path / "a.tif", values, nodata=0), tmp_path / "b.tif", core=64, halo=16)
        empty = (values == 0).all(0)
        assert np.array_equal(read(tmp_path / "b.tif")[0] == 255, empty)
        predict_raster(model, tmp_path / "a.tif", tmp_path / "c.tif", core=64, halo=16, output="probabilities")
        assert np.array_equal(np.isnan(read(tmp_path / "c.tif")).all(0), empty)

    def test_values_of_nodata_do_not_reach_the_model(self, tmp_path):
        model = network(channels=2)
        values = smooth(2, 64, 64, np.float32)
        results = []
        for number, nothing in enumerate((-9999, 1e30, math.nan)):
            holed = values.copy()
            holed[:, 10:30, 10:30] = nothing
            source = raster(tmp_path / f"{number}.tif", holed, nodata=nothing)
            results.append(read(predict_raster(model, source, tmp_path / "b.tif")))
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0], results[2])
        assert (results[0][0, 10:30, 10:30] == 255).all()

    def test_an_alpha_band_is_a_mask_and_no_channel(self, tmp_path):
        model, values = network(channels=3), smooth(4, 64, 64, np.uint8)
        values[3] = 255
        values[3, :8] = 0
        source = tmp_path / "a.tif"
        raster(source, values, photometric="RGB", alpha="yes")
        with rasterio.open(source) as file:
            assert file.colorinterp[3] == ColorInterp.alpha
        result = read(predict_raster(model, source, tmp_path / "b.tif"))[0]
        assert (result[:8] == 255).all()
        assert (result[8:] != 255).all()

    def test_many_bands_of_which_some_are_chosen(self, tmp_path):
        model, values = network(channels=3), smooth(13)
        source = raster(tmp_path / "a.tif", values)
        with pytest.raises(InputError, match="13 bands, and the model takes 3.*--bands"):
            predict_raster(model, source, tmp_path / "b.tif")
        with pytest.raises(InputError, match="13 bands, and bands 1, 2, 14"):
            predict_raster(model, source, tmp_path / "b.tif", bands=(1, 2, 14))
        predict_raster(model, source, tmp_path / "b.tif", bands=(8, 4, 3))
        assert np.array_equal(read(tmp_path / "b.tif")[0], whole(model, values[[7, 3, 2]]))

    def test_numbers_without_a_natural_scale(self, tmp_path):
        model, values = network(), (smooth(height=64, width=64) // 8).astype(np.int16)
        source = raster(tmp_path / "a.tif", values)
        with pytest.raises(InputError, match="int16, which has no natural scale"):
            predict_raster(model, source, tmp_path / "b.tif")
        predict_raster(model, source, tmp_path / "b.tif", full_scale=10_000)
        assert np.array_equal(read(tmp_path / "b.tif")[0], whole(model, values.astype(np.float32) / np.float32(10_000)))
        floats = raster(tmp_path / "f.tif", smooth(4, 64, 64, np.float32) * 9)
        with pytest.raises(InputError, match="not from 0 to 1"):
            predict_raster(model, floats, tmp_path / "c.tif")
        assert not (tmp_path / "c.tif").exists()

    def test_a_raster_without_a_place(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = raster(tmp_path / "a.tif", smooth(4, 64, 64), transform=None, crs=None)
        predict_raster(network(), source, tmp_path / "b.tif")
        assert np.array_equal(np.asarray(Image.open(tmp_path / "b.tif")), whole(network(), smooth(4, 64, 64)))

    def test_control_points_are_kept(self, tmp_path):
        points = [
            GroundControlPoint(row, column, 500_000 + column, 5_200_000 - row)
            for row, column in ((0, 0), (0, 60), (60, 0))
        ]
        source = raster(tmp_path / "a.tif", smooth(4, 64, 64), gcps=points, crs="EPSG:32632")
        with rasterio.open(predict_raster(network(), source, tmp_path / "b.tif")) as file:
            assert [(point.row, point.col, point.x) for point in file.gcps[0]] == [(p.row, p.col, p.x) for p in points]

    def test_indices_of_a_colour_table_are_refused(self, tmp_path):
        source = raster(tmp_path / "a.tif", smooth(1, 64, 64, np.uint8))
        with rasterio.open(source, "r+") as file:
            file.write_colormap(1, {0: (1, 2, 3, 255)})
        with pytest.raises(InputError, match="colour table"):
            predict_raster(network(channels=1), source, tmp_path / "b.tif")

    @pytest.mark.parametrize("content", [None, b"nothing"])
    def test_what_is_no_raster(self, tmp_path, content):
        if content:
            (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(InputError, match="a.tif: it cannot be read"):
            predict_raster(network(), tmp_path / "a.tif", tmp_path / "b.tif")
        assert not (tmp_path / "b.tif").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"core": 20}, "multiples of 16, here also of 8"), ({"halo": -1}, "halo=-1"), ({"output": "logits"}, "'probabilities'"), ({"full_scale": -1}, "positive")],
    )  # fmt: skip
    def test_options_that_cannot_work(self, tmp_path, options, message):
        source = raster(tmp_path / "a.tif", smooth(4, 64, 64))
        with pytest.raises(OptionValueError, match=message):
            predict_raster(network(), source, tmp_path / "b.tif", **options)
        assert not list(tmp_path.glob(".*"))


class TestCommand:
    def call(self, *words):
        with pytest.raises(SystemExit) as stop:
            main(["raster", *map(str, words)])
        return stop.value.code

    def test_folders_failures_and_a_second_run(self, tmp_path, capfd):
        network().save_pretrained(tmp_path / "model")
        images = tmp_path / "in"
        (images / "deep").mkdir(parents=True)
        for name in ("a.tif", "deep/b.tif"):
            raster(images / name, smooth())
        (images / "bad.tif").write_bytes((images / "a.tif").read_bytes()[:2000])
        words = (tmp_path / "model", images, "-o", tmp_path / "out", "--core", 64, "--halo", 16)
        assert self.call(*words) == 3
        told = capfd.readouterr()
        assert "Windows of 64 x 64 pixels, each seen with 16 more" in told.err
        assert "Predicted 2 of 3 rasters, 1 failed" in told.out
        assert "Skipped " in told.err
        assert "bad.tif" in told.err
        assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.tif")} == {
            "a.tif",
            "deep/b.tif",
        }
        (images / "bad.tif").unlink()
        assert self.call(*words) == 0
        assert "Predicted 0 of 2 rasters, 2 were there already" in capfd.readouterr().out
        assert self.call(*words[:-1], 32) == 0
        assert "Predicted 2 of 2 rasters." in capfd.readouterr().out
        assert self.call(*words[:-3], 20) == 2

    def test_it_is_offered_without_loading_torch_or_rasterio(self):
        code = (
            "import sys\nfrom segcore.cli import main\n"
            "try: main(['raster', '--help'])\nexcept SystemExit as stop: assert not stop.code\n"
            "assert not {'torch', 'rasterio', 'rich', 'numpy'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "--halo" in done.stdout


MEMORY = """
import sys, torch, rasterio, numpy as np
from pathlib import Path
import segcore
from segcore.testing import TinyDecoder, TinyEncoder
from segcore_plugin_raster import predict_raster

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

class Light(torch.nn.Module):  # stands for a network: one convolution
    def __init__(self):
        super().__init__()
        self.encoder = TinyEncoder(depth=1)
        self.head = torch.nn.Conv2d(3, 2, 1)
        self.config = {"classes": 2, "activation": None}
    def forward(self, x):
        return self.head(x)

how = segcore.Preprocessing((0.5,) * 3, (0.25,) * 3)
folder = Path(sys.argv[1])
for size in map(int, sys.argv[2:]):
    source = folder / f"{size}.tif"
    profile = dict(driver="GTiff", width=size, height=size, count=3, dtype="uint8", tiled=True, blockxsize=512, blockysize=512, compress="deflate", zlevel=1)
    with rasterio.Env(GDAL_CACHEMAX=2**24), rasterio.open(source, "w", **profile) as file:
        rng = np.random.default_rng(0)
        for y in range(0, size, 512):
            row = np.repeat(np.repeat(rng.integers(0, 256, (3, 64, -(-size // 8)), np.uint8), 8, 1), 8, 2)
            file.write(row[:, : size - y, :size], window=rasterio.windows.Window(0, y, size, min(512, size - y)))
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    predict_raster(Light(), source, folder / "out.tif", preprocessing=how)
    print(round(status("VmHWM") - before, 1), flush=True)
"""


def peaks(folder, *sizes):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    words = [sys.executable, "-W", "ignore", "-c", MEMORY, str(folder), *map(str, sizes)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return list(map(float, done.stdout.split()))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux")
class TestMemory:
    def test_it_does_not_grow_with_the_raster(self, tmp_path):
        _, small, large = peaks(tmp_path, 1100, 1100, 3300)
        assert large < small + 75, "MB; GDAL's cache is 64"

    @pytest.mark.slow
    def test_20_000_by_20_000(self, tmp_path):
        assert max(peaks(tmp_path, 1100, 20_000)) < 300


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_predict_plugin_reads_tiffs_of_every_layout_that_gdal_writes(tmp_path, dtype):
    rng, path = np.random.default_rng(0), tmp_path / "a.tif"
    predictors = (1, 3) if dtype == "float32" else (1, 2)
    compressions = [(name, predictor) for name in ("lzw", "deflate", "zstd") for predictor in predictors]
    layouts = itertools.product(
        (3, 6), [*compressions, ("packbits", 1), ("none", 1)], (False, True), ("pixel", "band"), ("LITTLE", "BIG")
    )
    for bands, (compression, predictor), tiled, interleave, order in layouts:
        values = rng.random((bands, 75, 93))
        values = values.astype(dtype) if dtype == "float32" else (values * np.iinfo(dtype).max).astype(dtype)
        options = {"interleave": interleave, "ENDIANNESS": order, "photometric": "RGB" if bands == 3 else "MINISBLACK"}
        options |= {} if compression == "none" else {"compress": compression}
        options |= {} if predictor == 1 else {"predictor": predictor}
        options |= {"tiled": True, "blockxsize": 32, "blockysize": 48} if tiled else {}
        found = read_image(raster(path, values, **options))
        assert found.dtype == values.dtype
        assert np.array_equal(found, values.transpose(1, 2, 0)), (
            bands,
            compression,
            predictor,
            tiled,
            interleave,
            order,
        )


def test_the_result_can_be_read_as_an_image(tmp_path):
    values = smooth(height=48, width=64)
    predict_raster(network(), raster(tmp_path / "a.tif", values), tmp_path / "b.tif")
    assert read_image(tmp_path / "b.tif", alpha="drop").shape[:2] == (48, 64)
