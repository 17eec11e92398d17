"""`base.modules` and heads beside SMP's."""

import pytest
import torch
from segcore_smp import base as own
from segmentation_models_pytorch import base as theirs
from torch import nn

NORMS = [True, False, "batchnorm", "identity", "LayerNorm", "instancenorm", {"type": "batchnorm", "momentum": 0.5}]


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_norms(norm):
    a, b = (package.modules.Conv2dReLU(3, 8, 3, padding=1, use_norm=norm) for package in (theirs, own))
    assert repr(a) == repr(b).replace("segcore_smp", "segmentation_models_pytorch")


@pytest.mark.parametrize("norm", ["groups", {"eps": 1}, {"type": "none"}, 3, None])
def test_unknown_norms(norm):
    for package in (theirs, own):
        with pytest.raises(ValueError):
            package.modules.get_norm_layer(norm, 8)


def test_inplace_norm_needs_its_package(monkeypatch):
    monkeypatch.setitem(own.modules.NORMS, "inplace", None)
    with pytest.raises(RuntimeError, match="inplace_abn"):
        own.modules.get_norm_layer("inplace", 8)


@pytest.mark.parametrize(
    "name", [None, "identity", "sigmoid", "softmax2d", "tanh", "argmax", "argmax2d", "clamp", nn.Sigmoid]
)
def test_activations(name):
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(own.modules.Activation(name)(x), theirs.modules.Activation(name)(x))


def test_activations_that_smp_cannot_make():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(own.modules.Activation(torch.sigmoid)(x), x.sigmoid())
    assert torch.equal(own.modules.Activation(nn.Sigmoid())(x), x.sigmoid())
    assert torch.equal(own.modules.Activation("softmax")(x), x.softmax(1))
    assert torch.equal(own.modules.Activation("logsoftmax", dim=2)(x), x.log_softmax(2))
    with pytest.raises(ValueError, match="activation='sigmoyd'"):
        own.modules.Activation("sigmoyd")


def test_attention_and_heads():
    x = torch.randn(2, 32, 4, 4)
    made = []
    for package in (theirs, own):
        torch.manual_seed(0)
        parts = [package.modules.Attention("scse", in_channels=32), package.SegmentationHead(32, 3, 5, "tanh", 4)]
        parts += [package.ClassificationHead(32, 4, "max", 0.0, "sigmoid")]
        for part in parts:
            package.initialization.initialize_head(part)
        made.append([part(x) for part in parts])
    for a, b in zip(*made, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="attention='se'"):
        own.modules.Attention("se")
    with pytest.raises(ValueError, match="pooling='mean'"):
        own.ClassificationHead(8, 2, pooling="mean")
