"""`segcore doctor`: every plugin in a process of its own, what is wrong with each, and what to do about that."""

from __future__ import annotations

import json
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import click

from segcore.discovery import catalogue
from segcore.errors import PluginWarning, shorten
from segcore.installation import Finding, describe_environment, metadata_findings
from segcore.installed import Plugin, plugins_called, unknown_words
from segcore.owners import distribution_of, owner_of
from segcore.probe import examine

_FAILED = 1
_AT_ONCE = 4
_DOING = {
    "start": "starting Python",
    "list": "importing it and listing its records",
    "factories": "importing its classes",
    "doctor": "asking its segcore_doctor",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        environment: versions, device, cache.
        plugins: a row for each plugin: id, distribution, version, status, names, cpu_ms.
        findings: problems first.
    """

    environment: dict[str, Any]
    plugins: list[dict[str, Any]]
    findings: list[Finding]

    @property
    def problems(self) -> int:
        """How many findings are problems."""
        return sum(finding.problem for finding in self.findings)


def diagnose(
    words: Sequence[str] = (),
    *,
    timeout: float = 60.0,
    path: Iterable[object] | None = None,
    told: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Diagnosis:
    """Examine the installation; no plugin is imported in this process.

    Args:
        words: ids or distributions of the plugins to examine; all by default.
        timeout: seconds for each plugin.
        path: folders whose metadata are read instead of those of ``sys.path``.
        told: called with each plugin's row as soon as it is known, in the order of the ids.

    Raises:
        UnknownNameError: a word is no installed plugin.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # said below, with what to do
        installed = list(catalogue.plugins().values())
    chosen = _chosen(words, installed)
    findings = [_unknown_word(word) for word in unknown_words(installed)]
    if not installed:
        fix = "pip install segcore-plugin-decoders segcore-plugin-resnet"
        findings.append(Finding("no-plugins", "no plugin is installed", fix, problem=False))
    names = {plugin.distribution for plugin in chosen}
    findings += [f for f in metadata_findings(path) if not words or f.distribution in names]
    rows: list[dict[str, Any]] = []
    listed: dict[str, list[list[str]]] = {}
    stop = threading.Event()
    pool = ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1))
    try:
        environment = pool.submit(describe_environment, timeout)
        for plugin, seen in zip(chosen, pool.map(lambda plugin: _seen(plugin, timeout, stop), chosen), strict=True):
            rows.append(_row(plugin, seen))
            listed[plugin.namespace] = seen.get("list", {}).get("names", [])
            findings += _judged(plugin, seen)
            told(rows[-1])
        surroundings, more = environment.result()
    except BaseException:  # Ctrl-C must not wait for a plugin that hangs
        stop.set()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    findings += [*more, *_shared_names({plugin.namespace: plugin for plugin in chosen}, listed)]
    return Diagnosis(surroundings, rows, sorted(findings, key=lambda finding: not finding.problem))


def _chosen(words: Sequence[str], plugins: list[Plugin]) -> list[Plugin]:
    chosen: list[Plugin] = []
    for word in words:
        chosen += [plugin for plugin in plugins_called(word, plugins) if plugin not in chosen]
    return chosen if words else plugins


def _seen(plugin: Plugin, timeout: float, stop: threading.Event) -> dict[str, Any]:
    """Return what was seen of a plugin in a process of its own; what the scan refused is not started."""
    if not plugin.usable:
        return {"list": {"status": plugin.status, "reason": plugin.reason}, "ended": None}
    return examine(plugin.namespace, ("list", "factories", "doctor"), timeout=timeout, stop=stop)


def _row(plugin: Plugin, seen: Mapping[str, Any]) -> dict[str, Any]:
    listed = seen.get("list", {})
    return {
        "id": plugin.namespace,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": {"crash": "crashes", "hang": "hangs", "exit": "exits"}[seen["how"]]
        if seen["ended"]
        else listed["status"],
        "names": len(listed.get("records", ())),
        "cpu_ms": round(listed["cpu_ms"], 1) if "cpu_ms" in listed else None,
    }


