"""Through the core: names, files of weights, sizes."""

import pytest
import timm
import torch
from safetensors.torch import save_file

import segcore
from segcore.testing import TinyDecoder


def test_a_vit_and_an_odd_size():
    model = segcore.create_model(TinyDecoder, "timm/vit_tiny_patch16_224", classes=2, encoder_out_indices=(1, 3)).eval()
    assert model.encoder.strides == (1, 16, 16)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 37, 50)).shape == (1, 2, 37, 50)


@pytest.mark.parametrize(
    ("name", "architecture", "key"),
    [("timm/resnet10t", "resnet10t", "model.conv1.0.weight"), ("mobilenet_v2", "mobilenetv2_100", "conv_stem.weight")],
)
def test_a_file_of_timms_loads_with_other_channels(tmp_path, name, architecture, key):
    state = timm.create_model(architecture).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    encoder = segcore.create_encoder(name, weights=tmp_path / "model.safetensors", in_channels=1)
    torch.testing.assert_close(encoder.state_dict()[key], state[key.removeprefix("model.")].sum(1, keepdim=True))


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(segcore.WeightsError, match="missing"):
        segcore.create_encoder("timm/resnet10t", weights=tmp_path / "model.safetensors")


def test_smps_name_builds_with_a_note():
    with pytest.warns(DeprecationWarning, match="write 'timm/resnet10t'"):
        encoder = segcore.create_encoder("tu-resnet10t", depth=2)
    assert encoder.strides == (1, 2, 4)


def test_a_model_of_a_name_with_a_tag_is_named(monkeypatch, tmp_path):
    name, commit = "timm/resnet10t.c3_in1k", "0123456789abcdef0123456789abcdef01234567"
    model = segcore.create_model(TinyDecoder, name, encoder_depth=2)
    assert model.config["encoder"]["name"] == name
    with pytest.raises(segcore.WeightsError, match=r"apache-2.0.* the one that you trust, 'c3_in1k@<40"):
        segcore.create_model(TinyDecoder, name, encoder_weights="c3_in1k")
    with pytest.raises(segcore.WeightsError, match="'main' is none"):
        segcore.create_model(TinyDecoder, name, encoder_weights="c3_in1k@main")
    state = timm.create_model("resnet10t").state_dict()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr("segcore.weights.fetch", lambda record, *_: tmp_path / f"model{record.url[-12:]}")
    model = segcore.create_model(TinyDecoder, name, encoder_weights=f"c3_in1k@{commit}")
    torch.testing.assert_close(model.encoder.state_dict()["model.bn1.weight"], state["bn1.weight"])
    origin = model.config["encoder"]["weights"]
    assert (origin["tag"], origin["license"]) == (f"c3_in1k@{commit}", "apache-2.0")


def test_a_vit_becomes_a_pyramid_in_the_core():
    model = segcore.create_model(TinyDecoder, "timm/vit_tiny_patch16_224", encoder_neck="pyramid").eval()
    assert model.encoder.strides == (1, 4, 8, 16, 32)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 40, 50)).shape == (1, 1, 40, 50)


def test_what_cannot_be_built_says_so():
    with pytest.raises(segcore.UnknownNameError):
        segcore.create_encoder("timm/resnet19")
    with pytest.raises(
        segcore.IncompatiblePartsError, match=r"^'gemma4_vit_167m' cannot be .* neither exported nor compiled"
    ):
        segcore.create_encoder("timm/gemma4_vit_167m")
    with pytest.raises(segcore.OptionValueError, match="output_stride=16"):
        segcore.create_encoder("timm/swin_tiny_patch4_window7_224", output_stride=16)
    with pytest.raises(segcore.UnknownOptionError, match="img_sise"):
        segcore.create_encoder("timm/resnet10t", img_sise=3)
