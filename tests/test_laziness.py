"""What is loaded when, in fresh interpreters in which every warning is an error."""

import json
import sys

import pytest

from tests.fake_plugins import decoder, fake_site, listing, run_python

HEAVY = ("torch", "timm", "numpy", "safetensors", "torchvision", "segmentation_models_pytorch")
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)))"
USES = {
    "list_encoders": "import segcore; segcore.list_encoders()",
    "list_decoders": "import segcore; segcore.list_decoders()",
    "list_losses": "import segcore; segcore.list_losses()",
    "list_plugins": "import segcore; segcore.list_plugins()",
    "refresh": "import segcore; segcore.refresh()",
    "resolve": "import segcore; segcore.encoders.get('absent'); segcore.encoders.get('x/y'); segcore.decoders.get('unet')",
    "register": "import segcore; segcore.encoders['mine'] = {'encoder': dict, 'params': {'x': 1}}",
    "records": "import segcore; [spec.problem() for spec in segcore.encoders.values()]",
    "errors": "from segcore import PluginError, UnknownNameError, EncoderSpec, DecoderSpec, Weights, hookimpl",
    "plugins": "import io, contextlib, segcore.cli\nwith contextlib.redirect_stdout(io.StringIO()): segcore.cli.cli(['plugins'], standalone_mode=False)",
    "encoders": "import io, contextlib, segcore.cli\nwith contextlib.redirect_stdout(io.StringIO()): segcore.cli.cli(['encoders', '--json'], standalone_mode=False)",
    "help": "import io, contextlib, segcore.cli\nwith contextlib.redirect_stdout(io.StringIO()): segcore.cli.cli(['--help'], standalone_mode=False)",
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        yield made


def loaded(code, **more):
    done = run_python(f"{code}\n{LOADED}", **more)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return set(json.loads(done.stdout))


def test_import_loads_no_torch_no_pluggy_and_no_plugin():
    modules = loaded("import segcore")
    assert not modules & {*HEAVY, "pluggy", "packaging", "click", "importlib.metadata"}
    assert {name for name in modules if name.startswith("segcore")} == {"segcore"}
    assert loaded("import segcore; segcore.__version__, segcore.__all__, dir(segcore)") == modules


def test_import_costs_next_to_nothing():
    assert {name.partition(".")[0] for name in loaded("import segcore") - loaded("pass")} <= {
        "__future__",
        "importlib",
        "segcore",
    }


def test_a_model_without_downloads_loads_no_file_locks():
    assert "filelock" not in loaded("import segcore; segcore.create_model, segcore.from_pretrained")


def test_finding_a_component_needs_no_parser_of_requirements():
    assert "packaging.requirements" not in loaded("import segcore; segcore.encoders.get('resnet18')")


def test_public_names_load_no_plugin():
    modules = loaded("from segcore import EncoderSpec, DecoderSpec, Weights, PluginError")
    assert not modules & {*HEAVY, "pluggy", "segcore.discovery", "segcore.installed"}
    modules = loaded("from segcore import hookimpl")
    assert not modules & {*HEAVY, "segcore.discovery"}


@pytest.mark.parametrize("use", USES)
def test_what_is_really_installed_loads_nothing_heavy(use):
    modules = loaded(USES[use])
    assert not modules & set(HEAVY)
    assert not {name for name in modules if name.startswith("segcore.test")}


def test_installed_plugins_are_found_and_healthy():
    done = run_python(
        "import segcore; print([(p.distribution, p.status) for p in segcore.list_plugins() if p.status != 'ok'])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("use", USES)
def test_uses_of_a_fake_site_load_nothing_heavy(site, use):
    site.install("tiny", listing("tiny-s", decoder("tiny-d", "TinyD")))
    modules = loaded(USES[use], folder=site.folder)
    assert not modules & set(HEAVY)
    if use in {"register", "errors", "refresh"}:
        assert not {name for name in modules if name.startswith("segcore_plugin")}
    elif use != "help":
        assert {"segcore_plugin_aaa", "segcore_plugin_tiny", "segcore_plugin_zzz"} <= modules


def test_qualified_and_owned_names_load_one_plugin(site):
    site.install("resnet", listing("resnet34"))
    for name in ("resnet/resnet34", "resnet34"):
        modules = loaded(f"import segcore; assert segcore.encoders[{name!r}].name == 'resnet34'", folder=site.folder)
        assert {name for name in modules if name.startswith("segcore_plugin")} == {"segcore_plugin_resnet"}
    assert not modules & set(HEAVY)


def test_listing_does_not_import_the_factories(site):
    site.install("tiny", listing("EncoderSpec('tiny-s', factory='fake_net:Net', out_channels=(3, 8))"))
    (site.folder / "fake_net.py").write_text("raise SystemExit('imported')")
    assert "fake_net" not in loaded(USES["list_encoders"], folder=site.folder)


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError('bad')",
        "import sys; sys.exit(3)",
        "import fake_absent",
        "def f(:",
    ],
)
def test_one_broken_plugin_stops_nothing(site, source):
    site.install("tiny", source)
    code = "import segcore\nprint(segcore.list_encoders(), segcore.list_decoders())\nprint(segcore.encoders['zzz-net'].name)"
    done = run_python(code, folder=site.folder, flags=("-W", "default"))
    assert (done.returncode, done.stdout) == (0, "['aaa-net', 'zzz-net'] []\nzzz-net\n")
    assert done.stderr.count("PluginWarning: segcore-plugin-tiny 1.0 (plugin 'tiny') is left out: importing") == 1
    done = run_python(
        f"import segcore\ntry: segcore.list_encoders()\nexcept segcore.PluginWarning as w: print(w)\n{code}",
        folder=site.folder,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("segcore-plugin-tiny 1.0 (plugin 'tiny') is left out: importing")
    assert done.stdout.endswith("['aaa-net', 'zzz-net'] []\nzzz-net\n")


def test_discovery_opens_few_files(site):
    """Of a distribution without entry points for segcore nothing but the list of entry points is opened."""
    for number in range(20):
        site.install("other", None, distribution=f"other{number}", entry_points="[console_scripts]\na = b:c\n")
    code = (
        "import sys, segcore.discovery\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "segcore.discovery.catalogue.plugins()\n"
        "print(sum('METADATA' in name for name in opened), sum('entry_points.txt' in name for name in opened))"
    )
    done = run_python(code, folder=site.folder)
    assert (done.stdout, done.stderr) == ("2 22\n", "")


def test_python_optimised_or_isolated_from_its_user(site):
    for flags in (("-O",), ("-OO",), ("-s",)):
        done = run_python(
            "import segcore; print(segcore.list_encoders())", folder=site.folder, flags=("-W", "error", *flags)
        )
        assert (done.stdout, done.stderr) == ("['aaa-net', 'zzz-net']\n", "")


def test_this_interpreter_is_the_one_that_is_tested():
    assert loaded("", flags=()) <= set(sys.stdlib_module_names) | loaded("")
