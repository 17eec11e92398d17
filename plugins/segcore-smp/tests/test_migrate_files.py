"""segcore migrate: files, folders and notebooks."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import segcore
from segcore.cli import cli

pytest.importorskip("libcst")
from segcore_smp.migrate.command import UNREADABLE


def migrate(*args):
    return CliRunner().invoke(cli, ["migrate", *map(str, args)])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("import segmentation_models_pytorch as smp\nsmp.Unet\n")
    (tmp_path / "b.py").write_text("import torch\n")
    (tmp_path / "conf.yaml").write_text("model:\n  _target_: segmentation_models_pytorch.Unet\n")
    (tmp_path / "requirements.txt").write_text("torch\nsegmentation-models-pytorch==0.6.0\n")
    for passed in (".git", "env", "__pycache__"):
        (tmp_path / passed).mkdir()
        (tmp_path / passed / "c.py").write_text("import segmentation_models_pytorch\n")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    return tmp_path


def contents(folder):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


def test_a_folder(folder):
    before = contents(folder)
    done = migrate(folder)
    assert done.exit_code == 0, done.output
    assert contents(folder) == before
    a = folder / "pkg" / "a.py"
    assert f"{a}:1: import segmentation_models_pytorch" in done.output
    assert f"{a}:2: name segmentation_models_pytorch.Unet" in done.output
    assert f"{folder / 'conf.yaml'}:2: text _target_: segmentation_models_pytorch.Unet  (" in done.output
    assert f"{folder / 'requirements.txt'}:2: text segmentation-models-pytorch==0.6.0" in done.output
    assert "-import segmentation_models_pytorch as smp\n+import segcore_smp as smp\n smp.Unet\n" in done.output
    assert "4 uses in 3 files, 2 to look at, 1 file would change. Nothing was written: add --write." in done.output
    assert "c.py" not in done.output
    done = migrate(folder, "--write")
    assert done.exit_code == 0, done.output
    assert a.read_text() == "import segcore_smp as smp\nsmp.Unet\n"
    assert {f for f, data in contents(folder).items() if before[f] != data} == {a}
    again = migrate(folder, "--write")
    assert "2 uses in 2 files, 2 to look at, 0 files changed." in again.output


def test_syntax_errors(folder):
    (folder / "old.py").write_text("import segmentation_models_pytorch\nprint 'x'\n")
    done = migrate(folder, "--write")
    assert done.exit_code == UNREADABLE == 3
    assert f"{folder / 'old.py'}: line 2: " in done.output
    assert "1 failed" in done.output
    assert (folder / "pkg" / "a.py").read_text().startswith("import segcore_smp as smp")
    assert migrate(folder / "nowhere").exit_code == 2


def test_writing(tmp_path):
    target, link = tmp_path / "real.py", tmp_path / "link.py"
    target.write_bytes(b"import segmentation_models_pytorch as smp\r\n")
    target.chmod(0o750)
    link.symlink_to(target)
    assert migrate(link, "--write").exit_code == 0
    assert link.is_symlink()
    assert target.read_bytes() == b"import segcore_smp as smp\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.py", "real.py"]


def test_links_and_read_only_files(tmp_path, monkeypatch):
    outside, folder = tmp_path / "outside.py", tmp_path / "folder"
    folder.mkdir()
    outside.write_text("import segmentation_models_pytorch as smp\n")
    (folder / "link.py").symlink_to(outside)
    (folder / "own.py").write_text("import segmentation_models_pytorch as smp\n")
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    done = migrate(folder, "--write")
    assert done.exit_code == UNREADABLE
    assert "own.py: it cannot be written (it is read-only)" in done.output
    assert "link.py" not in done.output
    monkeypatch.undo()
    assert migrate(folder, "--write").exit_code == 0
    assert (folder / "own.py").read_text() == "import segcore_smp as smp\n"
    assert outside.read_text() == "import segmentation_models_pytorch as smp\n"


def test_one_odd_file_stops_nothing(folder, monkeypatch):
    odd = folder / "odd.py"
    odd.write_bytes(b"import segmentation_models_pytorch\x00\n")
    deep = folder / "deep.py"
    deep.write_text("import segmentation_models_pytorch\nx = " + "(" * 5000 + ")" * 5000 + "\n")
    chain = folder / "chain.py"
    chain.write_text("import segmentation_models_pytorch\nx = 1" + " + 1" * 5000 + "\n")
    done = migrate(folder, "--write")
    assert done.exit_code == UNREADABLE
    for file in (odd, deep, chain):
        assert f"{file}: " in done.output
    assert "segcore_smp" in (folder / "pkg" / "a.py").read_text()


def test_diffs_of_other_encodings(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes("# coding: latin-1\nx = 'é\x0cé'\nimport segmentation_models_pytorch as smp\n".encode("latin-1"))
    assert " x = 'é\x0cé'\n-import segm" in migrate(path).output


def test_a_failed_write_leaves_the_file(tmp_path, monkeypatch):
    target = tmp_path / "a.py"
    before = b"import segmentation_models_pytorch as smp\n"
    target.write_bytes(before)

    def broken(self, other):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    done = migrate(target, "--write")
    assert done.exit_code == UNREADABLE
    assert "No space left" in done.output
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_changes_meanwhile(tmp_path):
    from segcore_smp.migrate.files import examined, write

    target = tmp_path / "a.py"
    target.write_text("import segmentation_models_pytorch as smp\n")
    (file,) = examined(target, native=False)
    target.write_text("import segmentation_models_pytorch as smp  # edited\n")
    with pytest.raises(OSError, match="meanwhile"):
        write(file)
    assert target.read_text().endswith("# edited\n")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("indent", "escaped", "end"), [(1, False, "\n"), (2, True, ""), (None, False, "")])
def test_notebooks(tmp_path, indent, escaped, end):
    def cell(kind, source):
        more = (
            {"execution_count": 1, "outputs": [{"text": ["segmentation_models_pytorch é"]}]} if kind == "code" else {}
        )
        return {"cell_type": kind, "metadata": {}, "source": source, **more}

    book = {
        "cells": [
            cell("markdown", ["segmentation_models_pytorch"]),
            cell(
                "code",
                [
                    "%matplotlib inline\n",
                    "!pip install segmentation-models-pytorch\n",
                    "import segmentation_models_pytorch as smp",
                ],
            ),
            cell("code", "%%bash\npip install segmentation_models_pytorch (\n"),
            cell("code", ["if True:\n", "    !ls\n", "    model = smp.Unet('resnet18', encoder_weights=None)\n"]),
            cell("code", ["smp.Unet?"]),
            cell("code", ["rest = (10\n", "        % 3)"]),
            cell("code", []),
        ],
        "metadata": {"x": "é"},
        "nbformat": 4,
    }
    path = tmp_path / "a.ipynb"
    path.write_bytes((json.dumps(book, indent=indent, ensure_ascii=escaped) + end).encode())
    done = migrate(path, "--write", "--native")
    assert done.exit_code == 0, done.output
    assert ":3: import segmentation_models_pytorch" in done.output
    assert ":8: name segmentation_models_pytorch.Unet" in done.output
    expected = json.loads(json.dumps(book))
    expected["cells"][1]["source"][2] = "import segcore"
    expected["cells"][3]["source"][2] = (
        "    model = segcore.create_model(\"unet\", encoder='resnet18', encoder_weights=None, decoder_legacy=True)\n"
    )
    assert path.read_bytes() == (json.dumps(expected, indent=indent, ensure_ascii=escaped) + end).encode()


def test_notebooks_that_are_none(tmp_path):
    path = tmp_path / "a.ipynb"
    for content in ("segmentation_models_pytorch", '{"cells": [{}], "x": "segmentation_models_pytorch"}'):
        path.write_text(content)
        done = migrate(path)
        assert done.exit_code == UNREADABLE
        assert "no notebook" in done.output
    odd = '{"cells":[], "metadata": "segmentation_models_pytorch"}'
    path.write_text(odd)
    assert "formatting" in migrate(path, "--write").output
    assert path.read_text() == odd


def test_without_libcst(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("import segmentation_models_pytorch\n")
    monkeypatch.setitem(sys.modules, "libcst", None)
    done = migrate(tmp_path)
    assert isinstance(done.exception, segcore.PluginError)
    assert "pip install 'segcore-smp[migrate]'" in str(done.exception)


def test_help_loads_neither_torch_nor_libcst():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom segcore.cli import cli\n"
        "out = CliRunner().invoke(cli, ['migrate', '--help'])\nassert out.exit_code == 0, out.output\n"
        "assert not {'torch', 'libcst'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"SEGCORE_PLUGINS": "smp"})
