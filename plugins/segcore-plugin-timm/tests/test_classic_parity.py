"""The classic encoders against segmentation_models_pytorch, live, with random weights and norm statistics."""

import pytest
import torch
from segcore_plugin_timm.classic import ClassicEncoder
from segcore_plugin_timm.families import classics
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders.timm_sknet import SkNetEncoder
from torch import nn

DILATED = [8, 16]
PARITY = [
    ("vgg11", [32]),
    ("vgg11_bn", [32]),
    ("densenet121", [32]),
    ("dpn68", [32, 16, 8]),
    ("dpn68b", [32]),
    ("se_resnet50", [32, 16, 8]),
    ("se_resnext50_32x4d", [32]),
    ("inceptionv4", [32]),
    ("inceptionresnetv2", [32]),
    ("xception", [32]),
    ("mobilenet_v2", [32, 16, 8]),
    ("mobileone_s0", [32, 16, 8]),
    ("timm-skresnet18", [32, 16, 8]),
]
QUICK = {("vgg11", 32), ("densenet121", 32), ("dpn68", 16), ("mobilenet_v2", 8), ("mobileone_s0", 32)}
QUICK |= {("timm-skresnet18", 16), ("se_resnet50", 32)}
CASES = [
    pytest.param(name, stride, id=f"{name}-{stride}", marks=() if (name, stride) in QUICK else pytest.mark.slow)
    for name, strides in PARITY
    for stride in strides
]
OTHERS = sorted(set(classics()) - {name for name, _ in PARITY})


def reference(name, depth=5, in_channels=3, output_stride=32):
    """SMP's encoder; its SKNet gets timm's arguments, which are ours (its own have other shapes)."""
    entry = encoders[name]
    params = dict(entry["params"], depth=depth, output_stride=output_stride)
    if name.startswith("timm-sk"):
        params["block_args"] = {"sk_kwargs": {"rd_ratio": 1 / 8, "rd_divisor": 16, "split_input": True}}
        if "next" in name:
            params["block_args"] = {"sk_kwargs": {"rd_ratio": 1 / 16, "rd_divisor": 32, "split_input": False}}
        encoder = SkNetEncoder(**params)
    else:
        encoder = entry["encoder"](**params)
    encoder.set_in_channels(in_channels, pretrained=False)
    if output_stride != 32:
        encoder.make_dilated(output_stride)
    return encoder


def randomise(module):
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return module.eval()


@pytest.mark.parametrize(("name", "output_stride"), CASES)
def test_features_equal_those_of_smp(name, output_stride):
    for depth, in_channels in ((5, 3), (3, 4)):
        theirs = randomise(reference(name, depth, in_channels, output_stride))
        ours = ClassicEncoder(name, depth, in_channels, output_stride).eval()
        ours.load_state_dict(ours.convert_state_dict(theirs.state_dict()), strict=True)
        x = torch.randn(1, in_channels, 64, 96)
        with torch.no_grad():
            expected, given = theirs(x), ours(x)
        assert len(expected) == len(given) == len(ours.strides) == depth + 1
        for level, (want, have) in enumerate(zip(expected, given, strict=True)):
            assert want.shape == have.shape
            difference = (want - have).abs().max() / want.abs().max()
            assert difference <= 1e-6, f"level {level} at depth {depth}: {difference}"
        assert tuple(theirs.out_channels) == ours.out_channels


@pytest.mark.parametrize("name", OTHERS)
def test_larger_siblings_have_the_keys_and_shapes_of_smp(name):
    with torch.device("meta"):
        theirs, ours = reference(name).state_dict(), ClassicEncoder(name)
    own = ours.state_dict()
    found = ours.convert_state_dict(theirs)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in own.items()}
    assert len(theirs) == len(own)
    assert ours.out_channels == tuple(encoders[name]["params"]["out_channels"])
