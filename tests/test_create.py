import json
import warnings
from dataclasses import replace

import pytest
import torch

import segcore
from segcore import (
    DecoderSpec,
    EncoderSpec,
    IncompatiblePartsError,
    OptionValueError,
    PluginError,
    UnknownNameError,
    UnknownOptionError,
    WeightsError,
)
from segcore.discovery import Catalogue
from segcore.testing import TinyDecoder, TinyEncoder

PROMISED = (3, 8, 16, 24, 32, 40)


@pytest.fixture
def tiny():
    segcore.encoders["tiny"] = EncoderSpec(
        "tiny", factory=TinyEncoder, out_channels=PROMISED, output_strides=(8, 16, 32), options={"width": 8}
    )
    segcore.decoders["tinydec"] = DecoderSpec("tinydec", factory=TinyDecoder, title="TinyDec")
    yield
    del segcore.encoders["tiny"]
    del segcore.decoders["tinydec"]


@pytest.mark.usefixtures("tiny")
class TestByName:
    def test_options_reach_the_parts_and_the_config_says_all(self):
        model = segcore.create_model("tinydec", "tiny", encoder_depth=4, decoder_channels=12, classes=3, in_channels=1)
        assert model.encoder.depth == 4
        assert model.decoder.out_channels == 12
        assert model(torch.rand(2, 1, 32, 48)).shape == (2, 3, 32, 48)
        config = json.loads(json.dumps(model.config))
        assert config["encoder"]["options"]["depth"] == 4
        assert config["decoder"] == {
            "name": "tinydec",
            "distribution": None,
            "version": None,
            "options": {"channels": 12},
        }
        assert (config["in_channels"], config["classes"]) == (1, 3)
        assert "width" not in config["encoder"]["options"]  # that is what makes the name

    def test_class_style(self):
        assert segcore.TinyDec("tiny", classes=2).config["classes"] == 2
        assert segcore.TinyDec.__name__ == "TinyDec"

    @pytest.mark.parametrize(
        ("wrong", "error", "says"),
        [
            ({"encoder_dept": 3}, UnknownOptionError, "Did you mean 'depth'"),
            ({"decoder_chanels": 3}, UnknownOptionError, "Did you mean 'channels'"),
            ({"clases": 3}, UnknownOptionError, "Did you mean 'classes'"),
            ({"depth": 3}, UnknownOptionError, "'encoder_depth'"),
            ({"encoder_width": 3}, UnknownOptionError, "what makes 'tiny'"),
            ({"classes": 0}, OptionValueError, "classes=0"),
            ({"classes": True}, OptionValueError, "whole number"),
            ({"classes": 2.0}, OptionValueError, "whole number"),
            ({"in_channels": 0}, OptionValueError, "in_channels=0"),
            ({"in_channels": "3"}, OptionValueError, "in_channels='3'"),
            ({"encoder_depth": 0}, OptionValueError, "encoder_depth=0"),
            ({"encoder_depth": 6}, OptionValueError, "depths 1 to 5"),
            ({"encoder_output_stride": 4}, OptionValueError, "8, 16, 32"),
            ({"activation": "sigmod"}, OptionValueError, "Did you mean 'sigmoid'"),
            ({"encoder_input_init": "repeated", "in_channels": 4}, OptionValueError, "repeat"),
            ({"aux_params": {}}, OptionValueError, "'classes'"),
            ({"aux_params": {"classes": 2, "pool": "avg"}}, UnknownOptionError, "Did you mean 'pooling'"),
            ({"aux_params": {"classes": 0}}, OptionValueError, "whole number"),
            ({"encoder_weights": "imagenet"}, WeightsError, "no published weights"),
            ({"encoder_weights": True}, WeightsError, "None means random"),
            ({"decoder": 3}, OptionValueError, "decoder=3"),
            ({"encoder": torch.nn.Identity()}, OptionValueError, "EncoderMixin"),
        ],
    )
    def test_wrong_arguments_end_at_once(self, wrong, error, says):
        with pytest.raises(error, match=says):
            segcore.create_model(**({"decoder": "tinydec", "encoder": "tiny"} | wrong))

    def test_parts_by_themselves(self):
        encoder = segcore.create_encoder("tiny", in_channels=2, depth=3)
        assert encoder.out_channels == (2, 8, 16, 24)
        for features in (encoder, encoder.feature_info):
            assert segcore.create_decoder("tinydec", features, channels=5).out_channels == 5

    def test_deprecated_names_say_what_to_use(self):
        segcore.encoders["old"] = EncoderSpec("old", factory=TinyEncoder, deprecated="use tiny")
        with pytest.warns(DeprecationWarning, match="'old' is deprecated: use tiny"):
            segcore.create_encoder("old")
        del segcore.encoders["old"]


