"""`ClassicEncoder` by itself: sizes, gradients, refusals, other libraries' names of tensors."""

import copy
import pickle

import pytest
import timm
import torch
from segcore_plugin_timm import classic
from segcore_plugin_timm.classic import ClassicEncoder
from segcore_plugin_timm.families import DILATING, classic_specs, classics

from segcore import OptionValueError

FAMILIES = {
    "vgg": "vgg11",
    "densenet": "densenet121",
    "dpn": "dpn68",
    "senet": "se_resnet50",
    "sknet": "timm-skresnet18",
    "inceptionv4": "inceptionv4",
    "inceptionresnetv2": "inceptionresnetv2",
    "xception": "xception",
    "mobilenet": "mobilenet_v2",
    "mobileone": "mobileone_s0",
}
slow = pytest.mark.slow
SMALL = [
    pytest.param(name, marks=() if family in {"dpn", "mobilenet", "densenet"} else slow)
    for family, name in FAMILIES.items()
]


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns_and_maps_have_the_listed_sizes(name):
    spec = classic_specs()[name]
    for depth in (5, 2):
        encoder = ClassicEncoder(name, depth)
        step = encoder.size_multiple
        x = torch.rand(2, 3, 3 * step if step > 4 else 76, 2 * step if step > 4 else 92)
        maps = encoder(x)
        assert encoder.out_channels == spec.out_channels[: depth + 1]
        for deep, channels, stride in zip(maps, encoder.out_channels, encoder.strides, strict=True):
            assert deep.shape == (2, channels, -(-x.shape[2] // stride), -(-x.shape[3] // stride))
        sum(deep.square().mean() for deep in maps).backward()
        assert [key for key, value in encoder.named_parameters() if value.grad is None] == []
        if depth == 5:
            assert sum(value.numel() for value in encoder.parameters()) == spec.parameters
            assert encoder.size_multiple == spec.size_multiple


@pytest.mark.parametrize("name", sorted(set(classics()) - set(FAMILIES.values())))
def test_larger_siblings_have_the_listed_facts(name):
    spec = classic_specs()[name]
    with torch.device("meta"):
        encoder = ClassicEncoder(name).eval()
        maps = encoder(torch.empty(1, 3, 64, 96))
    assert sum(value.numel() for value in encoder.parameters()) == spec.parameters
    assert [deep.shape[1] for deep in maps] == list(spec.out_channels) == list(encoder.out_channels)


@pytest.mark.parametrize("name", SMALL)
def test_timms_plain_weights_and_other_channels(name):
    plain = timm.create_model(classics()[name].architecture)
    encoder = ClassicEncoder(name, depth=3, in_channels=5)
    state = encoder.adapt_input(encoder.convert_state_dict(plain.state_dict()))
    encoder.load_state_dict(state, strict=True)
    encoder.set_in_channels(1)
    channels = encoder.out_channels[0]
    assert channels == (1 if encoder.strides[0] == 1 and FAMILIES["vgg"] != name else 64)
    assert encoder.eval()(torch.rand(1, 1, 64, 64))[-1].shape[1] == encoder.out_channels[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_output_strides_are_built_or_refused(family):
    name = FAMILIES[family]
    with torch.device("meta"):
        if family in DILATING:
            encoder = ClassicEncoder(name, output_stride=8).eval()
            assert encoder.strides == (1, 2, 4, 8, 8, 8)
            assert encoder(torch.empty(1, 3, 64, 64))[-1].shape[-2:] == (8, 8)
        else:
            with pytest.raises(OptionValueError, match=r"has 32 only. Families that can be dilated: dpn"):
                ClassicEncoder(name, output_stride=16)


def test_the_classifier_of_a_vgg_takes_no_memory(monkeypatch):
    built = []
    make = classic.create_model
    monkeypatch.setattr(classic, "create_model", lambda *words, **more: built.append(make(*words, **more)) or built[-1])
    with torch.device("meta"):
        encoder = ClassicEncoder("vgg11")
    unused = sum(value.numel() for value in built[0].parameters()) - sum(
        value.numel() for value in encoder.parameters()
    )
    assert unused < 100_000


def test_wrong_depths_are_refused():
    with pytest.raises(OptionValueError, match="depths 1 to 5"):
        ClassicEncoder("vgg11", depth=0)
    with pytest.raises(OptionValueError, match="has 32, 16 and 8"):
        ClassicEncoder("dpn68", output_stride=4)


def test_old_files_of_densenet_write_their_norms_otherwise():
    encoder = ClassicEncoder("densenet121", depth=2)
    own = encoder.state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in own.items()}
    assert set(old) != set(own)
    assert encoder.convert_state_dict(old).keys() == own.keys()


@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("dpn68", marks=slow), pytest.param("vgg11", marks=slow)])
def test_it_compiles_whole_exports_and_copies(name):
    encoder = ClassicEncoder(name, depth=4).eval()
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted = encoder(x)
        others = [
            torch.compile(encoder, backend="eager", fullgraph=True)(x),
            torch.export.export(encoder, (x,)).module()(x),
            pickle.loads(pickle.dumps(encoder))(x),
            copy.deepcopy(encoder)(x),
        ]
    for outputs in others:
        for want, have in zip(wanted, outputs, strict=True):
            torch.testing.assert_close(have, want)
