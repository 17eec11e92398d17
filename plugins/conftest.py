"""Set up before any test module is imported."""

import os
import random
import signal
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning OpenMP threads cost eight times the CPU under load

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background; commands that tests interrupt inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import torch

from segcore import guard_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that detection operators are missing is no news to tests of segmentation
    guard_torchvision()


def pytest_runtest_setup() -> None:
    """Let every test draw the same numbers, in every run and whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
