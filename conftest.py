"""Set up before any test module is imported."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning OpenMP threads cost eight times the CPU under load

sys.path.insert(0, str(Path(__file__).parent / "tests"))

from torchvision_guard import guard  # noqa: E402

guard()
