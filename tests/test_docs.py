"""What the documentation shows works, and what the code offers is documented."""

import contextlib
import doctest
import inspect
import io
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import segcore
from segcore import config, hookspecs
from segcore.cli import cli
from segcore.discovery import Catalogue
from segcore.owners import OFFICIAL

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    DOCS / "index.md",
    *sorted(set(DOCS.glob("tutorials/*.md")) - {DOCS / "tutorials" / "first-plugin.md"}),  # test_tutorial.py runs it
    *sorted(DOCS.glob("how-to/*.md")),
    *sorted(DOCS.glob("explanation/*.md")),
]
LISTINGS = {"plugins", "encoders", "decoders", "losses"}
CHECKER = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(
    r"^<!-- check: (?P<check>.+?) -->$|(?:^<!-- (?P<mark>[a-z ]+): (?P<note>.+?) -->\n\s*)?"
    r"^(?P<indent> *)(?P<ticks>```+|~~~+)(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=ticks)\s*?$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Block:
    language: str
    text: str
    line: int
    mark: str | None
    note: str | None
    follows: bool  # nothing but blank lines between this block and the one before


def blocks_of(page):
    source = page.read_text(encoding="utf-8")
    found, end = [], 0
    for match in BLOCK.finditer(source):
        if match["check"]:  # an assertion that readers do not see
            line = source.count("\n", 0, match.start()) + 1
            found.append(Block("python", f"assert {match['check']}\n", line, None, None, follows=False))
            end = match.end()
            continue
        indent = match["indent"]
        text = "\n".join(line.removeprefix(indent) for line in match["text"].splitlines()) + "\n"
        line = source.count("\n", 0, match.start("ticks")) + 1
        follows = not source[end : match.start()].strip()
        found.append(Block(match["language"], text, line, match["mark"], match["note"], follows))
        end = match.end()
    return found


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """An empty folder to run in, from which modules can be imported; registrations and modules are taken back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    installed = Catalogue()
    for registry in (segcore.encoders, segcore.decoders, segcore.losses):
        monkeypatch.setattr(registry, "_local", {})
        monkeypatch.setattr(registry, "_source", installed)
    before, names = set(sys.modules), set(vars(segcore))
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    for name in set(vars(segcore)) - names - set(segcore.__all__):
        if callable(vars(segcore)[name]):
            delattr(segcore, name)  # class-style names of local decoders


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_runs_in_order_and_prints_what_is_shown(page, at_home):
    namespace, printed = {"__name__": "__main__"}, None
    for block in blocks_of(page):
        where = f"{name_of(page)}, line {block.line}"
        assert block.mark in {None, "not run", "file"}, f"{where}: unknown mark {block.mark!r}"
        if block.mark == "not run":
            printed = None
        elif block.mark == "file":
            path = at_home / block.note
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            printed = None
        elif block.language == "python":
            code = compile("\n" * block.line + block.text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(code, namespace)
            printed = stream.getvalue()
        elif block.language == "text" and block.follows and printed is not None:
            assert CHECKER.check_output(block.text, printed, FLAGS), f"{where} shows\n{block.text}but it is\n{printed}"
        elif block.language in {"bash", "sh", "console"}:
            run_commands(block, where, at_home)


def run_commands(block, where, at_home):
    for line in block.text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words == ["pip", "install", "-e", "."]:
            write_metadata(at_home)
        if words[:1] == ["segcore"] and words[1:2] and words[1] in LISTINGS:
            result = CliRunner().invoke(cli, words[1:])
            assert result.exit_code == 0, f"{where}: {line!r} ended with {result.exit_code}\n{result.output}"


def write_metadata(folder):
    """Write what installing the package in a folder leaves there for discovery."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    target = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    target.mkdir()
    required = [f"Requires-Dist: {line}" for line in project["dependencies"]]
    head = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}", *required]
    (target / "METADATA").write_text("\n".join(head) + "\n", encoding="utf-8")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in rows.items()) for group, rows in groups]
    (target / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_blocks_are_found_with_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n\n<!-- not run: costs money -->\n```python\n1 / 0\n```\n\n```text\nx\n```\nb\n- c\n\n  ~~~python\n  y = 1\n  ~~~\n"
    )
    first, second, third = blocks_of(page)
    assert (first.language, first.mark, first.note, first.line) == ("python", "not run", "costs money", 4)
    assert (second.language, second.follows) == ("text", True)
    assert (third.text, third.follows, third.mark) == ("y = 1\n", False, None)


def documented(page):
    """Return the names that a page of the reference has entries for."""
    text = (DOCS / "reference" / page).read_text(encoding="utf-8")
    return set(re.findall(r"^\.\. (?:auto\w+|py:\w+):: ([\w.]+)", text, re.MULTILINE))


def test_every_public_name_has_an_entry():
    errors = {f"segcore.{name}" for name in error_names()}
    names = {f"segcore.{name}" for name in segcore.__all__}
    assert names - errors <= documented("api.md")
    assert errors == documented("errors.md")


def error_names():
    kinds = {name: value for name, value in vars(segcore.errors).items() if inspect.isclass(value)}
    return [name for name, value in kinds.items() if issubclass(value, Exception)]


