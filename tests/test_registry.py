"""Names to records: rows 12 to 14, 29 to 32, 36 to 38, 45, 47 and 48 of the table of failures, and the mapping."""

import hashlib
import itertools
import json
import multiprocessing
import pickle

import pytest

import segcore
from segcore import (
    AmbiguousNameError,
    CheckpointError,
    EncoderSpec,
    PluginError,
    UnknownNameError,
    WeightsError,
    create_encoder,
    create_model,
    errors,
    from_pretrained,
    save_pretrained,
)
from segcore.owners import OFFICIAL, OWNERS, distribution_of, owner_of
from segcore.registry import Registry, titled_builder
from segcore.specs import qualified_name
from segcore.weights import open_weights
from tests.fake_plugins import HEADER, decoder, encoder, fake_site, listing, make_global, run_python


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        yield made


def refused(site, name, *parts, error=UnknownNameError, kind="encoders"):
    """Resolving the name fails with all these parts in its message; return that."""
    with pytest.raises(error) as caught:
        getattr(site, kind).resolve(name)
    for part in parts:
        assert part in str(caught.value), (part, str(caught.value))
    return str(caught.value)


# --- shared names -----------------------------------------------------------------------------------------------------


def test_row_12_two_distributions_same_name(site):
    for name in ("one", "two"):
        site.install(name, listing("tiny", f"{name}-s"))
    assert site.encoders.resolve("one/tiny").provenance.namespace == "one"
    assert site.encoders.resolve("two/tiny").provenance.namespace == "two"
    parts = ("'tiny' is offered by segcore-plugin-one and segcore-plugin-two", "write 'one/tiny' or 'two/tiny'")
    refused(site, "tiny", *parts, error=AmbiguousNameError)
    assert site.encoders.names("*tiny*") == ["one/tiny", "two/tiny"]
    assert site.encoders.names("one*") == ["one-s", "one/tiny"]
    assert "tiny" not in site.encoders
    assert site.encoders.get("tiny", 3) == 3
    site.check("one", "ok")


def test_row_12_two_distributions_same_namespace(site):
    for name in ("one", "two"):
        site.install(
            "tiny",
            listing("tiny-s", f"tiny/{name}", encoder("alt", "aliases=('tiny/al', 'al')")),
            distribution=name,
            module=f"fake_{name}",
        )
    site.check("one", "ok")
    for name in ("one", "two"):
        assert site.encoders.resolve(f"{name}/tiny-s").provenance.distribution == name
        assert site.encoders.resolve(f"{name}/{name}").name == f"{name}/{name}"
        assert site.encoders.resolve(f"{name}/al").provenance.distribution == name
        assert f"{name}/{name}" in site.encoders.names()
        assert "namespace 'tiny' is claimed by several packages" in site.plugin(name).notes[0]
    refused(site, "tiny-s", "offered by one and two: write 'one/tiny-s' or 'two/tiny-s'", error=AmbiguousNameError)
    refused(site, "al", "write 'one/al' or 'two/al'", error=AmbiguousNameError)
    refused(site, "tiny/tiny-s", "claimed by one and two: write 'one/tiny-s' or 'two/tiny-s'", error=AmbiguousNameError)


def test_row_12_open_namespace_that_two_claim(site):
    find = HEADER + "@hookimpl\ndef segcore_find(name):\n    assert name == 'tiny/x'\n    return " + encoder("tiny/x")
    for name in ("one", "two"):
        site.install("tiny", find, distribution=name, module=f"fake_{name}")
    assert site.encoders.resolve("two/x").name == "two/x"
    assert site.encoders.resolve("two/x").provenance.distribution == "two"


def test_row_13_third_party_claims_an_official_name(site):
    site.install("resnet", listing("resnet34"))
    site.install("a-party", listing("resnet34", "resnet18", encoder("party", "aliases=('resnet50',)")))
    site.check("a-party", "ok")
    assert site.encoders.resolve("resnet34").provenance.namespace == "resnet"
    assert site.encoders.resolve("a-party/resnet34").provenance.namespace == "a-party"
    assert site.encoders.names("*resnet*") == ["a-party/resnet18", "a-party/resnet34", "resnet34"]
    refused(site, "resnet18", "No encoder is named 'resnet18'. There is 'a-party/resnet18'.")
    refused(site, "resnet50", "No encoder is named 'resnet50'.")
    site.check_neighbours()


