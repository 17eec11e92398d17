import json
import pickle
import re
import warnings

import pytest
import segmentation_models_pytorch as smp
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

import segcore
from segcore import CheckpointError, OptionValueError
from segcore.cli import cli
from segcore.convert import convert


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, classes=3, aux_params={"classes": 5}).eval()


def same(theirs, folder):
    ours, x = segcore.from_pretrained(folder), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours(x), theirs(x), strict=True))


def test_a_folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "smp")
    done = convert(tmp_path / "smp", tmp_path / "ours")
    assert done.config["decoder"]["name"] == "decoders/unet"
    assert same(theirs, tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["segcore"] == segcore.__version__
    assert "image_size" not in config  # SMP does not record it


@pytest.mark.parametrize(
    ("wrap", "prefixes"),
    [
        (lambda s: s, []),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ["module."]),
        (
            lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()} | {"loss.w": torch.ones(1)}, "epoch": 3},
            ["model."],
        ),
        (lambda s: {"model_state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}}, ["_orig_mod."]),
    ],
)
def test_a_bare_state_dict_of_a_trainer(theirs, tmp_path, wrap, prefixes):
    torch.save(wrap(theirs.state_dict()), tmp_path / "last.ckpt")
    done = convert(tmp_path / "last.ckpt", tmp_path / "ours", decoder="Unet", encoder="resnet18")
    assert done.prefixes == prefixes
    assert same(theirs, tmp_path / "ours")


def test_old_deeplab_keys(tmp_path):
    model = smp.DeepLabV3("resnet18", encoder_weights=None).eval()
    names = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    state = {}
    for key, value in model.state_dict().items():
        new = next((name for name in names if key.startswith(name)), "")
        state[names.get(new, "") + key.removeprefix(new)] = value
    save_file(state, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", tmp_path / "ours", decoder="DeepLabV3", encoder="resnet18")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(segcore.from_pretrained(tmp_path / "ours")(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    "encoder",
    ["timm-gernet_s", "timm-mobilenetv3_small_100", "timm-regnetx_002", "timm-res2net50_26w_4s", "timm-resnest14d"],
)
def test_old_keys_of_timms_encoders(encoder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMP's own, of its deprecated names
        theirs = smp.Unet(encoder, encoder_weights=None).eval()
    theirs.save_pretrained(tmp_path / "folder")
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["encoder_name"] == encoder
    state = {}
    for key, value in theirs.state_dict().items():
        old = key if "mobilenetv3" in encoder else re.sub(r"^encoder\.model\.", "encoder.", key)
        state[re.sub(r"\.stages_", ".stages.", old) if "gernet" in encoder else old] = value.clone()
    assert state.keys() != theirs.state_dict().keys() or "mobilenetv3" in encoder
    save_file(state, tmp_path / "folder" / "model.safetensors")
    torch.save(state, tmp_path / "bare.pth")
    convert(tmp_path / "bare.pth", tmp_path / "converted", decoder="Unet", encoder=encoder)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for name in ("folder", "converted"):
            assert torch.allclose(segcore.from_pretrained(tmp_path / name)(x), theirs(x), atol=1e-5)


def test_options_and_the_command(tmp_path):
    model = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(32, 16, 8)).eval()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    arguments = [
        "convert",
        str(tmp_path / "a.pth"),
        str(tmp_path / "ours"),
        "--decoder",
        "Unet",
        "--encoder",
        "resnet18",
    ]
    refused = CliRunner().invoke(cli, arguments)
    assert isinstance(refused.exception, CheckpointError)
    assert not (tmp_path / "ours").exists()
    done = CliRunner().invoke(
        cli, [*arguments, "--option", "encoder_depth=3", "--option", "decoder_channels=[32,16,8]"]
    )
    assert "decoders/unet with resnet/resnet18" in done.output
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(segcore.from_pretrained(tmp_path / "ours")(x), model(x), atol=1e-5)


def test_what_cannot_be_converted(theirs, tmp_path):
    with pytest.raises(OptionValueError, match="say what it belongs to"):
        convert(tmp_path / "x.pth", tmp_path / "ours")
    with pytest.raises(CheckpointError, match="no file"):
        convert(tmp_path / "x.pth", tmp_path / "ours", decoder="Unet", encoder="resnet18")
    torch.save(theirs, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        convert(tmp_path / "whole.pth", tmp_path / "ours", decoder="Unet", encoder="resnet18")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        convert(tmp_path / "list.pth", tmp_path / "ours", decoder="Unet", encoder="resnet18")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit Unet with resnet18: .* missing"):
        convert(tmp_path / "other.pth", tmp_path / "ours", decoder="Unet", encoder="resnet18")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        convert(tmp_path / "evil.pth", tmp_path / "ours", decoder="Unet", encoder="resnet18")
    assert not (tmp_path / "ran").exists()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))
