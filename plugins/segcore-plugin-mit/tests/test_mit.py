"""What holds for the encoder by itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from segcore_plugin_mit import segcore_specs
from segcore_plugin_mit.encoder import MixTransformerEncoder

from segcore import InputError, OptionValueError

SPECS = {spec.name: spec for spec in segcore_specs()}


def build(name="mit_b0", **options):
    return MixTransformerEncoder(**SPECS[name].options | options)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_records_tell_the_truth(name):
    spec = SPECS[name]
    assert spec.problem() is None
    with torch.device("meta"):
        encoder = build(name)
    assert encoder.out_channels == spec.out_channels
    assert encoder.strides == spec.nominal_strides
    assert spec.output_strides == (32,)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == spec.parameters


def test_listing_does_not_import_torch():
    code = "import sys, segcore_plugin_mit as p; list(p.segcore_specs()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_licence_of_the_weights_is_told_wherever_one_looks():
    for spec in SPECS.values():
        assert all("NVIDIA" in w.license and "non-commercial" in w.license for w in spec.weights.values())
    folder = Path(__file__).parents[1]
    for file in ("README.md", "LICENSE"):
        text = (folder / file).read_text(encoding="utf-8")
        assert "NVIDIA Source Code License for SegFormer" in text
        assert "non-commercial" in text


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_every_parameter_gets_a_gradient(depth):
    encoder = build(depth=depth)
    features = encoder(torch.randn(2, 3, 64, 64))
    assert len(features) == depth == len(encoder.out_channels)
    assert encoder.strides == (1, 4, 8, 16, 32)[:depth]
    sum(x.square().mean() for x in features[1:]).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_depth_1_leaves_the_image():
    encoder = build(depth=1, in_channels=4)
    encoder.load_state_dict(encoder.convert_state_dict(build().state_dict()), strict=True)
    x = torch.randn(1, 4, 16, 16)
    (feature,) = encoder(x)
    assert feature is x
    assert encoder.feature_info.channels == (4,)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_loads_the_state_dict_of_a_whole_network(depth):
    state = build().state_dict() | {"head.weight": torch.zeros(10, 256), "head.bias": torch.zeros(10)}
    encoder = build(depth=depth)
    encoder.load_state_dict(encoder.convert_state_dict(state), strict=True)
    assert torch.equal(encoder.patch_embed1.proj.weight, state["patch_embed1.proj.weight"])


def test_a_foreign_key_is_not_dropped():
    assert "block5.x" in build(depth=3).convert_state_dict({"block5.x": torch.zeros(1)})


@pytest.mark.parametrize("size", [(29, 29), (45, 71), (64, 96)])
def test_any_size(size):
    features = build().eval()(torch.randn(1, 3, *size))
    for x, stride in zip(features, (1, 4, 8, 16, 32), strict=True):
        assert tuple(x.shape[-2:]) == tuple(-(-side // stride) for side in size)
        assert x.is_contiguous()


def test_too_small_an_image_is_refused():
    with pytest.raises(InputError, match="28 x 64"):
        build()(torch.zeros(1, 3, 28, 64))


def test_drop_path_skips_whole_samples_only_while_training():
    encoder = build(drop_path_rate=0.5)
    x = torch.randn(1, 3, 64, 64).expand(8, -1, -1, -1)
    deep = encoder.train()(x)[-1]
    assert not torch.allclose(deep, deep[:1].expand_as(deep))
    deep = encoder.eval()(x)[-1]
    torch.testing.assert_close(deep, deep[:1].expand_as(deep))
    assert encoder.block1[0].drop_path_rate == 0
    assert encoder.block4[-1].drop_path_rate == 0.5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"depth": 0}, "depth=0"),
        ({"depth": 6}, "depth=6"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0"),
        ({"dims": (32, 64, 161, 256)}, "dims="),
        ({"layers": (2, 2, 2)}, "layers="),
    ],
)
def test_wrong_options_are_refused(options, named):
    with pytest.raises(OptionValueError, match=named):
        build(**options)


def test_input_channels_can_change_later():
    encoder = build(depth=2)
    encoder.set_in_channels(5)
    assert encoder(torch.randn(2, 5, 32, 32))[0].shape[1] == encoder.out_channels[0] == 5


def test_exports():
    x = torch.randn(2, 3, 64, 64)
    encoder = build(depth=3).eval()
    program = torch.export.export(encoder, (x,))
    torch.testing.assert_close(program.module()(x), encoder(x))
