"""The benchmark runs, and the README has a row for each of its measurements."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROW = re.compile(r"^\| ([^|]+ \| [^|]+) \| [\d.e+]+ \| [\d.e+]+ \| [\d.]+ \|", re.MULTILINE)


def test_every_measurement_stands_in_the_readme():
    command = [sys.executable, str(HERE / "benchmark.py"), "--side", "32", "--classes", "3", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = ROW.findall(done.stdout)
    assert len(measured) > 10
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    assert ROW.findall(readme) == measured
