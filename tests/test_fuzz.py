"""Both readers of foreign data under random damage: the outcome is our error or the same model, never anything else."""

import copy
import json
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segcore
from segcore import CheckpointError, UnknownNameError
from segcore.tensorfile import TensorFile, TensorFileError, write_tensors
from segcore.testing import TinyDecoder, TinyEncoder

SETTINGS = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=True) | st.text(max_size=8)
    | st.sampled_from(["tiny", "tinydec", "../x", "/etc/passwd", "os:system", "hf://a/b", "resnet/resnet18"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    segcore.encoders["tiny"], segcore.decoders["tinydec"] = TinyEncoder, TinyDecoder
    torch.manual_seed(0)
    model = segcore.create_model("tinydec", "tiny", classes=2, aux_params={"classes": 3}).eval()
    folder = model.save_pretrained(tmp_path_factory.mktemp("fuzz") / "checkpoint", image_size=(64, 96))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    yield model, folder, config, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    del segcore.encoders["tiny"], segcore.decoders["tinydec"]


def paths(value, trail=()):
    yield trail
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*trail, key))


def changed(config, trail, value):
    if not trail:
        return value
    config = copy.deepcopy(config)
    inner = config
    for key in trail[:-1]:
        inner = inner[key]
    inner[trail[-1]] = value
    return config


@SETTINGS
@given(data=st.data())
def test_a_damaged_config_is_refused_or_harmless(checkpoint, data):
    model, folder, config, state = checkpoint
    trail = data.draw(st.sampled_from(list(paths(config))))
    damaged = changed(config, trail, data.draw(JSON))
    if data.draw(st.booleans()) and isinstance(damaged, dict):
        damaged = damaged | {data.draw(st.text(max_size=9)): data.draw(JSON)}
    write_tensors(folder / "model.safetensors", state, {"segcore_config": json.dumps(damaged)})
    tracemalloc.start()
    try:
        loaded = segcore.from_pretrained(folder)
    except (CheckpointError, UnknownNameError) as error:
        assert len(str(error)) < 900
    else:
        x = torch.rand(1, 3, 32, 32)
        for one, two in zip(loaded(x)[:1], model(x)[:1], strict=True):
            assert one.shape == two.shape
        loaded.save_pretrained(folder.parent / "again")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 200 * 2**20


@SETTINGS
@given(data=st.data())
def test_a_damaged_file_is_refused_or_has_all_its_tensors(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    tensors = {"a": torch.arange(6.0), "b": torch.ones(2, 3, dtype=torch.int64), "c": torch.zeros(0)}
    write_tensors(path, tensors, {"x": "y"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
        at = data.draw(st.integers(0, max(0, len(raw) - 1)))
        if kind == "flip" and raw:
            raw[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del raw[at : at + data.draw(st.integers(1, 64))]
        elif kind == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        elif raw:
            raw[at:at] = raw[: data.draw(st.integers(0, 32))]
    path.write_bytes(bytes(raw))
    try:
        file = TensorFile(path)
    except TensorFileError as error:
        assert len(str(error)) < 400
        return
    got = file.tensors()
    assert sum(tensor.numel() * tensor.element_size() for tensor in got.values()) <= len(raw)