def test_row_13_third_party_claims_an_official_name_that_is_not_installed(site):
    site.install("a-party", listing("resnet34", "tu-any", "timm-regnet_x"))
    site.look()
    message = refused(
        site, "resnet34", "There is 'a-party/resnet34'.", "Install it with `pip install segcore-plugin-resnet`."
    )
    assert "Did you mean" not in message
    refused(site, "tu-any", "There is 'a-party/tu-any'.", "`pip install segcore-plugin-timm`")
    assert site.encoders.names("a-party/*") == ["a-party/resnet34", "a-party/timm-regnet_x", "a-party/tu-any"]


def test_row_13_third_party_claims_an_official_namespace(site):
    site.install("resnet", listing("resnet34"), distribution="a-party", module="fake_party")
    refused(site, "resnet/resnet34", "`pip install segcore-plugin-resnet`")
    refused(site, "resnet34", "`pip install segcore-plugin-resnet`")
    site.install("resnet", listing("resnet34"))
    assert site.encoders.resolve("resnet34").provenance.distribution == "segcore-plugin-resnet"
    assert site.encoders.resolve("resnet/resnet34") is site.encoders.resolve("resnet34")
    assert site.encoders.resolve("a-party/resnet34").provenance.distribution == "a-party"
    assert site.encoders.names("*resnet*") == ["a-party/resnet34", "resnet34"]


@pytest.mark.parametrize("first", ["able", "yak"])
def test_row_14_alias_equals_a_name(site, first):
    second = "yak" if first == "able" else "able"
    site.install(first, listing(encoder("other", "aliases=('tiny', 'both')")))
    site.install(second, listing("tiny", encoder("another", "aliases=('both', 'single', 'single')")))
    site.look()
    assert site.encoders.resolve("tiny").provenance.namespace == second
    assert site.encoders.resolve(f"{first}/tiny").name == "other"
    assert site.encoders.resolve("single").name == "another"
    refused(site, "both", "write 'able/both' or 'yak/both'", error=AmbiguousNameError)
    site.check_neighbours()


def test_row_14_alias_within_one_plugin(site):
    site.install(
        "tiny",
        listing(
            encoder("one", "aliases=('two', 'more', 'one')"),
            "two",
            encoder("three", "aliases=('more', 'tiny/four')"),
            "four",
        ),
    )
    site.check("tiny", "ok")
    for prefix in ("", "tiny/"):
        assert site.encoders.resolve(f"{prefix}two").name == "two"
        assert site.encoders.resolve(f"{prefix}four").name == "four"
        assert site.encoders.resolve(f"{prefix}more").name == "one"
        assert site.encoders.resolve(f"{prefix}one").name == "one"
    assert site.encoders.names("tiny/*") == ["four", "one", "three", "two"]


def test_every_name_that_is_listed_resolves_to_its_record(site):
    site.install("one", listing("tiny", "one/only", encoder("s", "aliases=('only', 'tiny', 'm')")))
    site.install("two", listing("tiny", "m", "resnet34", encoder("two/x", "aliases=('x', 's')")))
    site.install("resnet", listing("resnet34", "resnet18"))
    site.look()
    site.encoders["s"] = dict
    site.encoders["one/only"] = dict
    for name, spec in site.encoders.items_matching():
        assert site.encoders.resolve(name) is spec, name
        assert site.encoders.resolve(qualified_name(spec)) is spec, name
    assert site.encoders.names() == [
        "aaa-net", "m", "one/only", "one/s", "one/tiny", "resnet18", "resnet34", "s", "two/resnet34", "two/tiny", "two/x", "zzz-net",
    ]  # fmt: skip
    refused(site, "x/x")
    assert site.encoders.resolve("x").name == "two/x"


INSTALLATIONS = (
    {"namespace": "x", "distribution": "one", "source": listing("tiny", "same", encoder("p", "aliases=('q',)"))},
    {"namespace": "x", "distribution": "two", "source": listing("tiny", "x/same", "q")},
    {"namespace": "one", "distribution": "three", "source": listing("tiny", "resnet34")},
    {
        "namespace": "resnet",
        "distribution": "segcore-plugin-resnet",
        "source": listing("resnet34", encoder("r", "aliases=('q', 'p')")),
    },
    {"namespace": "resnet", "distribution": "five", "source": listing("resnet34", "resnet18", "only")},
)
ASKED = [
    "tiny",
    "same",
    "p",
    "q",
    "r",
    "only",
    "resnet34",
    "resnet18",
    "x/tiny",
    "one/tiny",
    "two/same",
    "x/q",
    "five/only",
    "resnet/only",
]