def test_a_ready_encoder_keeps_its_channels():
    model = segcore.create_model(TinyDecoder, TinyEncoder(in_channels=5))
    assert model.config["in_channels"] == 5
    assert model.config["encoder"]["name"] is None
    with pytest.raises(UnknownOptionError, match="ready encoder takes no options"):
        segcore.create_model(TinyDecoder, TinyEncoder(), encoder_depth=3)


def test_a_lying_record_is_caught():
    for promise in (
        {"out_channels": (3, 9, 16, 24, 32, 40)},
        {"out_channels": PROMISED, "strides": (1, 2, 4, 8, 16, 64)},
    ):
        with pytest.raises(PluginError, match="promises channels") as caught:
            segcore.create_encoder(EncoderSpec("liar", factory=TinyEncoder, **promise))
        assert caught.value.phase == "contract"


def test_a_factory_that_returns_something_else():
    with pytest.raises(PluginError, match="must return a module with EncoderMixin"):
        segcore.create_encoder(EncoderSpec("odd", factory=torch.nn.Identity))


@pytest.mark.parametrize("factory", ["no_such_module:X", "segcore.testing:NoSuchClass"])
def test_a_factory_that_cannot_be_imported(factory):
    with pytest.raises(PluginError, match="cannot be built") as caught:
        segcore.create_encoder(EncoderSpec("gone", factory=factory, out_channels=(3, 8)))
    assert caught.value.phase == "build"
    assert caught.value.__cause__ is not None


def test_the_factorys_own_refusal_passes_unwrapped():
    def picky(depth=5):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        segcore.create_encoder(EncoderSpec("picky", factory=picky))


class Dilating(TinyDecoder):
    encoder_options = {"output_stride": 8, "depth": 4}


def test_a_decoders_wishes_count_unless_the_user_has_others():
    spec = EncoderSpec("tiny", factory=TinyEncoder, out_channels=PROMISED, output_strides=(8, 16, 32))
    assert segcore.create_model(Dilating, spec).encoder.strides == (1, 2, 4, 8, 8)
    assert segcore.create_model(Dilating, spec, encoder_output_stride=16).encoder.strides == (1, 2, 4, 8, 16)
    assert segcore.create_model(Dilating, spec, encoder_depth=5).encoder.depth == 5


def test_a_wish_that_the_encoder_cannot_grant_is_refused():
    class Rigid(TinyEncoder):
        def __init__(self, depth=5, in_channels=3):
            super().__init__(depth, in_channels)

    spec = EncoderSpec("rigid", factory=Rigid, out_channels=PROMISED)
    with pytest.raises(IncompatiblePartsError, match="output stride 8; 'rigid' has 32.*encoder_output_stride=32"):
        segcore.create_model(Dilating, spec)
    with pytest.raises(segcore.OptionValueError, match=r"encoder_output_stride=16: 'rigid' has 32\. \w+.* 16"):
        segcore.create_model(TinyDecoder, spec, encoder_output_stride=16)


def test_the_families_that_have_an_output_stride_are_named(monkeypatch):
    def listed(name, strides):
        return EncoderSpec(name, factory=TinyEncoder, out_channels=PROMISED, output_strides=strides)

    specs = [listed("wide_net50-b0", (8, 32)), listed("wide_net101", (8, 32)), listed("other", (32,))]
    specs += [listed(f"space/{letter}", (8, 16, 32)) for letter in "ab"]
    monkeypatch.setattr(segcore.encoders, "items_matching", lambda: [(spec.name, spec) for spec in specs])
    with pytest.raises(
        segcore.OptionValueError, match=r"'other' has 32\. Encoders that have 8: wide_net, 2 of 'space/\*'\.$"
    ):
        segcore.create_encoder(specs[2], output_stride=8)
    with pytest.raises(segcore.OptionValueError, match=r"No installed encoder has 4\."):
        segcore.create_encoder(specs[2], output_stride=4)


class Shallow(TinyEncoder):
    """Three stages, whatever depth it is asked for."""

    def __init__(self, depth=2, in_channels=3):
        super().__init__(depth, in_channels, strides=(1, 2, 4, 8))


