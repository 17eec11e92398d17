"""The conformance kit in a process of its own, over an installed plugin or a folder that holds one.

A plugin that crashes then ends that process, not the caller's; and a folder needs no installing, since the process gets
metadata made from its ``pyproject.toml``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segcore.discovery import catalogue
from segcore.errors import OptionValueError
from segcore.installed import GROUP, plain_name, plugins_called
from segcore.probe import place_of


class Target(NamedTuple):
    """A plugin to check.

    Attributes:
        distribution: its distribution.
        version: of the distribution.
        claim: the id that its entry point asks for.
        path: folders that the checking process puts before ``sys.path``.
    """

    distribution: str
    version: str
    claim: str
    path: tuple[str, ...] = ()


def installed_targets(name: str) -> list[Target]:
    """Return the plugins with this id, or of the distribution with this name; nothing is imported.

    Raises:
        UnknownNameError: there is none.
    """
    hint = f" To check a folder, give its path, such as './{name}'."
    found = plugins_called(name, catalogue.plugins().values(), hint)
    return [Target(plugin.distribution, plugin.version, plugin.claim) for plugin in found]


def folder_targets(folder: Path, scratch: Path) -> list[Target]:
    """Return the plugins that a project's folder holds, as if it were installed.

    Args:
        folder: with a ``pyproject.toml`` that has a table ``[project]``, its package beside it or in ``src``.
        scratch: an empty folder, which gets the metadata that installing would write.

    Raises:
        OptionValueError: the folder holds no plugin.
    """
    file = folder / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except FileNotFoundError:
        raise OptionValueError(f"{folder}: there is no pyproject.toml in it. Give the folder of a package.") from None
    except ValueError as error:
        raise OptionValueError(f"{file} cannot be read: {error}.") from error
    groups = project.get("entry-points", {})
    entries = groups.get(GROUP, {})
    if "name" not in project or not entries:
        raise OptionValueError(
            f'{file} declares no plugin: [project] needs a name, and [project.entry-points."{GROUP}"] a line such as '
            f"tiny = 'segcore_plugin_tiny'. If they stand elsewhere, install the package and check it by name."
        )
    name = plain_name(str(project["name"]))
    sources = _sources(folder, entries)
    version = str(project.get("version") or _written_version(sources, entries))
    info = scratch / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(_metadata(project, version), encoding="utf-8")
    lines = (
        line for group, rows in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in rows.items()))
    )
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = (str(scratch), *(str(base.resolve()) for base in sources))
    return [Target(name, version, claim, path) for claim in entries]


def _metadata(project: Mapping[str, Any], version: str) -> str:
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {version}"]
    licence = project.get("license")
    if isinstance(licence, str):
        lines.append(f"License-Expression: {licence}")
    elif licence:
        lines.append(f"License: {licence.get('text') or licence.get('file')}")
    lines += [f"Classifier: {line}" for line in project.get("classifiers", ())]
    lines += [f"Requires-Dist: {line}" for line in project.get("dependencies", ())]
    return "\n".join(lines) + "\n"


def _sources(folder: Path, entries: Mapping[str, str]) -> list[Path]:
    """Return the folders from which the modules of entry points are imported."""
    found = []
    for value in entries.values():
        top = str(value).partition(".")[0]
        bases = [base for base in (folder, folder / "src") if (base / top).is_dir() or (base / f"{top}.py").is_file()]
        if not bases:
            raise OptionValueError(
                f"{folder / 'pyproject.toml'} names the module {value!r}; {top!r} lies neither in {folder} nor in "
                f"{folder / 'src'}. Install the package and check it by its name."
            )
        found.append(bases[0])
    return list(dict.fromkeys(found))


def _written_version(sources: Sequence[Path], entries: Mapping[str, str]) -> str:
    """Return ``__version__`` as a module of the package has it written, from which build back ends take it; else 0."""
    for base in sources:
        for top in {str(value).partition(".")[0] for value in entries.values()}:
            for file in (base / top / "__init__.py", base / f"{top}.py"):
                text = file.read_text(encoding="utf-8") if file.is_file() else ""
                if found := re.search(r"""^__version__\s*(?::.*?)?=\s*["']([\w.+!-]+)["']""", text, re.MULTILINE):
                    return found[1]
    return "0"


def check(
    target: Target,
    encoders: Sequence[str] = ("*",),
    exempt: Mapping[str, str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Run the kit over a plugin in a fresh process and yield what came of each check.

    Args:
        target: the plugin.
        encoders: patterns of the encoders to build.
        exempt: reasons by check; see `segcore.testing.Case.run`.
        progress: called before each check with its number, the number of all, and its name.

    Yields:
        The fields of a `segcore.testing.Result`. If the process crashes, the last is about that.
    """
    order = {"target": target, "encoders": list(encoders), "exempt": dict(exempt or {})}
    paths = [*target.path, str(Path(__file__).resolve().parents[1]), *sys.path]
    code = f"import sys; sys.path[:] = {paths!r}; from segcore.inspection import serve; serve({json.dumps(order)!r})"
    with tempfile.TemporaryFile("w+b") as noise:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-B", "-X", "faulthandler", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
        )
        assert process.stdout is not None
        now, done = {"check": "process", "about": target.claim}, False
        try:
            for line in process.stdout:
                said = json.loads(line)
                done = said.get("done", False)
                if done:
                    break
                if "next" in said:
                    now = said["next"]
                    if progress is not None:
                        progress(said["number"], said["total"], f"{now['check']} {now['about']}")
                else:
                    yield said["result"]
            code_of_process = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if not done:
            noise.seek(0)
            yield now | {"problem": _end(code_of_process, noise.read().decode(errors="replace")), "seconds": 0.0}


def _end(code: int, text: str) -> str:
    name = signal.Signals(-code).name if code < 0 and -code in set(signal.Signals) else f"exit code {code}"
    where = place_of(text) or " ".join(text.strip().splitlines()[-1:])
    return f"the process ended with {name} during this check ({where}); the checks after it were not run"


def serve(order: str) -> None:
    """Run the kit as `check` ordered; a line of JSON per step goes to standard output, all else to standard error."""
    wanted = json.loads(order)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as report:
        os.dup2(2, 1)  # what a plugin prints must not mix with it

        def say(**facts: Any) -> None:
            report.write(json.dumps(facts) + "\n")
            report.flush()

        _serve(say, Target(*wanted["target"]), wanted["encoders"], wanted["exempt"])
        say(done=True)


def _serve(say: Callable[..., None], target: Target, encoders: Sequence[str], exempt: Mapping[str, str]) -> None:
    from dataclasses import asdict

    from segcore.testing.kit import cases, run_cases, unknown_exemptions

    plugin = next(
        (
            plugin.namespace
            for plugin in catalogue.plugins().values()
            if (plugin.distribution, plugin.claim) == (target.distribution, target.claim)
        ),
        target.claim,
    )
    found = list(cases(plugin, encoders))
    for number, case in enumerate(found, 1):
        say(next={"check": case.check.__name__, "about": case.about}, number=number, total=len(found))
        for result in run_cases([case], {key: exempt[key] for key in exempt.keys() & case.keys}):
            say(result=asdict(result))
    for result in run_cases((), dict.fromkeys(unknown_exemptions(found, exempt), "")):
        say(result=asdict(result))