@pytest.mark.parametrize("ways", ["path", "loading"])
def test_resolution_does_not_depend_on_the_order_of_installation(tmp_path, monkeypatch, ways):
    outcomes = set()
    with fake_site(tmp_path / "site", monkeypatch) as site:
        for index, what in enumerate(INSTALLATIONS):
            site.install(**what, module=f"fake_{index}", folder=tmp_path / str(index))
            monkeypatch.syspath_prepend(tmp_path / str(index))
        for order in itertools.permutations(range(5)):
            site.path = [str(tmp_path / str(index)) for index in (order if ways == "path" else range(5))]
            fresh = type(site.catalogue)(site.catalogue._scanner)
            encoders = Registry("encoder", fresh)
            if ways == "loading":
                for index in order:
                    fresh.load(list(fresh.plugins())[index])
            outcome = [*encoders.names(), *(plugin.title for plugin in fresh.load_all())]
            for name in ASKED:
                try:
                    outcome.append(str(encoders.resolve(name).provenance))
                except LookupError as error:
                    outcome.append(f"{type(error).__name__}: {error}")
            outcomes.add(tuple(outcome))
    assert len(outcomes) == 1
    for line in outcomes.pop():
        assert "Traceback" not in line


# --- unknown names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("tiny-ss", "'tiny-s'"),
        ("TINY-S", "'tiny-s'"),
        ("tiny/tinys", "'tiny/tiny-s'"),
        ("Resnet43", "'resnet34'"),
        ("mine2", "'mine'"),
    ],
)
def test_row_29_typo(site, name, suggestion):
    site.install("tiny", listing("tiny-s"))
    site.encoders["mine"] = dict
    message = refused(site, name, f"No encoder is named {name!r}.", f"Did you mean {suggestion}")
    assert "Left out" not in message
    assert "worker" not in message
    site.check_neighbours()


@pytest.mark.parametrize(
    ("kind", "name", "distribution"),
    [
        ("encoders", "resnet34", "segcore-plugin-resnet"),
        ("encoders", "resnet/resnet34", "segcore-plugin-resnet"),
        ("encoders", "timm/anything_at_all", "segcore-plugin-timm"),
        ("encoders", "efficientnet-b0", "segcore-plugin-efficientnet"),
        ("encoders", "mit_b2", "segcore-plugin-mit"),
        ("encoders", "tu-convnext_tiny", "segcore-plugin-timm"),
        ("decoders", "unet", "segcore-plugin-decoders"),
    ],
)
def test_row_30_known_package_that_is_not_installed(site, kind, name, distribution):
    message = refused(site, name, f"is named {name!r}. Install it with `pip install {distribution}`.", kind=kind)
    assert "Did you mean" not in message
    assert site.look() == []
    site.check_neighbours()


def test_row_30_unknown_package_is_not_recommended_without_a_word(site):
    refused(
        site,
        "timmm/vit",
        "No plugin 'timmm' is installed. Did you mean 'timm'? If you know it, `pip install segcore-plugin-timmm`.",
    )
    refused(site, "aab/x", "Did you mean 'aaa'?")


@pytest.mark.parametrize("name", ["tiny-s", "tiny/tiny-s", "resnet34", "resnet/x", "absent", "absent/x"])
def test_row_31_message_contains_the_reason_of_a_broken_plugin(site, name):
    site.install("tiny", "raise ValueError('out of order')")
    site.look()
    refused(
        site,
        name,
        "Left out: segcore-plugin-tiny 1.0 (broken: importing 'segcore_plugin_tiny' raised ValueError: out of order).",
    )
    site.check_neighbours()


def test_row_31_the_plugin_asked_for_comes_first_of_many(site):
    for number in range(8):
        site.install(f"bad{number}", f"raise ValueError({number})")
    site.look()
    message = refused(site, "bad7/x", "Left out: segcore-plugin-bad7 1.0 (broken", "and 3 more.")
    assert message.count("ValueError") == 5
    with pytest.raises(UnknownNameError, match="ValueError: 0"):
        site.decoders.by_title("Nothing")


