"""`encoders`: the table, preprocessing, people's own encoders, what is refused, and how features compare with SMP's."""

import contextlib
import itertools
import warnings

import numpy as np
import pytest
import segcore_smp
import segmentation_models_pytorch as smp
import torch
from segcore_smp.encoders import encoders, get_encoder
from torch import nn

import segcore

FAMILIES = ["resnet18", "efficientnet-b0", "mit_b0", "tu-resnet18"]
LONG = ["mobilenet_v2", "timm-efficientnet-b0", "timm-tf_efficientnet_lite0", "dpn68", "vgg11_bn", "se_resnet50", "densenet121",
        "inceptionresnetv2", "inceptionv4", "xception", "mobileone_s0", "resnext50_32x4d", "tu-convnext_atto"]  # fmt: skip


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)])
def test_features_of_every_depth_width_and_stride(name):
    for options in ({"depth": 3}, {"depth": 4, "in_channels": 1}, {"output_stride": 16}, {"output_stride": 8}):
        pair = []
        for package in (smp, segcore_smp):
            torch.manual_seed(0)
            try:
                with quiet():
                    pair.append(package.encoders.get_encoder(name, weights=None, **options).eval())
            except ValueError:
                pair.append(None)
        theirs, own = pair
        if name == "mit_b0" and "output_stride" in options:
            assert own is None  # SMP dilates the strided convolutions inside its attention, which makes another network
            continue
        assert (own is None) == (theirs is None)
        if own is None:
            continue
        assert list(own.out_channels) == list(theirs.out_channels)
        assert own.output_stride == theirs.output_stride
        for key, value in theirs.state_dict().items():
            assert torch.equal(own.state_dict()[key], value), (key, options)
        x = torch.rand(2, options.get("in_channels", 3), 64, 64)
        for want, have in zip(theirs(x), own(x), strict=True):
            assert have.shape == want.shape
            if want.numel():
                assert (have - want).abs().max() <= 2e-5 * want.abs().max(), options


