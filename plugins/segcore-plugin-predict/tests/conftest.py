"""Fixtures of the tests of the command."""

import sys
from pathlib import Path

import pytest

import segcore
from segcore.testing import TinyDecoder, TinyEncoder

sys.path.insert(0, str(Path(__file__).parent))
from predict_helpers import checkpoint, photographs

sys.path.pop(0)


@pytest.fixture(autouse=True)
def tiny_parts():
    """Register a tiny encoder and decoder for each test."""
    segcore.encoders["predict-tiny-encoder"] = TinyEncoder
    segcore.decoders["predict-tiny-decoder"] = TinyDecoder
    yield
    del segcore.encoders["predict-tiny-encoder"], segcore.decoders["predict-tiny-decoder"]


@pytest.fixture
def ready(tmp_path):
    """A checkpoint, a folder of photographs, and where results go."""
    checkpoint(tmp_path / "model")
    return tmp_path / "model", photographs(tmp_path / "in"), tmp_path / "out"
