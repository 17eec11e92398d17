"""Lists and near matches in messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def shorten(items: Iterable[object], limit: int = 5) -> str:
    """Return the first items as text, and how many more there are."""
    rows = [str(item) for item in items]
    return ", ".join(rows[:limit]) + (f" and {len(rows) - limit} more" if len(rows) > limit else "")


def near_match(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choices that are spelt alike, or nothing."""
    close = difflib.get_close_matches(word, list(choices), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