def test_names_of_timm_and_deprecated_ones(monkeypatch):
    with pytest.warns(DeprecationWarning, match="timm-"):
        old = get_encoder("timm-regnetx_002", weights=None)
    assert old.name == "regnetx_002"
    with pytest.warns(DeprecationWarning, match="timm-"):
        assert get_encoder("timm-mobilenetv3_small_075", weights=None).name == "tf_mobilenetv3_small_075"
    monkeypatch.setenv("SEGCORE_OFFLINE", "1")
    monkeypatch.setenv("SEGCORE_CACHE", "/nonexistent/cache")
    with pytest.raises(segcore.WeightsError), pytest.warns(UserWarning, match="True or None"):
        get_encoder("tu-resnet18", weights="imagenet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_encoder("tu-resnet18", weights=None)


def test_published_weights_reach_the_encoder(monkeypatch):
    made = segcore.create_encoder("resnet18")
    asked = []

    def create(name, weights=None, **options):
        asked.append((name, weights))
        return made

    published = {key: torch.full_like(value, 3) for key, value in made.state_dict().items()}
    made.load_state_dict(published)
    encoder = get_encoder("resnet18", weights=None)
    monkeypatch.setattr(segcore, "create_encoder", create)
    segcore_smp.encoders._load(encoder, "resnet18", "imagenet")
    assert asked == [("resnet18", "imagenet")]
    assert all((value == 3).all() for value in encoder.state_dict().values())


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setenv("SEGCORE_OFFLINE", "1")
    monkeypatch.setenv("SEGCORE_CACHE", "/nonexistent/cache")
    with pytest.raises(segcore.WeightsError, match="encoder_weights=None.*segcore weights fetch"):
        segcore_smp.Unet("resnet18")


@pytest.mark.parametrize("name", ["resnet18", "mit_b0", "efficientnet-b0"])
def test_preprocessing(name):
    params = segcore_smp.encoders.get_preprocessing_params(name)
    assert list(params) == ["input_space", "input_range", "mean", "std"]
    assert params["input_range"] == [0, 1]
    assert params["mean"] == [0.485, 0.456, 0.406]
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    have = segcore_smp.encoders.get_preprocessing_fn(name)(image)
    want = smp.encoders.preprocess_input(image, **params)
    assert np.array_equal(have, want)


def test_preprocessing_of_timm_is_timms_own():
    for name in ("tu-resnet18", "tu-vit_tiny_patch16_224.augreg_in21k"):
        assert segcore_smp.encoders.get_preprocessing_params(name) == smp.encoders.get_preprocessing_params(name)
    with pytest.raises(ValueError, match="no published weights"):
        segcore_smp.encoders.get_preprocessing_params("tu-resnet18d_nonexistent".replace("d_nonexistent", "") + ".none")
    with pytest.raises(ValueError, match="Available pretrained options"):
        segcore_smp.encoders.get_preprocessing_params("resnet18", "coco")


@pytest.mark.parametrize(
    "options",
    [
        {"input_space": "BGR"},
        {"input_range": (0, 1)},
        {"input_range": (0, 255), "mean": (1, 2, 3)},
        {"mean": [0.5] * 3, "std": [0.2] * 3, "input_range": [0, 1]},
        {},
    ],
)
def test_preprocess_input_equals_smps(options):
    for image in (np.ones((4, 4, 3)), np.arange(48, dtype=np.float64).reshape(4, 4, 3)):
        have = segcore_smp.encoders.preprocess_input(image.copy(), **options)
        assert np.array_equal(have, smp.encoders.preprocess_input(image.copy(), **options))


def test_an_encoder_of_ones_own(monkeypatch):
    class Mine(nn.Module, segcore_smp.encoders._base.EncoderMixin):
        def __init__(self, width, depth=5, output_stride=32):
            super().__init__()
            self._out_channels, self._depth, self._in_channels = [3, width, 2 * width, 4 * width], depth, 3
            self._output_stride = output_stride
            widths = self._out_channels
            self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths))

        def get_stages(self):
            return {16: [], 32: []}

        def forward(self, x):
            maps = [x]
            for stage in self.stages[: self._depth]:
                maps.append(stage(maps[-1]).relu())
            return maps

    monkeypatch.setitem(encoders, "mine", {"encoder": Mine, "params": {"width": 8}, "pretrained_settings": {}})
    for arch, options in (
        ("Unet", {"decoder_channels": (32, 16, 8)}),
        ("Linknet", {}),
        ("PSPNet", {}),
        ("UPerNet", {}),
    ):
        model = getattr(segcore_smp, arch)("mine", encoder_depth=3, encoder_weights=None, in_channels=4, **options)
        assert model.eval()(torch.rand(1, 4, 64, 64)).shape == (1, 1, 64, 64)
        assert model.encoder.out_channels == [4, 8, 16, 32]
        assert model.name.endswith("-mine")
    with pytest.raises(KeyError, match="Wrong pretrained weights"):
        segcore_smp.Unet("mine", encoder_depth=3, decoder_channels=(8, 8, 8))
    dilated = Mine(8)
    dilated.get_stages = lambda: {16: [dilated.stages[1]], 32: [dilated.stages[2]]}
    dilated.make_dilated(8)
    assert [tuple(stage.stride) for stage in dilated.stages] == [(2, 2), (1, 1), (1, 1)]
    with pytest.raises(ValueError, match="16 or 8"):
        dilated.make_dilated(4)


def test_networks_without_a_name_are_refused():
    with pytest.raises(TypeError, match="segcore has no name for"):
        encoders["resnet18"]["encoder"](out_channels=[3, 64, 64, 128, 256, 512], layers=[1, 1, 1, 1])
    with pytest.raises(TypeError, match="width_multipliers"):
        encoders["mobileone_s0"]["encoder"](out_channels=[3], width_multipliers=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="depths 1 to 5"):
        get_encoder("resnet18", depth=6)


def test_changing_the_number_of_channels_and_back():
    encoder = get_encoder("resnet18", weights=None)
    weight = encoder.conv1.weight.detach().clone()
    encoder.set_in_channels(4)
    torch.testing.assert_close(encoder.conv1.weight[:, 3], weight[:, 0] * 0.75)
    encoder.set_in_channels(3)
    assert encoder.eval()(torch.rand(1, 3, 32, 32))[0].shape[1] == 3


def test_parameters_that_no_map_needs_are_not_trained():
    model = segcore_smp.PSPNet("efficientnet-b0", encoder_weights=None)
    for _ in range(2):
        model.zero_grad()
        model(torch.rand(2, 3, 64, 64)).sum().backward()
        trained = [value for value in model.parameters() if value.requires_grad]
        assert all(value.grad is not None for value in trained)  # what distributed training asks for
        assert len(trained) < len(list(model.parameters()))
        model.freeze_encoder()
        model.unfreeze_encoder()
