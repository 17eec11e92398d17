"""What holds for all twelve: sizes, gradients, norms, single images; and what each does that SMP does not."""

import itertools
import subprocess
import sys

import pytest
import torch
from reference import NAMES, build, decoder_class
from segcore_plugin_decoders import segcore_specs

import segcore
from segcore import FeatureInfo, SegmentationModel, create_decoder
from segcore.testing import TinyEncoder

SHAPES = {
    "five levels": {},
    "four levels": {"strides": (1, 4, 8, 16, 32)},
    "stem": {"stem": True},
    "stride 16": {"output_stride": 16},
    "stride 8": {"output_stride": 8},
    "plain": {"strides": (1, 16, 16, 16, 16), "prefix_tokens": 2},
}
SMALL = {"dpt": {"intermediate_channels": (8, 8, 8, 8), "fusion_channels": 8}}
WITH_NORM = [name for name in NAMES if name not in {"pan", "dpt"}]


def model(name, shape=None, options=None, depth=None):
    torch.manual_seed(0)
    chosen = dict(SHAPES[shape or ("plain" if name == "dpt" else "five levels")])
    if depth is not None:
        chosen["depth"] = depth
    encoder = TinyEncoder(**chosen)
    decoder = create_decoder(decoder_class(name), encoder, **(SMALL.get(name, {}) | (options or {})))
    return SegmentationModel(encoder, decoder, decoder.default_head(2))


def shapes_of(name):
    if name == "dpt":
        return ["plain"]
    return [shape for shape in SHAPES if shape != "plain" or name in {"pspnet", "deeplabv3"}]


def test_the_listing_has_the_twelve():
    titles = "Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet Segformer DPT"
    assert " ".join(spec.title for spec in segcore_specs()) == titles


def test_the_listing_imports_no_torch():
    code = "import sys, segcore_plugin_decoders as p; list(p.segcore_specs()); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in NAMES for shape in shapes_of(name)])
@torch.inference_mode()
def test_every_size(name, shape):
    network = model(name, shape).eval()
    for height, width in ((1, 1), (2, 9), (33, 31), (50, 75)):
        mask = network(torch.randn(1, 3, height, width))
        assert mask.shape == (1, 2, height, width)
        assert torch.isfinite(mask).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dpt"])
