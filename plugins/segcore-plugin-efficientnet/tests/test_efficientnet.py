"""What holds for the encoder by itself."""

import subprocess
import sys

import pytest
import torch
from segcore_plugin_efficientnet import segcore_specs
from segcore_plugin_efficientnet.blocks import DownConv2d
from segcore_plugin_efficientnet.encoder import EfficientNetEncoder

from segcore import OptionValueError, create_encoder

SPECS = {spec.name: spec for spec in segcore_specs()}


def build(name="timm-efficientnet-b0", **options):
    return EfficientNetEncoder(**SPECS[name].options | SPECS[name].defaults | options)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_records_tell_the_truth(name):
    spec = SPECS[name]
    assert spec.problem() is None
    with torch.device("meta"):
        encoder = build(name)
    assert encoder.out_channels == spec.out_channels
    assert encoder.strides == spec.nominal_strides
    assert sum(parameter.numel() for parameter in encoder.parameters()) == spec.parameters


def test_listing_does_not_import_torch():
    code = "import sys, segcore_plugin_efficientnet as p; list(p.segcore_specs()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lite_has_a_short_alias():
    assert SPECS["timm-tf_efficientnet_lite2"].aliases == ("efficientnet_lite2",)


def test_preprocessing_belongs_to_the_weights():
    assert SPECS["efficientnet-b3"].weights["imagenet"].mean == (0.485, 0.456, 0.406)
    assert SPECS["efficientnet-b3"].weights["advprop"].mean == (0.5, 0.5, 0.5)
    assert SPECS["timm-tf_efficientnet_lite0"].weights["imagenet"].std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "edges"),  # (before, after) of the five convolutions with stride 2
    [
        ("efficientnet-b0", [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)]),
        ("efficientnet-b1", [(0, 1), (0, 1), (1, 2), (0, 1), (2, 2)]),
        ("efficientnet-b2", [(0, 1), (0, 1), (2, 2), (1, 1), (2, 2)]),
        ("efficientnet-b3", [(0, 1), (0, 1), (2, 2), (0, 1), (2, 2)]),
        ("efficientnet-b4", [(0, 1), (0, 1), (2, 2), (0, 1), (1, 2)]),
        ("efficientnet-b5", [(0, 1), (0, 1), (1, 2), (1, 1), (2, 2)]),
        ("efficientnet-b6", [(0, 1), (0, 1), (1, 2), (0, 1), (2, 2)]),
        ("efficientnet-b7", [(0, 1), (0, 1), (1, 2), (1, 1), (1, 2)]),
    ],
)
def test_static_padding(name, edges):
    with torch.device("meta"):
        encoder = build(name)
    assert [part.edges[:2] for part in encoder.modules() if isinstance(part, DownConv2d)] == edges


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["efficientnet-b0", "timm-tf_efficientnet_lite0"])
def test_every_parameter_gets_a_gradient(name, depth):
    encoder = build(name, depth=depth)
    features = encoder(torch.randn(2, 3, 64, 64))
    assert len(features) == depth + 1 == len(encoder.out_channels)
    sum(x.mean() for x in features[1:]).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("depth", [1, 4, 5])
def test_loads_the_state_dict_of_a_whole_network(depth):
    extra = ("conv_head.weight", "bn2.weight", "classifier.weight", "_conv_head.weight", "_bn1.bias", "_fc.bias")
    state = build("efficientnet-b0").state_dict() | {key: torch.zeros(1) for key in extra}
    encoder = build("efficientnet-b0", depth=depth)
    encoder.load_state_dict(encoder.convert_state_dict(state), strict=True)
    assert torch.equal(encoder.conv_stem.weight, state["conv_stem.weight"])


@pytest.mark.parametrize("key", ["head.weight", "_blocks.99._bn1.weight", "_blocks.x", "blocks.9.0.bn1.weight"])
def test_a_foreign_key_is_not_dropped(key):
    assert list(build(depth=3).convert_state_dict({key: torch.zeros(1)})) == [key]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["efficientnet-b0", "timm-tf_efficientnet_lite0"])
def test_output_stride(name, output_stride):
    encoder = build(name, output_stride=output_stride)
    assert encoder.strides == tuple(min(stride, output_stride) for stride in (1, 2, 4, 8, 16, 32))
    assert tuple(64 // x.shape[-1] for x in encoder(torch.randn(2, 3, 64, 64))) == encoder.strides


@pytest.mark.parametrize("padding", ["static", "same", "symmetric"])
def test_any_size(padding):
    features = build(padding=padding).eval()(torch.randn(1, 3, 75, 101))
    for x, stride in zip(features, (1, 2, 4, 8, 16, 32), strict=True):
        assert abs(x.shape[-2] - 75 / stride) < 1
        assert abs(x.shape[-1] - 101 / stride) < 1


def test_drop_path_skips_whole_samples_only_while_training():
    encoder = build(drop_path_rate=0.5)
    x = torch.randn(1, 3, 64, 64).expand(8, -1, -1, -1)
    deep = encoder.train()(x)[-1]
    assert not torch.allclose(deep, deep[:1].expand_as(deep))
    deep = encoder.eval()(x)[-1]
    torch.testing.assert_close(deep, deep[:1].expand_as(deep))
    rates = [block.drop_path_rate for stage in encoder.blocks for block in stage]
    assert rates == [0.5 * index / 16 for index in range(16)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"depth": 0}, "depth=0"),
        ({"depth": 6}, "depth=6"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"output_stride": 4}, "output_stride=4"),
        ({"padding": "valid"}, "padding='valid'"),
        ({"nominal_size": 0}, "nominal_size=0"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0"),
        ({"stride16_block": 3}, "stride16_block=3"),
    ],
)
def test_wrong_options_are_refused(options, named):
    with pytest.raises(OptionValueError, match=named):
        build(**options)


def test_input_channels_can_change_later():
    encoder = build("efficientnet-b0", depth=2)
    encoder.set_in_channels(5)
    assert encoder(torch.randn(2, 5, 32, 32))[0].shape[1] == encoder.out_channels[0] == 5


def test_padding_and_norms_can_be_chosen_by_name():
    encoder = create_encoder("timm-efficientnet-b0", depth=2, padding="same", norm_eps=1e-3)
    assert encoder.conv_stem.by_input
    assert encoder.bn1.eps == 1e-3
    assert create_encoder("efficientnet-b0", depth=2).bn1.momentum == 0.01


@pytest.mark.parametrize("padding", ["static", "same"])
def test_exports(padding):
    x = torch.randn(2, 3, 64, 64)
    encoder = build(padding=padding, depth=3).eval()
    program = torch.export.export(encoder, (x,))
    torch.testing.assert_close(program.module()(x), encoder(x))
