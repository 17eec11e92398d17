"""The packages that the documentation shows; docs/tutorials/first-plugin.md from the first line to the last."""

import os
import re
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from segcore.scaffold import render
from tests.test_docs import CHECKER, DOCS, FLAGS, blocks_of, name_of

PAGE = DOCS / "tutorials" / "first-plugin.md"
SAMPLE = DOCS / "tutorials" / "first-plugin" / "segcore-plugin-pico"
OWN = {"README.md", "segcore_plugin_pico/__init__.py", "segcore_plugin_pico/encoder.py"}  # written in the tutorial
INCLUDE = re.compile(r"^(`{3,})\{literalinclude\} (\S+)\n(?::language: (\w+)\n)\1$", re.MULTILINE)
CHECKSUM = re.compile(r"\b[0-9a-f]{64}\b")
MODULES = ("pip", "segcore", "twine")  # commands that the environment has as modules


def page_with_files(folder):
    """Write the page with the text of the files that it includes, as readers see it."""
    text = INCLUDE.sub(
        lambda found: f"{found[1]}{found[3]}\n{(PAGE.parent / found[2]).read_text(encoding='utf-8')}{found[1]}",
        PAGE.read_text(encoding="utf-8"),
    )
    assert "{literalinclude}" not in text
    path = folder / PAGE.name
    path.write_text(text, encoding="utf-8")
    return path


class Reader:
    """Does what the page says, in an environment of its own that sees the packages of the tests."""

    def __init__(self, folder):
        venv.create(folder / "env", with_pip=False)
        self.python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.folder = folder / "work"
        self.folder.mkdir()
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEGCORE"))
        }
        self.environment |= {
            "PIP_NO_INDEX": "1",  # no network
            "PIP_NO_BUILD_ISOLATION": "false",  # pip's way to say: without isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "SEGCORE_CACHE": str(folder / "cache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        outer = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
        (Path(self.run(["-c", where]).strip()) / "tests.pth").write_text(f"import site; site.addsitedir({outer!r})\n")

    def run(self, arguments):
        done = subprocess.run(
            [str(self.python), *arguments],
            capture_output=True, text=True, check=False, cwd=self.folder, env=self.environment,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def command(self, line):
        words = shlex.split(line)
        if words[0] == "cd":
            self.folder = self.folder / words[1]
            return ""
        if words[-1] == "dist/*":  # the shell's part
            words[-1:] = sorted(map(str, self.folder.glob("dist/*")))
        if words[0] in MODULES:
            words = ["python", "-m", *words]
        assert words[0] == "python", f"what is {words[0]!r}?"
        return self.run([*words[1:], *(["--no-isolation"] if words[1:3] == ["-m", "build"] else [])])

    def write(self, name, text, printed):
        """Write a file, with the checksum that was printed last in place of the one shown."""
        (self.folder / name).write_text(CHECKSUM.sub(printed.strip(), text) if CHECKSUM.search(text) else text)


@pytest.mark.slow
def test_the_tutorial_from_the_first_line_to_the_last(tmp_path):
    reader, printed, commands = Reader(tmp_path), "", []
    blocks = blocks_of(page_with_files(tmp_path))
    for block in blocks:
        where = f"{name_of(PAGE)}, block at line {block.line} of the expanded page"
        if block.mark == "file":
            reader.write(block.note, block.text, printed)
        elif block.mark == "not run":
            assert block.text == "$ python -m twine upload dist/*\n", where
        elif block.language == "console":
            for line in block.text.splitlines():
                assert line.startswith("$ "), where
                commands.append(line)
                printed = reader.command(line[2:])
        elif block.language == "text":
            assert CHECKER.check_output(block.text, printed, FLAGS), f"{where} shows\n{block.text}but it is\n{printed}"
        elif block.text == (SAMPLE / "tests" / "test_conformance.py").read_text(encoding="utf-8"):
            assert (reader.folder / "tests" / "test_conformance.py").read_text(encoding="utf-8") == block.text
        else:
            assert block.language == "python", where
            printed = reader.run(["-W", "error", "-c", block.text])
    assert len(commands) == 9
    made = {str(path.relative_to(reader.folder)) for path in files_of(reader.folder)}
    assert made == {str(path.relative_to(SAMPLE)) for path in files_of(SAMPLE)}


def files_of(folder):
    """Yield the files of a package, without what tools leave behind."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        left = {"__pycache__", "dist", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
        if path.is_file() and not left & set(parts) and not parts[0].endswith(".egg-info"):
            yield path


@pytest.mark.slow
def test_the_package_of_the_guide_passes_the_kit(tmp_path):
    for block in blocks_of(DOCS / "how-to" / "publish-a-plugin.md"):
        if block.mark == "file":
            (tmp_path / block.note).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.note).write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "segcore", "plugin", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


def test_the_sample_is_what_the_scaffold_writes_and_the_tutorial_changes():
    year = re.compile(r"Copyright \(c\) \d{4}")
    for path, text in render("pico", "encoder", "The segcore developers"):
        if path not in OWN:
            assert year.sub("", (SAMPLE / path).read_text(encoding="utf-8")) == year.sub("", text), path
    written = {path for path, _ in render("pico", "encoder", "A")}
    assert {str(path.relative_to(SAMPLE)) for path in files_of(SAMPLE)} - written == {
        "segcore_plugin_pico/pico-small-coins.safetensors"
    }


def test_the_page_shows_every_file_that_the_tutorial_changes(tmp_path):
    blocks = blocks_of(page_with_files(tmp_path))
    last = {block.note: block.text for block in blocks if block.mark == "file"}
    assert last == {name: (SAMPLE / name).read_text(encoding="utf-8") for name in OWN}
