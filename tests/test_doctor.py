"""`segcore doctor`: what it says of each kind of trouble, rows 4, 6, 8 to 10, 27, 43 and 46 of the table included."""

import json
import re
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from segcore import UnknownNameError, doctor, installation
from segcore.doctor import diagnose
from segcore.installation import Finding, metadata_findings
from segcore.probe import examine, place_of
from tests.fake_plugins import HEADER, encoder, fake_site, listing, make_global, run_python, run_segcore

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
NET = listing('EncoderSpec("tiny-s", factory="fake_net:Net", out_channels=(3, 8))')
ENVIRONMENT = {
    "segcore": "0",
    "python": "3",
    "platform": "none",
    "packages": {"torch": None},
    "device": None,
    "cache": {"folder": "/cache", "exists": False, "writable": True},
}
HANG = "import time\nwhile True:\n    time.sleep(3600)\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        (made.folder / "fake_net.py").write_text("class Net: pass")
        make_global(made, monkeypatch)
        monkeypatch.setattr(doctor, "describe_environment", lambda _timeout: (ENVIRONMENT, []))
        yield made


def examined(site, *words, timeout=60.0):
    """Return the findings on the fake installation alone."""
    return diagnose(words or ("tiny",), timeout=timeout, path=site.path).findings


def only(site, *words, **more):
    (finding,) = examined(site, *words, **more)
    return finding


def found(site, kind, *parts, fix, problem=True, words=("tiny",)):
    """The doctor finds one thing, of this kind, that says these parts; return it."""
    finding = only(site, *words)
    assert (finding.kind, finding.problem) == (kind, problem), finding
    for part in parts:
        assert part in finding.message, (part, finding)
    assert fix in finding.fix, finding
    return finding


# --- what a plugin does -----------------------------------------------------------------------------------------------


def test_healthy_plugins_give_no_finding(site):
    site.install("tiny", NET)
    result = diagnose(("tiny", "segcore_plugin.TINY"), path=site.path)
    assert (result.findings, result.problems, result.environment) == ([], 0, ENVIRONMENT)
    (row,) = result.plugins
    assert row.pop("cpu_ms") >= 0
    assert row == {
        "id": "tiny",
        "distribution": "segcore-plugin-tiny",
        "version": "1.0",
        "status": "ok",
        "names": 1,
    }
    assert "segcore_plugin_tiny" not in sys.modules


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        ("import os\nos.abort()", "crash", "it crashed with SIGABRT"),
        ("import ctypes\nctypes.string_at(0)", "crash", "it crashed with SIGSEGV"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "crash", "it crashed with SIGKILL"),
        ("import os\nos._exit(77)", "exit", "it ended the process with exit code 77"),
        ("import os\nos._exit(0)", "exit", "it ended the process with exit code 0"),
    ],
)
def test_row_04_a_crash_at_import_is_named(site, source, kind, says):
    site.install("tiny", source)
    finding = found(site, kind, f"{says} while importing it", fix="pip install -U segcore-plugin-tiny")
    assert "export SEGCORE_PLUGINS=-tiny" in finding.fix
    assert (finding.plugin, finding.distribution, finding.version) == ("tiny", "segcore-plugin-tiny", "1.0")
    if says[-7:] in {"SIGABRT", "SIGSEGV"}:
        assert finding.where == f"{site.folder / 'segcore_plugin_tiny.py'}:2"


def hanging(site):
    """Return the finding on a plugin that hangs; the time-out grows until a loaded machine has come that far."""
    for timeout in (1.5, 6, 60):
        finding = only(site, timeout=timeout)
        if finding.where and str(site.folder) in finding.where:
            break
    assert (finding.kind, finding.problem) == ("hang", True)
    assert f"it did not end within {timeout:g} s" in finding.message
    assert "segcore doctor tiny --timeout 600" in finding.fix
    return finding


def test_row_04_a_hang_at_import_is_named_with_its_line(site):
    site.install("tiny", HANG)
    finding = hanging(site)
    assert finding.where == f"{site.folder / 'segcore_plugin_tiny.py'}:3"
    assert "while importing it and listing its records" in finding.message


