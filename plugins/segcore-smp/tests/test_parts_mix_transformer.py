"""Parts of Mix Transformer beside SMP's: keys, random weights, values and gradients, in eval and in training."""

import functools
import sys
from pathlib import Path

import pytest
import segcore_smp
import torch
from segcore_smp.encoders import mix_transformer as own
from segmentation_models_pytorch.encoders import mix_transformer as theirs
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from parts_beside import build, compare, run

sys.path.pop(0)

TOKENS = (torch.randn(2, 48, 6, generator=torch.Generator().manual_seed(0)), 8, 6)
MAP = (torch.randn(2, 6, 8, 4, generator=torch.Generator().manual_seed(0)),)
IMAGE = (torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)),)
SMALL = {"embed_dims": [4, 6, 8, 12], "num_heads": [1, 2, 4, 3], "depths": [1, 2, 1, 2], "img_size": 64}
CASES = [
    ("LayerNorm", (6,), {"eps": 1e-6}, TOKENS[:1]),
    ("LayerNorm", (6,), {}, MAP),
    ("LayerNorm", (6,), {"elementwise_affine": False}, (MAP[0].to(memory_format=torch.channels_last),)),
    ("DWConv", (6,), {}, TOKENS),
    ("Mlp", (6,), {}, TOKENS),
    ("Mlp", (6, 8, 10, nn.ReLU), {"drop": 0.3}, TOKENS),
    ("Attention", (6,), {"num_heads": 1}, TOKENS),
    ("Attention", (6, 3, True, 0.7, 0.2, 0.3, 2), {}, TOKENS),
    ("Attention", (6,), {"num_heads": 2, "sr_ratio": 2, "attn_drop": 0.4}, TOKENS),
    ("Block", (6, 2), {}, MAP),
    ("Block", (6, 2, 3.5, True), {"sr_ratio": 2, "drop": 0.2, "attn_drop": 0.2, "drop_path": 0.5}, MAP),
    ("Block", (6, 3), {"norm_layer": nn.LayerNorm, "act_layer": nn.ReLU}, MAP),
    ("OverlapPatchEmbed", (), {"in_chans": 6, "embed_dim": 8}, MAP),
    ("OverlapPatchEmbed", ((32, 48), (3, 5), 2, 6, 8), {}, MAP),
    ("MixVisionTransformer", (), SMALL, IMAGE),
    ("MixVisionTransformer", (), SMALL | {"qkv_bias": True, "drop_path_rate": 0.3, "drop_rate": 0.1}, IMAGE),
    ("MixVisionTransformer", (), SMALL | {"in_chans": 2, "sr_ratios": [4, 2, 1, 1]}, (IMAGE[0][:, :2],)),
]
MODULE = "encoders.mix_transformer"


def test_every_part_is_compared():
    assert {name for name, *_ in CASES} == set(own.__all__) - {
        "MixVisionTransformerEncoder",
        "mix_transformer_encoders",
    }


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("name", "args", "options", "inputs"), CASES)
def test_parts_equal_those_of_smp(name, args, options, inputs, training):
    compare(MODULE, name, args, options, inputs, training=training)


def test_norms_of_the_published_networks():
    made = []
    for module in (theirs, own):
        torch.manual_seed(0)
        norm = functools.partial(module.LayerNorm, eps=1e-6)
        made.append(module.MixVisionTransformer(norm_layer=norm, **SMALL).eval())
    a, b = (run(each, IMAGE, training=True) for each in made)
    assert all(torch.equal(b[key], value) for key, value in a.items())


def test_sizes_of_patches():
    for args in ((), ((32, 48), (3, 5)), (64, 3)):
        a, b = build(MODULE, "OverlapPatchEmbed", args, {"embed_dim": 4})
        for name in ("img_size", "patch_size", "H", "W", "num_patches"):
            assert getattr(a, name) == getattr(b, name)


def test_methods_of_the_network():
    a, b = build(MODULE, "MixVisionTransformer", (), SMALL | {"drop_path_rate": 0.1})
    for each in (a, b):
        each.reset_drop_path(0.6)
        each.init_weights()
    rates = [getattr(part, "drop_prob", None) for part in a.modules() if type(part).__name__ == "DropPath"]
    assert rates == [part.drop_prob for part in b.modules() if type(part).__name__ == "DropPath"]
    assert rates[-1] == pytest.approx(0.6)
    x, y = run(a, IMAGE, training=True), run(b, IMAGE, training=True)
    assert all(torch.equal(y[key], value) for key, value in x.items())
    assert a.no_weight_decay() == b.no_weight_decay()
    assert (a.num_classes, a.depths) == (b.num_classes, b.depths)
    b.freeze_patch_emb()
    assert not any(parameter.requires_grad for parameter in b.patch_embed1.parameters())
    b.reset_classifier(5)
    assert b.get_classifier()(torch.zeros(1, 12)).shape == (1, 5)
    b.reset_classifier(0)
    assert isinstance(b.get_classifier(), nn.Identity)


def test_subclasses_draw_otherwise():
    class Ones(own.Mlp):
        def _init_weights(self, m):
            if hasattr(m, "weight"):
                nn.init.ones_(m.weight)

    assert all(bool((parameter == 1).all()) for name, parameter in Ones(4).named_parameters() if "weight" in name)


def test_heads_divide_channels():
    with pytest.raises(ValueError, match="dim=6 must be a multiple of num_heads=4"):
        own.Attention(6, 4)


def test_an_encoder_loads_into_the_parts():
    settings = theirs.mix_transformer_encoders["mit_b0"]["params"]
    settings = {key: value for key, value in settings.items() if key not in {"out_channels", "norm_layer"}}
    network = own.MixVisionTransformer(**settings, norm_layer=functools.partial(own.LayerNorm, eps=1e-6)).eval()
    encoder = segcore_smp.encoders.get_encoder("mit_b0", weights=None).eval()
    network.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for a, b in zip(network(IMAGE[0]), encoder(IMAGE[0])[2:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