class WishesDepth(TinyDecoder):
    encoder_options = {"depth": 5}


SHALLOW = [
    EncoderSpec("shallow", factory=Shallow),
    EncoderSpec("shallow", factory=Shallow, out_channels=(3, 8, 16, 24)),
]


@pytest.mark.parametrize("spec", SHALLOW, ids=["local", "with channels"])
class TestDepthsThatAnEncoderLacks:
    def test_asked_for_they_are_refused(self, spec):
        assert segcore.create_encoder(spec, depth=3).strides == (1, 2, 4, 8)
        for depth in (4, 5):
            with pytest.raises(OptionValueError, match=f"={depth}: 'shallow' has depths 1 to 3; .* has stride 8"):
                segcore.create_encoder(spec, depth=depth)
            with pytest.raises(OptionValueError, match="depths 1 to 3"):
                segcore.create_model(TinyDecoder, spec, encoder_depth=depth)

    def test_a_decoders_wish_is_cut_to_what_there_is(self, spec):
        model = segcore.create_model(WishesDepth, spec)
        assert (model.encoder.depth, model.encoder.strides) == (3, (1, 2, 4, 8))
        assert model.config["encoder"]["options"]["depth"] == 3

    def test_the_encoders_own_default_is_believed(self, spec):
        with_default = replace(spec, defaults={"depth": 5})
        assert segcore.create_encoder(with_default).strides == (1, 2, 4, 8)
        assert segcore.create_encoder(with_default, depth=5).strides == (1, 2, 4, 8)  # as a checkpoint says it
        with pytest.raises(OptionValueError, match="depths 1 to 3"):
            segcore.create_encoder(with_default, depth=4)


def test_levels_of_one_stride_have_every_depth():
    spec = EncoderSpec("vit", factory=TinyEncoder, options={"strides": (1, 16, 16)})
    assert segcore.create_encoder(spec, depth=4).strides == (1, 16, 16)


class TestNamesOfTheOtherKind:
    def test_swapped_arguments_are_recognised(self):
        for call in (
            lambda: segcore.create_model("resnet34", "unet"),
            lambda: segcore.create_model("resnet34", "decoders/unet"),
        ):
            with pytest.raises(
                UnknownNameError, match="'resnet34' is the name of an encoder. The arguments look swapped"
            ) as caught:
                call()
        assert str(caught.value).endswith("write create_model('decoders/unet', 'resnet34').")

    def test_so_they_are_where_nothing_is_installed(self, monkeypatch):
        for registry in (segcore.encoders, segcore.decoders):
            monkeypatch.setattr(registry, "_source", Catalogue(list))
        with pytest.raises(UnknownNameError, match=r"pip install .*swapped: write create_model\('unet', 'resnet34'\)"):
            segcore.create_model("resnet34", "unet")

    def test_one_name_of_the_other_kind_is_named(self):
        for call, hint in [
            (lambda: segcore.create_model("resnet34", "resnet18"), "'resnet34' is the name of an encoder.$"),
            (lambda: segcore.create_model("unet", "fpn"), "'fpn' is the name of a decoder.$"),
            (lambda: segcore.create_encoder("unet"), "'unet' is the name of a decoder.$"),
            (lambda: segcore.create_decoder("resnet18", TinyEncoder()), "'resnet18' is the name of an encoder.$"),
        ]:
            with pytest.raises(UnknownNameError, match=hint):
                call()

    def test_a_misspelt_name_is_still_only_that(self):
        with pytest.raises(UnknownNameError) as caught:
            segcore.create_model("unett", "resnet34")
        assert "is the name of" not in str(caught.value)


def test_a_local_class_that_says_nothing_of_output_strides_is_used_as_it_is():
    class Plain(TinyEncoder):
        def __init__(self, depth=5, in_channels=3):
            super().__init__(depth, in_channels)

    segcore.encoders["plain"] = Plain
    try:
        assert segcore.create_model(Dilating, "plain").encoder.strides == (1, 2, 4, 8, 16)
    finally:
        del segcore.encoders["plain"]


def test_a_local_recipe_with_keywords_gets_the_depth():
    class Keywords(TinyEncoder):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)

    segcore.encoders["keywords"] = {"encoder": Keywords, "params": {"depth": 3}}
    assert segcore.create_encoder("keywords").depth == 3
    assert segcore.create_encoder("keywords", depth=2).depth == 2
    del segcore.encoders["keywords"]


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segcore.create_model("unet", "resnet18")
