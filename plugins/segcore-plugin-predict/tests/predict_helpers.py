"""What the tests of the command share: checkpoints, images, calls, and what was written."""

import csv

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import segcore
from segcore.cli import cli, main

HALF = segcore.Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def checkpoint(folder, classes=3, seed=0, names=("background", "leaf", "stem"), preprocessing=HALF, **options):
    torch.manual_seed(seed)
    model = segcore.create_model(
        "predict-tiny-decoder", "predict-tiny-encoder", encoder_depth=2, classes=classes, **options
    )
    with torch.no_grad():
        model.segmentation_head[0].weight.mul_(20)  # so that classes mix
    model.save_pretrained(folder, class_names=None if names is None else names[:classes], preprocessing=preprocessing)
    return model.eval()


def photographs(folder, count=4, size=(40, 56)):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        coarse.resize(size[::-1]).save(folder / f"{index}.png")
    return folder


def call(*words, code=0):
    result = CliRunner().invoke(cli, ["predict", *map(str, words)], standalone_mode=False)
    if result.exception:
        raise result.exception
    assert (result.return_value or 0) == code, result.output
    return result.output


def exit_code(*words):
    with pytest.raises(SystemExit) as stop:
        main(["predict", *map(str, words)])
    return stop.value.code


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def table(out):
    with (out / "areas.csv").open(newline="") as file:
        return list(csv.DictReader(file))
