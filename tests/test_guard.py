"""The guard, each case in a fresh process or with a torchvision that is made for the test."""

import subprocess
import sys
import textwrap

import pytest
import torch

from segcore import guard as module


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return result.stdout + result.stderr


def test_timm_can_be_imported_after_the_guard_and_at_most_one_warning_is_given():
    printed = run(
        """
        from segcore import guard_torchvision
        guard_torchvision(); guard_torchvision()
        import timm, torchvision
        print("imported", timm.create_model("resnet10t").num_classes)
        """
    )
    assert "imported 1000" in printed
    assert printed.count("compiled operators do not load") <= 1


@pytest.fixture
def torchvision(tmp_path, monkeypatch):
    """A torchvision package without compiled files, found instead of the installed one; declarations are recorded."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("")
    declared = []

    class Library:
        def __init__(self, namespace, kind):
            assert (namespace, kind) == ("torchvision", "FRAGMENT")

        def define(self, schema):
            declared.append(schema)

    monkeypatch.setattr(module, "_kept", [])
    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(module, "_OPERATORS", ("nms_of_the_test", "qnms_of_the_test"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    return package, declared


def test_without_compiled_files_nothing_is_declared(torchvision):
    _, declared = torchvision
    module.guard_torchvision()
    assert declared == []


def test_files_that_do_not_load_are_replaced_by_declarations_once(torchvision):
    package, declared = torchvision
    (package / "_C.so").write_bytes(b"no library")
    (package / "_C_stable.pyd").write_bytes(b"no library")
    with pytest.warns(UserWarning, match="compiled operators do not load"):
        module.guard_torchvision()
    module.guard_torchvision()
    assert [schema.partition("(")[0] for schema in declared] == ["nms_of_the_test", "qnms_of_the_test"]
    assert all(schema.endswith("(Tensor dets, Tensor scores, float iou_threshold) -> Tensor") for schema in declared)


def test_the_first_library_that_loads_ends_the_guard(torchvision, monkeypatch):
    package, declared = torchvision
    tried = []

    def load(file):
        tried.append(file.name)
        if file.name == "_C.so":
            raise OSError

    (package / "_C.so").touch()
    (package / "_C_stable.so").touch()
    (package / "_C_unrelated.txt").touch()
    monkeypatch.setattr(torch.ops, "load_library", load)
    module.guard_torchvision()
    assert (tried, declared) == (["_C.so", "_C_stable.so"], [])


def test_other_failures_are_not_swallowed(torchvision, monkeypatch):
    package, _ = torchvision
    (package / "_C.so").touch()
    monkeypatch.setattr(torch.ops, "load_library", lambda _file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        module.guard_torchvision()


def test_an_imported_or_missing_torchvision_is_left_alone(torchvision, monkeypatch):
    package, declared = torchvision
    (package / "_C.so").write_bytes(b"no library")
    monkeypatch.setitem(sys.modules, "torchvision", module)
    module.guard_torchvision()
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    module.guard_torchvision()
    assert declared == []
