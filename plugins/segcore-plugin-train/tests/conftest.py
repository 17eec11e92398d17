"""A small set of images, and runs on it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from shapes import make

sys.path.pop(0)

SMALL = {
    "encoder": "resnet18",
    "option": {"encoder_depth": 2, "decoder_channels": [16, 16]},
    "classes": 4,
    "crop": 32,
    "batch_size": 4,
    "epochs": 3,
    "lr": 3e-3,
    "log_every": 1,
    "worst": 2,
    "threads": 1,
}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A folder with 12 pairs of 32 x 32 pixels and 4 classes."""
    folder = tmp_path_factory.mktemp("shapes")
    make(folder, 12, 32, seed=0)
    return folder


@pytest.fixture
def small(shapes, tmp_path):
    """Fields of `Settings` for a run of six steps that takes about a second, with one thread."""
    threads = torch.get_num_threads()
    yield SMALL | {"images": str(shapes / "images"), "masks": str(shapes / "masks"), "out": str(tmp_path / "run")}
    torch.set_num_threads(threads)
