"""Checkpoints both ways: what SMP saved loads here, and what is saved here loads in SMP and in segcore."""

import json
import types

import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from segcore_smp import hub

import segcore

MODELS = [
    ("unet", "resnet18", {"decoder_attention_type": "scse", "aux_params": {"classes": 2}}),
    ("pspnet", "efficientnet-b0", {}),
    ("fpn", "mobilenet_v2", {"encoder_depth": 5}),
    ("segformer", "mit_b0", {}),
    ("deeplabv3plus", "tu-resnet18", {"in_channels": 4}),
    ("upernet", "timm-efficientnet-b0", {}),
    ("unetplusplus", "densenet121", {}),
    ("manet", "se_resnet50", {}),
    ("linknet", "mobileone_s0", {}),
    ("pan", "resnet34", {}),
    ("deeplabv3", "resnet18", {}),
    ("dpt", "tu-vit_tiny_patch16_224", {}),
]
FAST = 4
CASES = [pytest.param(*case, marks=pytest.mark.slow if index >= FAST else ()) for index, case in enumerate(MODELS)]


def make(package, arch, encoder, options):
    torch.manual_seed(0)
    return package.create_model(arch, encoder, encoder_weights=None, classes=2, **options).eval()


def first(result):
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("arch", "encoder", "options"), CASES)
def test_both_ways(arch, encoder, options, tmp_path):
    x = torch.rand(1, options.get("in_channels", 3), *[{"pan": 128, "dpt": 224}.get(arch, 64)] * 2)
    theirs = make(smp, arch, encoder, options)
    theirs.save_pretrained(tmp_path / "theirs")
    own = segcore_smp.from_pretrained(tmp_path / "theirs")
    assert not own.training
    assert type(own).__name__ == type(theirs).__name__
    assert own.config == json.loads(json.dumps(theirs.config))
    wanted = first(theirs(x))
    scale = wanted.abs().max()
    assert (first(own(x)) - wanted).abs().max() <= 2e-5 * scale

    own.save_pretrained(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config == json.loads((tmp_path / "theirs" / "config.json").read_text())
    back = smp.from_pretrained(tmp_path / "ours")
    assert (first(back(x)) - wanted).abs().max() == 0
    state = segcore.from_pretrained(tmp_path / "ours")
    assert (first(state(x)) - wanted).abs().max() <= 2e-5 * scale


def test_encoder_weights_are_not_fetched_to_be_overwritten(tmp_path, monkeypatch):
    model = segcore_smp.Unet("resnet18", encoder_weights=None)
    model.config["encoder_weights"] = "imagenet"
    model.save_pretrained(tmp_path)
    loaded = segcore_smp.from_pretrained(tmp_path)  # a fetch would fail: tests have no network
    assert loaded.config["encoder_weights"] == "imagenet"
    assert torch.equal(loaded.encoder.conv1.weight, model.encoder.conv1.weight)


def test_other_classes_with_strict_false(tmp_path):
    model = segcore_smp.Unet("resnet18", encoder_weights=None, classes=1)
    model.save_pretrained(tmp_path, dataset="coins", metrics={"iou": 0.9})
    with pytest.warns(UserWarning, match="other shapes.*segmentation_head.0.weight"):
        loaded = segcore_smp.from_pretrained(tmp_path, classes=2, strict=False)
    assert loaded.segmentation_head[0].out_channels == 2
    assert torch.equal(loaded.encoder.conv1.weight, model.encoder.conv1.weight)
    card = (tmp_path / "README.md").read_text()
    assert "coins" in card
    assert "iou" in card


def test_load_state_dict_leaves_the_given_one_alone():
    model = segcore_smp.Unet("resnet18", encoder_weights=None, classes=1)
    state = segcore_smp.Unet("resnet18", encoder_weights=None, classes=2).state_dict()
    keys = list(state)
    with pytest.warns(UserWarning, match="other shapes"):
        result = model.load_state_dict(state, False)
    assert list(state) == keys
    assert result.missing_keys == ["segmentation_head.0.weight", "segmentation_head.0.bias"]
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict(model.state_dict() | {"encoder.no_such.weight": torch.zeros(1)})


def test_state_dicts_of_older_versions():
    model = segcore_smp.DeepLabV3("resnet18", encoder_weights=None)
    numbers = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    old = {}
    for key, value in model.state_dict().items():
        new = next((key.replace(a, b) for a, b in numbers.items() if key.startswith(a)), key)
        old[new] = torch.full_like(value, 2)
    assert "decoder.0.project.0.weight" in old
    model.load_state_dict(old)
    assert all((value == 2).all() for value in model.state_dict().values())
    model = segcore_smp.Unet("tu-regnetx_002", encoder_weights=None)
    state = model.state_dict()
    old = {key.replace("encoder.model.", "encoder."): value for key, value in state.items()}
    assert old.keys() != state.keys()
    model.load_state_dict(old)


def test_encoders_drop_their_classifier():
    for name in ("resnet18", "efficientnet-b0"):
        encoder = segcore_smp.encoders.get_encoder(name, weights=None)
        state = encoder.state_dict()
        encoder.load_state_dict(state | {("_fc" if "-" in name else "fc") + ".weight": torch.zeros(3)})
        with pytest.raises(RuntimeError, match="Unexpected key"):
            encoder.load_state_dict(state | {"other.weight": torch.zeros(3)})


def test_a_class_of_ones_own(tmp_path):
    class Mine(segcore_smp.base.SegmentationModel):
        def __init__(self, width=8, classes=1):
            super().__init__()
            self.encoder = segcore_smp.encoders.get_encoder("resnet18", weights=None, depth=3)
            self.decoder = segcore_smp.decoders.unet.decoder.UnetDecoder(self.encoder.out_channels, (32, 16, width), 3)
            self.segmentation_head = segcore_smp.base.SegmentationHead(width, classes)
            self.classification_head = None
            self.initialize()

    model = Mine(16, classes=3).eval()
    assert model.config == {"width": 16, "classes": 3}
    model.save_pretrained(tmp_path)
    loaded = Mine.from_pretrained(tmp_path)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded(x), model(x))
    with pytest.raises(segcore.CheckpointError, match="class 'Mine'.*own from_pretrained"):
        segcore_smp.from_pretrained(tmp_path)


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(segcore.CheckpointError, match=r"holds no config\.json"):
        segcore_smp.from_pretrained(tmp_path)
    with pytest.raises(segcore.CheckpointError, match="is no folder"):
        segcore_smp.from_pretrained(tmp_path / "none")
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(segcore.CheckpointError, match="cannot be read"):
        segcore_smp.from_pretrained(tmp_path)