def test_row_04_a_hang_in_a_lock_is_placed_in_the_plugin_not_in_the_library(site):
    site.install("tiny", "import threading\nthreading.Event().wait()")
    assert hanging(site).where == f"{site.folder / 'segcore_plugin_tiny.py'}:2"


@pytest.mark.parametrize(
    ("source", "network", "step"),
    [
        (listing("tiny-s", after="    import os\n    os.abort()"), "", "listing its records"),
        (NET, "import os\nos.abort()", "importing its classes"),
        (
            NET + "\n@hookimpl\ndef segcore_doctor():\n    import os\n    os.abort()",
            "class Net: pass",
            "asking its segcore_doctor",
        ),
    ],
    ids=["records", "class", "hook"],
)
def test_row_04_a_crash_later_on_is_named_with_its_step(site, source, network, step):
    site.install("tiny", source)
    (site.folder / "fake_net.py").write_text(network)
    assert step in found(site, "crash", "SIGABRT", fix="SEGCORE_PLUGINS=-tiny").message


def test_row_04_import_of_segcore_is_unharmed_by_a_plugin_that_crashes(site):
    site.install("tiny", "import os\nos.abort()")
    done = run_python("import segcore\nprint(len(segcore.__all__) > 9)", folder=site.folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_two_broken_plugins_and_two_healthy_ones_at_once(site):
    site.install("crash", "import os\nos.abort()")
    site.install("raises", "raise ValueError('no')")
    for name in ("aaa", "zzz"):
        site.install(name, NET.replace("tiny-s", f"{name}-net"))
    told = []
    result = diagnose(path=site.path, told=told.append)
    assert [row["status"] for row in result.plugins] == ["ok", "crashes", "broken", "ok"]
    assert told == result.plugins
    assert [(finding.plugin, finding.kind) for finding in result.findings] == [("crash", "crash"), ("raises", "broken")]


@pytest.mark.parametrize(
    ("source", "kind", "part", "fix"),
    [
        ("raise ValueError('no')", "broken", "ValueError: no", "pip install -U segcore-plugin-tiny"),
        ("import sys; sys.exit(3)", "broken", "SystemExit: 3", "pip install -U segcore-plugin-tiny"),
        ("x =", "broken", "SyntaxError", "pip install -U segcore-plugin-tiny"),
        (None, "broken", "No module named", "pip install --force-reinstall --no-deps segcore-plugin-tiny"),
        ("import fake_absent", "broken", "fake_absent", "pip install segcore-plugin-tiny, which brings what it needs"),
        (HEADER + "@hookimpl\ndef segcore_specs(x):\n    pass", "broken", "x", "pip install -U segcore-plugin-tiny"),
        (HEADER + "@hookimpl(wrapper=True)\ndef segcore_specs():\n    yield", "broken", "wrapper", "pip install -U"),
        (HEADER + "@hookimpl\ndef segcore_new():\n    pass", "incompatible", "segcore_new", "pip install -U segcore "),
        (NET + "\n    raise ValueError('late')", "degraded", "ValueError: late", "pip install -U segcore-plugin-tiny"),
    ],
)
def test_what_discovery_refuses_is_a_problem_with_its_fix(site, source, kind, part, fix):
    site.install("tiny", source)
    finding = found(site, kind, part, fix=fix)
    assert finding.where is None


@pytest.mark.parametrize("module", ["timm", "numpy", "torch"])
def test_row_43_heavy_imports_are_named(site, module):
    if module != "torch":
        (site.folder / f"{module}.py").write_text("")  # a stand-in that costs nothing
    site.install("tiny", f"import {module}\n{NET}")
    finding = found(site, "heavy", "listing its records imports ", fix="pip install -U segcore-plugin-tiny")
    assert module in re.findall(r"\w+", finding.message.partition("imports")[2])


def test_factories_that_cannot_be_imported(site):
    records = [
        f'EncoderSpec("tiny-{i}", factory="{factory}", out_channels=(3, 8))'
        for i, factory in enumerate(("fake_net:Net", "fake_net:Gone", "fake_gone:One", "fake_gone:Two"))
    ]
    site.install("tiny", listing(*records))
    first, second = examined(site)
    assert (first.kind, second.kind) == ("factory", "factory")
    assert "'fake_net:Gone' cannot be imported: AttributeError" in first.message
    assert first.fix == "pip install -U segcore-plugin-tiny"
    assert "'fake_gone:One' cannot be imported: ModuleNotFoundError" in second.message
    assert "(1 more fail alike)" in second.message
    assert "or the package that holds 'fake_gone'" in second.fix


def test_what_the_plugin_itself_finds(site):
    hook = "@hookimpl\ndef segcore_doctor():\n    yield 'no\\n  licence'\n    raise ValueError('late')"
    site.install("tiny", f"{NET}\n{hook}")
    findings = examined(site)
    assert [(f.kind, f.problem, f.message) for f in findings] == [
        ("plugin", True, "no licence"),
        ("plugin", True, "segcore_doctor raised ValueError: late"),
    ]


@pytest.mark.parametrize("answer", ["return None", "return []", "yield from ()"])
def test_a_plugin_that_finds_nothing(site, answer):
    site.install("tiny", f"{NET}\n@hookimpl\ndef segcore_doctor():\n    {answer}")
    assert examined(site) == []


def test_strict_does_not_stop_the_doctor(site, monkeypatch):
    monkeypatch.setenv("SEGCORE_STRICT", "1")
    site.install("tiny", "raise ValueError")
    found(site, "broken", "ValueError", fix="pip install")


def test_an_interruption_ends_the_processes(site):
    site.install("aaa", NET)
    site.install("hangs", f"open({str(site.folder / 'reached')!r}, 'w').close()\n{HANG}")

    def interrupted(_row):
        raise KeyboardInterrupt

    before = set(threading.enumerate())  # other tests in this process have threads of their own
    with pytest.raises(KeyboardInterrupt):
        diagnose(("aaa", "hangs"), timeout=3600, path=site.path, told=interrupted)
    assert set(threading.enumerate()) <= before


def test_a_process_is_stopped_from_another_thread(site):
    site.install("tiny", HANG)
    stop = threading.Event()
    stop.set()
    assert examine("tiny", timeout=3600, stop=stop)["how"] == "hang"


def test_the_place_is_that_of_the_thread_that_crashed():
    text = (
        'Traceback (most recent call last):\n  File "/c.py", line 1, in f\nFatal\n\nThread 0x1 (most recent call first):\n  File "/a.py", line 1 in f\n\n'
        'Current thread 0x2 (most recent call first):\n  File "<frozen importlib>", line 9 in f\n'
        f'  File "{threading.__file__}", line 3 in wait\n  File "/b.py", line 2 in f\n\nExtension modules: x\n'
    )
    assert place_of(text) == "/b.py:2"
    assert place_of(text.replace("/b.py", threading.__file__)) == "<frozen importlib>:9"
    assert place_of(text.replace("Current t", "T")) == "/a.py:1"
    assert place_of(text.partition("Fatal")[0]) is None


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_another_interface_and_another_segcore_are_not_imported(site):
    site.install("tiny", "raise SystemExit", entry_points="[segcore.v2]\ntiny = segcore_plugin_tiny\n")
    site.install("other", "raise SystemExit", requires=["segcore>=99"])
    speaks, needs = examined(site, "tiny", "other")
    assert (speaks.kind, needs.kind) == ("incompatible", "incompatible")
    assert "it speaks plugin interface 2" in speaks.message
    assert "it needs segcore >=99" in needs.message
    assert speaks.fix == "pip install -U segcore segcore-plugin-tiny"
    assert needs.fix == "pip install -U segcore segcore-plugin-other"


def test_a_blocked_plugin_is_a_note_and_is_not_imported(site, monkeypatch):
    site.install("tiny", "import os\nos.abort()")
    monkeypatch.setenv("SEGCORE_PLUGINS", "-tiny")
    found(site, "disabled", "SEGCORE_PLUGINS leaves it out", fix="change SEGCORE_PLUGINS=-tiny", problem=False)


def test_what_is_blocked_already_stays_so_in_the_fix(site, monkeypatch):
    site.install("tiny", "import os\nos.abort()")
    monkeypatch.setenv("SEGCORE_PLUGINS", "-zzz")
    assert "export SEGCORE_PLUGINS=-zzz,-tiny" in only(site).fix


def test_row_27_words_that_mean_nothing_are_a_problem(site, monkeypatch):
    site.install("tiny", NET)
    monkeypatch.setenv("SEGCORE_PLUGINS", "-absent")
    found(site, "unknown-id", "SEGCORE_PLUGINS names 'absent'", fix="take it out of SEGCORE_PLUGINS")


@pytest.mark.parametrize(
    ("entry_points", "metadata", "says", "harm"),
    [
        (b"[console_scripts]\nno equals sign\n", None, "entry_points.txt: ", "`import torch` among them"),
        (b"[console_scripts]\nx = \xe9:y\n", None, "entry_points.txt: UnicodeDecodeError", "`import torch` among them"),
        (b"[segcore.v1]\nx = \xe9\n", None, "entry_points.txt: UnicodeDecodeError", "A plugin in it is not found."),
        (b"[segcore.v1]\nx = segcore_plugin_x\n[y]\nz\n", None, "entry_points.txt: ", "`import torch` among them"),
        (b"[console_scripts]\nx = not a reference\n", None, "", None),
        (False, False, "there is no name in them", None),
        (False, b"\xff\xfe\x00", "", None),
    ],
)
def test_row_06_malformed_metadata_of_others_are_shown(site, entry_points, metadata, says, harm):
    site.install("tiny", NET)
    assert list(metadata_findings(site.path)) == []
    site.install("other", None, distribution="other", entry_points=entry_points, metadata=metadata)
    (finding,) = metadata_findings(site.path)
    assert (finding.kind, finding.problem, finding.distribution) == ("metadata", harm is not None, "other")
    assert str(site.folder / "other-1.0.dist-info") in finding.message
    assert says in finding.message
    assert (harm or "Segcore passes over it; other programs may not.") in finding.message
    assert "pip install --force-reinstall other, or delete" in finding.fix
    assert examined(site, "tiny") == []


@pytest.mark.parametrize(("entry_points", "fails"), [("[x]\nno equals sign\n", True), ("[x]\na = b\n", False)])
def test_row_06_torch_does_fail_by_malformed_entry_points(site, entry_points, fails):
    site.install("other", None, distribution="other", entry_points=entry_points)
    done = run_python("import torch", folder=site.folder)
    assert (done.returncode != 0) == fails, done.stderr
    assert done.returncode == 0 or "entry_point" in done.stderr


def test_row_08_an_equal_copy_is_a_note(site, tmp_path):
    for folder in (site.folder, tmp_path / "second"):
        site.install("tiny", NET, folder=folder)
    site.path.append(str(tmp_path / "second"))
    finding = found(site, "copy", "it lies on the path 2 times", fix="pip uninstall segcore-plugin-tiny", problem=False)
    assert f"1.0 in {tmp_path / 'second' / 'segcore_plugin_tiny-1.0.dist-info'}" in finding.message


def test_row_09_another_copy_is_a_problem(site, tmp_path):
    site.install("tiny", NET)
    site.install("tiny", NET, version="0.9", module="fake_old", folder=tmp_path / "second")
    site.path.append(str(tmp_path / "second"))
    found(site, "shadowed", "1.0 in ", ", 0.9 in ", fix="pip uninstall segcore-plugin-tiny, again until none is left")


def test_row_10_stale_egg_info_is_a_problem_though_the_plugin_works(site, tmp_path):
    site.install("tiny", None, version="0.1", entry_points=False, folder=tmp_path / "stale", suffix="egg-info")
    site.install("tiny", NET)
    site.path.insert(0, str(tmp_path / "stale"))
    finding = found(site, "shadowed", "0.1 in ", fix="what pip does not find, delete")
    assert str(tmp_path / "stale" / "segcore_plugin_tiny-0.1.egg-info") in finding.message


def test_copies_of_packages_that_are_no_plugins_are_not_our_business(site, tmp_path):
    for folder in (site.folder, tmp_path / "second"):
        site.install("x", None, distribution="other", entry_points=False, folder=folder)
    assert list(metadata_findings([*site.path, str(tmp_path / "second")])) == []


def test_segcore_itself_twice(site, tmp_path):
    for version, folder in (("0.1", site.folder), ("0.2", tmp_path / "second")):
        site.install("x", None, distribution="segcore", version=version, entry_points=False, folder=folder)
    (finding,) = metadata_findings([*site.path, str(tmp_path / "second")])
    assert (finding.kind, finding.distribution, finding.problem) == ("shadowed", "segcore", True)


def test_an_entry_point_that_is_written_twice_is_a_note(site):
    text = "[segcore.v1]\ntiny = segcore_plugin_tiny\ntiny = fake_other\n"
    site.install("tiny", NET, entry_points=text)
    found(site, "entry-point", "'tiny' is written twice", fix="pip install -U segcore-plugin-tiny", problem=False)


def editable(site, folder, project, **more):
    """Install a plugin as pip does from a folder, and write another project into that folder."""
    site.install("tiny", NET, **more)
    origin = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    (site.folder / "segcore_plugin_tiny-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    if project is not None:
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").write_text(project)


PROJECT = (
    '[project]\nname = "x"\nversion = "1.0.0"\n[project.entry-points."segcore.v1"]\ntiny = "segcore_plugin_tiny"\n'
)


@pytest.mark.parametrize("project", [PROJECT, PROJECT.replace('version = "1.0.0"', 'dynamic = ["version"]'), "", "x ="])
def test_editable_metadata_that_are_up_to_date(site, tmp_path, project):
    editable(site, tmp_path / "with space", project)
    assert examined(site) == []


@pytest.mark.parametrize(
    ("project", "more", "says"),
    [
        (PROJECT.replace("1.0.0", "2.0"), {}, "says version 2.0, installed as 1.0 (editable)"),
        (PROJECT + 'two = "m"\n', {}, "says the plugins tiny = segcore_plugin_tiny, two = m, installed as tiny = "),
        (PROJECT, {"entry_points": False}, "says the plugins tiny = segcore_plugin_tiny, installed as none (editable)"),
    ],
)
def test_editable_metadata_that_are_stale(site, tmp_path, project, more, says):
    folder = tmp_path / "with space"
    editable(site, folder, project, **more)
    (finding,) = metadata_findings(site.path)
    assert (finding.kind, finding.problem, finding.fix) == ("stale", True, f"pip install -e {folder}")
    assert finding.message.startswith(str(folder / "pyproject.toml"))
    assert says in finding.message


def test_editable_whose_folder_is_gone(site, tmp_path):
    editable(site, tmp_path / "gone", None)
    found(site, "stale", f"from {tmp_path / 'gone'} (editable), which is gone", fix="pip uninstall segcore-plugin-tiny")


# --- names ------------------------------------------------------------------------------------------------------------


def test_two_packages_with_one_id(site):
    for name in ("one", "two"):
        site.install("tiny", NET.replace("tiny-s", name), distribution=name, module=f"fake_{name}")
    findings = examined(site, "one", "two")
    assert [(finding.kind, finding.plugin) for finding in findings] == [("id", "one"), ("id", "two")]
    assert findings[0].message == "another package has or claims the id 'tiny'; this one is called 'one'"
    assert findings[0].fix == "write 'one/<name>', or pip uninstall one of them"


def test_two_packages_with_one_name(site):
    for name in ("one", "two"):
        site.install(name, NET)
    found(
        site,
        "name",
        "'tiny-s' offered by segcore-plugin-one and segcore-plugin-two: the bare name is ambiguous",
        fix="write 'one/tiny-s' or 'two/tiny-s', or pip uninstall one",
        words=("one", "two"),
    )


def test_names_within_namespaces_do_not_clash(site):
    for name in ("one", "two"):
        site.install(name, NET.replace("tiny-s", f"{name}/tiny-s"))
    assert examined(site, "one", "two") == []


def test_an_official_name_in_a_third_party_is_a_note(site):
    site.install("tiny", NET.replace("tiny-s", "resnet34"))
    found(
        site,
        "name",
        "its 'resnet34': as bare names they belong to segcore-plugin-resnet",
        fix="write 'tiny/resnet34'",
        problem=False,
    )


# --- the surroundings -------------------------------------------------------------------------------------------------


def surroundings(monkeypatch, script, tmp_path, **versions):
    """Return what is found where torch answers like this script and these versions are installed."""
    monkeypatch.setattr(installation, "_ASK_TORCH", script)
    known = {"torch": "2.9", "segcore": "0.1"} | versions
    monkeypatch.setattr(installation, "_version", known.get)
    monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "a" / "cache"))
    return installation.describe_environment(60.0)


