"""Records as plain data."""

import dataclasses
import json
import subprocess
import sys

import pytest

from segcore import DecoderSpec, EncoderSpec, LossSpec, Provenance, Weights
from segcore.specs import FACTORY, KINDS, NAME, TITLE, as_json, kind_of, names_of, qualified_name

WEIGHTS = Weights(url="hf://a/b/model.safetensors", license="MIT", source="a", mean=(0.5,), std=(1,), revision="b" * 40)
ENCODER = EncoderSpec("tiny-s", factory="tiny.net:Tiny", out_channels=(3, 8), weights={"w": WEIGHTS}, aliases=("t",))
RECORDS = [
    ENCODER,
    DecoderSpec("tiny-d", factory="tiny.net:D", title="TinyD"),
    LossSpec("tiny-l", factory="tiny.net:L"),
]


@pytest.mark.parametrize("spec", RECORDS, ids=lambda spec: type(spec).__name__)
def test_good_records(spec):
    assert spec.problem() is None
    assert spec.problem(local=True) is None
    assert KINDS[kind_of(spec)] is type(spec)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"
    with pytest.raises((AttributeError, TypeError)):
        spec.other = 1
    assert not hasattr(spec, "__dict__")


@pytest.mark.parametrize("spec", RECORDS, ids=lambda spec: type(spec).__name__)
def test_records_as_json(spec):
    data = json.loads(json.dumps(as_json(spec)))
    assert (data["name"], data["kind"], data["factory"]) == (spec.name, kind_of(spec), spec.factory)
    assert set(data) == {"kind", *(field.name for field in dataclasses.fields(spec))}
    placed = dataclasses.replace(spec, provenance=Provenance("tiny", "segcore-plugin-tiny", "1.0"))
    data = json.loads(json.dumps(as_json(placed)))
    assert data["name"] == f"tiny/{spec.name}"
    assert data["provenance"] == {"namespace": "tiny", "distribution": "segcore-plugin-tiny", "version": "1.0"}
    assert placed == spec


def test_callable_factory_as_json():
    assert as_json(EncoderSpec("x", factory=json.JSONDecoder))["factory"] == "json.decoder:JSONDecoder"
    assert as_json(EncoderSpec("x", factory=json.loads))["factory"] == "json:loads"


def test_names():
    assert list(names_of(ENCODER)) == ["tiny-s", "t"]
    assert qualified_name(ENCODER) == "tiny-s"
    assert qualified_name(dataclasses.replace(ENCODER, provenance=Provenance("local"))) == "tiny-s"
    assert qualified_name(dataclasses.replace(ENCODER, name="n/x", provenance=Provenance("n", "d", "1"))) == "n/x"
    assert kind_of("x") is None
    assert kind_of(EncoderSpec) is None


def test_strides_by_default():
    assert ENCODER.nominal_strides == (1, 2)
    assert dataclasses.replace(ENCODER, strides=(1, 16)).nominal_strides == (1, 16)
    assert EncoderSpec("x", factory=dict).nominal_strides == ()


@pytest.mark.parametrize(
    "name", ["resnet34", "efficientnet-b0", "vgg16_bn", "timm/vit_base_patch16_224.augreg", "a", "x+y", "0"]
)
def test_names_that_are_allowed(name):
    assert NAME.fullmatch(name)
    assert not FACTORY.fullmatch(name)


@pytest.mark.parametrize("name", ["", "A", "a b", "a/", "/a", "a/b/c", "a:b", "a\n", "-a", ".a", "é", "a*"])
def test_names_that_are_refused(name):
    assert not NAME.fullmatch(name)
    assert "a name is lower-case letters" in EncoderSpec(name, factory="a:b", out_channels=(3,)).problem()


@pytest.mark.parametrize("title", ["Unet", "PSPNet", "DeepLabV3Plus", "A"])
def test_titles(title):
    assert TITLE.fullmatch(title)
    assert DecoderSpec("x", factory="a:b", title=title).problem() is None


