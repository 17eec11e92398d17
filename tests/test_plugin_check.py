"""The command `segcore plugin check`."""

import json
import re
import sys

import pytest

from segcore import OptionValueError, UnknownNameError, inspection
from segcore.inspection import Target, folder_targets, installed_targets
from segcore.testing import checks
from tests.bad_plugins import install
from tests.fake_plugins import ROOT, encoder, fake_site, listing, make_global, run_segcore

PYPROJECT = """
[project]
name = "Segcore_Plugin.Mine"
version = "0.3"
license = "MIT"
dependencies = ["segcore>=0.1,<0.2"]

[project.entry-points."segcore.v1"]
mine = "segcore_plugin_mine"
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    with fake_site(tmp_path / "site", monkeypatch) as made:
        make_global(made, monkeypatch)
        yield made


@pytest.fixture
def folder(tmp_path):
    """A project that is not installed."""
    made = tmp_path / "project"
    (made / "segcore_plugin_mine").mkdir(parents=True)
    (made / "pyproject.toml").write_text(PYPROJECT)
    (made / "segcore_plugin_mine" / "__init__.py").write_text(listing())
    return made


def run(site, *arguments):
    """Run the command in a process that sees the site; what checks runs in one that sees all that is installed."""
    done = run_segcore("plugin", "check", *arguments, folder=site.folder)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["tiny", "segcore-plugin-tiny", "Segcore_Plugin.Tiny"])
def test_an_installed_plugin_by_id_or_distribution(site, name):
    install(site, "tiny", listing())
    code, out, err = run(site, name)
    assert (code, err) == (0, "")
    assert out.startswith(f"segcore-plugin-tiny 1.0 (plugin 'tiny'): {len(checks.PLUGIN_CHECKS)} checks, all passed, ")


def test_what_fails_is_told_in_a_line_and_by_the_exit_code(site):
    install(site, "tiny", listing(before="print('hello')"), licence=None)
    code, out, err = run(site, "tiny")
    assert (code, err) == (1, "")
    silent, licence, summary = out.splitlines()
    assert silent.startswith("listing_is_silent  tiny: it prints 'hello")
    assert licence.startswith("package_states_its_licence  tiny: its metadata state no licence; add license = ")
    assert "2 failed" in summary


def test_as_json(site):
    install(site, "tiny", listing(before="print('hello')"))
    code, out, _ = run(site, "tiny", "--json", "--exempt", "listing_is_silent=it greets", "--exempt", "blue=x")
    (report,) = json.loads(out)
    assert code == 1
    assert (report["plugin"], report["distribution"], report["version"]) == ("tiny", "segcore-plugin-tiny", "1.0")
    assert report["exempt"] == {"listing_is_silent": "it greets", "blue": "x"}
    wrong = [(row["check"], row["about"]) for row in report["results"] if row["problem"]]
    assert report["failed"] == len(wrong) == 1
    assert wrong == [("exemptions", "blue")]
    assert len(report["results"]) == len(checks.PLUGIN_CHECKS) + 1


def test_only_some_encoders_are_built(site):
    install(site, "tiny", listing("one", "two"))
    assert run(site, "tiny", "--encoders", "none*")[0] == 0
    _, out, _ = run(site, "tiny", "--encoders", "tw?", "--json")
    (report,) = json.loads(out)
    assert {row["about"] for row in report["results"]} == {"tiny", "two"}


def test_a_folder_is_checked_without_being_installed(site, folder):
    before = sorted(folder.rglob("*"))
    code, out, err = run(site, str(folder))
    assert (code, err) == (0, ""), out
    assert out.startswith("segcore-plugin-mine 0.3 (plugin 'mine'): ")
    assert sorted(folder.rglob("*")) == before


def test_a_dynamic_version_is_read_where_build_back_ends_read_it(folder, tmp_path):
    (folder / "pyproject.toml").write_text(PYPROJECT.replace('version = "0.3"', 'dynamic = ["version"]'))
    (folder / "segcore_plugin_mine" / "__init__.py").write_text('__version__: str = "1.2rc1"\n' + listing())
    assert [target.version for target in folder_targets(folder, tmp_path / "scratch")] == ["1.2rc1"]


def test_a_folder_with_src_and_faults(site, folder):
    (folder / "src").mkdir()
    (folder / "segcore_plugin_mine").rename(folder / "src" / "segcore_plugin_mine")
    text = PYPROJECT.replace('license = "MIT"', "").replace("segcore>=0.1,<0.2", "segcore>=0.1")
    (folder / "pyproject.toml").write_text(text)
    code, out, _ = run(site, str(folder))
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()[:-1]] == [
        "package_bounds_segcore",
        "package_states_its_licence",
    ]


def test_the_folder_wins_over_an_installed_copy(site, folder):
    install(site, "mine", listing(before="print('installed')"))
    assert run(site, str(folder))[0] == 0


@pytest.mark.parametrize(
    ("licence", "line"),
    [
        ('license = "MIT"', "License-Expression: MIT"),
        ('license = {text = "BSD"}', "License: BSD"),
        ('license = {file = "LICENSE"}', "License: LICENSE"),
        (
            'classifiers = ["License :: OSI Approved :: MIT License"]',
            "Classifier: License :: OSI Approved :: MIT License",
        ),
    ],
)
def test_metadata_of_a_folder(folder, tmp_path, licence, line):
    (folder / "pyproject.toml").write_text(PYPROJECT.replace('license = "MIT"', licence))
    (target,) = folder_targets(folder, tmp_path / "scratch")
    info = tmp_path / "scratch" / "segcore_plugin_mine-0.3.dist-info"
    assert line in (info / "METADATA").read_text().splitlines()
    assert "Requires-Dist: segcore>=0.1,<0.2" in (info / "METADATA").read_text().splitlines()
    assert (info / "entry_points.txt").read_text() == "[segcore.v1]\nmine = segcore_plugin_mine\n"
    assert target == Target("segcore-plugin-mine", "0.3", "mine", (str(tmp_path / "scratch"), str(folder.resolve())))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no pyproject.toml in it"),
        ("[project", "pyproject.toml cannot be read: "),
        ("", 'declares no plugin: .project. needs a name, and .project.entry-points."segcore.v1"'),
        (PYPROJECT.replace("segcore.v1", "other"), "declares no plugin"),
        (PYPROJECT.replace("segcore_plugin_mine", "nowhere.x"), "'nowhere' lies neither in .*project nor in .*src"),
    ],
)
def test_a_folder_that_cannot_be_checked(folder, tmp_path, text, says):
    if text is None:
        (folder / "pyproject.toml").unlink()
    else:
        (folder / "pyproject.toml").write_text(text)
    with pytest.raises(OptionValueError, match=says):
        folder_targets(folder, tmp_path / "scratch")


def test_a_name_that_is_not_installed(site):
    install(site, "tiny", listing())
    with pytest.raises(UnknownNameError, match=r"no plugin 'tinny' is installed; .*'./tinny'. Did you mean 'tiny'"):
        installed_targets("tinny")
    code, out, err = run(site, "tinny")
    assert (code, out) == (2, "")
    assert err.startswith("Error: no plugin 'tinny' is installed")


def test_every_plugin_of_a_distribution(site):
    both = "[segcore.v1]\none = segcore_plugin_tiny\ntwo = segcore_plugin_two\n"
    install(site, "tiny", listing(), entry_points=both)
    assert [target.claim for target in installed_targets("segcore-plugin-tiny")] == ["one", "two"]
    assert [target.claim for target in installed_targets("two")] == ["two"]


def test_an_exemption_without_a_reason(site):
    for text in ("compiles_whole", "compiles_whole= "):
        code, _, err = run(site, "aaa", "--exempt", text)
        assert code == 2
        assert "CHECK=REASON is needed" in err


def crash(statement):
    return (
        "from segcore.testing import TinyEncoder\n\nclass Net(TinyEncoder):\n    def forward(self, x):\n        "
        + statement
    )


@pytest.mark.parametrize(
    ("statement", "says"),
    [("import os; os.abort()", "with SIGABRT .*fake_net.py:5"), ("import os; os._exit(9)", "with exit code 9 ")],
)
def test_a_crash_ends_the_checks_and_is_told(site, statement, says):
    record = encoder("net").replace("segcore.testing:TinyEncoder", "fake_net:Net")
    install(site, "tiny", listing(record))
    (site.folder / "fake_net.py").write_text(crash(statement))
    results = list(inspection.check(installed_targets("tiny")[0]))
    assert results[-1]["check"] == "features_match_the_record"
    assert re.search(f"the process ended {says}.*the checks after it were not run", results[-1]["problem"])


def test_what_a_plugin_prints_does_not_mix_with_results(site):
    source = crash("import os; print('mixed'); os.system('echo mixed'); return super().forward(x)")
    install(site, "tiny", listing(encoder("net").replace("segcore.testing:TinyEncoder", "fake_net:Net")))
    (site.folder / "fake_net.py").write_text(source)
    seen = []
    results = list(inspection.check(installed_targets("tiny")[0], progress=lambda *step: seen.append(step)))
    assert {row["check"] for row in results if row["problem"]} >= {"building_is_silent", "building_touches_nothing"}
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total, _ in seen} == {len(results)}
    assert seen[0][2] == "loads_without_warnings tiny"


def test_progress_is_shown_on_a_terminal_only(monkeypatch, capsys):
    from segcore.plugin_commands import _Progress

    _Progress().show(1, 2, "a check")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = _Progress()
    progress.show(1, 2, "a check")
    progress.clear()
    assert "[1/2] a check" in capsys.readouterr().err


def test_a_plugin_of_this_repository_as_a_folder(site):
    assert run(site, str(ROOT / "plugins" / "segcore-plugin-demo"))[0] == 0
