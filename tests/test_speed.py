"""The benchmark of inference measures every way, and its page is what the script writes. No time is asserted."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "benchmarks"
PAGE = (ROOT / "docs" / "reference" / "inference-speed.md").read_text(encoding="utf-8")


@pytest.fixture
def speed(monkeypatch):
    """The script as a module; its folder is no package."""
    names = ("measure", "speed_child", "speed")
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    loaded = {name: importlib.import_module(name) for name in names}
    for name in names:
        monkeypatch.setitem(sys.modules, name, loaded[name])
    return loaded["speed"]


def table(header):
    """The lines of the table of the page that begins with these lines."""
    return PAGE.partition(header)[2].partition("\n\n")[0].splitlines()


def test_the_page_has_every_way_and_is_what_the_script_writes(speed):
    rows, goals = table(speed.HEADER), table(speed.GOALS_HEADER)
    cells = [row.strip("| ").split(" | ") for row in rows]
    ways = [way.words for way in speed.WAYS.values() if way.words]
    assert [(row[0], row[1]) for row in cells] == [(model.name, words) for model in speed.MODELS for words in ways]
    assert [goal.split(" | ")[0].strip("| ") for goal in goals] == [model.name for model in speed.MODELS]
    setting = re.search(r"^One thread, .*$", PAGE, flags=re.MULTILINE)[0]
    assert speed.page(rows, goals, setting) == PAGE


def test_a_model_is_measured_and_compared(speed):
    model = speed.MODELS[0]
    found = speed.measured(model, ["peak", "smp", "optimized"], 64, 1)
    assert set(found.problems.values()) == {"not measured"}
    assert found.flops > 1e8
    assert found.deviations["smp"] == 0
    assert 0 < found.deviations["optimized"] < 1e-4
    rows = list(found.rows())
    assert len(rows) == sum(bool(way.words) for way in speed.WAYS.values())
    assert [row for row in rows if "not measured" not in row] == [rows[0], rows[4]]
    assert found.best("fp32") == "optimized"
    assert "not measured" in found.goals()  # bf16


def test_goals_are_judged(speed):
    found = speed.Found(speed.MODELS[0], speed.PEAK_FLOPS)
    found.times = {
        "peak": [1.0, 1.0, 9.0],
        "smp": [2.0],
        "kept": [1.5],
        "optimized": [1.0],
        "kept_bf16": [0.5, 2.0, 1.5],
    }
    found.deviations = dict.fromkeys(found.times, 0.0)
    goals = found.goals().strip("| ").split(" | ")
    assert goals[1:7] == ["2.00", "optimize_for_inference", "1.4", "yes", "100", "90"]
    assert goals[-4:] == ["1.33", "optimize_for_inference, keep_memory, bf16", "2.5", "**no**"]


def test_what_fails_is_named(speed):
    child = speed.Child(ROOT)  # no model lies there
    assert "problem" in child.ask("smp")
    child.end()


@pytest.mark.parametrize("arguments", [("--only", "vnet"), ("--rounds", "0"), ("--size", "64", "--write")])
def test_wrong_arguments_are_refused(arguments):
    command = [sys.executable, str(FOLDER / "speed.py"), *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
