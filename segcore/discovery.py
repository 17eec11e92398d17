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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pluggy

from segcore import hookspecs
from segcore.errors import PluginError, PluginIncompatibleError, PluginWarning
from segcore.installed import Plugin, incompatibility, leave_out, path_fingerprint, scan
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
        self._busy: str | None = None
        self._fingerprint: tuple[object, ...] = ()
        self._manager = pluggy.PluginManager("segcore")
        self._manager.add_hookspecs(hookspecs)
        self.generation = 0

    def plugins(self) -> dict[str, Plugin]:
        """Return the installed plugins by namespace; imports nothing."""
        with self._guarded():
            if self._plugins is None:
                self._fingerprint = path_fingerprint()
                self._plugins = {plugin.namespace: plugin for plugin in self._scanner()}
            return self._plugins

    def load(self, namespace: str) -> Plugin | None:
        """Import one plugin and collect its records, once; return it, or None if there is none of that namespace."""
        with self._guarded():
            plugin = self.plugins().get(namespace)
            if plugin is not None:
                self._import(plugin)
                self._collect(plugin)
            return plugin

    def load_all(self) -> list[Plugin]:
        """Load every plugin; failures are isolated and reported once."""
        return [plugin for namespace in list(self.plugins()) if (plugin := self.load(namespace)) is not None]

    def find(self, kind: str, plugin: Plugin, name: str) -> Spec | None:
        """Ask a plugin for a record that it did not list.

        Raises:
            PluginError: if the hook raises, or answers with something else than was asked for.
        """
        for _, function in self.implementations("segcore_find", only=plugin):
            try:
                spec = function(kind=kind, name=name)
            except Exception as error:
                raise _failure(plugin, "find", f"segcore_find({kind!r}, {name!r}) raised {_brief(error)}") from error
            if spec is None:
                continue
            wrong = _record_problem(spec, plugin)
            if not wrong and (
                kind_of(spec) != kind or name not in {*names_of(spec), f"{plugin.namespace}/{spec.name}"}
            ):
                wrong = f"it answered with {spec.name!r}"
            if wrong:
                raise _failure(plugin, "find", f"segcore_find({kind!r}, {name!r}): {wrong}")
            return spec  # type: ignore[no-any-return]
        return None

    def implementations(self, hook: str, only: Plugin | None = None) -> list[tuple[Plugin, Callable[..., Any]]]:
        """Return plugins that implement a hook, with functions that take the hook's arguments by keyword.

        Importing a plugin's light module is all this costs; its records are not asked for.
        """
        with self._guarded():
            plugins = [only] if only else list(self.plugins().values())
            for plugin in plugins:
                self._import(plugin)
            known = {plugin.module: plugin for plugin in plugins}
            return [
                (known[impl.plugin.__name__], _subset(impl))
                for impl in getattr(self._manager.hook, hook).get_hookimpls()
                if impl.plugin.__name__ in known
            ]

    def rescan_if_changed(self) -> bool:
        """Look for plugins again if something was installed or ``sys.path`` changed since; return whether it had."""
        with self._guarded():
            if self._plugins is None or self._fingerprint == path_fingerprint():
                return False
            self.rescan()
            return True

    def rescan(self) -> list[Plugin]:
        """Look for plugins again; loaded ones stay. Return those that need a restart to take effect."""
        with self._guarded():
            importlib.invalidate_caches()
            before = self._plugins or {}
            self._fingerprint = path_fingerprint()
            fresh = {plugin.namespace: plugin for plugin in self._scanner()}
            loaded = {name: plugin for name, plugin in before.items() if plugin.status in {"ok", "degraded"}}
            stale = [
                plugin
                for name, plugin in loaded.items()
                if name not in fresh
                or (fresh[name].distribution, fresh[name].version) != (plugin.distribution, plugin.version)
            ]
            self._plugins = dict(sorted((fresh | loaded).items()))
            self.generation += 1
            return stale

    def _guarded(self) -> threading.RLock:
        if self._busy is not None and self._lock_is_mine():
            raise PluginError(
                f"plugin {self._busy!r} uses the registry while it is being imported. "
                f"Move that into a function that runs later.",
                phase="import",
            )
        return self._lock

    def _lock_is_mine(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _import(self, plugin: Plugin) -> None:
        if plugin.status != "installed" or self._manager.has_plugin(plugin.namespace):
            return
        reason = incompatibility(plugin)
        if reason:
            self._report(plugin, "incompatible", reason, phase="import")
            return
        started = time.perf_counter()
        self._busy = plugin.namespace
        try:
            module = importlib.import_module(plugin.module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit at import must not end the program
            self._busy = None
            self._report(plugin, "broken", f"importing {plugin.module!r} raised {_brief(error)}", error)
            return
        finally:
            self._busy = None
        plugin.load_seconds = time.perf_counter() - started
        self._register(plugin, module)

    def _register(self, plugin: Plugin, module: Any) -> None:
        status, problem, cause = "broken", "", None
        try:
            self._manager.register(module, name=plugin.namespace)
        except pluggy.PluginValidationError as error:
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
        forgotten = [
            name
            for name in vars(module)
            if name.startswith("segcore_") and hasattr(self._manager.hook, name) and not _marked(vars(module)[name])
        ]
        if forgotten:
            self._report(plugin, "degraded", f"{forgotten[0]} is not marked with @hookimpl, so it is not called")

    def _collect(self, plugin: Plugin) -> None:
        if plugin._index is not None or not plugin.usable:
            return
        started = time.perf_counter()
        index: dict[str, dict[str, Spec]] = {kind: {} for kind in KINDS}
        aliases: list[tuple[str, str, Spec]] = []
        problems: list[str] = []
        cause: BaseException | None = None
        self._busy = plugin.namespace
        try:
            for _, function in self._own(plugin, "segcore_specs"):
                for spec in function() or ():
                    wrong = _record_problem(spec, plugin)
                    kind = kind_of(spec)
                    if not wrong and spec.name in index[str(kind)]:
                        wrong = f"{spec.name!r} is listed twice; the first stays"
                    if wrong:
                        problems.append(wrong)
                        continue
                    index[str(kind)][spec.name] = spec
                    aliases.extend((str(kind), alias, spec) for alias in spec.aliases)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problems.append(f"listing its records raised {_brief(error)}")
            cause = error
        finally:
            self._busy = None
        for kind, alias, spec in aliases:
            index[kind].setdefault(alias, spec)
        plugin._index = index
        plugin.load_seconds = (plugin.load_seconds or 0.0) + time.perf_counter() - started
        self.generation += 1
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            self._report(plugin, "degraded", problems[0] + more, cause, phase="specs")
        elif plugin.status == "installed":
            plugin.status = "ok"

    def _own(self, plugin: Plugin, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        return [
            (plugin, _subset(impl))
            for impl in getattr(self._manager.hook, hook).get_hookimpls()
            if impl.plugin.__name__ == plugin.module
        ]

    def _report(
        self, plugin: Plugin, status: str, reason: str, cause: BaseException | None = None, phase: str = "import"
    ) -> None:
        leave_out(plugin, status, reason)
        if os.environ.get("SEGCORE_STRICT", "") not in {"", "0"}:
            raise _failure(plugin, phase, reason) from cause
        kept = "works in part" if status == "degraded" else "is left out"
        warnings.warn(
            f"{plugin.title} (plugin {plugin.namespace!r}) {kept}: {reason}. Run `segcore doctor`.",
            PluginWarning,
            stacklevel=2,
        )


def _marked(function: object) -> bool:
    return getattr(function, "segcore_impl", None) is not None


def _subset(impl: pluggy.HookImpl) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return impl.function(*(arguments[name] for name in impl.argnames))

    return call


def _record_problem(spec: Any, plugin: Plugin) -> str | None:
    """Return why a record is refused; a good one gets its provenance."""
    if kind_of(spec) is None:
        return f"a record must be an EncoderSpec, DecoderSpec or LossSpec, got {spec!r:.80}"
    try:
        wrong = spec.problem()
    except Exception as error:
        return f"the record {spec.name!r} cannot be read: {_brief(error)}"
    if wrong:
        return str(wrong)
    space, slash, _ = spec.name.partition("/")
    if slash and space != plugin.namespace:
        return f"{spec.name!r} lies in another namespace than {plugin.namespace!r}"
    if not isinstance(spec.factory, str):
        return f"factory of {spec.name!r} must be 'package.module:attribute' in a plugin"
    provenance = Provenance(plugin.namespace, plugin.distribution, plugin.version)
    object.__setattr__(spec, "provenance", provenance)  # frozen for authors; the host states where it found it
    return None


def _failure(plugin: Plugin, phase: str, reason: str) -> PluginError:
    kind = PluginIncompatibleError if plugin.status == "incompatible" else PluginError
    return kind(
        f"{plugin.title} (plugin {plugin.namespace!r}): {reason}.", distribution=plugin.distribution, phase=phase
    )


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


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
            stacklevel=2,
        )
    return stale


def notify(hook: str, **arguments: Any) -> None:
    """Call a hook of every plugin; an exception becomes a PluginWarning and the others are still called."""
    for plugin, function in catalogue.implementations(hook):
        try:
            function(**arguments)
        except Exception as error:
            warnings.warn(
                f"{plugin.title} (plugin {plugin.namespace!r}): {hook} raised {_brief(error)}.",
                PluginWarning,
                stacklevel=2,
            )


def usable_specs(plugins: Iterable[Plugin], kind: str) -> Iterator[Spec]:
    """Yield the records of one kind of all usable plugins."""
    for plugin in plugins:
        if plugin.usable:
            yield from plugin.specs(kind)
