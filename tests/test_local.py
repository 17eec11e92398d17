"""Local registration: rows 41 and 42 of the table of failures, both documented styles, and every malformed form."""

import functools
import hashlib
import itertools
import re
import threading

import pytest
import safetensors.torch
import torch

import segcore
from segcore import (
    Decoder,
    DecoderSpec,
    EncoderSpec,
    LossSpec,
    NameTakenError,
    Provenance,
    UnknownNameError,
    Weights,
    WeightsError,
    create_encoder,
)
from segcore.local import spec_from
from segcore.testing import TinyDecoder, TinyEncoder
from tests.fake_plugins import decoder, encoder, fake_site, listing

URL = "https://example.org/x.safetensors"


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        yield made


class Mine(TinyEncoder):
    """An encoder as users write them."""


def test_class_alone(site):
    site.encoders["mine"] = Mine
    spec = site.encoders["mine"]
    assert (spec.name, spec.factory, spec.out_channels) == ("mine", Mine, None)
    assert spec.provenance == Provenance("local")
    assert isinstance(create_encoder(spec, depth=3), Mine)
    site.check_neighbours()


def test_mapping_as_the_documentation_shows(site):
    site.encoders["mine"] = {
        "encoder": Mine,
        "pretrained_settings": {
            "imagenet": {
                "mean": [0.4, 0.5, 0.6],
                "std": [0.2, 0.2, 0.2],
                "url": URL,
                "input_space": "BGR",
                "input_range": [0, 255],
            },
            "hub": {
                "repo_id": "me/mine",
                "revision": "b" * 40,
                "license": "MIT",
                "input_size": [3, 8, 8],
                "num_classes": 1000,
            },
        },
        "params": {"width": 16},
    }
    spec = site.encoders["mine"]
    assert dict(spec.defaults) == {"width": 16}
    assert spec.weights["imagenet"] == Weights(
        url=URL,
        license="unknown",
        source=URL,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.2, 0.2),
        input_range=(0, 255),
        input_space="BGR",
    )
    assert spec.weights["hub"].url == "hf://me/mine/model.safetensors"
    assert (spec.weights["hub"].license, spec.weights["hub"].mean) == ("MIT", (0.485, 0.456, 0.406))
    assert create_encoder(spec).out_channels == (3, 16, 24, 32, 40, 48)
    site.check_neighbours()


def test_mapping_with_the_class_alone_or_empty_values(site):
    for value in (
        {"encoder": Mine},
        {"encoder": Mine, "params": None, "pretrained_settings": None},
        {"encoder": Mine, "params": {}},
    ):
        site.encoders["mine"] = value
        assert (dict(site.encoders["mine"].defaults), dict(site.encoders["mine"].weights)) == ({}, {})


def test_record_function_and_partial(site):
    record = EncoderSpec("mine", factory=Mine, aliases=("my",), out_channels=(3, 8))
    assert site.encoders.register(record) is site.encoders["my"]
    site.encoders["other"] = record
    assert site.encoders["other"].name == "other"
    assert site.encoders["mine"].factory is Mine
    site.encoders["function"] = functools.partial(Mine, width=16)
    assert create_encoder(site.encoders["function"], depth=2).out_channels == (3, 16, 24)
    site.encoders.register(Mine, name="named")
    assert site.encoders.names("*") == ["aaa-net", "function", "mine", "named", "other", "zzz-net"]
    assert "my" in site.encoders


def test_decoders_and_titles(site):
    site.decoders["mine"] = TinyDecoder
    site.decoders["other"] = {"decoder": TinyDecoder, "params": {"channels": 4}, "title": "Other"}
    assert site.decoders.by_title("Other").name == "other"
    assert site.decoders["mine"].title is None
    assert issubclass(site.decoders["mine"].factory, Decoder)
    assert type(spec_from("loss", "mine", {"loss": dict})) is LossSpec


