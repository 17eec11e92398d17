"""The public surface."""

import importlib
import pkgutil

import pytest

import segcore


def test_every_public_name_is_there():
    for name in segcore.__all__:
        assert getattr(segcore, name) is not None


def test_public_names_are_those_of_their_homes():
    assert set(segcore.__all__) == {"__version__", *segcore._HOME}
    for module, names in segcore._HOMES.items():
        for name in names:
            assert getattr(importlib.import_module(f"segcore.{module}"), name) is getattr(segcore, name)


def test_no_public_name_is_a_submodule():
    submodules = {module.name for module in pkgutil.iter_modules(segcore.__path__)}
    assert not submodules & set(segcore.__all__)


def test_dir_lists_public_names():
    assert set(dir(segcore)) == set(segcore.__all__)


def test_public_names_are_documented():
    for name in segcore.__all__:
        value = getattr(segcore, name)
        assert name == "__version__" or (value.__doc__ or type(value).__doc__), name


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = segcore.nothing
    with pytest.raises(AttributeError, match="segcore has no 'Nothing'"):
        _ = segcore.Nothing
    assert not hasattr(segcore, "Nothing")