GOOD = "print('noise'); print('{\"device\": \"cpu\"}')"


def test_surroundings_without_fault(monkeypatch, tmp_path):
    environment, findings = surroundings(monkeypatch, GOOD, tmp_path, timm="1.0")
    assert findings == []
    assert environment["device"] == "cpu"
    assert environment["packages"] == {
        name: {"torch": "2.9", "timm": "1.0"}.get(name) for name in installation.PACKAGES
    }
    assert environment["cache"] == {"folder": str(tmp_path / "a" / "cache"), "exists": False, "writable": True}


@pytest.mark.parametrize(
    ("script", "versions", "kind", "problem", "says", "fix"),
    [
        ("raise OSError('libx.so')", {}, "torch", True, "exit code 1: OSError: libx.so", "--force-reinstall torch"),
        ("import os; os.abort()", {}, "torch", True, "exit code -6", "--force-reinstall torch"),
        ("", {"torch": None}, "torch", True, "it is not installed", "--force-reinstall torch"),
        (f"{GOOD}; print('{{\"numpy\": \"RuntimeError: x\"}}')", {}, "numpy", True, "RuntimeError: x", "safetensors[torch]"),
        (
            f"{GOOD}; print('{{\"torchvision\": \"RuntimeError: nms\"}}')",
            {"torchvision": "0.28.0"},
            "torchvision",
            False,
            "torchvision 0.28.0 does not fit torch 2.9: importing it raises RuntimeError: nms",
            "as a pair of one build",
        ),
        (GOOD, {"lightning": "2.6.2"}, "malicious", True, "lightning 2.6.2", "'lightning!=2.6.2,!=2.6.3'"),
        (GOOD, {"segcore": None}, "no-metadata", False, "plugins are found by theirs", "pip install segcore"),
    ],
)  # fmt: skip
def test_what_is_wrong_around_the_plugins(monkeypatch, tmp_path, script, versions, kind, problem, says, fix):
    (finding,) = surroundings(monkeypatch, script, tmp_path, **versions)[1]
    assert (finding.kind, finding.problem) == (kind, problem)
    assert says in finding.message
    assert fix in finding.fix


