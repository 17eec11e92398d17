"""Plugins to records: each plugin's light module is imported, and asked for its records, only when that is needed.

Discovery from metadata is in `segcore.installed`. Every step is isolated: what one plugin does wrong is reported as a
PluginWarning and leaves the others alone.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pluggy

from segcore import hookspecs
from segcore.errors import IncompatiblePartsError, PluginError, PluginIncompatibleError, PluginWarning, level_outside
from segcore.installed import Plugin, incompatibility, leave_out, path_fingerprint, scan, short_name, unknown_words
from segcore.specs import KINDS, Provenance, Spec, kind_of, names_of


class Catalogue:
    """The plugins of this process and their records, loaded as they are asked for; safe between threads.

    Args:
        scanner: finds the installed plugins.
    """

    def __init__(self, scanner: Callable[[], list[Plugin]] = scan) -> None:
        self._scanner = scanner
        self._lock = threading.RLock()
        self._plugins: dict[str, Plugin] | None = None
        self._loaded: tuple[Plugin, ...] | None = None
        self._busy: str | None = None
        self._fingerprint: tuple[object, ...] = ()
        self._reported: set[tuple[str, ...]] = set()
        self._manager = pluggy.PluginManager("segcore")
        self._manager.add_hookspecs(hookspecs)

    def plugins(self) -> dict[str, Plugin]:
        """Return the installed plugins by namespace; imports nothing."""
        with self.guarded():
            if self._plugins is None:
                self._look()
            assert self._plugins is not None
            return self._plugins

    def load(self, namespace: str) -> Plugin | None:
        """Import one plugin and collect its records, once; return it, or None if there is none of that namespace."""
        with self.guarded():
            plugin = self.plugins().get(namespace)
            if plugin is not None and plugin._index is None:
                self._import(plugin)
                self._collect(plugin)
            return plugin

    def load_all(self) -> tuple[Plugin, ...]:
        """Load every plugin; failures are isolated and reported once.

        The same tuple is returned until plugins are looked for again.
        """
        with self.guarded():
            if self._loaded is None:
                for namespace in list(self.plugins()):
                    self.load(namespace)
                self._loaded = tuple(self.plugins().values())
            return self._loaded

    def find(self, kind: str, plugin: Plugin, name: str) -> Spec | None:
        """Ask a plugin for a record that it did not list.

        Raises:
            IncompatiblePartsError: if the plugin knows the name and says why nothing can be made of it.
            PluginError: if the hook raises something else, or answers with something else than was asked for.
        """
        for _, function in self.implementations("segcore_find", only=plugin):
            call = f"segcore_find({kind!r}, {name!r})"
            try:
                found = function(kind=kind, name=name)
            except IncompatiblePartsError:
                raise
            except (Exception, SystemExit) as error:
                raise _failure(plugin, "find", f"{call} raised {_brief(error)}") from error
            if found is None:
                continue
            spec, wrong = _accepted(found, plugin)
            if spec is None:
                raise _failure(plugin, "find", f"{call}: {wrong}")
            if kind_of(spec) != kind or short_name(name) not in map(short_name, names_of(spec)):
                raise _failure(plugin, "find", f"{call} answered with the {kind_of(spec)} {spec.name!r}")
            return spec
        return None

    def implementations(self, hook: str, only: Plugin | None = None) -> list[tuple[Plugin, Callable[..., Any]]]:
        """Return plugins that implement a hook, with functions that take the hook's arguments by keyword.

        They are sorted by namespace, ``tryfirst`` ones before and ``trylast`` ones behind the others. Importing a
        plugin's light module is all this costs; its records are not asked for.
        """
        with self.guarded():
            plugins = {only.namespace: only} if only else dict(self.plugins())
            for plugin in plugins.values():
                self._import(plugin)
            found = [impl for impl in getattr(self._manager.hook, hook).get_hookimpls() if impl.plugin_name in plugins]
            found.sort(key=lambda impl: (not impl.tryfirst, impl.trylast, impl.plugin_name))
            return [(plugins[impl.plugin_name], _subset(impl)) for impl in found]

    def rescan_if_changed(self) -> bool:
        """Look for plugins again if something was installed or ``sys.path`` changed since; return whether it had."""
        with self.guarded():
            if self._plugins is None or self._fingerprint == path_fingerprint():
                return False
            self.rescan()
            return True

    def rescan(self) -> list[Plugin]:
        """Look for plugins again; loaded ones stay. Return those that need a restart to take effect."""
        with self.guarded():
            importlib.invalidate_caches()
            loaded = [plugin for plugin in (self._plugins or {}).values() if self._manager.has_plugin(plugin.namespace)]
            fresh = self._look(loaded)
            installed = {(plugin.distribution, plugin.version, plugin.module) for plugin in fresh}
            return [
                plugin for plugin in loaded if (plugin.distribution, plugin.version, plugin.module) not in installed
            ]

    def guarded(self) -> threading.RLock:
        """Return the lock of this catalogue.

        Raises:
            PluginError: in a plugin that is just being loaded.
        """
        busy = self.busy()
        if busy is not None:
            raise PluginError(
                f"plugin {busy!r} uses the registry while it is being loaded. "
                f"Move that into a function that runs later.",
                phase="import",
            )
        return self._lock

    def busy(self) -> str | None:
        """Return the plugin that this thread is just loading, or None."""
        return self._busy if self._busy is not None and self._lock_is_mine() else None

    def _lock_is_mine(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _look(self, loaded: Sequence[Plugin] = ()) -> list[Plugin]:
        """Scan, keep what is loaded, add of the rest what does not clash with it; return what the scan found."""
        fingerprint = path_fingerprint()
        fresh = self._scanner()
        plugins = {plugin.namespace: plugin for plugin in loaded}
        modules = {plugin.module for plugin in loaded}
        claims = {(plugin.distribution, plugin.claim) for plugin in loaded}
        for plugin in fresh:
            if plugin.module not in modules and (plugin.distribution, plugin.claim) not in claims:
                if plugin.namespace in plugins:
                    plugin.notes.append(f"namespace {plugin.namespace!r} is in use until this program is restarted")
                    plugin.namespace = plugin.distribution
                plugins.setdefault(plugin.namespace, plugin)
        self._plugins = dict(sorted(plugins.items()))
        self._loaded = None
        self._fingerprint = fingerprint
        unknown = unknown_words(plugins.values())
        if unknown and self._first_report("SEGCORE_PLUGINS", *unknown):
            warnings.warn(
                f"SEGCORE_PLUGINS names {', '.join(map(repr, unknown))}, but no such plugin is installed.",
                PluginWarning,
                stacklevel=level_outside(),
            )
        return fresh

    def _import(self, plugin: Plugin) -> None:
        if plugin.status in {"broken", "incompatible"}:  # said the scan, or a load before, which is reported then
            self._report(plugin, plugin.status, plugin.reason or "")
        if plugin.status != "installed" or self._manager.has_plugin(plugin.namespace):
            return
        reason = incompatibility(plugin)
        if reason:
            self._report(plugin, "incompatible", reason)
            return
        started = time.perf_counter()
        problem, cause = "", None
        self._busy = plugin.namespace
        try:
            module = importlib.import_module(plugin.module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit at import must not end the program
            problem, cause = f"importing {plugin.module!r} raised {_brief(error)}", error
        finally:
            self._busy = None
        plugin.load_seconds = time.perf_counter() - started
        if problem:
            self._report(plugin, "broken", problem, cause)
        else:
            self._register(plugin, module)

    def _register(self, plugin: Plugin, module: Any) -> None:
        status, problem, cause = "broken", "", None
        try:
            if self._manager.register(module, name=plugin.namespace) is None:
                problem = f"importing {plugin.module!r} gave {module!r:.80}"
        except Exception as error:
            problem, cause = f"a hook does not fit: {_brief(error)}", error
        for caller in self._manager.get_hookcallers(module) or ():
            for impl in caller.get_hookimpls():
                if impl.plugin is not module:
                    continue
                if impl.hookwrapper or impl.wrapper:
                    problem = f"{impl.function.__name__} is a hook wrapper; wrappers are refused"
                elif caller.spec is None and not impl.optionalhook:
                    status, problem = "incompatible", f"this segcore knows no hook {impl.function.__name__!r}"
        if problem:
            self._manager.unregister(name=plugin.namespace)
            self._report(plugin, status, problem, cause)
            return
        contents = getattr(module, "__dict__", {})
        forgotten = [
            name
            for name in contents
            if name.startswith("segcore_") and hasattr(hookspecs, name) and not _marked(contents[name])
        ]
        if forgotten:
            self._report(plugin, "degraded", f"{forgotten[0]} is not marked with @hookimpl, so it is not called")

    def _collect(self, plugin: Plugin) -> None:
        if not plugin.usable:
            return
        started = time.perf_counter()
        index: dict[str, dict[str, Spec]] = {kind: {} for kind in KINDS}
        problems: list[str] = []
        cause: BaseException | None = None
        self._busy = plugin.namespace
        try:
            for found in self._listed(plugin):
                spec, wrong = _accepted(found, plugin)
                if spec is None:
                    problems.append(wrong)
                elif index[str(kind_of(spec))].setdefault(short_name(spec.name), spec) is not spec:
                    problems.append(f"{spec.name!r} is listed twice; the first stays")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problems.append(f"listing its records raised {_brief(error)}")
            cause = error
        finally:
            self._busy = None
        for table in index.values():
            for spec in list(table.values()):
                for alias in spec.aliases:
                    table.setdefault(short_name(alias), spec)
        plugin._index = index
        plugin.load_seconds = (plugin.load_seconds or 0.0) + time.perf_counter() - started
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            self._report(plugin, "degraded", problems[0] + more, cause, phase="specs")
        elif plugin.status == "installed":
            plugin.status = "ok"

    def _listed(self, plugin: Plugin) -> Iterator[object]:
        """Yield what the plugin's `segcore_specs` lists."""
        for impl in self._manager.hook.segcore_specs.get_hookimpls():
            if impl.plugin_name == plugin.namespace:
                records: Any = impl.function()
                if isinstance(records, str) or kind_of(records):
                    raise TypeError(f"segcore_specs must return an iterable of records, got {records!r:.80}")
                yield from records or ()

    def _first_report(self, *words: str) -> bool:
        fresh = words not in self._reported
        self._reported.add(words)
        return fresh

    def _report(
        self, plugin: Plugin, status: str, reason: str, cause: BaseException | None = None, phase: str = "import"
    ) -> None:
        leave_out(plugin, status, reason)
        if not self._first_report(plugin.distribution, plugin.claim, status, reason):
            return
        if os.environ.get("SEGCORE_STRICT", "") not in {"", "0"}:
            raise _failure(plugin, phase, reason) from cause
        kept = "works in part" if status == "degraded" else "is left out"
        warnings.warn(
            f"{plugin.title} (plugin {plugin.namespace!r}) {kept}: {reason}. Run `segcore doctor`.",
            PluginWarning,
            stacklevel=level_outside(),
        )


