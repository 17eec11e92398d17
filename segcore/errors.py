"""The exceptions of segcore. Each is also a built-in kind, so that ordinary ``except`` clauses catch it.

::

    SegcoreError
    ├── UnknownNameError(LookupError)        no component has this name
    ├── AmbiguousNameError(LookupError)      several packages offer this name
    ├── NameTakenError(ValueError)           a name is registered already
    ├── UnknownOptionError(TypeError)        a component takes no such option
    ├── OptionValueError(ValueError)         an option cannot take this value
    ├── IncompatiblePartsError(ValueError)   a decoder cannot use what an encoder gives
    ├── InputError(ValueError)               shape, dtype or channels of an image
    ├── PluginError(RuntimeError)            a plugin failed; names its distribution and phase
    │   └── PluginIncompatibleError          a plugin asks for another segcore
    ├── WeightsError(ValueError)             unknown tag, unreadable file, or keys that do not fit
    └── CheckpointError(ValueError)          not a checkpoint, from a newer version, or damaged
    PluginWarning(UserWarning)               a plugin is left out; everything else works

A message says what came, what was needed and what to do. All of them pickle, so they cross process boundaries.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class SegcoreError(Exception):
    """Base of every exception that segcore raises on purpose."""


class UnknownNameError(SegcoreError, LookupError):
    """No encoder, decoder or loss has the given name."""


class AmbiguousNameError(SegcoreError, LookupError):
    """Several installed packages offer the given name and none of them owns it."""


class NameTakenError(SegcoreError, ValueError):
    """A local registration uses a name that is registered already."""


class UnknownOptionError(SegcoreError, TypeError):
    """A component was given an option that it does not take."""


class OptionValueError(SegcoreError, ValueError):
    """An option was given a value that it cannot take."""


class IncompatiblePartsError(SegcoreError, ValueError):
    """A decoder cannot use the feature maps of an encoder."""


class InputError(SegcoreError, ValueError):
    """An image has the wrong rank, dtype, size or number of channels."""


class PluginError(SegcoreError, RuntimeError):
    """A plugin failed.

    Attributes:
        distribution: name of the installed distribution, or None for a local registration.
        phase: what the plugin was doing: ``import``, ``specs``, ``find``, ``build``, ``contract`` or ``hook``.
    """

    def __init__(self, message: str, *, distribution: str | None = None, phase: str | None = None) -> None:
        super().__init__(message)
        self.distribution = distribution
        self.phase = phase


class PluginIncompatibleError(PluginError):
    """A plugin was made for another version of segcore or of its plugin interface."""


class WeightsError(SegcoreError, ValueError):
    """Weights are unknown, unreadable, or do not fit the network."""


class CheckpointError(SegcoreError, ValueError):
    """A folder or file is no checkpoint, is damaged, or comes from a newer segcore."""


class PluginWarning(UserWarning):
    """A plugin is left out or degraded; everything else keeps working."""


def level_outside() -> int:
    """Return the ``stacklevel`` with which the caller's warning points to the line that called segcore."""
    own = {"segcore", "collections", "_collections_abc"}  # registries inherit from Mapping
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    return level


def near_match(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for up to three choices close to `word` in any case, or an empty string."""
    written = {choice.lower(): choice for choice in sorted(choices)}
    close = difflib.get_close_matches(str(word).lower(), written, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(written[choice]) for choice in close)}?" if close else ""


def shorten(items: Iterable[object], limit: int = 5) -> str:
    """Return the first items as a comma-separated list of at most `limit` entries."""
    rows = [str(item) for item in items]
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return ", ".join(rows[:limit]) + more
