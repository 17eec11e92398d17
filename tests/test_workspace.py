"""What must agree across the repository."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted((ROOT / "plugins").glob("segcore-*"))
MIT = (ROOT / "LICENSE").read_text(encoding="utf-8")


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_requirements_list_every_plugin():
    lines = (ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = sorted(line.removeprefix("-e plugins/") for line in lines if line.startswith("-e plugins/"))
    assert listed == [folder.name for folder in PLUGINS]


def test_the_top_level_is_the_agreed_one():
    allowed = {"segcore", "plugins", "tests", "docs", "pyproject.toml", "README.md", "LICENSE"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - {"segcore-demo", "segcore.egg-info", "build", "dist"} <= allowed


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
class TestPlugin:
    def test_one_spelling(self, folder):
        data = project(folder)
        short = folder.name.removeprefix("segcore-").removeprefix("plugin-")
        package = folder.name.replace("-", "_")
        assert data["project"]["name"] == folder.name
        assert data["project"]["entry-points"]["segcore.v1"] == {short: package}
        assert (folder / package / "py.typed").is_file()

    def test_same_back_end_and_bounds_as_the_core(self, folder):
        data, core = project(folder), project(ROOT)
        assert data["build-system"] == core["build-system"]
        assert data["project"]["requires-python"] == core["project"]["requires-python"]
        assert "segcore>=0.1,<0.2" in data["project"]["dependencies"]
        assert data["tool"]["flit"]["sdist"]["exclude"] == ["tests/"]

    def test_licence_and_readme_and_conformance(self, folder):
        assert (folder / "LICENSE").read_text(encoding="utf-8").startswith(MIT.rstrip()[:400])
        assert (folder / "README.md").stat().st_size > 500
        assert "Conformance" in (folder / "tests" / "test_conformance.py").read_text(encoding="utf-8")


def test_the_repository_speaks_of_itself_alone():
    words = ("/work/", "helper-", "subagent", "pypi-more", "the session")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path
