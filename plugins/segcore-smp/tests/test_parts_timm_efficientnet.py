"""Arguments of timm's EfficientNets beside SMP's."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from segcore_smp.encoders import timm_efficientnet as own
from segmentation_models_pytorch.encoders import timm_efficientnet as theirs
from timm.models.efficientnet import EfficientNet

SCALES = [(), (1.0, 1.1), (1.4, 1.8, 0.4), (4.3, 5.3, 0.5)]
FUNCTIONS = ["get_efficientnet_kwargs", "gen_efficientnet_lite_kwargs"]


def plain(arguments):
    """Return the arguments with functions of bound arguments, which compare by identity, spelt out."""
    rounding = arguments["round_chs_fn"]
    return arguments | {"round_chs_fn": (rounding.func, rounding.args, rounding.keywords)}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_equal_those_of_smp(name, scales):
    assert plain(getattr(own, name)(*scales)) == plain(getattr(theirs, name)(*scales))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_by_name_make_a_network(name):
    arguments = getattr(own, name)(channel_multiplier=0.5, depth_multiplier=0.3, drop_rate=0.1)
    assert plain(arguments) == plain(getattr(theirs, name)(0.5, 0.3, 0.1))
    network = EfficientNet(**arguments).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_settings():
    settings = SimpleNamespace(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), url="https://example.org/weights.pth")
    assert own.prepare_settings(settings) == theirs.prepare_settings(settings)


def test_timm_is_loaded_when_it_is_asked_for():
    code = (
        "import sys; from segcore_smp.encoders import timm_efficientnet as own; assert 'timm' not in sys.modules; "
        "own.gen_efficientnet_lite_kwargs(); assert 'timm' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
