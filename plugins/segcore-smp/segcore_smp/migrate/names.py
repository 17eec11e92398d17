"""Names of SMP: which a name in a program stands for, and whether `segcore_smp` has it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings

import libcst as cst
from libcst.metadata import ImportAssignment, QualifiedNameSource, Scope

OLD = "segmentation_models_pytorch"
NEW = "segcore_smp"
DISTRIBUTION = "segmentation-models-pytorch"


def dotted(node: cst.BaseExpression) -> str | None:
    """Return ``a.b.c`` of names and attributes, None of anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute) and (start := dotted(node.value)):
        return f"{start}.{node.attr.value}"
    return None


def root_of(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return the first name of a chain of attributes."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def expression(name: str) -> cst.Name | cst.Attribute:
    """Return the node of a dotted name."""
    first, *rest = name.split(".")
    node: cst.Name | cst.Attribute = cst.Name(first)
    for word in rest:
        node = cst.Attribute(node, cst.Name(word))
    return node


def is_old(name: str | None) -> bool:
    """Return whether a dotted name lies in SMP."""
    return name is not None and (name == OLD or name.startswith(f"{OLD}."))


def renamed(name: str) -> str:
    """Return a dotted name of SMP's in `segcore_smp`."""
    return NEW + name.removeprefix(OLD)


def meaning(node: cst.BaseExpression, scope: Scope | None) -> tuple[str | None, bool]:
    """Return the name in SMP that a chain of attributes stands for, or None, and whether it certainly does.

    It does not where another assignment may have given the same name another meaning.
    """
    chain = dotted(node)
    if chain is None or scope is None:
        return None, False
    root = chain.partition(".")[0]
    found = scope.get_qualified_names_for(root)
    names = {name.name for name in found if name.source is QualifiedNameSource.IMPORT and is_old(name.name)}
    if not names:
        return None, False
    sure = len(found) == 1 and all(isinstance(each, ImportAssignment) for each in scope[root])
    return f"{min(names)}{chain.removeprefix(root)}", sure


@functools.cache
def missing(name: str) -> str | None:
    """Return the first part of a dotted name of SMP's that `segcore_smp` lacks, None if it has all of it."""
    parts = renamed(name).split(".")
    value: object = importlib.import_module(NEW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a module is deprecated
        for index, part in enumerate(parts[1:], start=1):
            path = ".".join(parts[: index + 1])
            if not hasattr(value, part) and hasattr(value, "__path__") and importlib.util.find_spec(path):
                importlib.import_module(path)
            if not hasattr(value, part):
                return path
            value = getattr(value, part)
    return None


def missing_module(name: str) -> str | None:
    """Return the first part of a dotted name of a module of SMP's that `segcore_smp` lacks."""
    parts = renamed(name).split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a module is deprecated
        for index in range(1, len(parts)):
            path = ".".join(parts[: index + 1])
            try:
                found = importlib.util.find_spec(path)
            except ModuleNotFoundError:  # what lies above it is a module, no package
                found = None
            if found is None:
                return path
    return None
