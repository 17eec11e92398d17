"""Installed distributions to plugins, from metadata alone: nothing is imported here.

The standard library's ``entry_points()`` and pluggy's own loader both fail for everybody when one unrelated package
has malformed metadata, so the scan is our own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segcore.errors import PluginWarning
from segcore.specs import KINDS, Spec

API = 1
GROUP = f"segcore.v{API}"
_SECTION = re.compile(r"segcore\.v\d+")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]*")


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
    _index: dict[str, dict[str, Spec]] | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        """Whether the plugin's records can be asked for."""
        return self.status in {"installed", "ok", "degraded"}

    def index(self, kind: str) -> dict[str, Spec]:
        """Return records by every name, aliases included and canonical names winning; empty before loading."""
        return (self._index or {}).get(kind, {})

    def specs(self, kind: str | None = None) -> list[Spec]:
        """Return the records, all or of one kind, in the order in which the plugin listed them."""
        kinds = KINDS if kind is None else (kind,)
        return [spec for key in kinds for name, spec in self.index(key).items() if name == spec.name]

    @property
    def title(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"


def scan(path: list[str] | None = None) -> list[Plugin]:
    """Read the metadata of installed distributions and return their plugins, sorted by namespace; imports nothing.

    Args:
        path: folders to look in instead of ``sys.path``.
    """
    claims: dict[str, list[Plugin]] = {}
    for distribution in importlib.metadata.distributions(path=sys.path if path is None else path):
        try:
            text = distribution.read_text("entry_points.txt")
        except (OSError, ValueError):  # binary or foreign encoding: an unrelated package's business
            continue
        if text and "segcore.v" in text:
            claims.setdefault(_identity(distribution)[0], []).append(_plugin(distribution, text))
    return _settle([copies for group in claims.values() for copies in _merge_copies(group)])


def _plugin(distribution: importlib.metadata.Distribution, text: str) -> Plugin:
    """Return a plugin without a namespace yet: its entry points stand in `notes` as ``group|name|value``."""
    name, version = _identity(distribution)
    try:
        requirements = tuple(distribution.requires or ())
    except Exception:  # malformed metadata of a plugin: it is judged by what it does
        requirements = ()
    entries = ["|".join(entry) for entry in _entries(text)]
    return Plugin("", "", name, version, notes=entries, requirements=requirements)


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif line and not line.startswith(("#", ";")) and _SECTION.fullmatch(section):
            name, _, value = line.partition("=")
            yield section, name.strip(), value.partition("[")[0].strip()


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    name: str | None = None
    version: str | None = None
    with contextlib.suppress(Exception):  # no METADATA: the folder's name tells
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
    folder = getattr(getattr(distribution, "_path", None), "name", "unknown-0")
    stem = re.sub(r"\.(dist|egg)-info$", "", folder)
    return (
        re.sub(r"[-_.]+", "-", name or stem.partition("-")[0]).lower(),
        version or stem.partition("-")[2].partition("-")[0] or "unknown",
    )


def _merge_copies(copies: list[Plugin]) -> list[Plugin]:
    """Return one plugin per entry point of a distribution that may lie on the path several times, the first winning."""
    first, *others = copies
    entries = [tuple(entry.split("|")) for entry in first.notes]
    remarks = [
        f"{other.title} lies on the path again"
        + ("" if sorted(other.notes) == sorted(first.notes) else " with other entry points and is shadowed")
        for other in others
    ]
    current = [entry for entry in entries if entry[0] == GROUP]
    merged = []
    for group, name, value in current or entries:
        plugin = Plugin(name, value, first.distribution, first.version, requirements=first.requirements)
        plugin.notes = list(remarks)
        if group != GROUP:
            wanted = group.removeprefix("segcore.v")
            leave_out(plugin, "incompatible", f"it speaks plugin interface {wanted}, this segcore speaks {API}")
        elif not _NAMESPACE.fullmatch(name) or not _MODULE.fullmatch(value):
            leave_out(plugin, "broken", f"its entry point {name!r} = {value!r} names no module")
        merged.append(plugin)
    return merged


def _settle(plugins: list[Plugin]) -> list[Plugin]:
    """Give each plugin a namespace of its own, whatever the order of installation."""
    plugins.sort(key=lambda plugin: (plugin.namespace, plugin.distribution))
    holders: dict[str, list[Plugin]] = {}
    modules: dict[str, Plugin] = {}
    for plugin in plugins:
        holders.setdefault(plugin.namespace, []).append(plugin)
        holder = modules.setdefault(plugin.module, plugin)
        if holder is not plugin and plugin.usable:
            leave_out(plugin, "broken", f"its module {plugin.module!r} belongs to plugin {holder.namespace!r} already")
    for namespace, rivals in holders.items():
        if len({plugin.distribution for plugin in rivals}) > 1:
            for plugin in rivals:
                plugin.notes.append(f"namespace {namespace!r} is claimed by several packages; write the distribution")
                plugin.namespace = plugin.distribution
    _gate_by_environment(plugins)
    return plugins


def _gate_by_environment(plugins: list[Plugin]) -> None:
    words = [word.strip() for word in os.environ.get("SEGCORE_PLUGINS", "").split(",") if word.strip()]
    denied = {word[1:] for word in words if word.startswith("-")}
    allowed = {word for word in words if not word.startswith("-")}
    for plugin in plugins:
        if plugin.namespace in denied or (allowed and plugin.namespace not in allowed):
            leave_out(plugin, "disabled", "SEGCORE_PLUGINS leaves it out")
    unknown = sorted((denied | allowed) - {plugin.namespace for plugin in plugins})
    if unknown:
        warnings.warn(
            f"SEGCORE_PLUGINS names {', '.join(map(repr, unknown))}, but no such plugin is installed.",
            PluginWarning,
            stacklevel=4,
        )


def leave_out(plugin: Plugin, status: str, reason: str) -> None:
    """State that a plugin is not used, or only in part, and why."""
    plugin.status, plugin.reason = status, reason


def incompatibility(plugin: Plugin) -> str | None:
    """Return why this segcore does not satisfy the plugin's own requirement on it, or None."""
    lines = [line for line in plugin.requirements if re.match(r"segcore(?![\w.-])", line.strip(), re.IGNORECASE)]
    if not lines:
        return None
    from packaging.requirements import InvalidRequirement, Requirement

    import segcore

    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(segcore.__version__, prereleases=True):
            return f"it needs segcore {requirement.specifier}, this is {segcore.__version__}"
    return None


def path_fingerprint() -> tuple[object, ...]:
    """Return what changes when something is installed or ``sys.path`` is edited."""
    rows: list[object] = []
    for entry in sys.path:
        try:
            rows.append((entry, Path(entry or ".").stat().st_mtime_ns))
        except OSError:
            rows.append((entry, None))
    return tuple(rows)