def test_a_callable_activation_is_named_when_it_is_not_saved(tmp_path):
    model = segcore_smp.Unet("resnet18", encoder_weights=None, activation=torch.sigmoid)
    assert model.eval()(torch.rand(1, 3, 32, 32)).max() <= 1
    with pytest.warns(UserWarning, match="activation: no JSON"):
        model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["activation"] is None


def test_the_hub_gets_what_was_asked_for(tmp_path, monkeypatch):
    calls = []

    class Api:
        def __init__(self, token):
            calls.append(("token", token))

        def create_repo(self, **options):
            calls.append(("create", options))
            return types.SimpleNamespace(repo_id=options["repo_id"])

        def upload_folder(self, **options):
            calls.append(("upload", {path.name for path in options.pop("folder_path").iterdir()}, options))
            return "https://hub/commit"

    def download(repo, **options):
        calls.append(("download", repo, options))
        return str(tmp_path / options["filename"])

    fake = types.SimpleNamespace(HfApi=Api, hf_hub_download=download)
    monkeypatch.setattr(hub, "_hub", lambda: fake)
    model = segcore_smp.Unet("resnet18", encoder_weights=None)
    assert model.push_to_hub("me/coins", token="secret", private=True, branch="next") == "https://hub/commit"
    assert calls[0] == ("token", "secret")
    assert calls[1] == ("create", {"repo_id": "me/coins", "private": True, "exist_ok": True})
    assert calls[2][1] == {"config.json", "model.safetensors", "README.md"}
    assert calls[2][2]["revision"] == "next"
    model.save_pretrained(tmp_path)
    calls.clear()
    segcore_smp.from_pretrained("me/coins", revision="v1", token="secret", cache_dir=tmp_path, local_files_only=True)
    assert {row[2]["filename"] for row in calls} == {"config.json", "model.safetensors"}
    for _, repo, options in calls:
        given = {key: options[key] for key in ("revision", "token", "cache_dir", "local_files_only")}
        assert repo == "me/coins"
        assert given == {"revision": "v1", "token": "secret", "cache_dir": tmp_path, "local_files_only": True}
    calls.clear()
    monkeypatch.setenv("SEGCORE_OFFLINE", "1")
    segcore_smp.Unet.from_pretrained("me/coins")
    assert all(row[2]["local_files_only"] for row in calls)