def _judged(plugin: Plugin, seen: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with one plugin."""
    about = Finding(
        "",
        "",
        plugin=plugin.namespace,
        distribution=plugin.distribution,
        version=plugin.version,
        where=seen.get("where"),
    )
    upgrade = f"pip install -U {plugin.distribution}"
    if seen["ended"]:
        slow = f"; if it is only slow, segcore doctor {plugin.namespace} --timeout 600" if seen["how"] == "hang" else ""
        said = " ".join(seen["output"].strip().splitlines()[-1:]) if seen["how"] == "exit" else ""
        yield replace(
            about,
            kind=seen["how"],
            message=f"{seen['ended']} while {_DOING[seen['step']]}" + (f": {said:.200}" if said else ""),
            fix=f"{upgrade}, or do without it: export SEGCORE_PLUGINS={_without(plugin.namespace)}{slow}",
        )
    listed = seen.get("list")
    if not listed:
        return
    status, reason = listed["status"], listed["reason"]
    if status not in {"ok", "installed"}:
        fix, problem = upgrade, status != "disabled"
        if status == "disabled":
            fix = f"to use it, change SEGCORE_PLUGINS={os.environ.get('SEGCORE_PLUGINS', '')}"
        elif status == "incompatible":
            fix = f"pip install -U segcore {plugin.distribution}"
        elif status == "broken":
            fix = _repair(plugin, reason)
        elif status == "absent":
            status, fix = "broken", f"pip install --force-reinstall {plugin.distribution}"
        yield replace(about, kind=status, message=reason, fix=fix, problem=problem)
    if plugin.usable and plugin.claim != plugin.namespace:
        yield replace(
            about,
            kind="id",
            message=f"another package has or claims the id {plugin.claim!r}; this one is called {plugin.namespace!r}",
            fix=f"write {plugin.namespace + '/<name>'!r}, or pip uninstall one of them",
        )
    heavy = listed.get("heavy", ())
    if heavy and status not in {"broken", "incompatible"}:
        message = f"listing its records imports {', '.join(heavy)}, which makes every listing slow"
        yield replace(about, kind="heavy", message=message, fix=upgrade)
    wrong = seen.get("factories", {})
    for text, factories in _grouped(wrong).items():
        message = f"its class {factories[0]!r} cannot be imported: {text}"
        more = f" ({len(factories) - 1} more fail alike)" if len(factories) > 1 else ""
        yield replace(about, kind="factory", message=message + more, fix=_repair(plugin, text))
    for line in seen.get("doctor", ()):
        yield replace(about, kind="plugin", message=line)


def _grouped(wrong: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for factory, text in wrong.items():
        groups.setdefault(text, []).append(factory)
    return groups


def _repair(plugin: Plugin, reason: str) -> str:
    """Return the command against an exception that stopped a plugin."""
    missing = re.search(r"No module named '([\w.]+)'", reason)
    if missing is None:
        return f"pip install -U {plugin.distribution}"
    if missing[1].partition(".")[0] == plugin.module.partition(".")[0]:
        return f"pip install --force-reinstall --no-deps {plugin.distribution}"
    return f"pip install {plugin.distribution}, which brings what it needs, or the package that holds {missing[1]!r}"


def _without(namespace: str) -> str:
    return ",".join(filter(None, (os.environ.get("SEGCORE_PLUGINS", ""), f"-{namespace}")))


def _unknown_word(word: str) -> Finding:
    message = f"SEGCORE_PLUGINS names {word.removeprefix('-')!r}, but no such plugin is installed"
    return Finding("unknown-id", message, "take it out of SEGCORE_PLUGINS; `segcore plugins` lists the ids")


def _shared_names(plugins: Mapping[str, Plugin], listed: Mapping[str, Iterable[Sequence[str]]]) -> Iterator[Finding]:
    """Yield bare names that several plugins offer, or that belong to another package."""
    offers: dict[tuple[str, str], list[str]] = {}
    for namespace, rows in listed.items():
        for kind, name in rows:
            offers.setdefault((kind, name), []).append(namespace)
    clashes: dict[tuple[str, ...], list[str]] = {}
    taken: dict[tuple[str, str], list[str]] = {}
    for (kind, name), namespaces in offers.items():
        owner = owner_of(kind, name)
        if owner is not None:
            for namespace in namespaces:
                if namespace != owner:
                    taken.setdefault((namespace, owner), []).append(name)
        elif len(namespaces) > 1:
            clashes.setdefault(tuple(namespaces), []).append(name)
    for who, names in clashes.items():
        written = " or ".join(repr(f"{namespace}/{names[0]}") for namespace in who)
        packages = " and ".join(plugins[namespace].distribution for namespace in who)
        message = f"{shorten(map(repr, names))} offered by {packages}: the bare name is ambiguous"
        yield Finding("name", message, f"write {written}, or pip uninstall one of the packages")
    for (namespace, owner), names in taken.items():
        plugin = plugins[namespace]
        yield Finding(
            "name",
            f"its {shorten(map(repr, names))}: as bare names they belong to {distribution_of(owner)}",
            f"write {f'{namespace}/{names[0]}'!r}",
            problem=False,
            plugin=namespace,
            distribution=plugin.distribution,
            version=plugin.version,
        )


# --- the command ----------------------------------------------------------------------------------------------------


@click.command(name="doctor")
@click.argument("plugins", nargs=-1, metavar="[PLUGIN]...")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds for each plugin.",
)
def doctor_command(plugins: tuple[str, ...], as_data: bool, timeout: float) -> None:
    """Say what is wrong with the installation, and what to do.

    Each plugin, or each PLUGIN by its id or distribution, is imported in a process of its own, so that one that crashes
    or hangs is found like any other. Ends with exit code 1 if there is a problem. Notes are no problem.
    """
    if as_data:
        found = diagnose(plugins, timeout=timeout)
        data = {
            "environment": found.environment,
            "plugins": found.plugins,
            "findings": [asdict(finding) for finding in found.findings],
            "problems": found.problems,
        }
        click.echo(json.dumps(data, indent=2))
    else:
        found = diagnose(plugins, timeout=timeout, told=_show_row)
        _show_environment(found.environment)
        for finding in found.findings:
            _show_finding(finding)
        notes = len(found.findings) - found.problems
        click.echo(f"\n{_count(found.problems, 'problem')}, {_count(notes, 'note')}.")
    if found.problems:
        click.get_current_context().exit(_FAILED)


def _show_row(row: Mapping[str, Any]) -> None:
    """Print what became of one plugin, as soon as that is known."""
    names = "-" if row["cpu_ms"] is None else f"{_count(row['names'], 'name')}, {row['cpu_ms']:.0f} ms"
    click.echo(f"{row['id']:<16}{row['distribution'] + ' ' + row['version']:<44}{row['status']:<14}{names}")


def _show_environment(environment: Mapping[str, Any]) -> None:
    packages = ", ".join(f"{name} {version or '-'}" for name, version in environment["packages"].items())
    cache = environment["cache"]
    state = "can be written to" if cache["writable"] else "cannot be written to"
    click.echo(f"\nsegcore {environment['segcore']}, Python {environment['python']}, {environment['platform']}")
    click.echo(f"{packages}; device {environment['device'] or '-'}")
    click.echo(f"cache {cache['folder']}{'' if cache['exists'] else ' (not made yet)'}, {state}")


def _show_finding(finding: Finding) -> None:
    level = "PROBLEM" if finding.problem else "note"
    title = f"{finding.distribution} {finding.version}: " if finding.distribution else ""
    where = f" ({finding.where})" if finding.where else ""
    click.echo(f"\n{level} [{finding.kind}] {title}{finding.message}{where}")
    if finding.fix:
        click.echo(f"  fix: {finding.fix}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
