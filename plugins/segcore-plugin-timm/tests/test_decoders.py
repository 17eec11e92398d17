"""Networks of every kind that timm has, by name, under three decoders: what comes out has the size of the image."""

from collections import Counter

import pytest
import torch

import segcore

slow = pytest.mark.slow

QUICK = {
    "convnext_atto": {},
    "eva02_tiny_patch14_224": {},
    "lcnet_035": {},
    "levit_128s": {"img_size": (96, 128)},
    "pit_ti_224": {"img_size": 96},
    "vit_tiny_patch16_224": {},
}
SLOW = {
    "beit_base_patch16_224": {"img_size": 64},
    "cait_xxs24_224": {"img_size": 64},
    "coat_lite_tiny": {"img_size": 64},
    "convmixer_768_32": {},
    "crossvit_tiny_240": {},
    "csatv2": {},
    "cspresnet50": {},
    "davit_tiny": {},
    "tu-densenet121": {},
    "dla34": {},
    "tu-dpn68": {},
    "edgenext_xx_small": {},
    "efficientformer_l1": {},
    "efficientformerv2_s0": {},
    "efficientnet_b0": {},
    "efficientvim_m1": {},
    "efficientvit_m0": {},
    "fastvit_t8": {},
    "focalnet_tiny_srf": {},
    "gcvit_xxtiny": {"img_size": 64},
    "ghostnet_050": {},
    "gmixer_24_224": {"img_size": 64},
    "halonet26t": {},
    "hgnetv2_b0": {},
    "hiera_tiny_224": {"img_size": 64},
    "hrnet_w18_small": {},
    "inception_v3": {},
    "inception_v4": {},
    "legacy_xception": {},
    "mambaout_femto": {},
    "maxvit_pico_rw_256": {"img_size": 128},
    "mixer_s16_224": {"img_size": 64},
    "mixnet_s": {},
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_050": {},
    "tu-mobileone_s0": {},
    "mobilevit_xxs": {},
    "mobilevitv2_050": {},
    "mvitv2_tiny": {},
    "nasnetalarge": {"depth": 3},
    "nest_tiny_jx": {},
    "nf_resnet26": {},
    "poolformer_s12": {},
    "pvt_v2_b0": {},
    "regnetx_002": {},
    "repvit_m0_9": {},
    "res2net50_14w_8s": {},
    "resnest14d": {},
    "resnet18": {},
    "rexnet_100": {},
    "samvit_base_patch16_224": {},
    "sedarknet21": {},
    "selecsls42b": {},
    "sequencer2d_s": {},
    "shvit_s1": {},
    "skresnet18": {},
    "swin_tiny_patch4_window7_224": {},
    "swinv2_cr_tiny_ns_224": {},
    "tiny_vit_5m_224": {},
    "tinynet_e": {},
    "tnt_s_legacy_patch16_224": {"img_size": 64},
    "tresnet_m": {},
    "twins_svt_small": {},
    "tu-vgg11": {},
    "visformer_tiny": {"img_size": 96},
    "vit_medium_patch16_rope_reg1_gap_256": {},
    "vit_relpos_small_patch16_224": {"img_size": 64},
    "vit_small_patch14_dinov2": {},
    "vit_small_patch16_dinov3": {},
    "vit_tiny_r_s16_p8_224": {},
    "vitamin_small_224": {},
    "volo_d1_224": {"img_size": 96},
    "vovnet39a": {},
    "xception41": {},
    "xcit_nano_12_p8_224": {},
}
CASES = list(QUICK.items())
CASES += [pytest.param(name, options, marks=slow) for name, options in SLOW.items()]


def test_the_sample_has_every_kind():
    assert len(CASES) >= 60
    specs = [segcore.encoders[qualified(name)] for name in QUICK | SLOW]
    listed = dict(segcore.encoders.items_matching("timm/*")).values()
    count = Counter(spec.nominal_strides for spec in listed)
    assert {spec.nominal_strides for spec in specs} >= {strides for strides, number in count.items() if number > 20}


def qualified(name):
    return name if name.startswith("tu-") else f"timm/{name}"


@pytest.mark.parametrize(("name", "options"), CASES)
def test_it_is_built_and_run_with_three_decoders(name, options):
    spec = segcore.encoders[qualified(name)]
    given = {f"encoder_{key}": value for key, value in options.items()}
    if len(set(spec.nominal_strides[1:])) == 1:
        given |= {"encoder_neck": "pyramid", "encoder_neck_channels": 16}
    for decoder in ("unet", "fpn", "segformer"):
        model = segcore.create_model(decoder, spec, classes=2, **given).eval()
        network = model.encoder.encoder if "encoder_neck" in given else model.encoder
        size = network._image_size or (75, 101)
        with torch.no_grad():
            mask = model(torch.rand(1, 3, *size))
        assert mask.shape == (1, 2, *size)
        assert mask.isfinite().all()
