"""One checkpoint, exported once for all tests that only use the files."""

import pytest
import torch

import segcore

HALF = segcore.Preprocessing((120.0, 125.0, 130.0), (60.0, 64.0, 70.0), (0.0, 255.0), "BGR")
NAMES = ("background", "coin", "shadow")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small Unet, whose classes mix."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    model = segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(16, 8), classes=3)
    with torch.no_grad():
        model.segmentation_head[0].weight.mul_(20)
    model.save_pretrained(folder, class_names=NAMES, preprocessing=HALF, image_size=(96, 128))
    return folder


@pytest.fixture(scope="session")
def model(checkpoint):
    return segcore.from_pretrained(checkpoint)


def written(model, folder, name):
    from segcore_plugin_export import export

    return export(model, folder / name, licence="CC0-1.0")


@pytest.fixture(scope="session")
def onnx_file(model, tmp_path_factory):
    return written(model, tmp_path_factory.mktemp("onnx"), "model.onnx")


@pytest.fixture(scope="session")
def openvino_file(model, tmp_path_factory):
    return written(model, tmp_path_factory.mktemp("openvino"), "model.xml")


@pytest.fixture(scope="session")
def torch_file(model, tmp_path_factory):
    return written(model, tmp_path_factory.mktemp("torch"), "model.pt2")
