"""The README's table is the one that its script prints."""

from pathlib import Path

import pytest
from decoder_table import HEADER, NEEDS, facts
from segcore_plugin_decoders import segcore_specs

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").splitlines()


def test_the_table_has_twelve_rows():
    start = README.index(HEADER[0])
    rows = README[start + 2 : README.index("", start)]
    assert [row.split("`")[1] for row in rows] == [spec.name for spec in segcore_specs()]


@pytest.mark.parametrize("spec", list(segcore_specs()), ids=lambda spec: spec.name)
def test_a_row_is_current(spec):
    start = f"{facts(spec.name, spec.title)} {NEEDS[spec.name]} |"
    assert any(line.startswith(start) for line in README), f"run tests/decoder_table.py: {start}"