def test_row_31_owner_of_the_name_is_incompatible(site):
    site.install("resnet", listing("resnet34"), requires=["segcore>=99"])
    site.look()
    message = refused(site, "resnet34", "incompatible: it needs segcore >=99")
    assert "pip install" not in message
    assert "Did you mean 'resnet34'" not in message


@pytest.mark.parametrize("name", ["os:system", "torch.nn:Linear", "segcore.testing:TinyEncoder"])
def test_row_32_import_string(site, name):
    refused(site, name, "looks like an import string; names are never imported", "pass it instead of a name")
    assert name not in site.encoders
    site.look()
    site.check_neighbours()


@pytest.mark.parametrize(
    "name", ["", "/", "//", "x/", "/x", "a/b/c", ".", "..", "../x", "\0", "x" * 10_000, "ü", "*", "tiny-s\n", " tiny-s"]
)
def test_strange_names(site, name):
    site.install("tiny", listing("tiny-s"))
    refused(site, name, "No encoder is named")
    assert name not in site.encoders


@pytest.mark.parametrize("name", [None, 3, b"resnet34", ["resnet34"], dict, ("a", "b")])
def test_name_that_is_no_text(site, name):
    refused(site, name, "is a string, got")
    assert name not in site.encoders
    assert site.encoders.get(name) is None


# --- building ---------------------------------------------------------------------------------------------------------


def test_row_36_factory_cannot_be_imported(site):
    sources = {"a": "absent_module:Net", "b": "fake_net:Net", "c": "segcore.testing:Absent"}
    (site.folder / "fake_net.py").write_text("raise ValueError('net')")
    site.install(
        "tiny", listing(*(encoder(name).replace("segcore.testing:TinyEncoder", path) for name, path in sources.items()))
    )
    site.check("tiny", "ok")
    for name, kind in (("a", ModuleNotFoundError), ("b", ValueError), ("c", AttributeError)):
        with pytest.raises(
            PluginError, match=f"'tiny/{name}' of segcore-plugin-tiny cannot be built: .*{kind.__name__}"
        ) as caught:
            create_encoder(site.encoders[name])
        assert (caught.value.distribution, caught.value.phase) == ("segcore-plugin-tiny", "build")
        assert isinstance(caught.value.__cause__, kind)
    assert create_encoder(site.encoders["zzz-net"]).out_channels[0] == 3


@pytest.mark.parametrize(
    "more", ["out_channels=(3, 8, 16, 24, 32, 48)", "strides=(1, 2, 4, 8, 16, 16)", "factory='fake_net:none'"]
)
def test_row_37_built_module_contradicts_its_record(site, more):
    (site.folder / "fake_net.py").write_text("def none(depth, in_channels): return {}")
    record = f"dataclasses.replace({encoder('tiny-s')}, {more})"
    site.install("tiny", "import dataclasses\n" + listing(record, "tiny-m"))
    site.check("tiny", "ok")
    with pytest.raises(PluginError, match="tiny/tiny-s") as caught:
        create_encoder(site.encoders["tiny-s"], depth=5)
    assert (caught.value.distribution, caught.value.phase) == ("segcore-plugin-tiny", "contract")
    assert create_encoder(site.encoders["tiny-m"]).out_channels[-1] == 40


def test_row_38_factory_raises_on_the_options_of_the_user(site):
    (site.folder / "fake_net.py").write_text(
        "from segcore.testing import TinyEncoder\n"
        "class Net(TinyEncoder):\n"
        "    def __init__(self, depth=5, in_channels=3, mood='good'):\n"
        "        if mood != 'good': raise ZeroDivisionError(mood)\n"
        "        super().__init__(depth, in_channels)\n"
    )
    site.install("tiny", listing(encoder("tiny-s").replace("segcore.testing:TinyEncoder", "fake_net:Net")))
    site.check("tiny", "ok")
    assert create_encoder(site.encoders["tiny-s"], mood="good").out_channels[-1] == 40
    with pytest.raises(ZeroDivisionError, match="bad"):
        create_encoder(site.encoders["tiny-s"], mood="bad")


