"""What cannot work is refused at construction, with what came, what was needed and what to do."""

import pytest
import torch
from reference import NAMES, decoder_class

from segcore import FeatureInfo, IncompatiblePartsError, InputError, OptionValueError

FIVE = FeatureInfo((3, 8, 8, 8, 8, 8), (1, 2, 4, 8, 16, 32))
VIT = FeatureInfo((3, 8, 8, 8, 8), (1, 16, 16, 16, 16), prefix_tokens=1)
PLAIN = FeatureInfo((3, 8, 8, 8, 8), (1, 16, 16, 16, 16))
ANY_MAP = {"pspnet", "deeplabv3", "dpt"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ANY_MAP])
def test_one_stride_for_all_maps(name):
    with pytest.raises(IncompatiblePartsError, match="encoder_neck='pyramid'"):
        decoder_class(name)(VIT)


@pytest.mark.parametrize("name", ["fpn", "pan", "upernet", "segformer", "deeplabv3plus"])
def test_too_shallow(name):
    with pytest.raises(IncompatiblePartsError, match="encoder_depth"):
        decoder_class(name)(FeatureInfo((3, 8, 8), (1, 2, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_no_map_below_the_image(name):
    with pytest.raises(IncompatiblePartsError):
        decoder_class(name)(FeatureInfo((3,), (1,)))


def test_no_map_of_stride_4():
    with pytest.raises(IncompatiblePartsError, match="strides 4"):
        decoder_class("deeplabv3plus")(FeatureInfo((3, 8, 8), (1, 8, 16)))


@pytest.mark.parametrize("readout", ["cat", "add"])
def test_no_class_token(readout):
    with pytest.raises(IncompatiblePartsError, match="decoder_readout='ignore'"):
        decoder_class("dpt")(PLAIN, readout=readout)


def test_scales_that_dpt_cannot_make():
    with pytest.raises(IncompatiblePartsError, match="powers of two"):
        decoder_class("dpt")(FeatureInfo((3, 8, 8), (1, 7, 14)), readout="ignore")


@pytest.mark.parametrize("name", ["pspnet", "deeplabv3", "upernet"])
def test_no_map_for_the_auxiliary_head(name):
    with pytest.raises(IncompatiblePartsError):
        decoder_class(name)(FeatureInfo((3, 8), (1, 4)), auxiliary=True)


def test_nothing_to_supervise():
    with pytest.raises(IncompatiblePartsError, match="deep_supervision"):
        decoder_class("unetplusplus")(FeatureInfo((3, 8, 8), (1, 2, 4)), deep_supervision=True)


@pytest.mark.parametrize("name", ["unet", "unetplusplus", "manet"])
def test_channels_for_another_number_of_blocks(name):
    with pytest.raises(OptionValueError, match=r"needs 5, one per\s+block producing stride 16, 8, 4, 2, 1"):
        decoder_class(name)(FIVE, channels=(64, 32))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"norm": "batch"}),
        ("unet", {"norm": {"type": "batch"}}),
        ("unet", {"norm": {"type": "batchnorm", "eps": "0.1"}}),
        ("fpn", {"norm": {"type": "groupnorm", "groups": 7}}),
        ("unet", {"channels": "64"}),
        ("unet", {"attention": "se"}),
        ("unet", {"interpolation": "cubic"}),
        ("unet", {"channels": (64, 32, 16, 8, 0)}),
        ("unetplusplus", {"attention": "se"}),
        ("manet", {"pab_channels": 0}),
        ("linknet", {"channels": -1}),
        ("fpn", {"merge_policy": "mean"}),
        ("fpn", {"dropout": 1.0}),
        ("fpn", {"pyramid_channels": 0}),
        ("pspnet", {"psp_channels": 2.5}),
        ("pan", {"interpolation": "linear"}),
        ("deeplabv3", {"atrous_rates": (6, 12)}),
        ("deeplabv3plus", {"atrous_rates": (6, 12, 0)}),
        ("deeplabv3plus", {"aspp_dropout": -0.1}),
        ("upernet", {"channels": True}),
        ("segformer", {"segmentation_channels": 0}),
    ],
)
def test_values_out_of_range(name, options):
    with pytest.raises(OptionValueError, match=next(iter(options))):
        decoder_class(name)(FIVE, **options)


def test_unknown_argument_of_a_norm():
    with pytest.raises(OptionValueError, match=r"argument of batchnorm='epsilon' is unknown; it is one of 'eps'"):
        decoder_class("unet")(FIVE, norm={"type": "batchnorm", "epsilon": 1e-3})


def test_values_out_of_range_for_dpt():
    with pytest.raises(OptionValueError, match="readout"):
        decoder_class("dpt")(VIT, readout="mean")
    with pytest.raises(OptionValueError, match="needs 4"):
        decoder_class("dpt")(VIT, intermediate_channels=(8, 8))


def test_an_image_too_small_for_legacy_pan():
    decoder = decoder_class("pan")(FeatureInfo((3, 8, 8, 8, 8), (1, 2, 4, 8, 16)), legacy=True)
    features = [torch.randn(1, 3, 96, 256), *(torch.randn(1, 8, 96 // s, 256 // s) for s in (2, 4, 8, 16))]
    with pytest.raises(InputError, match="128x128 pixels, got 96x256"):
        decoder(features)
