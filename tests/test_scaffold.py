"""`segcore plugin new`: the package that it writes, and what it refuses."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from segcore import EncoderSpec, NameTakenError, OptionValueError, scaffold
from segcore.cli import cli
from segcore.scaffold import new_package
from tests.fake_plugins import decoder, fake_site, listing

KINDS = ("encoder", "decoder", "both")
LONGEST = "abcdefghi-abcdefghi-abcdefghij"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "SEGCORE_PLUGINS"}


def run(*command, cwd):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Registries and a catalogue of a fake installation, which the scaffold asks."""
    with fake_site(tmp_path / "site", monkeypatch) as made:
        monkeypatch.setattr(scaffold, "catalogue", made.catalogue)
        monkeypatch.setattr(scaffold, "encoders", made.encoders)
        monkeypatch.setattr(scaffold, "decoders", made.decoders)
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_is_complete(site, tmp_path, kind):
    folder = new_package("wave", kind, tmp_path, 'Ada "L" \\ Løve')
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    networks = {f"segcore_plugin_wave/{part}.py" for part in ("encoder", "decoder") if kind in {part, "both"}}
    assert found == networks | {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".gitignore",
        ".github/workflows/ci.yml",
        "segcore_plugin_wave/__init__.py",
        "segcore_plugin_wave/py.typed",
        "tests/test_conformance.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {"segcore.v1": {"wave": "segcore_plugin_wave"}}
    assert project["dependencies"] == ["segcore>=0.1,<0.2", "torch>=2.4"]
    assert project["authors"] == [{"name": 'Ada "L" \\ Løve'}]
    assert 'Ada "L" \\ Løve' in (folder / "LICENSE").read_text(encoding="utf-8")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", readme, re.MULTILINE)
    weights = [] if kind == "decoder" else ["Weights"]
    assert headings == ["Install", "Example", "Names", "Options", *weights, "Licence"]
    for path in found:
        text = (folder / path).read_text(encoding="utf-8")
        assert not re.search(r"@[a-z_]+[@:]", text), f"{path} has an unfilled mark"
        assert text == "" or text.endswith("\n")


@pytest.mark.parametrize("name", ["w", LONGEST])
def test_the_package_is_clean_for_ruff_by_its_own_rules(site, tmp_path, name):
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        new_package(name, kind, tmp_path / kind, "Ada")
    run(sys.executable, "-m", "ruff", "check", "--no-cache", *KINDS, cwd=tmp_path)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *KINDS, cwd=tmp_path)


def test_the_requirement_follows_the_version():
    assert scaffold._bounds("0.1.0") == "segcore>=0.1,<0.2"
    assert scaffold._bounds("0.12.3.dev1") == "segcore>=0.12,<0.13"
    assert scaffold._bounds("2.3.1") == "segcore>=2.3,<3"