MALFORMED = [
    (({"encoder": Mine},), ["is a tuple: remove the comma behind the closing brace"]),
    ((), ["encoders['mine'] takes a class", "It is a tuple"]),
    ({"encoder": Mine, "parms": {}}, ["unknown key 'parms'", "'encoder', 'params', 'pretrained_settings'", "Did you mean 'params'?"]),
    ({"Encoder": Mine}, ["unknown key 'Encoder'", "Did you mean 'encoder'?"]),
    ({3: Mine}, ["unknown key 3"]),
    ({"encoder": Mine, "title": "Mine"}, ["unknown key 'title'"]),
    ({"decoder": Mine}, ["unknown key 'decoder'", "Did you mean 'encoder'?"]),
    ({}, ["the key 'encoder' must hold the class, got None"]),
    ({"params": {}}, ["the key 'encoder' must hold the class, got None"]),
    ({"encoder": "mine.module:Mine"}, ["must hold the class, got 'mine.module:Mine'"]),
    ({"encoder": Mine, "params": [1]}, ["'params' must be a mapping of arguments, got [1]"]),
    ({"encoder": Mine, "params": []}, ["'params' must be a mapping of arguments, got []"]),
    ({"encoder": Mine, "params": {"x": print}}, ["must be JSON-able"]),
    ({"encoder": Mine, "params": {1: 2}}, ["must be a mapping from names to values"]),
    ({"encoder": Mine, "params": {"x": float("nan")}}, ["must be JSON-able"]),
    ({"encoder": Mine, "pretrained_settings": [1]}, ["'pretrained_settings' must be a mapping by tag"]),
    ({"encoder": Mine, "pretrained_settings": {"w": URL}}, ["pretrained_settings['w'] must be a mapping"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {}}}, ["needs 'url', or 'repo_id' and 'revision'"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": 3}}}, ["needs 'url'"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"ulr": URL}}}, ["unknown key 'ulr'", "Did you mean 'url'?"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": "https://x.org/x.pth"}}}, ["must be a .safetensors file"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "mean": 0.5}}}, ["mean and std must be tuples", "0.5"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "mean": [0.5]}}}, ["one number per channel"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "mean": []}}}, ["one number per channel"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "std": ["a", "b", "c"]}}}, ["one number per channel"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "std": [0, 1, 1]}}}, ["mean and std"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "sha256": 5}}}, ["sha256 must be 64 hexadecimal digits"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "revision": "main"}}}, ["revision must be 40"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "input_range": 255}}}, ["input_range must be a tuple"]),
    ({"encoder": Mine, "pretrained_settings": {"w": {"url": URL, "input_space": "rgb"}}}, ["input_space must be 'RGB' or 'BGR'"]),
    ({"encoder": Mine, "pretrained_settings": {3: {"url": URL}}}, ["weights 3 of 'mine'"]),
    (None, ["takes a class, an instance of EncoderSpec or a mapping", "got None"]),
    ("segcore.testing:TinyEncoder", ["takes a class", "got 'segcore.testing:TinyEncoder'"]),
    ([Mine], ["takes a class"]),
    (3, ["takes a class", "got 3"]),
    (DecoderSpec("mine", factory=TinyDecoder), ["encoders['mine'] takes an instance of EncoderSpec, got a DecoderSpec"]),
    (EncoderSpec("mine", factory=None), ["factory of 'mine' must be"]),
    (EncoderSpec("mine", factory=Mine, aliases=["my"]), ["aliases of 'mine' must be a tuple of names, got ['my']"]),
    (EncoderSpec("mine", factory=Mine, aliases=({},)), ["got {}"]),
    (EncoderSpec("mine", factory=Mine, out_channels=[3, 8]), ["out_channels of 'mine' must be a tuple"]),
    (EncoderSpec("mine", factory=Mine, output_strides=32), ["output_strides of 'mine' must be a tuple"]),
    (EncoderSpec("mine", factory=Mine, strides=(1, 2), out_channels=(3,)), ["must be parallel"]),
    (EncoderSpec("mine", factory=Mine, strides=("1",)), ["strides of 'mine' must be a tuple"]),
    (EncoderSpec("mine", factory=Mine, in_channels="3"), ["in_channels of 'mine' must be a positive whole number, got '3'"]),
    (EncoderSpec("mine", factory=Mine, size_multiple=True), ["size_multiple of 'mine' must be"]),
    (EncoderSpec("mine", factory=Mine, deprecated=True), ["deprecated of 'mine' must be a text, got True"]),
    (EncoderSpec("mine", factory=Mine, weights=[("w", None)]), ["weights of 'mine' must be a mapping"]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "parts"), MALFORMED, ids=[str(number) for number in range(len(MALFORMED))])
def test_row_41_malformed_registration(site, value, parts):
    with pytest.raises(TypeError) as caught:
        site.encoders["mine"] = value
    for part in parts:
        assert part in str(caught.value), (part, str(caught.value))
    with pytest.raises(TypeError):
        site.encoders.register(value, name="mine")
    assert "mine" not in site.encoders
    site.check_neighbours()


def test_row_41_trailing_comma_as_it_happens(site):
    encoders = site.encoders
    with pytest.raises(TypeError, match="remove the comma behind the closing brace"):
        encoders["mine"] = {"encoder": Mine, "params": {}},  # noqa: COM818  # fmt: skip


def test_row_41_network_that_is_built_already(site):
    for value in (Mine(), {"encoder": Mine()}, torch.nn.Identity()):
        with pytest.raises(TypeError, match="class, .*got a (Mine|Identity) that is built already"):
            site.encoders["mine"] = value


