"""Checkpoints of segmentation_models_pytorch, written live and loaded here."""

import json
import warnings

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

import segcore
from segcore import CheckpointError
from segcore.foreign import strip_prefixes, translate_config

ENCODERS = ("resnet18", "mit_b0", "timm-efficientnet-b0", "mobilenet_v2", "tu-resnet18")
ARCHITECTURES = (
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3plus",
    "upernet",
    "segformer",
)
REFUSED_BY_SMP = {
    ("unetplusplus", "mit_b0"),
    ("linknet", "mit_b0"),
    ("deeplabv3", "mit_b0"),
    ("deeplabv3plus", "mit_b0"),
    ("pan", "mit_b0"),
}
OPTIONS = [
    ("unet", {"decoder_attention_type": "scse", "decoder_channels": (128, 64, 32, 16), "encoder_depth": 4}),
    ("unet", {"decoder_use_norm": False, "decoder_interpolation": "bilinear"}),
    ("linknet", {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-2}}),
    ("unetplusplus", {"decoder_attention_type": "scse"}),
    ("fpn", {"decoder_merge_policy": "cat", "decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32}),
    ("pspnet", {"psp_out_channels": 64}),
    ("pan", {"encoder_output_stride": 32}),
    ("deeplabv3", {"encoder_output_stride": 16, "decoder_aspp_separable": True}),
    ("deeplabv3plus", {"encoder_output_stride": 8, "decoder_atrous_rates": (2, 4, 6)}),
    ("manet", {"decoder_pab_channels": 16}),
    ("segformer", {"decoder_segmentation_channels": 64, "aux_params": {"classes": 5, "pooling": "max"}}),
    ("unet", {"activation": "sigmoid", "in_channels": 1}),
]


def smp_model(architecture, encoder="resnet18", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMP's own, of its deprecated names and empty tensors
        return randomised(smp.create_model(architecture, encoder, encoder_weights=None, **options))


def randomised(model):
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def check(theirs, folder, **options):
    theirs.save_pretrained(folder)
    ours = segcore.from_pretrained(folder, **options)
    x = torch.rand(1, ours.encoder.in_channels, 256, 288)
    with torch.no_grad():
        for one, two in zip(*(y if isinstance(y, tuple) else (y,) for y in (ours(x), theirs(x))), strict=True):
            assert one.shape == two.shape
            assert (one - two).abs().max() <= 1e-5 * two.abs().max().clamp(min=1)
    return ours


@pytest.mark.parametrize(
    "encoder", [ENCODERS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS[1:])]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_by_encoder_families(architecture, encoder, tmp_path):
    if (architecture, encoder) in REFUSED_BY_SMP:
        return
    check(smp_model(architecture, encoder, classes=3), tmp_path)


def test_dpt(tmp_path):
    check(randomised(smp.DPT("tu-test_vit", encoder_weights=None, classes=3, dynamic_img_size=True)), tmp_path)


@pytest.mark.parametrize(("architecture", "options"), OPTIONS)
def test_options(architecture, options, tmp_path):
    check(smp_model(architecture, classes=2, **options), tmp_path)


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("tu-densenet121", "timm/tu-densenet121"),  # another network than the classic densenet121
        ("tu-mobileone_s0", "timm/tu-mobileone_s0"),
        ("timm-mobilenetv3_small_075", "timm/tf_mobilenetv3_small_075"),
        ("timm-regnetx_002", "timm/regnetx_002"),
        ("tu-resnet10t.c3_in1k", "timm/resnet10t.c3_in1k"),
    ],
)
def test_smps_names_of_timms_networks(encoder, name, tmp_path):
    assert check(smp_model("unet", encoder), tmp_path).config["encoder"]["name"] == name


@pytest.mark.parametrize("encoder", ["vgg11_bn", "densenet121"])
def test_encoders_that_change_the_decoder(encoder, tmp_path):
    check(smp_model("unet", encoder), tmp_path)


def test_what_was_loaded_is_saved_as_ours_and_says_so(tmp_path):
    theirs = randomised(smp.FPN("resnet18", encoder_weights=None, classes=2))
    ours = check(theirs, tmp_path / "theirs")
    assert ours.config["decoder"]["options"]["legacy"] is True
    ours.save_pretrained(tmp_path / "ours")
    again, x = segcore.from_pretrained(tmp_path / "ours"), torch.rand(1, 3, 64, 64)
    assert torch.equal(again(x), ours(x))
    assert again.config == ours.config


class TestChangedAfterLoading:
    def test_classes(self, tmp_path):
        theirs = randomised(smp.Unet("resnet18", encoder_weights=None, classes=2))
        theirs.save_pretrained(tmp_path)
        with pytest.warns(UserWarning, match=r"classes=7 .*: segmentation_head.0.weight, segmentation_head.0.bias\."):
            ours = segcore.from_pretrained(tmp_path, classes=7)
        assert ours(torch.rand(1, 3, 32, 32)).shape[1] == 7
        assert ours.config["classes"] == 7
        x = torch.rand(1, 3, 32, 32)
        assert torch.allclose(ours.decoder(ours.encoder(x)), theirs.decoder(theirs.encoder(x)), atol=1e-5)

    def test_channels_and_activation_need_no_fresh_layers(self, tmp_path):
        theirs = randomised(smp.Unet("resnet18", encoder_weights=None, classes=2))
        theirs.save_pretrained(tmp_path)
        ours = segcore.from_pretrained(tmp_path, in_channels=1, activation="sigmoid")
        assert torch.allclose(ours.encoder.conv1.weight, theirs.encoder.conv1.weight.sum(1, keepdim=True), atol=1e-6)
        mask = ours(torch.rand(1, 1, 32, 32))
        assert 0 <= mask.min() <= mask.max() <= 1


class TestConfig:
    def test_old_spellings(self):
        old = {
            "_model_class": "Unet",
            "encoder_name": "tu-convnext_tiny",
            "decoder_use_batchnorm": False,
            "encoder_weights": "imagenet",
        }
        assert translate_config(old) == {
            "decoder": "unet", "encoder": "timm/convnext_tiny", "encoder_depth": 5, "decoder_legacy": True, "decoder_norm": "identity",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"_model_class": "Unett"}, "Did you mean 'unet'"),
            ({"_model_class": "os.system"}, "none of SMP's models"),
            ({"encoder_name": None}, "encoder_name"),
            ({"encoder_name": "os:system"}, None),
            ({"clases": 5}, "'clases'"),
            ({"classes": 10**9}, "does not hold"),
            ({"decoder_use_norm": "layernorm"}, "can have been trained"),
            ({"encoder_depth": 99}, "cannot be built"),
            ({"decoder_chanels": [1]}, "cannot be built"),
            ({"activation": ["x"]}, "cannot be built"),
        ],
    )
    def test_hostile_configs(self, change, says, tmp_path):
        smp.Unet("resnet18", encoder_weights=None).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text()) | change
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises((CheckpointError, LookupError), match=says):
            segcore.from_pretrained(tmp_path)


def test_prefixes_of_training_libraries():
    state = {"encoder.a": 1, "decoder.b": 2}
    assert strip_prefixes(state) == (state, [])
    wrapped = {f"module.model.{key}": value for key, value in state.items()}
    assert strip_prefixes(wrapped | {"loss.weight": 3}) == (state, ["module.", "model."])
    assert strip_prefixes({"x.y": 1}) == ({"x.y": 1}, [])
