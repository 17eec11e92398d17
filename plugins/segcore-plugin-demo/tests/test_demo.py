"""The command from end to end."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from segcore_plugin_demo.command import demo

import segcore
from segcore.testing import TinyDecoder, TinyEncoder


@pytest.fixture(autouse=True)
def tiny_parts():
    """Register a tiny encoder and decoder for each test."""
    segcore.encoders["demo-tiny-encoder"] = TinyEncoder
    segcore.decoders["demo-tiny-decoder"] = TinyDecoder
    yield
    del segcore.encoders["demo-tiny-encoder"], segcore.decoders["demo-tiny-decoder"]


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def call(tmp_path, *options, check=True):
    tiny = [
        "--encoder",
        "demo-tiny-encoder",
        "--decoder",
        "demo-tiny-decoder",
        "--steps",
        "2",
        "--out",
        tmp_path / "out",
    ]
    result = CliRunner().invoke(demo, [str(word) for word in (*tiny, *options)])
    if check and result.exception:
        raise result.exception
    return result


def pair_of_files(folder, size=(64, 80), colour=False):
    rng = np.random.default_rng(0)
    mask = np.zeros(size, np.uint8)
    mask[5:25, 5:25] = mask[-25:-5, -25:-5] = 255
    image = (mask // 2 + rng.integers(0, 60, size)).astype(np.uint8)
    Image.fromarray(np.stack([image] * 3, axis=2) if colour else image).save(folder / "photo.png")
    Image.fromarray(mask).save(folder / "objects.png")
    return ["--image", folder / "photo.png", "--mask", folder / "objects.png"]


def test_the_folder_has_everything_and_the_table_names_every_method(tmp_path):
    result = call(tmp_path)
    files = {"overlay.png", "image.png", "truth.png", "mask.png", "result.json", "predict.py", "checkpoint"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert {path.name for path in (tmp_path / "out/checkpoint").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    for text in ("never saw", "demo-tiny-decoder / demo-tiny-encoder", "Otsu", "coins found", "0.724", "9 of 12"):
        assert text in result.stdout
    assert size_of(tmp_path / "out/overlay.png")[0] == 1152
    assert segcore.preprocessing(segcore.from_pretrained(tmp_path / "out/checkpoint")).mean == (0.5,)


def test_json_is_the_only_output_and_is_also_kept(tmp_path):
    result = call(tmp_path, "--json")
    data = json.loads(result.output)
    assert data == json.loads((tmp_path / "out/result.json").read_text())
    assert [score["objects"] for score in data["scores"]] == [12] * 4
    assert data["steps"] == 2
    assert data["noun"] == "coins"


def test_the_written_script_reloads_the_checkpoint_and_finds_the_same_mask(tmp_path, capsys):
    stated = json.loads(call(tmp_path, "--json").output)["scores"][0]["iou"]
    before = np.asarray(Image.open(tmp_path / "out/mask.png"))
    (tmp_path / "out/mask.png").unlink()
    runpy.run_path(str(tmp_path / "out/predict.py"))
    assert np.mean(np.asarray(Image.open(tmp_path / "out/mask.png")) != before) < 1e-4
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(stated, abs=1e-3)


def test_the_same_seed_gives_the_same_result(tmp_path):
    def masks(seed):
        call(tmp_path, "--seed", seed)
        return (tmp_path / "out/mask.png").read_bytes()

    first = masks(1)
    assert masks(1) == first
    assert masks(2) != first


def test_files_of_an_earlier_run_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    (tmp_path / "out/overlay.png").write_text("old")
    call(tmp_path)
    assert (tmp_path / "out/notes.txt").read_text() == "mine"
    assert size_of(tmp_path / "out/overlay.png")[0] == 1152
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(("size", "colour"), [((64, 80), False), ((90, 40), True)])
def test_a_pair_of_ones_own(tmp_path, size, colour):
    call(tmp_path, *pair_of_files(tmp_path, size, colour))
    config = json.loads((tmp_path / "out/checkpoint/config.json").read_text())
    assert config["in_channels"] == (3 if colour else 1)
    runpy.run_path(str(tmp_path / "out/predict.py"))  # knows the cut and the channels of this image
    assert size_of(tmp_path / "out/mask.png") == size[::-1]


def test_image_without_mask(tmp_path):
    result = call(tmp_path, "--image", tmp_path / "photo.png", check=False)
    assert isinstance(result.exception, segcore.OptionValueError)
    assert "give both" in str(result.exception)


def test_a_result_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    result = call(tmp_path, check=False)
    assert isinstance(result.exception, segcore.OptionValueError)
    assert "Choose another place" in str(result.exception)
    assert (tmp_path / "out").read_text() == "mine"


def test_an_unknown_encoder(tmp_path):
    result = call(tmp_path, "--encoder", "demo-tiny-encoda", check=False)
    assert isinstance(result.exception, segcore.UnknownNameError)
    assert "demo-tiny-encoder" in str(result.exception)


def test_a_decoder_that_gives_no_plain_mask_is_refused_before_training(tmp_path):
    class Queries(TinyDecoder):
        def default_head(self, classes, activation=None):
            head = super().default_head(classes, activation)

            class Several(torch.nn.Module):
                def forward(self, x, size):
                    return {"masks": head(x, size)}

            return Several()

    segcore.decoders["demo-queries"] = Queries
    try:
        result = call(tmp_path, "--decoder", "demo-queries", check=False)
    finally:
        del segcore.decoders["demo-queries"]
    assert isinstance(result.exception, segcore.IncompatiblePartsError)
    assert not (tmp_path / "out/checkpoint").exists()


@pytest.mark.parametrize("option", [("--steps", "0"), ("--seed", "-1"), ("--threads", "0")])
def test_numbers_out_of_range(tmp_path, option):
    assert call(tmp_path, *option, check=False).exit_code == 2


def python(*words):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=True, env=environment
    )


def test_the_command_is_offered_without_loading_torch_pillow_or_rich():
    code = """
import sys
from segcore.cli import main
try:
    main(["demo", "--help"])
except SystemExit as stop:
    assert not stop.code
assert not {"torch", "PIL", "rich", "numpy"} & set(sys.modules), sorted(sys.modules)
"""
    assert "--encoder" in python("-c", code).stdout


def test_ctrl_c_ends_the_run_without_a_result_or_a_traceback(tmp_path):
    words = [sys.executable, "-m", "segcore", "demo", "--steps", "100000", "--threads", "1", "--out", tmp_path / "out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not (tmp_path / "out").exists():  # made when everything is loaded and read
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_default_run_finds_every_coin(tmp_path):
    data = json.loads(python("-m", "segcore", "demo", "--json", "--out", tmp_path / "out").stdout)
    model, *levels = data["scores"]
    assert model["iou"] >= 0.95
    assert (model["found"], model["objects"]) == (12, 12)
    assert all(level["iou"] < model["iou"] for level in levels)
    assert (tmp_path / "out/overlay.png").stat().st_size < 250_000
    before = np.asarray(Image.open(tmp_path / "out/mask.png"))
    printed = python(tmp_path / "out/predict.py").stdout
    assert float(printed.split()[-1]) == pytest.approx(model["iou"], abs=1e-3)
    assert np.mean(np.asarray(Image.open(tmp_path / "out/mask.png")) != before) < 1e-4
