"""Imports of SMP, rewritten so that every name in the program keeps its meaning."""

# ruff: noqa: N802 - libcst calls these methods by their names

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst
from libcst.metadata import CodeRange, PositionProvider

from segcore_smp.migrate.names import NEW, OLD, dotted, expression, is_old, missing, missing_module, renamed
from segcore_smp.migrate.uses import Use


class Imports(cst.CSTTransformer):
    """Rewrites imports and lists them.

    Attributes:
        uses: all imports of SMP, with a note where one stays as it is.
    """

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[Use] = []

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import:
        """Rewrite ``import a, segmentation_models_pytorch as smp, b``."""
        aliases: list[cst.ImportAlias] = []
        for alias in updated_node.names:
            name = dotted(alias.name) or ""
            if not is_old(name):
                aliases.append(alias)
                continue
            lacking = missing_module(name)
            self._note(original_node, name, lacking)
            aliases += [alias] if lacking else _replaced(alias, name)
        return updated_node.with_changes(names=_with_commas(aliases, updated_node.names))

    def leave_ImportFrom(self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom) -> cst.ImportFrom:
        """Rewrite ``from segmentation_models_pytorch.losses import DiceLoss``."""
        module = dotted(updated_node.module) if updated_node.module else None
        if updated_node.relative or module is None or not is_old(module):
            return updated_node
        lacking = missing_module(module)
        for name in _imported(updated_node):
            whole = f"{module}.{name}"
            lacking = lacking or (missing(whole) if name != "*" else None)
            star = "names that come with a star are not listed" if name == "*" and not lacking else ""
            self._note(original_node, whole, lacking, star)
        return updated_node if lacking else updated_node.with_changes(module=expression(renamed(module)))

    def _note(self, node: cst.CSTNode, name: str, lacking: str | None, note: str = "") -> None:
        where = self.get_metadata(PositionProvider, node)
        assert isinstance(where, CodeRange)
        note = f"left as it is: there is no {lacking}" if lacking else note
        self.uses.append(Use(where.start.line, "import", name, note))


def _imported(node: cst.ImportFrom) -> Iterator[str]:
    if isinstance(node.names, cst.ImportStar):
        yield "*"
    else:
        yield from (dotted(alias.name) or "" for alias in node.names)


def _replaced(alias: cst.ImportAlias, name: str) -> list[cst.ImportAlias]:
    """Return what binds the same name to the same part of `segcore_smp`."""
    target = expression(renamed(name))
    if alias.asname is not None:
        return [alias.with_changes(name=target)]
    whole = cst.ImportAlias(expression(NEW), cst.AsName(cst.Name(OLD)))
    if name == OLD:
        return [whole.with_changes(comma=alias.comma)]
    return [whole, alias.with_changes(name=target)]  # the second loads the module, under the first's name


def _with_commas(aliases: Sequence[cst.ImportAlias], before: Sequence[cst.ImportAlias]) -> list[cst.ImportAlias]:
    """Return aliases, each once, with commas between them."""
    kept: list[cst.ImportAlias] = []
    for alias in aliases:
        if not any(alias.name.deep_equals(other.name) and _same(alias, other) for other in kept):
            kept.append(alias)
    comma = next((a.comma for a in before if isinstance(a.comma, cst.Comma)), None)
    comma = comma or cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    middle = [a if isinstance(a.comma, cst.Comma) else a.with_changes(comma=comma) for a in kept[:-1]]
    return [*middle, kept[-1].with_changes(comma=before[-1].comma)]


def _same(a: cst.ImportAlias, b: cst.ImportAlias) -> bool:
    return (a.evaluated_alias or "") == (b.evaluated_alias or "")
