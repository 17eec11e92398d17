"""Calls of SMP, rewritten to segcore's own where that is certain, and the imports that follow from it."""

# ruff: noqa: N802 - libcst calls these methods by their names

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst import matchers
from libcst.metadata import (
    Assignment,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    QualifiedNameSource,
    Scope,
    ScopeProvider,
)

from segcore_smp.migrate import losses, models
from segcore_smp.migrate.arguments import Context, LeftError
from segcore_smp.migrate.names import OLD, dotted, meaning, root_of
from segcore_smp.migrate.uses import Calls

TARGET = "segcore"


@dataclass
class Rewritten:
    """A program with native calls.

    Attributes:
        module: the new program.
        left: calls that stay, with the reason.
    """

    module: cst.Module
    left: dict[cst.Call, str]


def rewrite(wrapper: MetadataWrapper, found: Calls) -> Rewritten:
    """Rewrite the calls of a program that are certain to compute the same."""
    scopes: dict[cst.CSTNode, Scope] = wrapper.resolve(ScopeProvider)  # type: ignore[assignment]
    parents = wrapper.resolve(ParentNodeProvider)
    new: dict[cst.Call, cst.Call] = {}
    left: dict[cst.Call, str] = {}
    sources: set[cst.CSTNode] = set()
    for call, name in found.called.items():
        scope = scopes[call.func] if call.func in scopes else scopes[root_of(call.func)]
        try:
            changed = _translated(call, name, found, scope, parents)
        except LeftError as error:
            left[call] = str(error)
            continue
        new[call] = changed
        sources |= _origin(call, scope)
    if not new:
        return Rewritten(wrapper.module, left)
    module = wrapper.module.visit(_Calls(new))
    assert isinstance(module, cst.Module)
    return Rewritten(_with_imports(wrapper.module, module, sources), left)


def _origin(call: cst.Call, scope: Scope) -> set[cst.CSTNode]:
    """Return the imports that the name of a call comes from."""
    root = (dotted(call.func) or "").partition(".")[0]
    return {each.node for each in scope[root] if isinstance(each, ImportAssignment)}


def _translated(call: cst.Call, name: str, found: Calls, scope: Scope, parents: Any) -> cst.Call:
    """Return the new call."""
    title = name.rpartition(".")[2]
    at_top = name.count(".") == 1
    of_losses = name.startswith(f"{OLD}.losses.") and title in losses.TITLES
    if not (of_losses or (at_top and title in {*models.TITLES, "create_model", "from_pretrained"})):
        raise LeftError(_HINTS.get(title, "segcore has no counterpart that is certain to give the same"))
    if any(
        each.name != TARGET or each.source is not QualifiedNameSource.IMPORT
        for each in scope.get_qualified_names_for(TARGET)
    ):
        raise LeftError("the name 'segcore' means something else here")
    if not all(isinstance(parents.get(node), cst.SimpleStatementLine) for node in _origin(call, scope)):
        raise LeftError("the import shares its line with what it belongs to")
    if (line := found.otherwise.get(name)) is not None:
        raise LeftError(f"the name is used otherwise too, in line {line}, which may rely on SMP's class")
    if any(inner in found.called for arg in call.args for inner in _calls_in(arg)):
        raise LeftError("another call of SMP lies within")
    context = Context(dict(_constants(call, scope, parents)), lambda node: meaning(node, scope)[0])
    if of_losses:
        return losses.loss(call, title, context)
    if title == "create_model":
        return models.created(call, context)
    if title == "from_pretrained":
        if len(call.args) != 1 or call.args[0].keyword or call.args[0].star:
            raise LeftError("the options of segcore.from_pretrained differ")
        return call.with_changes(func=cst.parse_expression("segcore.from_pretrained"))
    return models.model(call, title, context)


_HINTS = {
    "get_preprocessing_fn": "segcore.preprocessing(name, tag) gives tensors with channels first",
    "get_preprocessing_params": "segcore.preprocessing(name, tag) gives an object, not a dict",
    "get_stats": "segcore_plugin_losses.metrics.get_stats takes logits and checks values; the scores differ too",
}


def _calls_in(node: cst.CSTNode) -> Iterator[cst.Call]:
    for child in node.children:
        if isinstance(child, cst.Call):
            yield child
        yield from _calls_in(child)


def _constants(call: cst.Call, scope: Scope, parents: Any) -> Iterator[tuple[str, Any]]:
    """Yield arguments that are names of the module, assigned once, to a literal."""
    for arg in call.args:
        if not isinstance(arg.value, cst.Name):
            continue
        assigned = list(scope[arg.value.value])
        if len(assigned) != 1 or not isinstance(assigned[0], Assignment):
            continue
        target = parents.get(assigned[0].node)
        statement = parents.get(target)
        if not isinstance(target, cst.AssignTarget) or not isinstance(statement, cst.Assign):
            continue
        if assigned[0].scope is not scope.globals:
            continue
        try:
            yield arg.value.value, ast.literal_eval(cst.Module([]).code_for_node(statement.value).strip())
        except (ValueError, SyntaxError, TypeError):
            continue