def test_row_46_a_frozen_application_is_told_to_bundle_metadata(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    (finding,) = surroundings(monkeypatch, GOOD, tmp_path, segcore=None)[1]
    assert (finding.kind, finding.problem) == ("no-metadata", True)
    assert "--copy-metadata segcore" in finding.fix


def test_torch_that_hangs(monkeypatch):
    monkeypatch.setattr(installation, "_ASK_TORCH", HANG)
    _, findings = installation.describe_environment(0.5)
    assert findings[0].kind == "torch"
    assert findings[0].message == "torch cannot be used: importing it did not end within 0.5 s"


def test_a_cache_that_cannot_be_written_to_is_a_note(monkeypatch, tmp_path):
    (tmp_path / "a").write_text("no folder")
    _, (finding,) = surroundings(monkeypatch, GOOD, tmp_path)
    assert (finding.kind, finding.problem) == ("cache", False)
    assert str(tmp_path / "a" / "cache") in finding.message
    assert "export SEGCORE_CACHE=" in finding.fix


def test_no_plugin_at_all_is_a_note(site):
    site.path.clear()
    make = diagnose(path=[])
    assert [(finding.kind, finding.problem) for finding in make.findings] == [("no-plugins", False)]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_with_a_crash_and_a_failure(site):
    site.install("crash", "import os\nos.abort()")
    site.install("raises", "raise ValueError('no')")
    for name in ("aaa", "zzz"):
        site.install(name, NET.replace("tiny-s", f"{name}-net"))
    done = run_segcore("doctor", folder=site.folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"^aaa +segcore-plugin-aaa 1\.0 +ok +1 name, \d+ ms$", done.stdout, re.MULTILINE)
    assert re.search(r"^crash +segcore-plugin-crash 1\.0 +crashes +-$", done.stdout, re.MULTILINE)
    assert "\nPROBLEM [crash] segcore-plugin-crash 1.0: it crashed with SIGABRT while importing" in done.stdout
    assert "\n  fix: pip install -U segcore-plugin-crash, or do without it: export" in done.stdout
    assert "\nPROBLEM [broken] segcore-plugin-raises 1.0: importing " in done.stdout
    assert "torch 2" in done.stdout
    assert re.search(r"\n2 problems, \d+ notes?\.\n$", done.stdout)


def test_the_command_by_name_where_all_is_well_and_as_json(site):
    site.install("tiny", NET)
    site.install("crash", "import os\nos.abort()")
    done = run_segcore("doctor", "tiny", "--json", "--timeout", "120", folder=site.folder)
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert list(data) == ["environment", "plugins", "findings", "problems"]
    assert [row["id"] for row in data["plugins"]] == ["tiny"]
    assert data["problems"] == 0
    assert data["environment"]["packages"]["torch"]
    assert data["environment"]["device"]


def test_the_command_refuses_what_is_not_installed(site):
    with pytest.raises(UnknownNameError, match="no plugin 'tinny' is installed; .* Did you mean 'tiny'"):
        site.install("tiny", NET)
        examined(site, "tinny")
    done = run_segcore("doctor", "absent", folder=site.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: no plugin 'absent' is installed" in done.stderr
    assert run_segcore("doctor", "--timeout", "0", folder=site.folder).returncode == 2


def test_the_doctor_imports_no_torch_itself(site):
    done = run_python(
        "import sys, segcore.doctor\nprint({'torch', 'timm', 'numpy', 'safetensors'} & {*sys.modules})",
        folder=site.folder,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_kinds_and_keys_are_documented():
    page = PAGE.read_text(encoding="utf-8")
    sources = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (doctor, installation))
    kinds = {"crash", "hang", "exit", "broken", "degraded", "incompatible", "disabled", "copy", "shadowed"}
    kinds |= set(re.findall(r'kind="([a-z-]+)"', sources))
    kinds |= set(re.findall(r'(?:Finding|_of)\(\s*(?:copy,\s*)?"([a-z-]+)"', sources))
    assert len(kinds) > 15
    for kind in kinds:
        assert f"\n| `{kind}` |" in page, kind
    keys = [field.name for field in fields(Finding)] + [*ENVIRONMENT, *ENVIRONMENT["cache"]]
    for key in [*keys, "id", "status", "names", "cpu_ms", "environment", "plugins", "findings", "problems"]:
        assert f"`{key}`" in page, key


def test_encoders_of_the_core_pass(site):
    site.install("tiny", listing(encoder("tiny-s")))
    assert examined(site) == []
