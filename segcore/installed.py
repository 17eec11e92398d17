"""Installed distributions to plugins, from metadata alone: nothing is imported here.

The standard library's ``entry_points()`` and pluggy's own loader both fail for everybody when one unrelated package
has malformed metadata, so the scan is our own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

from segcore.errors import UnknownNameError, near_match
from segcore.owners import OFFICIAL, distribution_of
from segcore.specs import KINDS, Spec

API = 1
GROUP = f"segcore.v{API}"
_SECTION = re.compile(r"segcore\.v\d+")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]*")
_BOM = "\ufeff"


@dataclass(slots=True)
class Plugin:
    """One installed plugin and what became of it.

    Attributes:
        namespace: its id, the part of a qualified name before the slash.
        module: the module that implements its hooks.
        distribution: name of the installed distribution.
        version: version of the distribution.
        status: ``"installed"`` (not imported yet), ``"ok"``, ``"degraded"`` (some records were refused), ``"broken"``,
            ``"incompatible"`` (made for another segcore) or ``"disabled"`` (by ``SEGCORE_PLUGINS``).
        reason: why the status is not ok.
        notes: what is odd about the installation, such as a second copy on the path.
        load_seconds: time that the import and the records took; None before that.
        claim: the namespace that its entry point asks for; `namespace` differs where another package has it.
    """

    namespace: str
    module: str
    distribution: str
    version: str
    status: str = "installed"
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    load_seconds: float | None = None
    requirements: tuple[str, ...] = field(default=(), repr=False)
    claim: str = ""
    _index: dict[str, dict[str, Spec]] | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        """Whether the plugin's records can be asked for."""
        return self.status in {"installed", "ok", "degraded"}

    def index(self, kind: str) -> dict[str, Spec]:
        """Return records by every name without namespace, canonical names before aliases; empty before loading."""
        return (self._index or {}).get(kind, {})

    def specs(self, kind: str | None = None) -> list[Spec]:
        """Return the records, all or of one kind, in the order in which the plugin listed them."""
        kinds = KINDS if kind is None else (kind,)
        return [spec for key in kinds for name, spec in self.index(key).items() if name == short_name(spec.name)]

    @property
    def title(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"


class Entry(NamedTuple):
    """One line of ``entry_points.txt``, extras cut off."""

    group: str
    name: str
    value: str


class Copy(NamedTuple):
    """One installed copy of a distribution that has entry points for us."""

    distribution: str
    version: str
    folder: str
    entries: tuple[Entry, ...]
    requirements: tuple[str, ...]


def short_name(name: str) -> str:
    """Return a name without its namespace."""
    return name.partition("/")[2] or name


def plain_name(distribution: str) -> str:
    """Return a distribution's name as packaging tools compare it, ``"a-b"`` for ``"A_b"``."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def plugins_called(word: str, plugins: Iterable[Plugin], hint: str = "") -> list[Plugin]:
    """Return the plugin with this id, or the plugins of the distribution with this name.

    Args:
        word: the id or the distribution.
        plugins: those that are installed.
        hint: what else the message should say.

    Raises:
        UnknownNameError: there is none.
    """
    plugins = list(plugins)
    found = [plugin for plugin in plugins if plugin.namespace == word]
    found = found or [plugin for plugin in plugins if plugin.distribution == plain_name(word)]
    if not found:
        known = {name for plugin in plugins for name in (plugin.namespace, plugin.distribution)}
        raise UnknownNameError(
            f"no plugin {word!r} is installed; `segcore plugins` lists those that are.{hint}" + near_match(word, known)
        )
    return found


def scan(path: list[str] | None = None) -> list[Plugin]:
    """Read the metadata of installed distributions and return their plugins, sorted by namespace; imports nothing.

    Args:
        path: folders to look in instead of ``sys.path``.
    """
    copies: dict[str, list[Copy]] = {}
    for copy in _copies(sys.path if path is None else path):
        copies.setdefault(copy.distribution, []).append(copy)
    plugins = [plugin for group in copies.values() for plugin in _merge_copies(group)]
    plugins.sort(key=lambda plugin: (plugin.claim, plugin.distribution))
    _settle_modules(plugins)
    _settle_namespaces(plugins)
    for plugin in plugins:
        if _excluded(plugin):
            leave_out(plugin, "disabled", "SEGCORE_PLUGINS leaves it out")
    return sorted(plugins, key=lambda plugin: plugin.namespace)


def distributions(path: Iterable[object]) -> Iterator[importlib.metadata.Distribution]:
    """Yield every installed distribution in the order of the path, each folder searched once."""
    folders: dict[str, str] = {}
    for entry in path:
        if isinstance(entry, str) and "\0" not in entry:  # import passes over the others, too
            folders.setdefault(os.path.realpath(entry), entry)  # lib64 is often lib
    yield from importlib.metadata.distributions(path=list(folders.values()))


def _copies(path: Iterable[object]) -> Iterator[Copy]:
    for distribution in distributions(path):
        text = None
        with contextlib.suppress(Exception):  # binary or of a foreign encoding: an unrelated package's business
            text = distribution.read_text("entry_points.txt")
        entries = tuple(entries_of(text)) if text and "segcore.v" in text else ()
        if entries:
            yield copy_of(distribution, entries)


def entries_of(text: str) -> Iterator[Entry]:
    """Yield the entry points for us, of every version of the interface, whatever else is in the file."""
    section = ""
    for raw in text.removeprefix(_BOM).splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif line and not line.startswith(("#", ";")) and _SECTION.fullmatch(section):
            name, _, value = line.partition("=")
            yield Entry(section, name.strip(), value.partition("[")[0].strip())


def copy_of(distribution: importlib.metadata.Distribution, entries: tuple[Entry, ...]) -> Copy:
    """Return what the metadata of a distribution say, and its folder's name where they say nothing."""
    name = version = None
    requirements: Iterable[str] | None = None
    with contextlib.suppress(Exception):  # malformed or missing: the folder's name tells
        metadata = distribution.metadata  # parsed anew at every access
        requirements = metadata.get_all("Requires-Dist") or distribution.requires
        name, version = metadata["Name"], metadata["Version"]
    path = getattr(distribution, "_path", None)
    stem = re.sub(r"\.(dist|egg)-info$", "", getattr(path, "name", "unknown-0"))
    return Copy(
        plain_name(str(name or stem.partition("-")[0])),
        str(version or stem.partition("-")[2].partition("-")[0] or "unknown"),
        str(getattr(path, "parent", "")),
        entries,
        tuple(requirements or ()),
    )


def _merge_copies(copies: list[Copy]) -> list[Plugin]:
    """Return one plugin per entry point of a distribution that may lie on the path several times, the first winning."""
    first = max((copy for copy in copies if copy.folder == copies[0].folder), key=_age)
    remarks = [
        f"{copy.distribution} {copy.version} lies on the path again"
        + ("" if sorted(copy.entries) == sorted(first.entries) else " with other entry points and is shadowed")
        for copy in copies
        if copy is not first
    ]
    merged: dict[str, Plugin] = {}
    for group, name, value in [entry for entry in first.entries if entry.group == GROUP] or first.entries:
        if name in merged:
            merged[name].notes.append(f"its entry point {name!r} is written twice; {value!r} is not used")
            continue
        plugin = Plugin(name, value, first.distribution, first.version, requirements=first.requirements, claim=name)
        plugin.notes += remarks
        if group != GROUP:
            wanted = group.removeprefix("segcore.v")
            leave_out(plugin, "incompatible", f"it speaks plugin interface {wanted}, this segcore speaks {API}")
        elif not _NAMESPACE.fullmatch(name) or not _MODULE.fullmatch(value):
            needed = "a lower-case name and a module are needed, 'tiny = segcore_plugin_tiny'"
            leave_out(plugin, "broken", f"its entry point {name!r} = {value!r} is malformed; {needed}")
        merged[name] = plugin
    return list(merged.values())


def _age(copy: Copy) -> tuple[bool, object]:
    """Order copies in one folder, where an interrupted upgrade left the older one behind."""
    from packaging.version import InvalidVersion, Version

    try:
        return True, Version(copy.version)
    except InvalidVersion:
        return False, copy.version


def _settle_modules(plugins: list[Plugin]) -> None:
    """Leave one plugin per module, by preference the one whose package bears the module's name."""
    holders: dict[str, Plugin] = {}
    for plugin in sorted(plugins, key=lambda plugin: not _named_alike(plugin)):
        if plugin.usable:
            holder = holders.setdefault(plugin.module, plugin)
            if holder is not plugin:
                reason = f"its module {plugin.module!r} belongs to plugin {holder.claim!r} of {holder.distribution}"
                leave_out(plugin, "broken", reason)


def _named_alike(plugin: Plugin) -> bool:
    return plugin.module.partition(".")[0].replace("_", "-").lower() == plugin.distribution


def _settle_namespaces(plugins: list[Plugin]) -> None:
    """Give each plugin a namespace of its own, whatever the order of installation.

    Official namespaces and names of installed packages belong to these; a namespace that several packages claim belongs
    to none. Whoever must give way is called by its distribution.
    """
    packages = {plugin.distribution for plugin in plugins}
    claims: dict[str, set[str]] = {}
    for plugin in plugins:
        if plugin.usable:
            claims.setdefault(plugin.claim, set()).add(plugin.distribution)
    taken: set[str] = set()
    giving_way: list[Plugin] = []
    for plugin in plugins:
        keeper = None
        if plugin.claim in OFFICIAL:
            keeper = distribution_of(plugin.claim)
        elif plugin.claim in packages:
            keeper = plugin.claim
        if keeper not in {None, plugin.distribution}:
            note = f"namespace {plugin.claim!r} belongs to {keeper}"
        elif keeper is None and len(claims.get(plugin.claim, ())) > 1:
            note = f"namespace {plugin.claim!r} is claimed by several packages"
        else:
            note = None
        if note and plugin.usable:
            plugin.notes.append(f"{note}; write {plugin.distribution!r}")
        if note or not plugin.usable:
            giving_way.append(plugin)
        else:
            taken.add(plugin.namespace)
    for plugin in sorted(giving_way, key=lambda plugin: not plugin.usable):
        plugin.namespace = next(name for name in _names_instead(plugin) if name not in taken)
        taken.add(plugin.namespace)


def _names_instead(plugin: Plugin) -> Iterator[str]:
    if plugin.claim and not plugin.usable:
        yield plugin.claim
    yield plugin.distribution
    for number in count(1):
        yield f"{plugin.distribution}-{plugin.claim}" + (f"-{number}" if number > 1 else "")


def _words() -> tuple[set[str], set[str]]:
    """Return what ``SEGCORE_PLUGINS`` allows (nothing means all) and denies."""
    words = {word.strip() for word in os.environ.get("SEGCORE_PLUGINS", "").split(",")} - {"", "-"}
    denied = {word for word in words if word.startswith("-")}
    return words - denied, {word[1:].strip() for word in denied}


def _excluded(plugin: Plugin) -> bool:
    allowed, denied = _words()
    names = {plugin.namespace, plugin.claim, plugin.distribution}
    return bool(names & denied) or bool(allowed and not names & allowed)


def unknown_words(plugins: Iterable[Plugin]) -> list[str]:
    """Return what ``SEGCORE_PLUGINS`` names although nothing of that name is installed."""
    allowed, denied = _words()
    known = {name for plugin in plugins for name in (plugin.namespace, plugin.claim, plugin.distribution)}
    return sorted((allowed | denied) - known)


def leave_out(plugin: Plugin, status: str, reason: str) -> None:
    """State that a plugin is not used, or only in part, and why."""
    plugin.status, plugin.reason = status, reason


def incompatibility(plugin: Plugin) -> str | None:
    """Return why this segcore does not satisfy the plugin's own requirement on it, or None."""
    import segcore

    for line in plugin.requirements:
        if re.match(r"\s*segcore(?![\w.-])", line, re.IGNORECASE):
            unmet = _unmet(line, segcore.__version__)
            if unmet is not None:
                return f"it needs segcore {unmet}, this is {segcore.__version__}"
    return None


@functools.cache
def _unmet(line: str, version: str) -> str | None:
    """Return the versions that a requirement allows if `version` is none of them."""
    if _plainly_met(line, version):
        return None
    from packaging.requirements import Requirement

    try:
        requirement = Requirement(line)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    except Exception:  # a malformed requirement or marker: the plugin is judged by what it does
        return None
    return str(requirement.specifier) if applies and not requirement.specifier.contains(version, True) else None


_PLAIN = r"\d{1,9}(?:\.\d{1,9})*"


def _plainly_met(line: str, version: str) -> bool:
    """Whether a requirement of the common form ``segcore>=0.1,<0.2`` holds; False if packaging has to judge.

    Importing packaging's parser takes longer than all the rest of finding a component.
    """
    if not re.fullmatch(_PLAIN, version, re.ASCII):
        return False
    body = re.sub(r"^\s*[\w.-]+", "", line)
    parts = [re.fullmatch(rf"\s*(>=|<)\s*({_PLAIN})\s*", part, re.ASCII) for part in body.split(",")]
    return all(part and (_release(version) >= _release(part[2])) == (part[1] == ">=") for part in parts)


def _release(version: str) -> list[int]:
    numbers = [int(word) for word in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def path_fingerprint() -> tuple[object, ...]:
    """Return what changes when something is installed or ``sys.path`` is edited."""
    rows: list[object] = []
    for entry in sys.path:
        try:
            rows.append((entry, Path(entry or ".").stat().st_mtime_ns))
        except (OSError, TypeError, ValueError):
            rows.append((entry, None))
    return tuple(rows)
