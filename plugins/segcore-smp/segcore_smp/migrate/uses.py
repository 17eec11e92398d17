"""Every use of SMP in a program."""

# ruff: noqa: ARG002, N802 - libcst calls these methods by their names

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import CodeRange, ParentNodeProvider, PositionProvider, ScopeProvider

from segcore_smp.migrate.names import DISTRIBUTION, OLD, dotted, is_old, meaning, missing


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One place where a program uses SMP.

    Attributes:
        line: counted from 1.
        kind: ``"import"``, ``"name"``, or ``"text"`` for a string or a line of another file.
        name: the name in SMP, or the text.
        note: why it stays as it is, or what to look at; empty if there is nothing to say.
    """

    line: int
    kind: str
    name: str
    note: str = ""


@dataclass
class Calls:
    """What is known of the names of one program.

    Attributes:
        uses: all of them.
        called: names of SMP that are called, with certainty, by node.
        otherwise: names of SMP that are used in another way, or without certainty, with the line.
    """

    uses: list[Use] = field(default_factory=list)
    called: dict[cst.Call, str] = field(default_factory=dict)
    otherwise: dict[str, int] = field(default_factory=dict)


class Finder(cst.CSTVisitor):
    """Collects the uses of names; imports are the business of `Imports`."""

    METADATA_DEPENDENCIES = (ScopeProvider, PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found = Calls()

    def visit_Import(self, node: cst.Import) -> bool:
        """Pass over."""
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        """Pass over."""
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:
        """Look at the value alone: a keyword is no use of a name."""
        node.value.visit(self)
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        """Take a chain of names as one."""
        if dotted(node) is None:
            node.value.visit(self)
        else:
            self._take(node)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        """Take a name."""
        self._take(node)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        """Take a string that names SMP."""
        self._text(node, str(node.evaluated_value))

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        """Take the fixed part of a string that names SMP."""
        self._text(node, node.value)

    def _line(self, node: cst.CSTNode) -> int:
        where = self.get_metadata(PositionProvider, node)
        assert isinstance(where, CodeRange)
        return where.start.line

    def _text(self, node: cst.CSTNode, text: str) -> None:
        if OLD in text or DISTRIBUTION in text:
            self.found.uses.append(Use(self._line(node), "text", shown(text), "a string: look at it yourself"))

    def _take(self, node: cst.Name | cst.Attribute) -> None:
        name, sure = meaning(node, self.get_metadata(ScopeProvider, node, None))
        if name is None or not is_old(name):
            return
        line, note = self._line(node), ""
        if not sure:
            note = f"{dotted(node)!r} may be something else here: it is assigned in several places"
        elif lacking := missing(name):
            note = f"there is no {lacking}"
        self.found.uses.append(Use(line, "name", name, note))
        parent = self.get_metadata(ParentNodeProvider, node, None)
        if sure and isinstance(parent, cst.Call) and parent.func is node:
            self.found.called[parent] = name
        else:
            self.found.otherwise.setdefault(name, line)


def shown(text: str) -> str:
    """Return the line of a text that names SMP, shortened, without control characters."""
    line = next(line for line in text.splitlines() if OLD in line or DISTRIBUTION in line)
    return "".join(c if c.isprintable() else " " for c in line.strip()[:120])
