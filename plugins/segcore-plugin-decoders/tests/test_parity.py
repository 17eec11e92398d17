"""With legacy=True and the same weights, masks equal those of segmentation_models_pytorch 0.6.0."""

import pytest
import torch
from reference import difference

RESNET, RESNET34, FOUR = "resnet18", "resnet34", "tu-convnext_atto"
VIT = "tu-vit_tiny_patch16_224"

EXACT = [
    ("unet", RESNET, {}, {}),
    ("unet", RESNET34, {}, {}),
    ("unet", FOUR, {}, {}),
    ("unet", "vgg11_bn", {}, {"center": True}),
    ("unet", RESNET, {"decoder_attention_type": "scse"}, {"attention": "scse"}),
    ("unet", FOUR, {"decoder_attention_type": "scse"}, {"attention": "scse"}),
    ("unet", RESNET, {"decoder_use_norm": False}, {"norm": "identity"}),
    (
        "unet",
        RESNET,
        {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-2}},
        {"norm": {"type": "batchnorm", "eps": 1e-2}},
    ),
    ("unet", RESNET, {"decoder_interpolation": "bilinear"}, {"interpolation": "bilinear"}),
    ("unet", RESNET, {"decoder_interpolation": "bicubic"}, {"interpolation": "bicubic"}),
    ("unet", RESNET, {"encoder_depth": 1, "decoder_channels": (24,)}, {"channels": (24,)}),
    ("unet", RESNET, {"encoder_depth": 3, "decoder_channels": (64, 32, 16)}, {}),
    ("fpn", RESNET, {}, {}),
    ("fpn", RESNET34, {}, {}),
    ("fpn", FOUR, {}, {}),
    ("fpn", RESNET, {"decoder_merge_policy": "cat"}, {"merge_policy": "cat"}),
    ("fpn", RESNET, {"decoder_interpolation": "bilinear"}, {"interpolation": "bilinear"}),
    (
        "fpn",
        RESNET,
        {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32, "decoder_dropout": 0.5},
        {"pyramid_channels": 64, "segmentation_channels": 32, "dropout": 0.5},
    ),
    ("fpn", RESNET, {"encoder_depth": 4, "upsampling": 2}, {}),
    ("fpn", RESNET, {"encoder_depth": 3, "upsampling": 1}, {}),
    ("unetplusplus", RESNET, {}, {}),
    ("unetplusplus", RESNET34, {}, {}),
    ("unetplusplus", FOUR, {}, {}),
    ("unetplusplus", "vgg11_bn", {}, {"center": True}),
    ("unetplusplus", RESNET, {"decoder_attention_type": "scse"}, {"attention": "scse"}),
    ("unetplusplus", FOUR, {"decoder_attention_type": "scse"}, {"attention": "scse"}),
    ("unetplusplus", RESNET, {"decoder_use_norm": False}, {"norm": "identity"}),
    ("unetplusplus", RESNET, {"decoder_interpolation": "bilinear"}, {"interpolation": "bilinear"}),
    ("unetplusplus", RESNET, {"encoder_depth": 3, "decoder_channels": (64, 32, 16)}, {}),
    ("manet", RESNET, {}, {}),
    ("manet", RESNET34, {}, {}),
    ("manet", FOUR, {}, {}),
    (
        "manet",
        RESNET,
        {"decoder_use_norm": False, "decoder_pab_channels": 16},
        {"norm": "identity", "pab_channels": 16},
    ),
    ("manet", RESNET, {"decoder_interpolation": "bilinear"}, {"interpolation": "bilinear"}),
    ("manet", RESNET, {"encoder_depth": 3, "decoder_channels": (64, 32, 16)}, {}),
    ("linknet", RESNET, {}, {}),
    ("linknet", RESNET34, {}, {}),
    ("linknet", FOUR, {}, {}),
    ("linknet", RESNET, {"decoder_use_norm": False}, {"norm": "identity"}),
    ("linknet", RESNET, {"encoder_depth": 3}, {}),
    ("pspnet", RESNET, {}, {}),
    ("pspnet", RESNET34, {}, {}),
    ("pspnet", FOUR, {}, {}),
    ("pspnet", RESNET, {"decoder_use_norm": False, "psp_out_channels": 64}, {"norm": "identity", "psp_channels": 64}),
    ("pspnet", RESNET, {"encoder_depth": 5, "upsampling": 32, "psp_dropout": 0.5}, {"dropout": 0.5}),
    ("pan", RESNET, {"encoder_output_stride": 16}, {}),
    ("pan", RESNET34, {}, {}),
    ("pan", "tu-convnext_atto", {"encoder_output_stride": 16}, {}),
    ("pan", RESNET, {"encoder_output_stride": 32, "decoder_channels": 16}, {"channels": 16}),
    ("pan", RESNET, {"decoder_interpolation": "nearest"}, {"interpolation": "nearest"}),
    ("pan", RESNET, {"encoder_depth": 4}, {}),
    ("pan", RESNET, {"encoder_depth": 3}, {}),
    ("deeplabv3", RESNET, {}, {}),
    ("deeplabv3", RESNET34, {"encoder_output_stride": 16}, {}),
    ("deeplabv3", FOUR, {}, {}),
    ("deeplabv3", RESNET, {"decoder_aspp_separable": True}, {"aspp_separable": True}),
    (
        "deeplabv3",
        RESNET,
        {"decoder_atrous_rates": (2, 3, 4), "decoder_channels": 32, "decoder_aspp_dropout": 0.1},
        {"atrous_rates": (2, 3, 4), "channels": 32, "aspp_dropout": 0.1},
    ),
    ("deeplabv3", RESNET, {"encoder_depth": 3}, {}),
    ("deeplabv3plus", RESNET, {}, {}),
    ("deeplabv3plus", RESNET34, {"encoder_output_stride": 8}, {}),
    ("deeplabv3plus", FOUR, {}, {}),
    ("deeplabv3plus", RESNET, {"decoder_aspp_separable": False}, {"aspp_separable": False}),
    (
        "deeplabv3plus",
        RESNET,
        {"decoder_atrous_rates": (2, 3, 4), "decoder_channels": 32},
        {"atrous_rates": (2, 3, 4), "channels": 32},
    ),
    ("deeplabv3plus", RESNET, {"encoder_depth": 3}, {}),
    ("upernet", RESNET, {}, {}),
    ("upernet", RESNET34, {}, {}),
    ("upernet", FOUR, {}, {}),
    ("upernet", RESNET, {"decoder_use_norm": False, "decoder_channels": 32}, {"norm": "identity", "channels": 32}),
    ("upernet", RESNET, {"encoder_depth": 4}, {}),
    ("upernet", RESNET, {"encoder_depth": 3}, {}),
    ("dpt", VIT, {}, {}),
    ("dpt", VIT, {"decoder_readout": "add"}, {"readout": "add"}),
    ("dpt", VIT, {"decoder_readout": "ignore"}, {"readout": "ignore"}),
    (
        "dpt",
        VIT,
        {"decoder_intermediate_channels": (8, 16, 32, 32), "decoder_fusion_channels": 16},
        {"intermediate_channels": (8, 16, 32, 32), "fusion_channels": 16},
    ),
    (
        "dpt",
        VIT,
        {"encoder_depth": 3, "decoder_intermediate_channels": (8, 16, 32)},
        {"intermediate_channels": (8, 16, 32)},
    ),
    ("dpt", "tu-vit_tiny_r_s16_p8_224", {}, {}),
    ("dpt", "tu-vit_relpos_small_patch16_224", {}, {}),
    ("dpt", FOUR, {"decoder_readout": "ignore"}, {"readout": "ignore"}),
    ("dpt", "tu-resnet18", {"decoder_readout": "ignore"}, {"readout": "ignore"}),
    (
        "dpt",
        "tu-vit_small_patch16_36x1_224",
        {"encoder_depth": 1, "decoder_intermediate_channels": (8,)},
        {"intermediate_channels": (8,)},
    ),
]