@pytest.mark.parametrize("factory", ["a:b", "pkg.mod:Class", "_p._m:_c"])
def test_factories(factory):
    assert EncoderSpec("x", factory=factory, out_channels=(3,)).problem() is None


@pytest.mark.parametrize(
    "factory", ["", "a", "a.b", "a:b.c", "a:", ":b", "a:b()", "a b:c", "../a:b", "a:b\n", 3, None, ["a:b"]]
)
def test_factories_that_are_refused(factory):
    assert (
        "factory of 'x' must be 'package.module:attribute'"
        in EncoderSpec("x", factory=factory, out_channels=(3,)).problem()
    )


def test_local_records_may_leave_out_what_plugins_must_say():
    spec = EncoderSpec("x", factory=dict, weights={"w": dataclasses.replace(WEIGHTS, revision=None)})
    assert spec.problem(local=True) is None
    assert spec.problem() == "'x' must declare out_channels"
    spec = dataclasses.replace(spec, out_channels=(3,))
    assert "weights 'w' of 'x': weights need a sha256" in spec.problem()


def circular():
    options = {}
    options["self"] = options
    return options


@pytest.mark.parametrize("options", [{"x": {1, 2}}, {"x": 1j}, {"x": float("inf")}, {"x": object()}, circular()])
@pytest.mark.parametrize("field", ["options", "defaults"])
def test_options_must_be_plain(options, field):
    for record in KINDS.values():
        spec = dataclasses.replace(record("x", factory="a:b"), **{field: options})
        assert f"{field} of 'x' must be JSON-able" in spec.problem(local=True)


def test_problem_of_wrong_types_is_always_a_sentence():
    """Each field takes each kind of wrong value without an exception, whatever the others are."""
    wrong = [None, 3, -1, 0.5, "x", b"x", (), ("x",), [1], {}, {"x": 1}, object(), float("nan"), (None,), True]
    for record in (*RECORDS, WEIGHTS):
        for field in dataclasses.fields(record):
            for value in wrong:
                answer = dataclasses.replace(record, **{field.name: value}).problem()
                assert answer is None or (isinstance(answer, str) and answer), (field.name, value)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("mean", [0.5, (), ("a",), (0.5, 0.5), (float("nan"),), [0.5], None]),
        ("std", [(0,), (-1.0,), (), None, "x"]),
        ("sha256", ["", "A" * 64, "a" * 63, 3]),
        ("revision", ["main", "B" * 40, 3]),
        ("url", [None, "", "x.pth", "x.bin", 3]),
        ("license", [None, "", " ", 3]),
        ("source", [None, "", 3]),
        ("input_range", [(0,), (1, 0), (0, 0), None, 255]),
        ("input_space", ["rgb", None, ["RGB"], 3]),
    ],
)
def test_weights_that_are_refused(field, values):
    for value in values:
        assert dataclasses.replace(WEIGHTS, **{field: value}).problem(), (field, value)


def test_records_are_free_of_torch():
    code = "import segcore.specs, segcore.hookspecs, segcore.errors, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_unpinned_weights_that_are_refused():
    loose = dataclasses.replace(WEIGHTS, revision=None)
    spec = EncoderSpec("x", factory="a:b", out_channels=(3,), unpinned={"w": loose})
    assert spec.problem() is None
    for wrong, says in (
        (WEIGHTS, "without revision and sha256"),
        (dataclasses.replace(loose, sha256="a" * 64), "without revision and sha256"),
        (dataclasses.replace(loose, url="https://a.org/b.safetensors"), "its address must be hf://"),
        (dataclasses.replace(loose, license=""), "must state their licence"),
    ):
        assert says in dataclasses.replace(spec, unpinned={"w": wrong}).problem()
    assert "unpinned of 'x' must be a mapping" in dataclasses.replace(spec, unpinned=[]).problem()
    assert as_json(spec)["unpinned"]["w"]["url"] == loose.url
