"""Wheels of the core and of every plugin: built, checked, installed into a fresh environment without the checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT, *sorted((ROOT / "plugins").glob("segcore-*"))]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for source in FOLDERS:
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    return sorted(folder.glob("*.whl"))


def test_wheels_are_clean(wheels):
    assert len(wheels) == len(FOLDERS)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            metadata = Parser().parsestr(archive.read(next(n for n in names if n.endswith("METADATA"))).decode())
        assert any(name.endswith("py.typed") for name in names), wheel.name
        assert any(name.endswith("licenses/LICENSE") for name in names), wheel.name
        assert not [name for name in names if "tests/" in name or name.endswith((".pyc", "conftest.py"))]
        assert metadata["License-Expression"] == "MIT"
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata.get_payload().strip(), "no readme"
        assert wheel.stat().st_size < 400_000, wheel.name
    run(sys.executable, "-m", "twine", "check", "--strict", *wheels)


PROGRAM = """
import sys
import segcore
assert "torch" not in sys.modules
assert "site-packages" in segcore.__file__, segcore.__file__
assert [plugin.status for plugin in segcore.list_plugins()] == ["ok"] * {plugins}, segcore.list_plugins()
assert not {{"torch", "timm"}} & sys.modules.keys()
assert "resnet34" in segcore.list_encoders() and "unet" in segcore.list_decoders()
import torch
model = segcore.create_model("unet", "resnet18", classes=2).eval()
x = torch.rand(1, 3, 70, 50)
model.save_pretrained("checkpoint")
assert torch.equal(segcore.from_pretrained("checkpoint")(x), model(x))
print(model(x).shape)
"""


@pytest.mark.slow
def test_installed_wheels_work_without_the_checkout(wheels, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", *wheels)
    inherited = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # torch and the other dependencies come from the environment of the tests, its editable installs do not
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for entry in Path(inherited).iterdir():
        if "segcore" not in entry.name and not entry.name.endswith(".pth") and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    out = run(python, "-W", "error", "-c", PROGRAM.format(plugins=len(FOLDERS) - 1), cwd=tmp_path, env=environment)
    assert "torch.Size([1, 2, 70, 50])" in out
    assert "resnet18" in run(python, "-m", "segcore", "encoders", "resnet1*", cwd=tmp_path, env=environment)
    assert "demo" in run(python, "-m", "segcore", "--help", cwd=tmp_path, env=environment)
    run(python, "-m", "pip", "uninstall", "-q", "-y", "segcore-plugin-resnet")
    gone = subprocess.run(
        [python, "-c", "import segcore; segcore.create_model('unet', 'resnet18')"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert "pip install segcore-plugin-resnet" in gone.stderr