def test_the_tree_of_errors_is_that_of_the_code():
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    for name in error_names():
        kind = getattr(segcore.errors, name)
        bases = [base.__name__ for base in kind.__bases__ if not issubclass(base, segcore.SegcoreError)]
        shown = name if not bases or bases == ["Exception"] else f"{name}({bases[0]})"
        assert re.search(rf"^[│├└─ ]*{re.escape(shown)}$", page, re.MULTILINE), shown


def test_every_hook_has_an_entry_and_a_row():
    hooks = [name for name, value in vars(hookspecs).items() if hasattr(value, "segcore_spec")]
    page = (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8")
    assert documented("hooks.md") == {f"segcore.hookspecs.{name}" for name in hooks}
    for name in hooks:
        assert f"\n## {name}\n" in page
        assert f"\n| [`{name}`](#{name.replace('_', '-')}) |" in page
        directive = f"```{{eval-rst}}\n.. autofunction:: segcore.hookspecs.{name}\n```"
        assert directive in page  # the signature is the code's, not written by hand


def test_every_command_and_option_has_an_entry(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    from segcore_pages import command_reference, commands, home

    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", command_reference(), re.MULTILINE | re.DOTALL))
    page = "\n".join(sections.values())
    found = {context.command_path: context.command for context in commands(cli)}
    assert {"segcore plugins", "segcore encoders", "segcore decoders", "segcore losses"} <= set(found)
    assert {"segcore train", "segcore evaluate", "segcore predict"} <= set(found)
    assert home(found["segcore train"]) == "segcore-plugin-train"
    assert "Comes with `segcore-plugin-train`." in sections["segcore train"]
    assert list(sections) == [*found, "Exit codes"]
    for path, command in found.items():
        assert command.help, f"{path} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.opts[-1]} has no help"
                assert parameter.help.replace("*", r"\*") in sections[path], f"{path} {parameter.opts[-1]}"
                assert re.search(rf"^\.\. option:: .*{re.escape(parameter.opts[-1])}\b", sections[path], re.MULTILINE)
    assert "| 0 | done |" in page
    assert "\n| 130 |" in page


def test_every_check_of_the_kit_has_an_entry(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    from segcore_pages import check_reference

    from segcore.testing import checks

    page = check_reference()
    for title, group in checks.GROUPS.items():
        assert f"\n### {title}\n" in f"\n{page}"
        for check in group:
            assert f"\n| `{check.__name__}` | " in page
            assert len(inspect.getdoc(check).splitlines()) == 1, f"{check.__name__}: one sentence"
    assert page.count("\n| `") == sum(map(len, checks.GROUPS.values())) > 20


def test_every_encoder_and_decoder_has_an_entry(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    from component_pages import decoder_reference, encoder_reference

    page = encoder_reference()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    wanted = {name for name, spec in segcore.encoders.items_matching() if spec.provenance.namespace in OFFICIAL}
    assert set(rows) == wanted
    assert len(wanted) > 1400
    assert rows["mit_b0"].count("NVIDIA Source Code License for SegFormer (non-commercial)") == 1
    assert rows["resnet18"].startswith(
        "| `resnet18` | 11.2 M | 3, 64, 64, 128, 256, 512 | 1, 2, 4, 8, 16, 32 | 8, 16, 32 |"
    )
    assert "`a1_in1k@`" in rows["timm/resnet18"]
    page = decoder_reference()
    for name in segcore.list_decoders():
        assert f"\n## {name}\n" in f"\n{page}"
    assert "| `decoder_attention` | `None` |" in page


def test_every_field_of_a_checkpoint_has_a_row():
    page = (DOCS / "reference" / "checkpoints.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(config._SCHEMA)
    assert f"1 to {config.MAX_SIDE} " in page.replace(",", "")
    assert config.CONFIG_FORMAT == 1
    assert "number of the format, 1 |" in page


def test_every_environment_variable_has_an_entry():
    used = {
        name
        for path in (ROOT / "segcore").glob("**/*.py")
        for name in re.findall(r"\bSEGCORE_[A-Z]+\b", path.read_text(encoding="utf-8"))
    }
    page = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    assert used
    for name in used:
        assert f"\n| `{name}` |" in page
        assert f"\n## {name}\n" in page


def test_every_module_of_the_core_has_its_line_on_the_architecture_page():
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    for path in (ROOT / "segcore").glob("**/*.py"):
        assert re.search(rf"^ +{path.name}\b", page, re.MULTILINE), path.name


def test_the_table_of_layers_is_the_one_that_is_held(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests")
    from test_architecture import LAYERS, WITHOUT_TORCH

    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \w+ \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    shown = {name: int(layer) for layer, names, _ in rows for name in re.findall(r"`(\w+)`", names)}
    assert shown == LAYERS
    lightweight = {name for _, names, torch in rows if torch == "no" for name in re.findall(r"`(\w+)`", names)}
    assert lightweight <= WITHOUT_TORCH


def test_the_fragments_of_the_changelog_are_well_formed(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    from segcore_pages import changes

    text = changes(DOCS / "project" / "changes")
    assert text.count("\n- ") >= 1
    for path in (DOCS / "project" / "changes").glob("*.md"):
        assert not re.search(r"^#|^- ", path.read_text(encoding="utf-8"), re.MULTILINE), f"{path.name}: one paragraph"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
