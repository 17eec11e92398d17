"""``segcore predict FILE --backend ...`` gives the masks of the checkpoint."""

from importlib.resources import files

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from segcore_plugin_export.backends import load_onnxruntime, load_openvino
from segcore_plugin_predict import predict

import segcore
from segcore.cli import cli

LOADERS = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}
COINS = files("segcore_plugin_demo") / "data" / "coins.png"


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request):
    return request.param


@pytest.fixture
def file(backend, request):
    return request.getfixturevalue("onnx_file" if backend == "onnxruntime" else "openvino_file").path


def call(*words):
    result = CliRunner().invoke(cli, ["predict", *map(str, words), "--quiet"], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value or 0


@pytest.mark.parametrize("tiles", [[], ["--tile", 128, "--overlap", 32]])
def test_masks_equal_those_of_the_checkpoint(backend, file, checkpoint, model, tmp_path, tiles):
    image = np.array(Image.open(COINS).convert("RGB"))
    Image.fromarray(image).save(tmp_path / "coins.png")
    assert call(file, tmp_path / "coins.png", "-o", tmp_path / "one", "--backend", backend, *tiles) == 0
    assert call(checkpoint, tmp_path / "coins.png", "-o", tmp_path / "two", *tiles) == 0
    one, two = (np.array(Image.open(tmp_path / folder / "coins.png")) for folder in ("one", "two"))
    assert len(np.unique(two)) > 1
    scores = model.predict(segcore.preprocessing(model)(image)[None])[0].sort(0).values
    tied = (scores[-1] - scores[-2] < 1e-4 * scores.abs().max()).numpy()
    assert (one == two)[~tied].all()
    assert (one == two).mean() > 0.999


def test_the_functions_take_backends(file, backend, model):
    image = np.array(Image.open(COINS).convert("RGB"))[:101, :90]
    found = LOADERS[backend](str(file), "cpu", 1)
    one, two = (predict(network, image, output="probabilities", flips="h") for network in (found, model))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_other_weights_have_another_digest(file, backend, tmp_path):
    found = LOADERS[backend](str(file), None, None)
    assert found.digest == LOADERS[backend](str(file), None, None).digest
    assert len(found.digest) == 64


def test_a_program_of_one_size_takes_smaller_images_and_tiles(model, tmp_path):
    from segcore_plugin_export import export

    done = export(model, tmp_path / "model.onnx", size=(64, 80))
    assert done.facts.size == [64, 80]
    assert done.sizes == "64 x 80"
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 80]
    found = load_onnxruntime(str(done.path), None, None)
    assert found.config["image_size"] == [64, 80]
    x = torch.randn(2, 3, 64, 80)
    torch.testing.assert_close(found(x), model.predict(x), atol=1e-3, rtol=1e-4)
    assert found(x[..., :50, :70]).shape == (2, 3, 50, 70)
    with pytest.raises(segcore.InputError, match=r"exported for images of 64 x 80, got 65 x 80"):
        found(torch.zeros(1, 3, 65, 80))


def test_what_is_no_exported_file(backend, checkpoint, tmp_path, file):
    load = LOADERS[backend]
    with pytest.raises(segcore.CheckpointError, match=r"is a folder. Export a checkpoint first: segcore export"):
        load(str(checkpoint), None, None)
    missing = tmp_path / f"none{file.suffix}"
    with pytest.raises(segcore.CheckpointError, match="is no such file"):
        load(str(missing), None, None)
    missing.write_bytes(b"nothing")
    missing.with_suffix(".bin").write_bytes(b"nothing")
    with pytest.raises(segcore.CheckpointError, match="is no"):
        load(str(missing), None, None)
    with pytest.raises(segcore.OptionValueError, match="device='abacus'"):
        load(str(file), "abacus", None)


def test_openvino_files_that_do_not_belong_together(openvino_file, tmp_path):
    path = tmp_path / "model.xml"
    path.write_bytes(openvino_file.path.read_bytes())
    weights = bytearray(openvino_file.path.with_suffix(".bin").read_bytes())
    weights[100] ^= 1
    path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(segcore.CheckpointError, match="do not belong together"):
        load_openvino(str(path), None, None)


def test_metadata_of_others(onnx_file, tmp_path):
    import onnx

    foreign = onnx.load(onnx_file.path)
    texts = {prop.key: prop.value for prop in foreign.metadata_props}
    for change, says in (
        ({}, "was not written by segcore export"),
        (texts | {"segcore.format": "2"}, "format 2; this version reads 1"),
        ({key: text for key, text in texts.items() if key != "segcore.classes"}, "lack classes"),
        (texts | {"segcore.classes": "{"}, "are damaged"),
    ):
        del foreign.metadata_props[:]
        onnx.helper.set_model_props(foreign, change)
        onnx.save(foreign, tmp_path / "foreign.onnx")
        with pytest.raises(segcore.CheckpointError, match=says):
            load_onnxruntime(str(tmp_path / "foreign.onnx"), None, None)