@torch.inference_mode()
def test_maps_rounded_down(name):
    """Encoders that pool without padding give maps of the size rounded down."""
    info = FeatureInfo((3, 8, 8, 8, 8, 8), (1, 2, 4, 8, 16, 32))
    decoder, head = build(name, info)
    features = [torch.randn(1, c, 93 // s, 101 // s) for c, s in zip(info.channels, info.strides, strict=True)]
    assert head(decoder(features), (93, 101)).shape == (1, 3, 93, 101)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_every_depth(name):
    least = {"fpn": 3, "upernet": 3, "segformer": 3, "pan": 3, "deeplabv3plus": 3, "dpt": 2}.get(name, 1)
    for depth in range(least, 6):
        shape = "five levels" if name != "dpt" else None
        options = {"readout": "ignore", "intermediate_channels": None} if name == "dpt" else {}
        network = model(name, shape or "five levels", options, depth).eval()
        assert network(torch.randn(1, 3, 40, 56)).shape == (1, 2, 40, 56)


OPTIONS = [
    *[(name, {"norm": norm}) for name in WITH_NORM for norm in ("groupnorm", "layernorm", "instancenorm", "identity")],
    ("unet", {"attention": "scse"}),
    ("unet", {"center": True}),
    ("unetplusplus", {"attention": "scse"}),
    ("unetplusplus", {"center": True}),
    ("unetplusplus", {"deep_supervision": True}),
    ("fpn", {"merge_policy": "cat"}),
    ("fpn", {"norm": "batchnorm"}),
    ("pspnet", {"auxiliary": True}),
    ("deeplabv3", {"auxiliary": True, "aspp_separable": True}),
    ("deeplabv3plus", {"aspp_separable": False}),
    ("upernet", {"auxiliary": True}),
    ("segformer", {"dropout": 0.1}),
    ("dpt", {"readout": "add"}),
    ("dpt", {"readout": "ignore"}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_every_parameter_learns_from_one_image(name, options):
    network = model(name, options=options).train()
    masks = network(torch.randn(1, 3, 64, 96))
    loss = sum(mask.square().mean() for mask in (masks.values() if isinstance(masks, dict) else [masks]))
    loss.backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []
    assert network.eval()(torch.randn(2, 3, 40, 72)).shape == (2, 2, 40, 72)


@pytest.mark.parametrize("name", WITH_NORM)
def test_norms_are_used(name):
    """The option reaches every norm: nothing but the asked kind is built."""
    decoder, _ = build(name, FeatureInfo((3, 8, 16, 24, 32, 64), (1, 2, 4, 8, 16, 32)), norm="layernorm")
    kinds = {type(layer).__name__ for layer in decoder.modules() if "Norm" in type(layer).__name__}
    assert kinds - {"ConvNormReLU"} == {"LayerNorm"}


@pytest.mark.parametrize("name", ["pan", "pspnet", "deeplabv3", "deeplabv3plus", "upernet"])
def test_pooling_to_one_pixel_trains_with_one_image(name):
    decoder = decoder_class(name)(FeatureInfo((3, 8, 8, 8, 8, 8), (1, 2, 4, 8, 16, 16))).train()
    decoder([torch.randn(1, c, 32 // s, 48 // s) for c, s in [(3, 1), (8, 2), (8, 4), (8, 8), (8, 16), (8, 16)]])


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("unetplusplus", {"deep_supervision": True}, 3),
        ("pspnet", {"auxiliary": True}, 1),
        ("deeplabv3", {"auxiliary": True}, 1),
        ("upernet", {"auxiliary": True}, 1),
    ],
)
def test_auxiliary_masks_in_training_only(name, options, count):
    network = model(name, options=options)
    masks = network(torch.randn(2, 3, 64, 96))
    assert list(masks) == ["logits", *(f"aux_{index}" for index in range(count))]
    assert {mask.shape for mask in masks.values()} == {(2, 2, 64, 96)}
    assert network.eval()(torch.randn(2, 3, 64, 96)).shape == (2, 2, 64, 96)
    plain = model(name)
    assert set(plain.state_dict()) <= set(network.state_dict())


def test_channels_follow_from_the_strides():
    for name, depth in itertools.product(("unet", "manet", "unetplusplus"), (3, 5)):
        network = model(name, depth=depth)
        assert network.decoder.out_channels == 16
    network = model("unet", "stride 8")
    assert [block.conv1[0].out_channels for block in network.decoder.blocks] == [128, 128, 64, 32, 16]


@torch.inference_mode()
def test_manet_attends_pixel_by_pixel():
    decoder, _ = build("manet", FeatureInfo((3, 6), (1, 2)), pab_channels=4)
    center, x = decoder.center, torch.randn(2, 6, 3, 5)
    query, key, value = (layer(x).flatten(2) for layer in (center.center_conv, center.top_conv, center.bottom_conv))
    wanted = torch.zeros(2, 6, 15)
    for pixel in range(15):
        weights = torch.softmax((query[:, :, pixel, None] * key).sum(1), dim=1)  # (N, HW), one softmax per pixel
        wanted[:, :, pixel] = (weights[:, None] * value).sum(2)
    torch.testing.assert_close(center(x), center.out_conv(x + wanted.view_as(x)))


@torch.inference_mode()
def test_segformer_equals_its_definition():
    info = FeatureInfo((3, 8, 12, 16), (1, 4, 8, 16))
    decoder, _ = build("segformer", info, segmentation_channels=10)
    features = [torch.randn(2, c, -(-50 // s), -(-75 // s)) for c, s in zip(info.channels, info.strides, strict=True)]
    maps = []
    for stage, x in zip(decoder.mlp_stage, features[:0:-1], strict=True):
        projected = stage["linear"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        maps.append(torch.nn.functional.interpolate(projected, size=features[1].shape[-2:], mode="bilinear"))
    torch.testing.assert_close(decoder(features), decoder.fuse_stage(torch.cat(maps, dim=1)))


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
@pytest.mark.parametrize("grid", [(1, 1), (5, 7), (6, 6)])
@torch.inference_mode()
def test_dpt_takes_every_patch_size(patch, grid):
    info = FeatureInfo((3, 12, 12, 12, 12), (1, patch, patch, patch, patch), prefix_tokens=5)
    decoder, head = build("dpt", info, **SMALL["dpt"])
    image = [side * patch for side in grid]
    features = [torch.randn(1, 3, *image), *(torch.randn(1, 12, *grid) for _ in range(4))]
    decoded = decoder(features, [torch.randn(1, 5, 12) for _ in range(4)])
    assert decoded.shape[-2:] == tuple(8 * side for side in grid)
    assert decoder.output_stride == max(1, round(patch / 8))
    assert head(decoded, image).shape == (1, 3, *image)


@torch.inference_mode()
def test_dpt_reads_the_class_token_only():
    info = FeatureInfo((3, 12, 12, 12, 12), (1, 16, 16, 16, 16), prefix_tokens=3)
    features = [torch.randn(1, 3, 32, 32), *(torch.randn(1, 12, 2, 2) for _ in range(4))]
    prefix = [torch.randn(1, 3, 12) for _ in range(4)]
    for readout in ("cat", "add"):
        decoder, _ = build("dpt", info, readout=readout, **SMALL["dpt"])
        others = [torch.cat([tokens[:, :1], torch.randn(1, 2, 12)], dim=1) for tokens in prefix]
        classes = [torch.cat([torch.randn(1, 1, 12), tokens[:, 1:]], dim=1) for tokens in prefix]
        assert torch.equal(decoder(features, prefix), decoder(features, others))
        assert not torch.equal(decoder(features, prefix), decoder(features, classes))


def test_dpt_reads_the_class_token_where_there_is_one():
    with_token, without = (FeatureInfo((3, 12, 12, 12, 12), (1, 16, 16, 16, 16), tokens) for tokens in (1, 0))
    for info, options, same in [
        (with_token, {}, "cat"),
        (without, {}, "ignore"),
        (without, {"legacy": True}, "cat"),
    ]:
        decoder, _ = build("dpt", info, **options, **SMALL["dpt"])
        explicit, _ = build("dpt", info, readout=same, **options, **SMALL["dpt"])
        assert decoder.reads_prefix_tokens is (info is with_token)
        shapes = {key: value.shape for key, value in decoder.state_dict().items()}
        assert shapes == {key: value.shape for key, value in explicit.state_dict().items()}


def test_dpt_builds_no_unit_that_the_reference_skips():
    info = FeatureInfo((3, 12, 12, 12, 12), (1, 16, 16, 16, 16), prefix_tokens=1)
    unit = "fusion_blocks.0.residual_conv_block1.conv_1.weight"
    assert unit not in build("dpt", info)[0].state_dict()
    assert unit in build("dpt", info, legacy=True)[0].state_dict()


def test_what_decoders_ask_of_the_encoder():
    asked = {name: dict(decoder_class(name).encoder_defaults({"legacy": False})) for name in NAMES}
    assert {name: wish for name, wish in asked.items() if wish} == {
        "pspnet": {"output_stride": 8},
        "deeplabv3": {"output_stride": 8},
        "deeplabv3plus": {"output_stride": 16},
        "pan": {"output_stride": 16},
        "dpt": {"depth": 4},
    }
    assert dict(decoder_class("pspnet").encoder_defaults({"legacy": True})) == {"depth": 3}


def test_rates_follow_the_output_stride():
    for name, stride, legacy, rates in [
        ("deeplabv3plus", 16, False, [6, 12, 18]),
        ("deeplabv3plus", 8, False, [12, 24, 36]),
        ("deeplabv3plus", 16, True, [12, 24, 36]),
        ("deeplabv3", 8, False, [12, 24, 36]),
        ("deeplabv3", 16, False, [6, 12, 18]),
    ]:
        info = FeatureInfo((3, 8, 8, 8, 8, 8), (1, 2, 4, 8, min(16, stride), stride))
        decoder, _ = build(name, info, legacy=legacy, aspp_separable=False)
        aspp = decoder.aspp if name == "deeplabv3" else decoder.aspp[0]
        assert [conv[0].dilation[0] for conv in list(aspp.convs)[1:4]] == rates


def test_heads_are_aligned_unless_legacy():
    for name in NAMES:
        decoders = [
            build(name, TinyEncoder(**SHAPES["plain" if name == "dpt" else "five levels"]).feature_info, legacy=legacy)[
                0
            ]
            for legacy in (False, True)
        ]
        assert [decoder.head_align_corners for decoder in decoders] == [name == "dpt", True]


def test_models_by_name():
    network = segcore.create_model("unet", TinyEncoder(depth=4), classes=3, decoder_norm="groupnorm")
    assert network.config["decoder"]["name"] == "decoders/unet"
    assert network.config["decoder"]["options"]["norm"] == "groupnorm"
    assert network(torch.randn(1, 3, 33, 44)).shape == (1, 3, 33, 44)
    network = segcore.PSPNet(TinyEncoder(output_stride=8), classes=3)
    assert network.decoder.output_stride == 8
