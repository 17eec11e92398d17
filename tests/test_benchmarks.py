"""The benchmarks measure, and their page has every measurement and is what the script writes.

No absolute time is asserted, and no goal: the page says which are met.
"""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "benchmarks"
PAGE = (ROOT / "docs" / "reference" / "benchmarks.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `.*$", PAGE, flags=re.MULTILINE)
RATIO = r"(?:-|[\d.]+(?:e-\d+)?)"
ROW = re.compile(
    rf"\| `([\w./-]+)` \| [\d.]+ ms; \d+ \| [\d.]+ ms; \d+ \| {RATIO} \({RATIO} to {RATIO}\)(?:, adds -?[\d.]+ ms)? \| {RATIO} "
    r"\| ([\w .;]*) \| ((?:yes|\*\*no\*\*|; )*) \|"
)


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the folder, by name; they are no package, so that run.py is a plain script."""
    names = ("child", "measure", "cases", "run")
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    loaded = {name: importlib.import_module(name) for name in names}
    for name in names:
        monkeypatch.setitem(sys.modules, name, loaded[name])
    return loaded


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), *arguments], capture_output=True, text=True, check=False
    )


def test_the_page_has_every_measurement_and_is_what_the_script_writes(scripts, tmp_path):
    cases = list(scripts["cases"].cases(tmp_path))
    parsed = [ROW.fullmatch(row) for row in ROWS]
    assert all(parsed), ROWS
    assert [match[1] for match in parsed] == [case.name for case in cases]
    for match, case in zip(parsed, cases, strict=True):
        goals = [goal for goal in (case.added, case.cpu, case.memory, case.mib) if goal is not None]
        assert len(re.findall("at most", match[2])) == len(re.findall("yes|no", match[3])) == len(goals)
    setting = "\n\n".join(re.findall(r"^(?:Measured apart, .*: )?\d+ cores, .*$", PAGE, flags=re.MULTILINE))
    assert scripts["run"].page(ROWS, setting) == PAGE
    kinds = scripts["cases"].KINDS
    assert {case.name.partition("/")[0] for case in cases} == set(kinds)


def test_work_and_memory_are_seen(scripts):
    side, compare = scripts["measure"].Side, scripts["measure"].compare
    work = "x = bytes(range(256)) * 200_000; total = sum(x)"
    found = compare(side(work, ""), side(f"{work}; {work}; {work}; {work}; y = [x + b'0', x + b'1']", ""), 3)
    assert 0 < found.cpu[0] < found.cpu[1]
    assert 45 < found.memory[0] < 70  # MiB: 256 * 200,000 bytes are 48.8
    assert found.memory[1] > 2 * found.memory[0]
    whole = compare(side(work), side("pass"), 1)
    assert whole.added > 0
    assert whole.memory[0] > whole.memory[1] + 45


def test_what_is_deducted_does_not_count(scripts):
    side, compare = scripts["measure"].Side, scripts["measure"].compare
    work = "total = sum(range(3_000_000))"
    found = compare(side(work, "", deducted=work), side(work, ""), 5)
    assert found.cpu[0] < 0.7 * found.cpu[1]


def test_a_case_gives_a_row(scripts, tmp_path):
    case = next(scripts["cases"].cases(tmp_path))
    (row,) = scripts["run"].measured([case], tmp_path, 1)
    assert case.name == "import"
    assert ROW.fullmatch(row)[1] == "import"
    missed = scripts["measure"].Comparison((2.0,), (1.0,), (1.0, 1.0))
    assert scripts["run"].row(case, missed).endswith("| adds at most 10 ms CPU | **no** |")


def test_some_rows_measured_anew_replace_theirs(scripts):
    names = [re.search("`(.*?)`", row)[1] for row in ROWS]
    new = ROWS[1].replace("CPU", "anew")
    rows, setting = scripts["run"].merged(PAGE, [new], names, [names[1]], "9 cores, once")
    assert rows == [ROWS[0], new, *ROWS[2:]]
    again, setting = scripts["run"].merged(
        scripts["run"].page(rows, setting), [new], names, [names[1]], "8 cores, twice"
    )
    assert again == rows
    assert setting.endswith(f"Measured apart, `{names[1]}`: 8 cores, twice")
    assert "once" not in setting


def test_a_side_that_fails_is_no_measurement(scripts):
    side = scripts["measure"].Side
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        scripts["measure"].compare(side("1 / 0"), side("pass"), 1)


@pytest.mark.slow
def test_loading_costs_less_than_half_of_smps(scripts, tmp_path):
    cases = scripts["cases"].cases(tmp_path)
    case = next(case for case in cases if case.name == "load/unet/resnet34")
    scripts["measure"].run(scripts["cases"].prepare(case.model, tmp_path))
    found = scripts["measure"].compare(case.ours, case.theirs, 3)
    assert scripts["measure"].ratio(found.cpu) < 0.5
    assert scripts["measure"].ratio(found.memory) < 0.2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "lisstening"), "lisstening"),
        (("--repeats", "0"), "--repeats"),
    ],
)
def test_wrong_arguments_are_refused(arguments, says):
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
