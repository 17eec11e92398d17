"""Blocks of Unet, Unet++, Linknet, MAnet, PAN, PSPNet and FPN beside SMP's: keys, weights, values, gradients."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from parts_beside import compare

sys.path.pop(0)

DEEP, SKIP, WIDE = (2, 8, 3, 5), (2, 4, 6, 10), (2, 8, 16, 18)
MOMENTUM = {"type": "batchnorm", "momentum": 0.3, "eps": 0.1}
NORMS = ("batchnorm", "identity", "instancenorm", False, MOMENTUM)
MODES = ("nearest", "bilinear", "bicubic", "area", "nearest-exact")
WIDTHS = (16, 16, 16)  # as many as scSE can divide

CASES = {
    "unet": [
        *(("UnetCenterBlock", (8, 6), {"use_norm": norm}, (DEEP,)) for norm in NORMS),
        *(("UnetDecoderBlock", (8, 4, 6, norm), {}, (DEEP, 6, 10, SKIP)) for norm in NORMS),
        *(("UnetDecoderBlock", (8, 4, 6), {"interpolation_mode": mode}, (DEEP, 6, 10, SKIP)) for mode in MODES),
        ("UnetDecoderBlock", (8, 0, 6), {"interpolation_mode": "bilinear"}, (DEEP, 7, 9)),
        ("UnetDecoderBlock", (8, 4, 6), {}, (DEEP, 3, 5, (2, 4, 3, 5))),
        ("UnetDecoderBlock", WIDTHS, {"attention_type": "scse"}, ((2, 16, 3, 5), 6, 10, (2, 16, 6, 10))),
        ("UnetDecoderBlock", (16, 0, 16), {"attention_type": "scse"}, ((2, 16, 3, 5), 6, 10)),
        ("UnetDecoderBlock", (16, 0, 16), {"attention_type": "scse"}, ((2, 16, 3, 5), 6, 10, (2, 0, 6, 10))),
    ],
    "unetplusplus": [
        *(("CenterBlock", (8, 6, norm), {}, (DEEP,)) for norm in NORMS),
        *(("DecoderBlock", (8, 4, 6, norm), {}, (DEEP, SKIP)) for norm in NORMS),
        *(("DecoderBlock", (8, 4, 6), {"interpolation_mode": mode}, (DEEP, SKIP)) for mode in MODES),
        ("DecoderBlock", (8, 0, 6), {}, (DEEP,)),
        ("DecoderBlock", WIDTHS, {"attention_type": "scse"}, ((2, 16, 3, 5), (2, 16, 6, 10))),
        ("DecoderBlock", (16, 0, 16), {"attention_type": "scse"}, ((2, 16, 3, 5),)),
    ],
    "linknet": [
        *(("TransposeX2", (8, 6), {"use_norm": norm}, (DEEP,)) for norm in NORMS),
        *(("DecoderBlock", (8, 4, norm), {}, (DEEP, SKIP)) for norm in NORMS),
        ("DecoderBlock", (8, 4), {}, (DEEP,)),
    ],
    "manet": [
        ("PABBlock", (8,), {}, (DEEP,)),
        ("PABBlock", (8,), {"pab_channels": 3}, (DEEP,)),
        *(("DecoderBlock", (8, 4, 6), {"use_norm": norm}, (DEEP, SKIP)) for norm in NORMS),
        *(("DecoderBlock", (8, 4, 6, mode), {}, (DEEP, SKIP)) for mode in MODES),
        ("DecoderBlock", (8, 0, 6), {}, (DEEP,)),
        *(("MFABBlock", (8, 4, 6), {"use_norm": norm}, (DEEP, SKIP)) for norm in NORMS),
        *(("MFABBlock", (8, 4, 6, mode), {"reduction": 2}, (DEEP, SKIP)) for mode in MODES),
    ],
    "pan": [
        ("ConvBnRelu", (8, 6, 3), {}, (DEEP,)),
        ("ConvBnRelu", (8, 6, 3, 2, 2, 2, 2, False), {}, (DEEP,)),
        ("ConvBnRelu", (8, 6, 1), {"add_relu": False}, (DEEP,)),
        ("ConvBnRelu", (8, 6, 1), {"interpolate": True}, (DEEP,)),
        ("ConvBnRelu", (8, 6, 1), {"add_relu": False, "interpolate": True}, (DEEP,)),
        ("FPABlock", (8, 6), {}, (WIDE,)),
        ("FPABlock", (8, 6, "bicubic"), {}, (WIDE,)),
        ("FPABlock", (8, 6), {}, ((2, 8, 19, 17),)),
        *(("GAUBlock", (4, 8), {"interpolation_mode": mode}, (SKIP, DEEP)) for mode in MODES),
        ("GAUBlock", (4, 8), {}, ((2, 4, 7, 9), DEEP)),
    ],
    "pspnet": [
        *(("PSPBlock", (8, 6, 2, norm), {}, (DEEP,)) for norm in NORMS if norm != "instancenorm"),
        ("PSPBlock", (8, 6, 1), {}, (DEEP,)),
        ("PSPBlock", (8, 6, 6), {}, (DEEP,)),
        ("PSPModule", (8,), {}, (DEEP,)),
        ("PSPModule", (8,), {"sizes": (1, 3, 4), "use_norm": MOMENTUM}, (DEEP,)),
    ],
    "fpn": [
        ("Conv3x3GNReLU", (8, 32), {}, (DEEP,)),
        ("Conv3x3GNReLU", (8, 64), {"upsample": True}, (DEEP,)),
        *(("FPNBlock", (8, 4), {"interpolation_mode": mode}, (DEEP, SKIP)) for mode in MODES),
        *(("SegmentationBlock", (8, 32, count), {}, (DEEP,)) for count in range(3)),
    ],
}


def ids(case):
    return "-".join(map(str, (case[0], *case[1], *case[2].values(), len(case[3])))).replace(" ", "")


def both(architecture):
    """Return SMP's module of a decoder, and ours."""
    roots = ("segmentation_models_pytorch", "segcore_smp")
    return [importlib.import_module(f"{root}.decoders.{architecture}.decoder") for root in roots]


