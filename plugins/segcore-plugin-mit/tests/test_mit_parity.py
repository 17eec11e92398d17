"""The same numbers as segmentation_models_pytorch, beyond what is compared for the encoders of all packages."""

import pytest
import torch
from segcore_plugin_mit import segcore_specs
from segcore_plugin_mit.encoder import MixTransformerEncoder
from segmentation_models_pytorch.encoders import get_encoder

SPECS = {spec.name: spec for spec in segcore_specs()}


def build(name, **options):
    return MixTransformerEncoder(**SPECS[name].options | options)


def randomised(module):
    """Give every parameter a value of its own, so that a swapped norm shows."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.05 if parameter.ndim > 1 else 0.3)
    return module.eval()


@torch.no_grad()
def largest_difference(ours, theirs, size):
    """Largest difference of any feature, relative to the feature's largest value."""
    ours.load_state_dict(ours.convert_state_dict(theirs.state_dict()))
    x = torch.randn(2, 3, *size, dtype=next(ours.parameters()).dtype)
    got, wanted = ours.eval()(x), [feature for feature in theirs(x) if feature.shape[1]]  # an empty one at stride 2
    assert [a.shape for a in got] == [b.shape for b in wanted]
    assert tuple(a.shape[1] for a in got) == ours.out_channels
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_equals_smp_in_single_precision_and_at_odd_sizes(size):
    assert largest_difference(build("mit_b0"), randomised(get_encoder("mit_b0", weights=None)), size=size) < 2e-6


def test_gradients_equal_those_of_smp():
    theirs = randomised(get_encoder("mit_b0", weights=None)).double()
    ours = build("mit_b0").double().eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    ours(x)[-1].square().sum().backward()
    theirs(x)[-1].square().sum().backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:  # norm1 to norm3 see only their own maps when the last is asked for
            torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_parameters_are_those_of_smp(name):
    theirs = get_encoder(name, weights=None).state_dict()
    with torch.device("meta"):
        ours = build(name)
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == {k: v.shape for k, v in theirs.items()}
