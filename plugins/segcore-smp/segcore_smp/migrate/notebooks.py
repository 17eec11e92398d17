"""Notebooks as one program each, and back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import libcst as cst

from segcore_smp.migrate.source import Outcome, UnreadableError, migrated

_CELL = "# segcore migrate: a cell\n"
_MAGIC = "pass  # segcore migrate: "


def migrated_notebook(data: bytes, *, native: bool) -> Outcome:
    """Return a notebook after migration; outputs, metadata and formatting stay.

    Lines of uses are those of its code cells, one after the other.

    Raises:
        UnreadableError: it is no notebook, a cell has a syntax error, or its formatting cannot be kept.
    """
    try:
        book = json.loads(data)
        cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        texts = ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"it is no notebook ({type(error).__name__}: {error})") from None
    layout = _layout(book, data)
    ends = ["" if text.endswith("\n") else "\n" for text in texts]
    chunks = [f"{_CELL}{_masked(text)}{end}" for text, end in zip(texts, ends, strict=True)]
    outcome = migrated("".join(chunks).encode(), native=native)
    parts = outcome.data.decode().split(_CELL)[1:]
    for cell, old, new, end in zip(cells, texts, parts, ends, strict=True):
        text = _unmasked(new.removesuffix(end))
        if text != old:
            cell["source"] = text if isinstance(cell["source"], str) else text.splitlines(keepends=True)
    before = [number for number, chunk in enumerate(chunks, start=1) for _ in range(chunk.count("\n"))]
    uses = [replace(use, line=use.line - before[use.line - 1]) for use in outcome.uses]  # without those between cells
    return Outcome(_text(book, layout), uses)


def _masked(text: str) -> str:
    """Return a cell with lines for the shell and for the notebook as lines of Python."""
    try:
        cst.parse_module(text)
    except cst.ParserSyntaxError:
        pass
    else:
        return text
    if text.startswith("%%"):
        return "\n".join(_MAGIC + line for line in text.split("\n"))
    return re.sub(r"^([ \t]*)([%!?].*|[^\n#'\"]*\?)$", rf"\1{_MAGIC}\2", text, flags=re.MULTILINE)


def _unmasked(text: str) -> str:
    return text.replace(_MAGIC, "")


def _layout(book: Any, data: bytes) -> tuple[int | None, bool, str]:
    """Return indentation, escapes and end with which a notebook was written."""
    for indent in (1, 2, 4, None):
        for escaped in (False, True):
            for end in ("\n", ""):
                if _text(book, (indent, escaped, end)) == data:
                    return indent, escaped, end
    raise UnreadableError("its formatting cannot be kept; save it with Jupyter first")


def _text(book: Any, layout: tuple[int | None, bool, str]) -> bytes:
    indent, escaped, end = layout
    return (json.dumps(book, indent=indent, ensure_ascii=escaped) + end).encode()
