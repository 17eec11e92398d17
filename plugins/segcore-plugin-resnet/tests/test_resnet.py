"""What holds for the encoder by itself."""

import subprocess
import sys

import pytest
import torch
from segcore_plugin_resnet import segcore_specs
from segcore_plugin_resnet.encoder import ResNetEncoder

from segcore import OptionValueError

SPECS = {spec.name: spec for spec in segcore_specs()}


def build(name="resnet18", **options):
    return ResNetEncoder(**SPECS[name].options, **options)


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
    code = "import sys, segcore_plugin_resnet as p; list(p.segcore_specs()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_non_commercial_weights_say_so():
    for spec in SPECS.values():
        for tag, weights in spec.weights.items():
            assert weights.license == ("BSD-3-Clause" if tag == "imagenet" else "CC-BY-NC-4.0")


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_every_parameter_gets_a_gradient(depth):
    encoder = build(depth=depth)
    features = encoder(torch.randn(2, 3, 64, 64))
    assert len(features) == depth + 1 == len(encoder.out_channels)
    sum(x.mean() for x in features[1:]).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_loads_the_state_dict_of_a_whole_network(depth):
    state = build().state_dict() | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    encoder = build(depth=depth)
    encoder.load_state_dict(encoder.convert_state_dict(state), strict=True)
    assert torch.equal(encoder.conv1.weight, state["conv1.weight"])


def test_a_foreign_key_is_not_dropped():
    assert "head.weight" in build(depth=3).convert_state_dict({"head.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("output_stride", "strides"),
    [(8, (1, 2, 4, 8, 8, 8)), (16, (1, 2, 4, 8, 16, 16)), (32, (1, 2, 4, 8, 16, 32))],
)
@pytest.mark.parametrize("rule", ["standard", "smp"])
def test_output_stride(output_stride, strides, rule):
    encoder = build(output_stride=output_stride, dilation_rule=rule)
    assert encoder.strides == strides
    assert tuple(64 // x.shape[-1] for x in encoder(torch.randn(2, 3, 64, 64))) == strides


def test_output_stride_deeper_than_the_network_changes_nothing():
    assert build(depth=3, output_stride=16).strides == (1, 2, 4, 8)


def test_any_size():
    shapes = [tuple(x.shape[-2:]) for x in build().eval()(torch.randn(1, 3, 45, 71))]
    assert shapes == [(45, 71), (23, 36), (12, 18), (6, 9), (3, 5), (2, 3)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"depth": 0}, "depth=0"),
        ({"depth": 6}, "depth=6"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"output_stride": 4}, "output_stride=4"),
        ({"dilation_rule": "timm"}, "dilation_rule='timm'"),
    ],
)
def test_wrong_options_are_refused(options, named):
    with pytest.raises(OptionValueError, match=named):
        build(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"block": "other", "layers": (1, 1, 1, 1)}, "block='other'"),
        ({"block": "basic", "layers": (1, 1, 1)}, "layers="),
        ({"block": "basic", "layers": (1, 1, 1, 1), "groups": 2}, "groups=2"),
    ],
)
def test_wrong_networks_are_refused(options, named):
    with pytest.raises(OptionValueError, match=named):
        ResNetEncoder(**options)


def test_input_channels_can_change_later():
    encoder = build()
    encoder.set_in_channels(5)
    assert encoder.out_channels[0] == 5
    assert encoder(torch.randn(2, 5, 32, 32))[0].shape[1] == 5


def test_exports():
    x = torch.randn(2, 3, 64, 64)
    encoder = build(depth=3).eval()
    program = torch.export.export(encoder, (x,))
    torch.testing.assert_close(program.module()(x), encoder(x))
