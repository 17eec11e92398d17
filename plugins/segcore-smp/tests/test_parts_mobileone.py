"""Parts of MobileOne beside SMP's: keys, random weights, values and gradients, merged and not."""

import sys
from pathlib import Path

import pytest
import segcore_smp
import torch
from segcore_smp.encoders.mobileone import reparameterize_model
from segmentation_models_pytorch.encoders import mobileone as theirs

sys.path.insert(0, str(Path(__file__).parent))
from parts_beside import build, compare, run, spread

sys.path.pop(0)

MODULE = "encoders.mobileone"
MAP = (torch.randn(2, 16, 8, 6, generator=torch.Generator().manual_seed(0)),)
BLOCKS = [
    ((16, 16, 3), {"padding": 1}),
    ((16, 16, 3), {"padding": 1, "groups": 16, "num_conv_branches": 4, "use_se": True}),
    ((16, 16, 3, 2, 1), {"groups": 4, "num_conv_branches": 2}),
    ((16, 8, 1), {}),
    ((16, 32, 1), {"use_se": True}),
    ((16, 16, 1), {"num_conv_branches": 3}),
    ((16, 16, 5), {"padding": 2, "groups": 2}),
]
ONE = [((16, 24, 3, 2, 1, 1, 8, True), {}), ((16, 32, 3, 1, 2, 2), {"inference_mode": True, "use_se": True})]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("name", "args", "options"),
    [("SEBlock", (16,), {}), ("SEBlock", (16, 0.5), {})]
    + [("MobileOneBlock", *case) for case in (*BLOCKS, *ONE, ((16, 16, 3, 1, 1, 2), {}))],
)
def test_parts_equal_those_of_smp(name, args, options, training):
    compare(MODULE, name, args, options, MAP, training=training)


@pytest.mark.parametrize(("args", "options"), BLOCKS + ONE)
def test_merged_blocks_equal_those_of_smp(args, options):
    a, b = build(MODULE, "MobileOneBlock", args, options)
    before = b.eval()(MAP[0])
    for each in (a, b):
        each.reparameterize()
        each.reparameterize()
    assert b.inference_mode
    assert [(name, x.requires_grad) for name, x in b.named_parameters()] == [
        (name, x.requires_grad) for name, x in a.named_parameters()
    ]
    torch.testing.assert_close(b(MAP[0]), before, rtol=1e-5, atol=1e-5)
    expected, got = run(a, MAP, training=False), run(b, MAP, training=False)
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert got[key] is None if value is None else torch.equal(got[key], value), key


def prepared(model):
    torch.manual_seed(0)
    spread(model)
    return model.double().eval()


@pytest.mark.parametrize(("name", "options"), [("mobileone_s0", {"depth": 3}), ("mobileone_s4", {"output_stride": 16})])
def test_encoders_merge_to_the_keys_and_values_of_smp(name, options):
    encoder = prepared(segcore_smp.encoders.get_encoder(name, weights=None, **options))
    merged = reparameterize_model(encoder)
    beside = theirs.reparameterize_model(smp_encoder(name, encoder, **options))
    assert list(merged.state_dict()) == list(beside.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for own, before, other in zip(merged(x), encoder(x), beside(x), strict=True):
            torch.testing.assert_close(own, before, rtol=1e-6, atol=1e-6 * float(before.abs().max()))
            torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6 * float(before.abs().max()))
    assert any("rbr_conv" in key for key in encoder.state_dict())


def smp_encoder(name, encoder, **options):
    import segmentation_models_pytorch as smp

    made = smp.encoders.get_encoder(name, weights=None, **options).double().eval()
    made.load_state_dict(dict(encoder.state_dict()))
    return made


def test_a_model_merges():
    model = prepared(segcore_smp.Unet("mobileone_s0", encoder_weights=None))
    merged = reparameterize_model(model)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(merged(x), before, rtol=1e-6, atol=1e-6 * float(before.abs().max()))
    assert not any("rbr" in key for key in merged.state_dict())
    assert sum(map(torch.numel, merged.parameters())) < sum(map(torch.numel, model.parameters()))
