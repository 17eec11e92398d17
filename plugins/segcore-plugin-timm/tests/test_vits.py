"""Plain ViTs: every pyramid decoder over the neck, DPT without it, any size of image, and what is refused."""

import pytest
import torch

import segcore

DECODERS = sorted(
    name
    for name, spec in segcore.decoders.items_matching()
    if spec.provenance.distribution == "segcore-plugin-decoders" and name != "dpt"
)
SMALL = {14: "timm/eva02_tiny_patch14_224", 16: "timm/vit_tiny_patch16_224"}
BACKBONES = [
    "timm/vit_small_patch14_dinov2.lvd142m",
    "timm/vit_small_patch14_reg4_dinov2",
    "timm/vit_small_patch16_dinov3",
    "timm/samvit_base_patch16_224",
    "timm/vit_base_patch16_clip_224.openai",
    "timm/vit_base_patch16_224.mae",
]


def check(model, size, channels=3):
    with torch.no_grad():
        mask = model.eval()(torch.rand(2, channels, *size))
    assert mask.shape == (2, 1, *size)
    assert mask.isfinite().all()


def test_the_list_of_decoders_is_not_empty():
    assert {"unet", "fpn", "upernet", "segformer", "deeplabv3plus"} <= set(DECODERS)


@pytest.mark.parametrize("patch", SMALL)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_takes_a_vit_with_a_neck(decoder, patch):
    model = segcore.create_model(decoder, SMALL[patch], encoder_neck="pyramid", encoder_neck_channels=16)
    assert set(model.encoder.strides) <= {1, 4, 8, 16, 32}
    check(model, (51, 70))


@pytest.mark.parametrize("decoder", ["unet", "fpn", "unetplusplus", "linknet", "manet", "upernet", "segformer"])
def test_without_the_neck_it_is_refused_with_the_option(decoder):
    with pytest.raises(segcore.IncompatiblePartsError, match=r"stride 16.*encoder_neck='pyramid'"):
        segcore.create_model(decoder, SMALL[16])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm/vit_tiny_patch16_224", (40, 75)),
        ("timm/eva02_tiny_patch14_224", (43, 70)),
        pytest.param("timm/vit_small_patch14_dinov2", (56, 42), marks=pytest.mark.slow),
        pytest.param("timm/vit_small_patch14_reg4_dinov2", (51, 64), marks=pytest.mark.slow),
        pytest.param("timm/vit_small_patch16_dinov3", (51, 64), marks=pytest.mark.slow),
        pytest.param("timm/samvit_base_patch16_224", (51, 64), marks=pytest.mark.slow),
    ],
)
def test_dpt_takes_vits_directly(name, size):
    with torch.device("meta"):
        tokens = segcore.create_encoder(name).feature_info.prefix_tokens
    model = segcore.create_model("dpt", name, decoder_readout="cat" if tokens else "ignore")
    assert len(set(model.encoder.strides[1:])) == 1
    check(model, size)


@pytest.mark.parametrize("name", [*SMALL.values(), *(pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES)])
def test_the_backbones_that_people_ask_for_at_any_size(name):
    encoder = segcore.create_encoder(name, neck="pyramid", in_channels=4)
    for decoder in ("unet", "fpn", "upernet", "segformer"):
        for size in ((64, 64), (33, 85)):
            check(segcore.create_model(decoder, encoder), size, channels=4)


def test_every_parameter_of_a_vit_under_a_neck_learns():
    model = segcore.create_model("unet", SMALL[14], encoder_neck="pyramid", encoder_neck_channels=8).train()
    model(torch.rand(2, 3, 42, 42)).square().mean().backward()
    dead = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert dead == []
