"""Precisions and tiles."""

import functools
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from segcore_plugin_train import Settings, keeper, machine, state, train
from segcore_plugin_train.log import read_log

import segcore
from segcore.cli import cli


def quietly(**fields):
    return train(Settings(**fields), tell=lambda line: None)


def scale_of(out):
    return state.load_state(Path(out) / state.NAME).facts["scaler"]


def first_scale(monkeypatch, value):
    make = functools.partial(machine.MixedPrecision, scaler=torch.amp.GradScaler("cpu", init_scale=value))
    monkeypatch.setattr(machine, "MixedPrecision", make)


def test_fp16_leaves_out_steps_until_the_loss_is_scaled_well_and_goes_on_exactly(small, monkeypatch):
    first_scale(monkeypatch, 2.0**24)
    kinds = set()
    forward = segcore.SegmentationModel.forward

    def watched(self, x):
        output = forward(self, x)
        kinds.add(output.dtype)
        return output

    monkeypatch.setattr(segcore.SegmentationModel, "forward", watched)
    fields = small | {"precision": "16", "epochs": 10, "accelerator": "cpu", "save_every": 1}
    step = keeper.Keeper.on_train_batch_end

    def stops(self, trainer, module, *rest):
        step(self, trainer, module, *rest)
        if module.step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keeper.Keeper, "on_train_batch_end", stops)
        with pytest.raises(KeyboardInterrupt):
            quietly(**fields)
    assert kinds == {torch.float16}
    middle = scale_of(small["out"])
    assert 1 < middle["scale"] < 2.0**24
    first_scale(monkeypatch, 2.0**30)  # is not what a continued run takes
    quietly(**fields, resume=True)
    first_scale(monkeypatch, 2.0**24)
    whole = fields | {"out": small["out"] + "-whole"}
    quietly(**whole)
    a, b = (load_file(Path(out) / state.NAME) for out in (small["out"], whole["out"]))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert scale_of(small["out"]) == scale_of(whole["out"])
    losses = [float(row["loss"]) for row in read_log(Path(whole["out"]) / "log.csv") if row["loss"]]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_other_precisions_have_no_scale(small):
    quietly(**small | {"steps": 1})
    assert scale_of(small["out"]) == {}


def test_tiles_that_overlap_enough_give_the_numbers_of_whole_images(small, tmp_path):
    """The encoder is cut after stride 2, so that the network sees less than 12 pixels to each side."""
    fields = small | {"option": {"encoder_depth": 1, "decoder_channels": [8]}, "steps": 4, "precision": "64"}
    whole = quietly(**fields)
    calls = []
    forward = segcore.SegmentationModel.forward
    tiled = fields | {"out": str(tmp_path / "tiled"), "tile": 28, "overlap": 24}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            segcore.SegmentationModel, "forward", lambda self, x: calls.append(x.shape[-2:]) or forward(self, x)
        )
        found = quietly(**tiled)
    tiles = {tuple(size) for size in calls} - {(32, 32)}  # samples to train on
    assert tiles
    assert max(map(max, tiles)) <= 28
    assert found.matrix == whole.matrix
    names = {"images": small["images"], "masks": small["masks"]}
    words = [word for name, value in names.items() for word in (f"--{name}", value)]
    results = [
        json.loads(
            CliRunner().invoke(cli, ["evaluate", str(tmp_path / "tiled" / "best"), *words, *more, "--json"]).output
        )
        for more in ([], ["--tile", "28", "--overlap", "24"])
    ]
    assert results[0]["matrix"] == results[1]["matrix"]