def _marked(function: object) -> bool:
    return getattr(function, "segcore_impl", None) is not None


def _subset(impl: pluggy.HookImpl) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return impl.function(*(arguments[name] for name in impl.argnames))

    return call


def _accepted(found: object, plugin: Plugin) -> tuple[Spec | None, str]:
    """Return a plugin's record with its provenance; or None, and why it is refused."""
    if not isinstance(found, Spec):
        return None, f"a record must be an EncoderSpec, DecoderSpec or LossSpec, got {_shown(found)}"
    try:
        wrong = found.problem() or _misplaced(found, plugin)
        if wrong:
            return None, wrong
        provenance = Provenance(plugin.namespace, plugin.distribution, plugin.version)
        if found.provenance is None and plugin.namespace == plugin.claim:
            object.__setattr__(found, "provenance", provenance)  # frozen for authors; the host states where it found it
            return found, ""
        name, *aliases = (_moved(word, plugin.namespace) for word in names_of(found))
        return replace(found, name=name, aliases=tuple(aliases), provenance=provenance), ""
    except Exception as error:
        return None, f"the record {_shown(found.name)} cannot be read: {_brief(error)}"


def _misplaced(spec: Spec, plugin: Plugin) -> str | None:
    for word in names_of(spec):
        space, slash, _ = word.partition("/")
        if slash and space not in {plugin.namespace, plugin.claim}:
            return f"{word!r} lies in another namespace than {plugin.namespace!r}"
    if not isinstance(spec.factory, str):
        return f"factory of {spec.name!r} must be 'package.module:attribute' in a plugin"
    return None


