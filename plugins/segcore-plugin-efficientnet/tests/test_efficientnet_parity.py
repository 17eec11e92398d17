"""The same numbers as segmentation_models_pytorch and timm, beyond what is compared for the encoders of all packages."""

import warnings

import pytest
import timm
import torch
from segcore_plugin_efficientnet import segcore_specs
from segcore_plugin_efficientnet.encoder import EfficientNetEncoder
from segmentation_models_pytorch.encoders import get_encoder

SPECS = {spec.name: spec for spec in segcore_specs()}


@torch.no_grad()
def randomised(module, in_channels=3):
    """Give every norm an affine and statistics of its own, near those of its input, so that another eps shows.

    In double precision, where two orders of the same sums agree to 1e-13 and a real difference does not.
    """
    torch.manual_seed(0)
    module.double().train()
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.2, 0.2)
    module(torch.randn(2, in_channels, 64, 96, dtype=torch.double))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var += norm.running_var.mean()  # no channel is blown up, and rounding with it
    return module.eval()


def reference(name, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # SMP would rather have its users write tu-
        return get_encoder(name, weights=None, **options)


def build(name, **options):
    return EfficientNetEncoder(**SPECS[name].options | SPECS[name].defaults | options).double()


@torch.no_grad()
def distance(got, wanted):
    """Largest difference of any feature, relative to the feature's largest value."""
    assert [a.shape for a in got] == [b.shape for b in wanted]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, wanted, strict=True))


@torch.no_grad()
def largest_difference(ours, theirs, in_channels=3, size=(64, 96)):
    ours.load_state_dict(ours.convert_state_dict(theirs.state_dict()))
    x = torch.randn(2, in_channels, *size, dtype=torch.double)
    got = ours.eval()(x)
    assert tuple(a.shape[1] for a in got) == ours.out_channels
    assert tuple(size[0] // a.shape[2] for a in got) == ours.strides
    return distance(got, theirs(x))


@pytest.mark.parametrize("depth", [2, 4])
def test_other_depths_equal_smp(depth):
    theirs = randomised(reference("efficientnet-b0", depth=depth))
    assert largest_difference(build("efficientnet-b0", depth=depth), theirs) < 1e-10


@pytest.mark.parametrize("name", ["efficientnet-b2", "timm-efficientnet-b0"])
def test_odd_sizes_equal_smp(name):
    ours, theirs = build(name), randomised(reference(name))
    ours.load_state_dict(ours.convert_state_dict(theirs.state_dict()))
    x = torch.randn(1, 3, 75, 101, dtype=torch.double)
    with torch.no_grad():
        assert distance(ours.eval()(x), theirs(x)) < 1e-10


@pytest.mark.parametrize("name", ["efficientnet-b0", "timm-efficientnet-b0"])
def test_training_equals_smp(name):
    """One pass in training mode: batch statistics, and the running statistics that the momentum gives."""
    theirs = randomised(reference(name)).train()
    theirs._drop_connect_rate = 0
    for part in theirs.modules():
        if hasattr(part, "drop_prob"):
            part.drop_prob = 0.0
    ours = build(name, drop_path_rate=0.0)
    ours.load_state_dict(ours.convert_state_dict(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    assert distance(ours.train()(x), theirs(x)) < 1e-10
    wanted = ours.convert_state_dict(theirs.state_dict())
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_same_padding_equals_timm(size):
    theirs = randomised(timm.create_model("tf_efficientnet_b0", features_only=True))
    ours = build("timm-efficientnet-b0", padding="same", norm_eps=1e-3)
    state = theirs.state_dict()
    ours.load_state_dict(ours.convert_state_dict(state))
    x = torch.randn(1, 3, *size, dtype=torch.double)
    assert distance(ours.eval()(x)[2:], theirs(x)[1:]) < 1e-10  # at stride 2 timm takes a later map


@pytest.mark.parametrize("name", sorted(SPECS))
def test_parameters_are_those_of_smp(name):
    with torch.device("meta"):
        ours, theirs = build(name), reference(name)
    kept = ours.convert_state_dict(theirs.state_dict())
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == {k: v.shape for k, v in kept.items()}
    assert len(theirs.state_dict()) - len(kept) == 6  # the head convolution and its norm
    assert ours.out_channels == tuple(theirs.out_channels)
