"""Wheels of the core, of every plugin and of the tutorial's package: built, checked, installed without the checkout."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "docs" / "tutorials" / "first-plugin" / "segcore-plugin-pico"
FOLDERS = [ROOT, *sorted((ROOT / "plugins").glob("segcore-*")), SAMPLE]
LARGEST = 400_000
BUILD = """
import importlib, os, sys, tomllib
target, *folders = sys.argv[1:]
for folder in folders:
    os.chdir(folder)
    backend = tomllib.load(open("pyproject.toml", "rb"))["build-system"]["build-backend"]
    importlib.import_module(backend).build_wheel(target)
"""  # what a front end does, in one process for all


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    run(sys.executable, "-c", BUILD, folder, *FOLDERS)
    return sorted(folder.glob("*.whl"))


def project_of(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode("utf-8"))


def test_wheels_are_clean(wheels):
    assert len(wheels) == len(FOLDERS)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        package = wheel.name.partition("-")[0]
        assert f"{package}/py.typed" in names, wheel.name
        assert any(name.endswith("licenses/LICENSE") for name in names), wheel.name
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {package}, wheel.name
        unwanted = re.compile(r"(^|/)tests?/|conftest|\.pyc$|(^|/)\.|~$")
        assert not [name for name in names if unwanted.search(name)], wheel.name
        assert wheel.stat().st_size < LARGEST, wheel.name
    run(sys.executable, "-m", "twine", "check", "--strict", *wheels)


def test_metadata_say_what_the_packages_are(wheels):
    folders = {project_of(folder)["name"]: folder for folder in FOLDERS}
    for wheel in wheels:
        metadata = metadata_of(wheel)
        name = metadata["Name"]
        folder = folders.pop(name)
        project = project_of(folder)
        source = (folder / name.replace("-", "_") / "__init__.py").read_text("utf-8")
        assert f'__version__ = "{metadata["Version"]}"' in source
        assert metadata["Summary"] == project["description"]
        assert metadata["License-Expression"] == "MIT"
        assert metadata["License-File"] == "LICENSE"
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata["Author"]
        assert metadata["Description-Content-Type"] == "text/markdown"
        assert metadata.get_payload().startswith("# "), "no readme"
        required = {str(Requirement(line)) for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
        assert required == {str(Requirement(line)) for line in project["dependencies"]}
        bounds = [Requirement(line).specifier for line in required if Requirement(line).name == "segcore"]
        assert name == "segcore" or (bounds and bounds[0].contains("0.1.0") and not bounds[0].contains("0.2.0"))
    assert not folders


def test_the_core_holds_the_templates_of_new_packages(wheels):
    core = next(wheel for wheel in wheels if wheel.name.startswith("segcore-"))
    with zipfile.ZipFile(core) as archive:
        held = {name for name in archive.namelist() if name.startswith("segcore/templates/")}
    assert held == {f"segcore/templates/{path.name}" for path in (ROOT / "segcore" / "templates").iterdir()}
    assert len(held) > 5


def required_by(wheels):
    """Return the distributions that the wheels require, directly or not, from the environment of the tests."""
    own = {metadata_of(wheel)["Name"] for wheel in wheels}
    lines = [(line, "") for wheel in wheels for line in metadata_of(wheel).get_all("Requires-Dist")]
    found, seen = {}, set()
    while lines:
        line, extra = lines.pop()
        requirement = Requirement(line)
        if requirement.name in own or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in seen:
                seen.add((requirement.name, wanted))
                distribution = found[requirement.name] = importlib.metadata.distribution(requirement.name)
                lines += [(line, wanted) for line in distribution.requires or ()]
    return found.values()


class Environment:
    """A fresh virtual environment that holds what the wheels require, and nothing else.

    The files of these distributions are links into the environment of the tests, metadata included, so pip sees them as
    installed. What a package uses without requiring it is not there.
    """

    def __init__(self, folder, wheels):
        venv.create(folder / "env", with_pip=False)
        self.python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEGCORE"))}
        self.variables |= {
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "SEGCORE_CACHE": str(folder / "cache"),
        }
        self.folder = folder / "work"
        self.folder.mkdir()
        site = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        for distribution in required_by(wheels):
            for top in {path.parts[0] for path in distribution.files} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(distribution.locate_file(top))

    def run(self, *arguments):
        return run(self.python, *arguments, cwd=self.folder, env=self.variables)

    def pip(self, *arguments):
        return run(
            sys.executable, "-m", "pip", "--python", self.python, *arguments, cwd=self.folder, env=self.variables
        )

    def error(self, code):
        """Return the last line of what a program prints that fails."""
        done = subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=False, cwd=self.folder, env=self.variables
        )
        assert done.returncode == 1, done.stdout
        return done.stderr.strip().splitlines()[-1]


PROGRAM = """
import sys
import segcore
assert "torch" not in sys.modules
assert "site-packages" in segcore.__file__, segcore.__file__
assert not [path for path in sys.path if path.startswith({root!r})], sys.path
plugins = segcore.list_plugins()
assert [plugin.status for plugin in plugins] == ["ok"] * {plugins}, plugins
assert not {{"torch", "timm"}} & sys.modules.keys()
assert "resnet34" in segcore.list_encoders() and "unet" in segcore.list_decoders()
import torch
x = torch.rand(1, 3, 70, 50)
for name, weights in {{"resnet18": None, "pico-small": "coins"}}.items():
    model = segcore.create_model("unet", name, encoder_weights=weights, classes=2).eval()
    assert model(x).shape == (1, 2, 70, 50)
    model.save_pretrained(name)
    assert torch.equal(segcore.from_pretrained(name)(x), model(x))
assert model.config["encoder"]["distribution"] == "segcore-plugin-pico"
"""


def test_the_wheels_work_together_without_the_checkout(wheels, tmp_path):
    environment = Environment(tmp_path, wheels)
    names = [metadata_of(wheel)["Name"] for wheel in wheels]
    environment.pip("install", "-q", "--find-links", wheels[0].parent, *names)  # resolves what they require
    assert environment.pip("check").strip() == "No broken requirements found."
    environment.run("-W", "error", "-c", PROGRAM.format(plugins=len(names) - 1, root=str(ROOT)))
    assert "pico-small" in environment.run("-m", "segcore", "encoders", "pico*")
    assert "demo" in environment.run("-m", "segcore", "--help")
    environment.run("-m", "segcore", "plugin", "new", "wave")
    assert (environment.folder / "segcore-plugin-wave" / "segcore_plugin_wave" / "py.typed").is_file()

    removed = ("segcore-plugin-pico", "segcore-plugin-resnet", "segcore-smp")  # the last requires the one before
    environment.pip("uninstall", "-q", "-y", *removed)
    create = "import segcore; segcore.create_model('unet', {!r})"
    assert "pip install segcore-plugin-resnet" in environment.error(create.format("resnet18"))
    assert "pip install segcore-plugin-pico" in environment.error(create.format("pico/pico-small"))
    assert "No encoder is named 'pico-small'." in environment.error(create.format("pico-small"))
    message = environment.error("import segcore; segcore.from_pretrained('pico-small')")
    assert "segcore-plugin-pico" in message
    assert "pip install" in message
    assert environment.pip("check").strip() == "No broken requirements found."
    environment.pip("uninstall", "-q", "-y", "segcore")
    broken = subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment.python, "check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "requires segcore, which is not installed" in broken.stdout  # the check above sees these packages
