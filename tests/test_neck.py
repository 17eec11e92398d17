"""The pyramid neck over encoders of one resolution, timm's and a stranger's."""

import pytest
import torch
from segcore_plugin_timm.net import TimmEncoder
from torch import nn

import segcore
from segcore import EncoderMixin, IncompatiblePartsError, OptionValueError
from segcore.neck import PyramidNeck
from segcore.testing import TinyEncoder


class Patches(nn.Module, EncoderMixin):
    """A convolution over patches as the smallest isotropic encoder."""

    def __init__(self, patch, width=12, in_channels=3):
        super().__init__()
        self._out_channels, self._strides = [in_channels, width, width], [1, patch, patch]
        self._depth, self._in_channels, self._size_multiple = 5, in_channels, patch
        self.conv = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x):
        first = self.conv(x)
        return [x, first, self.mix(first)]


@pytest.mark.parametrize("patch", [4, 7, 8, 14, 16, 32])
def test_levels_have_the_exact_sizes_for_every_patch(patch):
    neck = PyramidNeck(Patches(patch), channels=10)
    x = torch.rand(2, 3, 3 * patch, 5 * patch)
    features = neck(x)
    assert neck.strides == (1, 4, 8, 16, 32)
    assert neck.out_channels == (3, 10, 10, 10, 10)
    assert neck.size_multiple == patch
    for feature, channels, stride in zip(features, neck.out_channels, neck.strides, strict=True):
        assert feature.shape == (2, channels, -(-x.shape[2] // stride), -(-x.shape[3] // stride))
    sum(feature.mean() for feature in features[1:]).backward()
    assert [name for name, value in neck.named_parameters() if value.grad is None] == []


def test_a_vit_of_timm_becomes_a_pyramid():
    neck = PyramidNeck(TimmEncoder("vit_tiny_patch16_224"), channels=8, depth=4)
    assert neck.strides == (1, 4, 8, 16)
    assert [tuple(x.shape[1:]) for x in neck(torch.rand(1, 3, 48, 64))] == [
        (3, 48, 64),
        (8, 12, 16),
        (8, 6, 8),
        (8, 3, 4),
    ]
    assert neck.feature_info.prefix_tokens == 0


def test_the_number_of_input_channels_is_the_encoders():
    neck = PyramidNeck(Patches(8))
    neck.set_in_channels(5)
    assert (neck.in_channels, neck.out_channels[0]) == (5, 5)
    assert neck(torch.rand(1, 5, 16, 16))[0].shape[1] == 5
    state = PyramidNeck(Patches(8)).state_dict()
    neck.load_state_dict(neck.adapt_input(state), strict=True)


def test_it_compiles_and_builds_without_memory():
    neck = PyramidNeck(Patches(14), channels=4).eval()
    x = torch.rand(1, 3, 28, 42)
    compiled = torch.compile(neck, fullgraph=True, backend="eager")
    for eager, traced in zip(neck(x), compiled(x), strict=True):
        torch.testing.assert_close(traced, eager)
    with torch.device("meta"):
        assert PyramidNeck(Patches(16)).levels[0][0][0].weight.is_meta


def test_what_cannot_be_wrapped_is_refused():
    with pytest.raises(IncompatiblePartsError, match="one stride"):
        PyramidNeck(TinyEncoder())
    with pytest.raises(OptionValueError, match="EncoderMixin"):
        PyramidNeck(nn.Identity())
    with pytest.raises(OptionValueError, match="depth of 2 to 5"):
        PyramidNeck(Patches(8), depth=1)


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize(
    "decoder",
    [
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
    ],
)
def test_every_pyramid_decoder_takes_a_plain_vit_with_a_neck(decoder, patch):
    class Plain(Patches):
        def __init__(self, in_channels=3):
            super().__init__(patch, in_channels=in_channels)

    segcore.encoders["plain"] = Plain
    if decoder in {"pspnet", "deeplabv3"}:  # they read the deepest map alone, which a plain ViT has
        assert segcore.create_model(decoder, "plain", encoder_output_stride=32)(torch.rand(2, 3, 50, 60)).shape[2:] == (
            50,
            60,
        )
    else:
        with pytest.raises(IncompatiblePartsError, match="encoder_neck='pyramid'"):
            segcore.create_model(decoder, "plain", encoder_output_stride=32)
    model = segcore.create_model(
        decoder, "plain", encoder_neck="pyramid", encoder_neck_channels=16, classes=2, in_channels=4
    )
    assert model(torch.rand(2, 4, 75, 90)).shape == (2, 2, 75, 90)
    assert model.config["encoder"]["options"] == {"neck": "pyramid", "neck_channels": 16, "depth": 5}
    del segcore.encoders["plain"]


def test_a_model_with_a_neck_is_saved_and_loaded(tmp_path):
    model = segcore.create_model(
        "unet", "timm/vit_tiny_patch16_224", encoder_neck="pyramid", encoder_neck_channels=8
    ).eval()
    model.save_pretrained(tmp_path)
    loaded, x = segcore.from_pretrained(tmp_path), torch.rand(1, 3, 50, 70)
    assert torch.equal(loaded(x), model(x))
    assert loaded.config == model.config


def test_wrong_necks():
    with pytest.raises(OptionValueError, match="encoder_neck='pyramids'"):
        segcore.create_model("unet", "timm/vit_tiny_patch16_224", encoder_neck="pyramids")
    with pytest.raises(OptionValueError, match="needs encoder_neck"):
        segcore.create_model("unet", "resnet18", encoder_neck_channels=8)
    with pytest.raises(IncompatiblePartsError, match="Use it without a neck"):
        segcore.create_model("unet", "resnet18", encoder_neck="pyramid")
