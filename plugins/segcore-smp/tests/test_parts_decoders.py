"""Parts of the decoders beside SMP's: keys, random weights, values and gradients, in eval and in training."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from parts_beside import compare

sys.path.pop(0)

IMAGE = (2, 4, 6, 5)
CASES = {
    "deeplabv3": [
        ("SeparableConv2d", (4, 6, 3), {"stride": 2, "padding": 2, "dilation": 2}, (IMAGE,)),
        ("SeparableConv2d", (4, 6, 3, 1, 1, 1, False), {}, (IMAGE,)),
        ("ASPPConv", (4, 6, 2), {}, (IMAGE,)),
        ("ASPPSeparableConv", (4, 6, 3), {}, (IMAGE,)),
        ("ASPPPooling", (4, 6), {}, (IMAGE,)),
        ("ASPP", (4, 6, [1, 2, 3]), {"separable": False, "dropout": 0.5}, (IMAGE,)),
        ("ASPP", (4, 6, (6, 12, 18)), {"separable": True, "dropout": 0.1}, (IMAGE,)),
    ],
    "dpt": [
        ("ReadoutConcatBlock", (4, True), {}, (IMAGE, (2, 1, 4))),
        ("ReadoutConcatBlock", (4, True), {}, (IMAGE, (2, 5, 4))),
        ("ReadoutConcatBlock", (), {"embed_dim": 4, "has_prefix_tokens": False}, (IMAGE,)),
        ("ReadoutAddBlock", (), {}, (IMAGE, (2, 5, 4))),
        ("ReadoutAddBlock", (), {}, (IMAGE,)),
        ("ReadoutIgnoreBlock", (), {}, (IMAGE, (2, 5, 4))),
        ("ReassembleBlock", (4, 5, 6), {"upsample_factor": 4}, (IMAGE,)),
        ("ReassembleBlock", (4, 5, 6, 2.0), {}, (IMAGE,)),
        ("ReassembleBlock", (4, 5, 6, 3.5), {}, (IMAGE,)),
        ("ReassembleBlock", (4, 5, 6, 1), {}, (IMAGE,)),
        ("ReassembleBlock", (4, 5, 6, 0.5), {}, (IMAGE,)),
        ("ReassembleBlock", (4, 5, 6, 0.25), {}, (IMAGE,)),
        ("ResidualConvBlock", (4,), {}, (IMAGE,)),
        ("FusionBlock", (4,), {}, (IMAGE,)),
        ("FusionBlock", (4,), {}, (IMAGE, IMAGE)),
    ],
    "segformer": [("MLP", (4, 6), {}, (IMAGE,)), ("MLP", (4,), {"segmentation_channels": 1}, (IMAGE,))],
    "upernet": [
        ("LayerNorm2d", (4,), {"eps": 1e-6}, (IMAGE,)),
        ("LayerNorm2d", (4,), {"elementwise_affine": False}, (IMAGE,)),
        ("PSPModule", (4, 6), {}, (IMAGE,)),
        ("PSPModule", (4, 6, (1, 4)), {"use_norm": "identity"}, (IMAGE,)),
        ("PSPModule", (4, 6), {"use_norm": {"type": "batchnorm", "eps": 0.1}}, (IMAGE,)),
        ("FPNLateralBlock", (4, 6), {}, ((2, 6, 3, 2), IMAGE)),
        ("FPNLateralBlock", (4, 6), {"use_norm": False}, ((2, 6, 3, 2), IMAGE)),
    ],
}


@pytest.mark.parametrize("architecture", CASES)
def test_every_part_is_compared(architecture):
    blocks = importlib.import_module(f"segcore_smp.decoders.{architecture}.blocks")
    own = {
        name for name, value in vars(blocks).items() if inspect.isclass(value) and value.__module__ == blocks.__name__
    }
    assert {name for name, *_ in CASES[architecture]} == own


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("module", "name", "args", "options", "shapes"),
    [(f"decoders.{architecture}.decoder", *case) for architecture, cases in CASES.items() for case in cases],
)
def test_parts_equal_those_of_smp(module, name, args, options, shapes, training):
    compare(module, name, args, options, [torch.randn(shape) for shape in shapes], training=training)


def test_aspp_takes_three_rates():
    from segcore_smp.decoders.deeplabv3.decoder import ASPP

    assert len(ASPP(4, 6, iter((6, 12, 18)), separable=False, dropout=0.0).convs) == 5
    with pytest.raises(ValueError, match="three rates are needed"):
        ASPP(4, 6, (6, 12), separable=False, dropout=0.0)


def test_tokens_by_name():
    from segcore_smp.decoders.dpt.decoder import ReadoutAddBlock, ReadoutConcatBlock, ReadoutIgnoreBlock

    features, tokens = torch.randn(IMAGE), torch.randn(2, 3, 4)
    for block in (ReadoutConcatBlock(4, has_prefix_tokens=True), ReadoutAddBlock(), ReadoutIgnoreBlock()):
        assert torch.equal(block(features=features, prefix_tokens=tokens), block(features, tokens))
