"""The same numbers as timm, from the same weights; those of segmentation_models_pytorch are compared for all packages."""

import pytest
import timm
import torch
from segcore_plugin_resnet import segcore_specs
from segcore_plugin_resnet.encoder import ResNetEncoder
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from segmentation_models_pytorch.encoders import get_encoder

SPECS = {spec.name: spec for spec in segcore_specs()}
CHEAP = ["resnet18", "resnet34", "resnet50", "resnext50_32x4d"]


def randomised(module):
    """Give every norm its own statistics and affine, so that a swapped norm or another eps shows."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (part.weight, 0.5, 1.0),
                (part.bias, -0.2, 0.2),
                (part.running_mean, -0.2, 0.2),
                (part.running_var, 0.5, 2.0),
            ):
                torch.nn.init.uniform_(tensor, low, high, generator=generator)
    return module.eval()


class WithImage(torch.nn.Module):
    """Adds the image to timm's list of features."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return [x, *self.network(x)]

    def state_dict(self):
        return self.network.state_dict()


def build(name, **options):
    return ResNetEncoder(**SPECS[name].options, **options)


@torch.no_grad()
def largest_difference(ours, theirs, size=(64, 96)):
    """Largest difference of any feature, relative to the feature's largest value."""
    ours.load_state_dict(ours.convert_state_dict(theirs.state_dict()))
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    got, wanted = ours.eval()(x), theirs(x)
    assert [a.shape for a in got] == [b.shape for b in wanted]
    assert tuple(a.shape[1] for a in got) == ours.out_channels
    assert tuple(size[0] // a.shape[2] for a in got) == ours.strides
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("name", CHEAP)
def test_dilated_by_the_standard_rule_equals_timm(name, output_stride):
    theirs = randomised(timm.create_model(name, features_only=True, output_stride=output_stride))
    ours = build(name, output_stride=output_stride)
    assert largest_difference(ours, WithImage(theirs)) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [16, 8])
def test_the_two_rules_differ(output_stride):
    ours = [randomised(build("resnet18", output_stride=output_stride, dilation_rule=r)) for r in ("standard", "smp")]
    ours[1].load_state_dict(ours[0].state_dict())
    x = torch.randn(1, 3, 64, 64)
    deep = [encoder(x)[-1] for encoder in ours]
    assert (deep[0] - deep[1]).abs().max() / deep[0].abs().max() > 0.01


@pytest.mark.parametrize("name", sorted(SPECS))
def test_parameters_are_those_of_the_reference(name):
    with torch.device("meta"):
        ours = build(name)
        if name in smp_encoders:
            theirs = get_encoder(name, weights=None).state_dict()
        else:  # the wide ones
            theirs = timm.create_model(name).state_dict()
    theirs = {key: tensor.shape for key, tensor in theirs.items() if not key.startswith("fc.")}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == theirs


@pytest.mark.slow
def test_wide_equals_timm():
    theirs = WithImage(randomised(timm.create_model("wide_resnet50_2", features_only=True)))
    assert largest_difference(build("wide_resnet50_2"), theirs) < 1e-6