def test_deprecated_name_warns_when_it_is_built(site):
    site.install("tiny", listing(encoder("tiny-s", "deprecated='use tiny-m'")))
    spec = site.encoders["tiny-s"]
    with pytest.warns(DeprecationWarning, match="'tiny/tiny-s' is deprecated: use tiny-m"):
        create_encoder(spec)


# --- worker processes -------------------------------------------------------------------------------------------------

WORKER = """
import multiprocessing, pickle, segcore, sys
import segcore.discovery, segcore.installed

class Scanner:
    def __call__(self):
        return segcore.installed.scan([{folder!r}])

def work(name):
    segcore.discovery.catalogue._scanner = Scanner()
    try:
        return segcore.encoders[name]
    except Exception as error:
        return error

if __name__ == "__main__":
    segcore.encoders["mine"] = dict
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        good, bad, broken = pool.map(work, ["aaa-net", "mine", "tiny/x"])
    assert good.name == "aaa-net" and good.provenance.distribution == "segcore-plugin-aaa"
    assert type(bad) is segcore.UnknownNameError, bad
    print(bad)
    assert type(broken) is segcore.PluginError
    print(broken.distribution, broken.phase, broken)
"""


def test_row_45_spawned_worker_discovers_for_itself(site):
    site.install("tiny", HEADER + "@hookimpl\ndef segcore_find(name):\n    raise ValueError(name)")
    script = site.folder / "fake_script.py"
    script.write_text(WORKER.format(folder=str(site.folder)))
    done = run_python(
        f"import runpy\nrunpy.run_path({str(script)!r}, run_name='__main__')", folder=site.folder, flags=()
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "No encoder is named 'mine'." in first
    assert "This is a worker process: names registered locally in the parent are not known here." in first
    assert second.startswith("segcore-plugin-tiny find segcore-plugin-tiny 1.0 (plugin 'tiny'): segcore_find")


def test_row_45_records_pickle(site):
    weights = f"Weights(url='https://x.org/x.safetensors', sha256='{'a' * 64}', license='MIT', source='x', mean=(0.5,), std=(1.0,))"
    more = f"weights={{'w': {weights}}}, options={{'width': 8}}, aliases=('t',), deprecated='x', strides=(1, 2, 4, 8, 16, 32)"
    site.install(
        "tiny", listing(encoder("tiny-s", more), decoder("d", "TitleD"), "LossSpec('l', factory='a:b', title='L')")
    )
    plugin = site.check("tiny", "ok")
    assert len(plugin.specs()) == 3
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for spec in plugin.specs():
            copy = pickle.loads(pickle.dumps(spec, protocol))
            assert copy == spec
            assert copy.provenance == spec.provenance == segcore.Provenance("tiny", "segcore-plugin-tiny", "1.0")
    again = pickle.loads(pickle.dumps(plugin))
    assert (again.title, again.specs()) == (plugin.title, plugin.specs())


@pytest.mark.parametrize(
    "kind", [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
)
def test_row_45_errors_pickle_with_their_attributes(kind):
    more = {"distribution": "d", "phase": "import"} if issubclass(kind, PluginError) else {}
    error = kind("what happened", **more)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert (copy.args, str(copy), vars(copy)) == (("what happened",), "what happened", more)


def test_no_word_of_workers_in_the_main_process(site):
    assert multiprocessing.parent_process() is None
    assert "worker" not in refused(site, "absent")


# --- checkpoints and weights ------------------------------------------------------------------------------------------


def test_row_47_checkpoint_names_a_missing_plugin(site, monkeypatch, tmp_path):
    make_global(site, monkeypatch)
    site.install("tiny", listing("tiny-s", decoder("tiny-d")), version="3.1")
    save_pretrained(create_model("tiny-d", "tiny-s", classes=2), tmp_path / "checkpoint")
    save_pretrained(create_model("tiny-d", "aaa-net", classes=2), tmp_path / "other")
    assert from_pretrained(tmp_path / "checkpoint").config["encoder"]["name"] == "tiny/tiny-s"
    site.uninstall("segcore-plugin-tiny")
    make_global(site, monkeypatch)
    for folder, kind in (("checkpoint", "decoder"), ("other", "decoder")):
        with pytest.raises(UnknownNameError, match=f"No {kind} is named 'tiny/tiny-d'") as caught:
            from_pretrained(tmp_path / folder)
        assert "'tiny/tiny-d' came with segcore-plugin-tiny 3.1" in str(caught.value)
        assert "pip install segcore-plugin-tiny" in str(caught.value)
    assert not isinstance(caught.value, CheckpointError)
    site.look()
    assert segcore.list_encoders() == ["aaa-net", "zzz-net"]


def test_row_48_weights_hook_returns_a_wrong_file(site, monkeypatch, tmp_path):
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    good.write_bytes(b"good")
    bad.write_bytes(b"bad")
    sha = hashlib.sha256(b"good").hexdigest()
    record = f"url='https://x.org/x.safetensors', license='MIT', source='x', mean=(0.5,), std=(1.0,), sha256={sha!r}"
    site.install("tiny", listing(encoder("tiny-s", f"weights={{'w': Weights({record})}}")))
    answer = HEADER + "import fake_answer\n@hookimpl\ndef segcore_open_weights(tag):\n    return fake_answer.value"
    site.install("mirror", answer)
    (site.folder / "fake_answer.py").write_text(f"value = {str(bad)!r}")
    make_global(site, monkeypatch)
    spec = segcore.encoders["tiny-s"]
    with pytest.raises(WeightsError, match=r"segcore-plugin-mirror 1\.0.*The file is not used") as caught:
        open_weights(spec, "w")
    assert sha[:16] in str(caught.value)
    with pytest.raises(WeightsError, match="segcore-plugin-mirror"):
        create_encoder("tiny-s", weights="w")
    with pytest.raises(WeightsError, match="has no weights 'v'"):
        create_encoder("tiny-s", weights="v")
    import fake_answer

    fake_answer.value = good
    assert open_weights(spec, "w") == good
    assert create_encoder("tiny-s").out_channels[-1] == 40


# --- the mapping ------------------------------------------------------------------------------------------------------


def test_mapping(site):
    site.install("tiny", listing("tiny-s", encoder("tiny-m", "aliases=('tiny-medium',)"), decoder("tiny-d")))
    encoders = site.encoders
    assert list(encoders) == encoders.names() == ["aaa-net", "tiny-m", "tiny-s", "zzz-net"]
    assert len(encoders) == 4
    assert list(site.decoders) == ["tiny-d"]
    assert "tiny-m" in encoders
    assert "tiny-medium" in encoders
    assert "tiny/tiny-m" in encoders
    assert "tiny-d" not in encoders
    assert 3 not in encoders
    assert encoders["tiny-medium"] is encoders["tiny-m"] is encoders.get("tiny/tiny-medium")
    assert encoders.get("absent") is None
    assert encoders.get("absent", "x") == "x"
    assert dict(encoders)["tiny-s"].name == "tiny-s"
    assert [spec.name for spec in encoders.values()] == encoders.names()
    assert [name for name, _ in encoders.items()] == encoders.names()
    assert repr(encoders) == "<encoders: 4 names>"
    with pytest.raises(LookupError, match="absent"):
        encoders["absent"]
    with pytest.raises(UnknownNameError, match="no encoder 'tiny-s' is registered in this process"):
        del encoders["tiny-s"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tiny*", ["tiny-s", "tiny/x"]),
        ("tiny/*", ["tiny-s", "tiny/x"]),
        ("*-net", ["aaa-net", "zzz-net"]),
        ("[az]*", ["aaa-net", "zzz-net"]),
        ("tiny-?", ["tiny-s"]),
        ("TINY*", []),
        ("tiny-s", ["tiny-s"]),
        ("x", []),
        ("*/x", ["tiny/x"]),
        ("", []),
        ("[", []),
        (None, ["aaa-net", "tiny-s", "tiny/x", "zzz-net"]),
    ],
)
def test_patterns(site, monkeypatch, pattern, expected):
    site.install("tiny", listing("tiny-s", "tiny/x"))
    assert site.encoders.names(pattern) == expected
    make_global(site, monkeypatch)
    assert segcore.list_encoders(pattern) == expected
    assert segcore.list_decoders(pattern) == []


def test_record_under_its_namespace_only(site):
    site.install("tiny", listing("tiny/x", encoder("tiny/y", "aliases=('why',)")))
    assert site.encoders["tiny/x"].name == "tiny/x"
    assert qualified_name(site.encoders["tiny/x"]) == "tiny/x"
    refused(site, "x")
    assert site.encoders["why"].name == "tiny/y"
    assert site.encoders["tiny/why"].name == "tiny/y"


def test_losses_have_a_registry_of_their_own(site):
    site.install("tiny", listing("tiny-s", "LossSpec('tiny-s', factory='a:b')"))
    losses = Registry("loss", site.catalogue)
    assert losses.names() == ["tiny-s"]
    assert type(losses["tiny-s"]) is segcore.LossSpec
    with pytest.raises(UnknownNameError, match="pip install segcore-plugin-losses"):
        losses["dice"]


# --- class-style names ------------------------------------------------------------------------------------------------


def test_class_style_name_builds_a_model(site, monkeypatch):
    make_global(site, monkeypatch)
    site.install("tiny", listing("tiny-s", decoder("tiny-d", "TinyThing")))
    build = segcore.TinyThing
    monkeypatch.delitem(vars(segcore), "TinyThing")
    assert (build.__name__, build.__module__) == ("TinyThing", "segcore")
    assert "'tiny/tiny-d'" in build.__doc__
    assert build("tiny-s", classes=3).segmentation_head[0].weight.shape[0] == 3
    segcore.decoders["mine"] = segcore.DecoderSpec("mine", factory="segcore.testing:TinyDecoder", title="TinyThing")
    assert build("tiny-s").config["decoder"]["name"] == "mine"


def test_class_style_name_of_an_owned_decoder(site, monkeypatch):
    make_global(site, monkeypatch)
    site.install("party", listing(decoder("unet", "Unet"), decoder("mine", "Fpn")))
    with pytest.raises(AttributeError, match=r"segcore has no 'Unet'\..*pip install segcore-plugin-decoders"):
        titled_builder("Unet")
    site.install("decoders", listing(decoder("unet", "Unet"), decoder("fpn", "FPN")))
    assert "'decoders/unet'" in titled_builder("Unet").__doc__
    assert "'decoders/fpn'" in titled_builder("FPN").__doc__


def test_class_style_name_that_several_offer_or_none(site, monkeypatch):
    make_global(site, monkeypatch)
    for name in ("one", "two"):
        site.install(name, listing(decoder(f"{name}-d", "SameTitle")))
    with pytest.raises(
        AttributeError, match="offered by several packages: use create_model with 'one/one-d' or 'two/two-d'"
    ):
        segcore.SameTitle  # noqa: B018
    with pytest.raises(AmbiguousNameError):
        segcore.decoders.by_title("SameTitle")
    with pytest.raises(AttributeError, match="Did you mean 'SameTitle'"):
        segcore.Sametitle  # noqa: B018
    with pytest.raises(UnknownNameError, match="No installed encoder has the class-style name 'X'"):
        segcore.encoders.by_title("X")
    with pytest.raises(AttributeError, match="has no attribute 'lower'"):
        segcore.lower  # noqa: B018
    assert not hasattr(segcore, "NoSuchName")


# --- owners -----------------------------------------------------------------------------------------------------------


def test_owners():
    assert frozenset({"decoders", "efficientnet", "losses", "mit", "resnet", "timm"}) == OFFICIAL
    assert distribution_of("resnet") == "segcore-plugin-resnet"
    assert owner_of("encoder", "tu-resnet34") == "timm"
    assert owner_of("encoder", "resnet34") == "resnet"
    assert owner_of("encoder", "resnet34x") is None
    assert owner_of("decoder", "resnet34") is None
    prefixes = {kind: [name[:-1] for name in table if name.endswith("*")] for kind, table in OWNERS.items()}
    for kind, table in OWNERS.items():
        for name, owner in table.items():
            others = {prefix for prefix in prefixes[kind] if name.startswith(prefix) and name != f"{prefix}*"}
            assert all(table[f"{prefix}*"] == owner for prefix in others), (name, others)


def test_spec_by_hand_needs_no_registry():
    spec = EncoderSpec("x", factory="segcore.testing:TinyEncoder", out_channels=(3, 8, 16, 24, 32, 40))
    assert qualified_name(spec) == "x"
    assert create_encoder(spec).out_channels[-1] == 40
    assert json.dumps(segcore.specs.as_json(spec))