@pytest.mark.parametrize("architecture", CASES)
def test_every_block_is_compared(architecture):
    blocks = importlib.import_module(f"segcore_smp.decoders.{architecture}.blocks")
    public = {name for name, value in vars(blocks).items() if getattr(value, "__module__", "") == blocks.__name__}
    compared = {case[0] for case in CASES[architecture]} | ({"MergeBlock"} if architecture == "fpn" else set())
    assert {name for name in public if not name.startswith("_")} == compared


@pytest.mark.parametrize("architecture", CASES)
def test_signatures(architecture):
    theirs, own = both(architecture)
    for name in {case[0] for case in CASES[architecture]}:
        assert inspect.signature(getattr(own, name)) == inspect.signature(getattr(theirs, name)), name
        a, b = (inspect.signature(getattr(module, name).forward).parameters.values() for module in (theirs, own))
        assert [(x.name, x.default) for x in a] == [(x.name, x.default) for x in b], name


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("architecture", "case"),
    [pytest.param(name, case, id=f"{name}-{ids(case)}") for name, cases in CASES.items() for case in cases],
)
def test_beside(architecture, case, training):
    name, args, options, shapes = case
    torch.manual_seed(0)
    inputs = [torch.randn(given) if isinstance(given, tuple) else given for given in shapes]
    compare(f"decoders.{architecture}.decoder", name, args, options, inputs, training=training)


@pytest.mark.parametrize("policy", ["add", "cat"])
def test_merge(policy):
    theirs, own = (module.MergeBlock(policy) for module in both("fpn"))
    maps = [torch.randn(DEEP) for _ in range(4)]
    assert torch.equal(own(maps), theirs(maps))


def test_unknown_merge():
    for module in both("fpn"):
        with pytest.raises(ValueError, match="'add'.*'cat'"):
            module.MergeBlock("sum")


def test_a_block_of_no_channels():
    x, skip = torch.randn(DEEP), torch.randn(SKIP)
    for module in both("unetplusplus"):
        block = module.DecoderBlock(8, 4, 0, attention_type="scse")
        assert block.is_empty
        assert not block.state_dict()
        assert block(x, skip).shape == (2, 0, 6, 10)
        assert not module.DecoderBlock(8, 4, 6).is_empty


def test_attributes():
    for theirs, own in (
        [module.UnetDecoderBlock(8, 4, 6, interpolation_mode="area") for module in both("unet")],
        [module.DecoderBlock(8, 4, 6, interpolation_mode="area") for module in both("unetplusplus")],
        [module.DecoderBlock(8, 4, 6, "area") for module in both("manet")],
        [module.MFABBlock(8, 4, 6, "area") for module in both("manet")],
        [module.PABBlock(8, 3) for module in both("manet")],
        [module.ConvBnRelu(8, 6, 3, add_relu=False, interpolate=True) for module in both("pan")],
        [module.FPABlock(8, 6) for module in both("pan")],
        [module.GAUBlock(8, 6) for module in both("pan")],
        [module.PSPBlock(8, 6, 3) for module in both("pspnet")],
        [module.Conv3x3GNReLU(8, 32, upsample=True) for module in both("fpn")],
        [module.FPNBlock(8, 4, "area") for module in both("fpn")],
        [module.MergeBlock("cat") for module in both("fpn")],
    ):
        wanted = {name: value for name, value in vars(theirs).items() if not name.startswith("_")}
        assert {name: vars(own).get(name) for name in wanted} == wanted


def test_a_gate_without_a_skip_is_refused():
    theirs, own = (module.MFABBlock(8, 4, 6) for module in both("manet"))
    with pytest.raises(RuntimeError):
        theirs(torch.randn(DEEP))
    with pytest.raises(ValueError, match="needs a skip"):
        own(torch.randn(DEEP))


def test_pyramid_attention_takes_modes_that_have_no_corners():
    assert both("pan")[1].FPABlock(8, 6, "nearest")(torch.randn(WIDE)).shape == (2, 6, 16, 18)


def test_subclasses():
    results = []
    for module in both("unet"):

        class Block(module.UnetDecoderBlock):
            def __init__(self, *args):
                super().__init__(*args)
                self.extra = nn.Conv2d(6, 6, 1)

            def forward(self, feature_map, height, width, skip=None):
                return self.extra(super().forward(feature_map, height, width, skip))

        torch.manual_seed(0)
        results.append(Block(8, 4, 6)(torch.randn(DEEP), 6, 10, torch.randn(SKIP)))
    assert torch.equal(*results)