@pytest.mark.parametrize("name", ["Mine", "", "my encoder", "mine:net", "-mine", "a/b/c", 3, None, ("a",)])
def test_row_41_malformed_name(site, name):
    with pytest.raises(TypeError, match="a name is lower-case letters, digits|needs a name"):
        site.encoders[name] = Mine
    with pytest.raises(TypeError):
        site.encoders.register({"encoder": Mine}, name=name)
    assert site.encoders.names() == ["aaa-net", "zzz-net"]


def test_row_41_record_without_a_name():
    with pytest.raises(TypeError, match=re.escape(f"registering {Mine!r} needs a name")):
        spec_from("encoder", None, Mine)


@pytest.mark.parametrize(
    "value",
    [
        ({"decoder": TinyDecoder},),
        {"encoder": TinyDecoder},
        {"decoder": TinyDecoder, "title": "lower"},
        {"decoder": None},
    ],
)
def test_row_41_malformed_decoder(site, value):
    with pytest.raises(TypeError, match="decoder"):
        site.decoders["mine"] = value
    assert len(site.decoders) == 0


def test_row_42_local_name_twice(site):
    site.encoders.register(EncoderSpec("mine", factory=Mine, aliases=("my",)))
    for value in (
        EncoderSpec("mine", factory=dict),
        EncoderSpec("my", factory=dict),
        EncoderSpec("new", factory=dict, aliases=("mine",)),
        EncoderSpec("new", factory=dict, aliases=("my",)),
    ):
        with pytest.raises(NameTakenError, match=r"encoder 'm[iy]\w*' is registered already; pass replace=True"):
            site.encoders.register(value)
    assert site.encoders["mine"].factory is site.encoders["my"].factory is Mine
    assert "new" not in site.encoders
    site.encoders.register(EncoderSpec("mine", factory=dict), replace=True)
    assert site.encoders["mine"].factory is dict
    assert "my" not in site.encoders
    site.check_neighbours()


def test_row_42_assignment_replaces_with_all_its_aliases(site):
    site.encoders["mine"] = EncoderSpec("mine", factory=Mine, aliases=("my", "me"))
    site.encoders["mine"] = EncoderSpec("mine", factory=dict, aliases=("me",))
    assert site.encoders["me"].factory is dict
    assert "my" not in site.encoders
    assert dict(site.encoders.items_matching("mi*"))["mine"].factory is dict


def test_row_42_alias_takes_no_name_over(site):
    site.encoders["mine"] = Mine
    site.encoders["other"] = EncoderSpec("other", factory=dict, aliases=("mine", "free"))
    assert site.encoders["mine"].factory is Mine
    assert site.encoders["free"].name == "other"
    site.encoders["free"] = Mine
    assert site.encoders["free"].name == "free"
    assert site.encoders["other"].factory is dict
    assert site.encoders.names() == ["aaa-net", "free", "mine", "other", "zzz-net"]


def test_removal(site):
    site.encoders["mine"] = EncoderSpec("mine", factory=Mine, aliases=("my",))
    site.encoders["other"] = Mine
    del site.encoders["my"]
    assert "mine" not in site.encoders
    assert site.encoders["other"].factory is Mine
    for name in ("mine", "my", "aaa-net"):
        with pytest.raises(UnknownNameError, match=f"no encoder '{name}' is registered in this process"):
            del site.encoders[name]


def test_local_names_win_until_they_are_removed(site):
    site.install("tiny", listing("tiny-s", encoder("tiny-m", "aliases=('m',)")))
    site.install("resnet", listing("resnet34"))
    for name in ("tiny-s", "resnet34", "m"):
        installed = site.encoders[name]
        site.encoders[name] = Mine
        assert site.encoders[name].factory is Mine
        assert name in site.encoders.names()
        assert site.encoders[f"{installed.provenance.namespace}/{installed.name}"] is installed
    assert site.encoders.names("*tiny*") == ["tiny-m", "tiny-s", "tiny/tiny-s"]
    assert site.encoders.names("*resnet34") == ["resnet/resnet34", "resnet34"]
    for name in ("tiny-s", "resnet34", "m"):
        del site.encoders[name]
    assert site.encoders["m"].name == "tiny-m"
    assert site.encoders["resnet34"].provenance.namespace == "resnet"
    assert "tiny/tiny-s" not in site.encoders.names()


def test_local_title_wins(site):
    site.install("tiny", listing(decoder("tiny-d", "Tiny")))
    assert site.decoders.by_title("Tiny").name == "tiny-d"
    site.decoders["mine"] = {"decoder": TinyDecoder, "title": "Tiny"}
    assert site.decoders.by_title("Tiny").name == "mine"


def test_record_of_a_plugin_registered_under_another_name(site):
    site.encoders["mine"] = site.encoders["aaa-net"]
    assert site.encoders["mine"].provenance == Provenance("local")
    assert site.encoders["aaa-net"].provenance.namespace == "aaa"