READ_THE_EXAMPLE = """
import pathlib, re, segcore
exec(re.search(r"```python\\n(.*?)```", pathlib.Path("README.md").read_text(encoding="utf-8"), re.DOTALL)[1])
assert [plugin.status for plugin in segcore.list_plugins() if plugin.namespace == "wave"] == ["ok"]
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_the_readme_prints_what_it_says(tmp_path, monkeypatch, kind):
    from tests.test_docs import write_metadata

    folder = new_package("wave", kind, tmp_path, "Ada")
    metadata = (folder / "pyproject.toml").read_text(encoding="utf-8").replace('dynamic = ["version"]', 'version = "1"')
    (folder / "pyproject.toml").write_text(metadata, encoding="utf-8")
    write_metadata(folder)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(folder))
    printed = run(sys.executable, "-W", "error", "-c", READ_THE_EXAMPLE, cwd=folder).splitlines()
    promised = re.findall(r"^print\(.*\)  # (.+)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert printed == promised
    assert promised


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_package_passes_the_kit_as_it_is(tmp_path, kind):
    """That it does so installed, and under pytest, the test of the tutorial shows."""
    folder = new_package("wave", kind, tmp_path, "Ada")
    out = run(sys.executable, "-m", "segcore", "plugin", "check", folder, cwd=tmp_path)
    assert "all passed" in out


def test_the_command(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["plugin", "new", "wave", "--kind", "both", "--author", "Ada"])
    assert result.exit_code == 0, result.output
    assert "Wrote segcore-plugin-wave. Next:" in result.output
    assert "Copyright (c) " in (tmp_path / "segcore-plugin-wave" / "LICENSE").read_text(encoding="utf-8")
    result = CliRunner().invoke(cli, ["plugin", "new", "wave"])
    assert isinstance(result.exception, NameTakenError)
    assert "segcore-plugin-wave' exists already. Remove it" in str(result.exception)


def test_writing_a_package_needs_no_torch(tmp_path):
    code = "import sys; from segcore.scaffold import new_package; new_package('wave'); sys.exit('torch' in sys.modules)"
    run(sys.executable, "-c", code, cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Wave", "lower-case letters.*Try 'wave'"),
        ("my_wave", "Try 'my-wave'"),
        ("my wave!", "Try 'my-wave'"),
        ("-wave", "Try 'wave'"),
        ("a--b", "Try 'a-b'"),
        ("a/b", "Try 'a-b'"),
        ("../wave", "Try 'wave'"),
        ("3d", "begins with a letter.$"),
        ("", "begins with a letter.$"),
        ("wellen-größe", "cannot be the id"),
        ("wave\n", "Try 'wave'"),
        (LONGEST + "k", "up to 30.*begins with a letter.$"),
        ("segcore-plugin-wave", "give the id alone.*Try 'wave'"),
        ("segcore", "a word of segcore's own"),
        ("local", "a word of segcore's own"),
    ],
)
def test_bad_names_are_refused(site, tmp_path, name, message):
    with pytest.raises(OptionValueError, match=message):
        new_package(name, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("resnet", "encoder", "id of segcore-plugin-resnet, a published package of segcore"),
        ("losses", "decoder", "id of segcore-plugin-losses, a published package"),
        ("aaa", "encoder", "id of segcore-plugin-aaa 1.0, which is installed.*pip uninstall segcore-plugin-aaa"),
        ("unet", "decoder", "decoder name 'unet' belongs to segcore-plugin-decoders"),
        ("resnet18", "encoder", "encoder name 'resnet18' belongs to segcore-plugin-resnet"),
        ("mobileone-s", "encoder", None),
        ("efficientnet-b", "encoder", "'efficientnet-b.*' belongs to segcore-plugin-efficientnet"),
        ("shallow", "encoder", "encoder name 'shallow-small' is offered by segcore-plugin-tiny"),
        ("shallow", "decoder", None),
        ("tiny-d", "encoder", "decoder name 'tiny-d' is offered by segcore-plugin-tiny"),
        ("blue-whale", "both", "segcore.BlueWhale, the class-style name, exists already"),
        ("blue-whale", "encoder", None),
        ("weights", "decoder", "segcore.Weights, the class-style name, exists already"),
        ("mine", "encoder", "encoder name 'mine-base' is offered by this process"),
        ("broken", "encoder", "id of segcore-plugin-broken 1.0, which is installed"),
        ("fixtures", "encoder", "'segcore_plugin_fixtures', is installed"),
    ],
)
def test_taken_names_are_refused(site, tmp_path, monkeypatch, name, kind, message):
    site.install("tiny", listing("shallow-small", decoder("tiny-d", "BlueWhale")))
    site.install("broken", "raise SystemExit")
    site.encoders["mine-base"] = EncoderSpec("mine-base", factory=dict)
    (tmp_path / "site" / "segcore_plugin_fixtures.py").touch()
    target = tmp_path / "out"
    target.mkdir()
    if message is None:
        assert new_package(name, kind, target).is_dir()
        return
    with pytest.raises(NameTakenError, match=message) as caught:
        new_package(name, kind, target)
    assert "Choose another name" in str(caught.value)
    assert not list(target.iterdir())


def test_an_installed_package_without_an_entry_point_takes_its_name(site, tmp_path):
    site.install("quiet", entry_points=False, module="other_module")
    with pytest.raises(NameTakenError, match="'segcore-plugin-quiet', or a module"):
        new_package("quiet", directory=tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_exists_is_left_alone(site, tmp_path, make):
    target = tmp_path / "segcore-plugin-wave"
    make(target)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(NameTakenError, match="exists already. Remove it, choose another name, or write elsewhere"):
        new_package("wave", directory=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_named(site, tmp_path):
    with pytest.raises(OptionValueError, match="is no folder. Make it first"):
        new_package("wave", directory=tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(OptionValueError, match="is no folder"):
        new_package("wave", directory=tmp_path / "file")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_all_or_nothing(site, tmp_path, monkeypatch, error):
    write, written = Path.write_text, []

    def fail_at_the_last(path, *rest, **options):
        written.append(path.name)
        if path.name == "py.typed":
            raise error
        return write(path, *rest, **options)

    monkeypatch.setattr(Path, "write_text", fail_at_the_last)
    expected = OptionValueError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="cannot be written: No space left" if isinstance(error, OSError) else None):
        new_package("wave", directory=tmp_path)
    assert len(written) > 5
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("author", ["", "  ", "two\nlines", "bell\a"])
def test_an_author_is_one_line(site, tmp_path, author):
    with pytest.raises(OptionValueError, match="a name on one line is needed"):
        new_package("wave", directory=tmp_path, author=author)


def test_the_author_is_that_of_git_or_nobody_in_particular(site, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Ada Lovelace\n", encoding="utf-8")
    assert "Ada Lovelace\n" in (new_package("wave") / "LICENSE").read_text(encoding="utf-8")
    (tmp_path / "gitconfig").write_text("", encoding="utf-8")
    assert "The foam authors\n" in (new_package("foam") / "LICENSE").read_text(encoding="utf-8")
    monkeypatch.setenv("PATH", "")
    assert "The surf authors\n" in (new_package("surf") / "LICENSE").read_text(encoding="utf-8")


def test_an_unknown_kind_is_refused(site, tmp_path):
    with pytest.raises(OptionValueError, match="kind='head': it is 'encoder', 'decoder', 'both'"):
        new_package("wave", "head", tmp_path)
