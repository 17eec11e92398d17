"""With legacy=True and the same weights, masks equal those of segmentation_models_pytorch 0.6.0."""

import pytest
from reference import difference

RESNET, RESNET34, FOUR = "resnet18", "resnet34", "tu-convnext_atto"
TOLERANCE = 1e-6  # where the order of operations differs; 0 elsewhere

EXACT = [
    ("unet", RESNET, {}, {}),
    ("unet", RESNET34, {}, {}),
    ("unet", FOUR, {}, {}),
    ("unet", "vgg11_bn", {}, {"center": True}),
    ("unet", RESNET, {"decoder_attention_type": "scse"}, {"attention": "scse"}),
    ("unet", FOUR, {"decoder_attention_type": "scse"}, {"attention": "scse"}),
    ("unet", RESNET, {"decoder_use_norm": False}, {"norm": "identity"}),
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
]


@pytest.mark.parametrize(("name", "encoder", "theirs", "ours"), EXACT)
def test_equal(name, encoder, theirs, ours):
    assert difference(name, encoder, ours=ours, **theirs) == 0