def _moved(word: str, namespace: str) -> str:
    """Return a name with the namespace that the plugin got, if it is written with the one that it asked for."""
    return f"{namespace}/{short_name(word)}" if "/" in word else word


def _failure(plugin: Plugin, phase: str, reason: str) -> PluginError:
    kind = PluginIncompatibleError if plugin.status == "incompatible" else PluginError
    return kind(
        f"{plugin.title} (plugin {plugin.namespace!r}): {reason}.", distribution=plugin.distribution, phase=phase
    )


def _brief(error: BaseException) -> str:
    """Return an exception in one line, whatever its author wrote."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its message cannot be read)"
    return f"{type(error).__name__}: {text}"[:300]


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"


catalogue = Catalogue()


def list_plugins() -> list[Plugin]:
    """Load every installed plugin's records and return the plugins, sorted by namespace.

    Broken, incompatible and disabled ones are included, with the reason.
    """
    catalogue.load_all()
    return list(catalogue.plugins().values())


def refresh() -> list[Plugin]:
    """Look for installed plugins again, in a session that outlives an installation.

    Code that is loaded stays as it is: plugins that were upgraded or removed meanwhile are returned and warned of,
    since they need a restart.
    """
    stale = catalogue.rescan()
    for plugin in stale:
        warnings.warn(
            f"{plugin.title} changed since it was loaded; restart to use what is installed now.",
            PluginWarning,
            stacklevel=level_outside(),
        )
    return stale


def notify(hook: str, **arguments: Any) -> None:
    """Call a hook of every plugin; an exception becomes a PluginWarning and the others are still called."""
    for plugin, function in catalogue.implementations(hook):
        try:
            function(**arguments)
        except (Exception, SystemExit) as error:
            warnings.warn(
                f"{plugin.title} (plugin {plugin.namespace!r}): {hook} raised {_brief(error)}.",
                PluginWarning,
                stacklevel=level_outside(),
            )


def usable_specs(plugins: Iterable[Plugin], kind: str) -> Iterator[Spec]:
    """Yield the records of one kind of all usable plugins."""
    for plugin in plugins:
        if plugin.usable:
            yield from plugin.specs(kind)