class _Calls(cst.CSTTransformer):
    def __init__(self, new: dict[cst.Call, cst.Call]) -> None:
        super().__init__()
        self.new = new

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        return self.new.get(original_node, updated_node)


def _with_imports(before: cst.Module, module: cst.Module, sources: set[cst.CSTNode]) -> cst.Module:
    """Import segcore where the calls got SMP from, and drop names that only they used."""
    old, new = _imports(before), _imports(module)
    used_before, _ = _references(before)
    used_after, scopes = _references(module)
    lost: set[tuple[cst.CSTNode, str]] = set()
    for index, node in enumerate(old):
        gone = used_before.get(node, set()) - used_after.get(new[index], set())
        lost |= {(new[index], name) for name in gone}
    chosen = [new[index] for index, node in enumerate(old) if node in sources]
    known = {id(scope) for node, scope in scopes.items() if TARGET in _bound(node)}
    adding: set[cst.CSTNode] = set()
    for node in sorted(chosen, key=lambda node: scopes[node] is not scopes[node].globals):  # those of the module first
        scope = scopes[node]
        if not known & {id(scope), id(scope.globals)}:
            known.add(id(scope))
            adding.add(node)
    changed = module.visit(_ImportLines(set(chosen), adding, lost))
    assert isinstance(changed, cst.Module)
    return changed


def _references(module: cst.Module) -> tuple[dict[cst.CSTNode, set[str]], dict[cst.CSTNode, Scope]]:
    """Return the names of each import that something uses, and the scope of each import."""
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    used: dict[cst.CSTNode, set[str]] = {}
    scopes: dict[cst.CSTNode, Scope] = {}
    for scope in {id(scope): scope for scope in wrapper.resolve(ScopeProvider).values() if scope}.values():
        assert isinstance(scope, Scope)
        for each in scope.assignments:
            if isinstance(each, ImportAssignment):
                scopes[each.node] = scope
                if each.references:
                    used.setdefault(each.node, set()).add(each.name.partition(".")[0])
    return used, scopes


def _bound(node: cst.CSTNode) -> set[str]:
    """Return the names that an import binds."""
    if not isinstance(node, cst.Import | cst.ImportFrom) or isinstance(node.names, cst.ImportStar):
        return set()
    return {_local(alias) for alias in node.names}


def _imports(module: cst.Module) -> list[cst.Import | cst.ImportFrom]:
    """Return all imports in their order."""
    found: list[cst.Import | cst.ImportFrom] = []

    def walk(node: cst.CSTNode) -> None:
        for child in node.children:
            if isinstance(child, cst.Import | cst.ImportFrom):
                found.append(child)
            walk(child)

    walk(module)
    return found


class _ImportLines(cst.CSTTransformer):
    """Replaces imports.

    Args:
        chosen: those that calls got SMP from.
        adding: those of them before which segcore is imported.
        lost: names, with their import, that nothing uses any more.
    """

    def __init__(
        self, chosen: set[cst.Import | cst.ImportFrom], adding: set[cst.CSTNode], lost: set[tuple[cst.CSTNode, str]]
    ) -> None:
        super().__init__()
        self.chosen, self.adding, self.lost = chosen, adding, lost

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine] | cst.RemovalSentinel:
        """Replace the imports of a line."""
        if not any(node in self.chosen for node in original_node.body):
            return updated_node
        own = [cst.Import([cst.ImportAlias(cst.Name(TARGET))])] if self.adding & set(original_node.body) else []
        kept = [part for node in original_node.body for part in self._rest(node)]
        if not own and not kept:
            commented = bool(matchers.findall(original_node, matchers.Comment()))
            return updated_node if commented else cst.RemoveFromParent()
        if not own or not kept:
            return updated_node.with_changes(body=kept or own)
        first = cst.SimpleStatementLine(own, leading_lines=updated_node.leading_lines)
        return cst.FlattenSentinel([first, updated_node.with_changes(body=kept, leading_lines=())])

    def _rest(self, node: cst.BaseSmallStatement) -> Iterator[cst.BaseSmallStatement]:
        """Yield a statement without the names that nothing uses any more."""
        if not isinstance(node, cst.Import | cst.ImportFrom) or isinstance(node.names, cst.ImportStar):
            yield node
            return
        if matchers.findall(node, matchers.Comment()):
            yield node
            return
        kept = [alias for alias in node.names if (node, _local(alias)) not in self.lost]
        if kept and len(kept) < len(node.names):
            kept[-1] = kept[-1].with_changes(comma=node.names[-1].comma)
        if kept:
            yield node.with_changes(names=kept)


def _local(alias: cst.ImportAlias) -> str:
    return (alias.evaluated_alias or alias.evaluated_name).partition(".")[0]
