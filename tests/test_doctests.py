"""The examples in the docstrings of the core."""

import doctest
import importlib
import pkgutil

import pytest

import segcore

MODULES = sorted(module.name for module in pkgutil.walk_packages(segcore.__path__, "segcore."))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", ["segcore", *MODULES])
def test_examples(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=FLAGS)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = sum(len(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name)))
    assert examples > 5
