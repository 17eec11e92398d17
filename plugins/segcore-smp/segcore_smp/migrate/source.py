"""One program: what it uses of SMP, and how it reads afterwards."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, replace

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from segcore_smp.migrate.imports import Imports
from segcore_smp.migrate.native import rewrite
from segcore_smp.migrate.uses import Finder, Use


class UnreadableError(Exception):
    """A file cannot be taken for a program."""


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        data: the new program, in the encoding and with the line ends of the old one.
        uses: what the old one used of SMP.
        encoding: in which both are written.
    """

    data: bytes
    uses: list[Use]
    encoding: str = "utf-8"


def migrated(data: bytes, *, native: bool) -> Outcome:
    """Return a program after migration; nothing but names and calls of SMP changes.

    Args:
        data: Python source in any encoding that it declares.
        native: rewrites calls to segcore's own where they compute the same.

    Raises:
        UnreadableError: it has a syntax error, or cannot be written back byte for byte.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the program's own
            ast.parse(data)  # refuses nesting so deep that it ends libcst's parser, and the process
        module = cst.parse_module(data)
    except SyntaxError as error:
        raise UnreadableError(f"line {error.lineno}: {error.msg}") from None
    except (cst.ParserSyntaxError, UnicodeError, LookupError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableError(str(error)) from None
    if module.bytes != data:
        raise UnreadableError("it cannot be written back as it is, byte for byte")
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    finder, imports = Finder(), Imports()
    wrapper.visit(finder)
    new = wrapper.visit(imports)
    uses = imports.uses + finder.found.uses
    if native:
        changed = rewrite(wrapper, finder.found)
        new = MetadataWrapper(changed.module).visit(Imports())
        lines = wrapper.resolve(PositionProvider)
        reasons: dict[tuple[int, str], str] = {}
        for call, reason in changed.left.items():
            where = lines[call]
            assert isinstance(where, CodeRange)
            reasons[where.start.line, finder.found.called[call]] = f"left as it is: {reason}"
        uses = [replace(use, note=use.note or reasons.get((use.line, use.name), "")) for use in uses]
    return Outcome(new.bytes, sorted(uses), module.encoding)
