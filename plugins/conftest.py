"""Set up before any test module is imported."""

import os
import signal
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning OpenMP threads cost eight times the CPU under load

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background; commands that tests interrupt inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from segcore import guard_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that detection operators are missing is no news to tests of segmentation
    guard_torchvision()