CLOSE = [  # the projections are moved before the resize
    ("segformer", RESNET, {}, {}),
    ("segformer", RESNET34, {}, {}),
    ("segformer", FOUR, {}, {}),
    ("segformer", "mit_b0", {}, {}),
    ("segformer", RESNET, {"decoder_segmentation_channels": 64}, {"segmentation_channels": 64}),
    ("segformer", RESNET, {"encoder_depth": 4}, {}),
    ("segformer", RESNET, {"encoder_depth": 3}, {}),
]


@pytest.mark.filterwarnings("ignore:Encoder does not have prefix tokens")
@pytest.mark.parametrize(("name", "encoder", "theirs", "ours"), EXACT)
def test_equal(name, encoder, theirs, ours):
    size = 64 if name != "pan" else 12 * theirs.get("encoder_output_stride", 16)
    assert difference(name, encoder, size=size, ours=ours, **theirs) == 0


def test_instance_norm_is_close():
    """One kernel normalises groups of a channel, another instances: equal up to rounding."""
    norm = {"type": "instancenorm", "affine": True, "eps": 1e-4}
    assert difference("unet", RESNET, dtype=torch.float64, ours={"norm": norm}, decoder_use_norm=norm) <= 1e-13


@pytest.mark.parametrize(("name", "encoder", "theirs", "ours"), CLOSE)
def test_close(name, encoder, theirs, ours):
    assert difference(name, encoder, dtype=torch.float64, ours=ours, **theirs) <= 1e-13
    # float32: segmentation_models_pytorch itself lies up to 1.4e-6 from its float64 result, and so does this decoder
    assert difference(name, encoder, ours=ours, **theirs) <= 2.8e-6


def test_unet_is_equal_at_every_size():
    assert difference("unet", RESNET, size=50) == 0