def test_local_registration_looks_at_no_plugin(site):
    site.install("tiny", "raise SystemExit")
    site.encoders["mine"] = Mine
    assert site.encoders["mine"].factory is Mine
    assert site.catalogue._plugins is None


def test_threads_that_register_and_list(site):
    site.encoders.names()
    failures = []

    def work(own):
        try:
            for number in range(100):
                site.encoders[f"{own}-{number}"] = Mine
                site.encoders.items_matching(f"{own}-*")
                if number % 2:
                    del site.encoders[f"{own}-{number}"]
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(site.encoders) == 2 + 8 * 50


class Recipe(torch.nn.Module, segcore.EncoderMixin):
    """An encoder written to the letter of the documented recipe, which has been the same in the field for years."""

    def __init__(self, **kwargs):
        super().__init__()
        self._out_channels = [3, 16, 64, 128, 256, 512]
        self._depth = kwargs.get("depth", 5)
        self._in_channels = 3
        widths = self._out_channels[: self._depth + 1]
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise(widths)
        )

    def forward(self, x):
        features = [x]
        for conv in self.convs:
            features.append(conv(features[-1]).relu())
        return features


class ExplicitRecipe(Recipe):
    def __init__(self, depth=5, in_channels=3):
        super().__init__(depth=depth)


@pytest.fixture
def recipe():
    yield
    for name in ("my-encoder", "my-decoder"):
        for registry in (segcore.encoders, segcore.decoders):
            if name in registry:
                del registry[name]


@pytest.mark.parametrize("network", [Recipe, ExplicitRecipe])
@pytest.mark.parametrize("name", segcore.list_decoders("decoders/*"))
def test_the_documented_recipe_works_with_every_decoder(recipe, name, network):
    segcore.encoders["my-encoder"] = {"encoder": network, "params": {"depth": 5}}
    model = segcore.create_model(name, "my-encoder", classes=2, in_channels=4).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 4, 50, 70)).shape == (1, 2, 50, 70)


def test_there_are_twelve_decoders_for_the_recipe():
    assert len(segcore.list_decoders("decoders/*")) == 12


@pytest.mark.parametrize("network", [Recipe, ExplicitRecipe])
def test_the_documented_recipe_is_saved_and_loaded(recipe, tmp_path, network):
    segcore.encoders["my-encoder"] = {"encoder": network, "params": {"depth": 4}}
    model = segcore.create_model("deeplabv3", "my-encoder").eval()
    model.save_pretrained(tmp_path / "checkpoint")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(segcore.from_pretrained(tmp_path / "checkpoint").eval()(x), model(x))


def test_weights_of_the_mapping_are_found_and_checked(recipe, tmp_path, monkeypatch):
    """By `url` the file comes from any place that a record may name; here from an importable package."""
    monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "my_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    source = ExplicitRecipe()
    data = safetensors.torch.save(source.state_dict())
    (package / "mine.safetensors").write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"url": "package://my_weights/mine.safetensors", "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
    mapping = {"encoder": ExplicitRecipe, "params": {}, "pretrained_settings": {"mine": settings}}
    for sha256 in (None, hashlib.sha256(data).hexdigest()):
        segcore.encoders["my-encoder"] = mapping | {"pretrained_settings": {"mine": settings | {"sha256": sha256}}}
        model = segcore.create_model("unet", "my-encoder", encoder_weights="mine")
        assert torch.equal(model.encoder.convs[0].weight, source.convs[0].weight)
        assert model.config["preprocessing"]["mean"] == (0.1, 0.2, 0.3)
    segcore.encoders["my-encoder"] = mapping | {"pretrained_settings": {"mine": settings | {"sha256": "0" * 64}}}
    with pytest.raises(WeightsError, match="its SHA-256 is .* was expected"):
        segcore.create_model("unet", "my-encoder", encoder_weights="mine")


def test_a_decoder_by_the_mapping_is_built_saved_and_loaded(recipe, tmp_path):
    segcore.decoders["my-decoder"] = {"decoder": TinyDecoder, "params": {"channels": 4}, "title": "MyDecoder"}
    model = segcore.MyDecoder("resnet18", encoder_depth=2).eval()
    assert model.decoder.out_channels == 4
    assert segcore.create_model("my-decoder", "resnet18", decoder_channels=6).decoder.out_channels == 6
    model.save_pretrained(tmp_path / "checkpoint")
    assert segcore.from_pretrained(tmp_path / "checkpoint").decoder.out_channels == 4
    segcore.decoders["my-decoder"] = DecoderSpec("my-decoder", factory=TinyDecoder, options={"channels": 5})
    assert segcore.create_model("my-decoder", "resnet18").decoder.out_channels == 5
    vars(segcore).pop("MyDecoder", None)
