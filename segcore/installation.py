"""What is wrong with an installation apart from what plugins do: metadata, versions of libraries, the cache.

`segcore doctor` shows it. Nothing heavy is imported here: torch is asked in a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from segcore import __version__
from segcore.installed import GROUP, Copy, Entry, copy_of, distributions, entries_of

PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors", "huggingface_hub")
_MALICIOUS = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
_ASK_TORCH = """
import sys, json, warnings
sys.path[:] = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
import torch
facts = {"device": "cpu"}
if torch.cuda.is_available():
    facts["device"] = "cuda: " + torch.cuda.get_device_name()
elif torch.backends.mps.is_available():
    facts["device"] = "mps"
try:
    torch.zeros(1).numpy()
except Exception as error:
    facts["numpy"] = f"{type(error).__name__}: {error}"
print(json.dumps(facts), flush=True)
try:
    import torchvision
except ModuleNotFoundError:
    pass
except Exception as error:
    print(json.dumps({"torchvision": f"{type(error).__name__}: {error}"[:200]}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd.

    Attributes:
        kind: one word for it; docs/reference/commands.md lists all.
        message: what it is.
        fix: what to do, in most cases a command; None if the message says it.
        problem: whether something does not work as it should; if not, it is a note.
        plugin: the id of the plugin concerned.
        distribution: the distribution concerned.
        version: its version.
        where: file and line, of a crash or a hang.
    """

    kind: str
    message: str
    fix: str | None = None
    problem: bool = True
    plugin: str | None = None
    distribution: str | None = None
    version: str | None = None
    where: str | None = None


def metadata_findings(path: Iterable[object] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with the metadata of installed distributions; imports nothing.

    Args:
        path: folders to look in instead of ``sys.path``.
    """
    copies: dict[str, list[tuple[Copy, str]]] = {}
    for distribution in distributions(sys.path if path is None else path):
        place = str(getattr(distribution, "_path", "?"))
        entries, wrong, harm = _entry_points(distribution)
        copy = copy_of(distribution, entries)
        copies.setdefault(copy.distribution, []).append((copy, place))
        yield from _editable(distribution, copy)
        if entries:
            yield from _written_twice(copy)
        if wrong and (harm or not entries):
            yield _of(
                copy,
                "metadata",
                f"its metadata in {place} are malformed: {wrong}. "
                + (harm or "Segcore passes over it; other programs may not."),
                fix=f"pip install --force-reinstall {copy.distribution}, or delete {place} if it is a leftover",
                problem=harm is not None,
            )
    for group in copies.values():
        yield from _duplicates(group)


def _entry_points(distribution: importlib.metadata.Distribution) -> tuple[tuple[Entry, ...], str | None, str | None]:
    """Return the entry points for us, what is malformed about a distribution's metadata, and what harm that does."""
    entries: tuple[Entry, ...] = ()
    raw = b""
    try:
        entries = tuple(entries_of(distribution.read_text("entry_points.txt") or ""))
        found = list(distribution.entry_points)
    except Exception as error:
        with contextlib.suppress(Exception):
            raw = (getattr(distribution, "_path", Path()) / "entry_points.txt").read_bytes()
        lost = " A plugin in it is not found." if not entries and b"[segcore.v" in raw else ""
        harm = f"Every program that lists entry points fails by it, `import torch` among them.{lost}"
        return entries, f"entry_points.txt: {_brief(error)}", harm
    try:
        [entry.module for entry in found]
        named = distribution.metadata.get_all("Name")
    except Exception as error:
        return entries, _brief(error), None
    return entries, None if named else "there is no name in them", None


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _of(copy: Copy, kind: str, message: str, *, fix: str, problem: bool = True) -> Finding:
    return Finding(kind, message, fix, problem, distribution=copy.distribution, version=copy.version)


def _written_twice(copy: Copy) -> Iterator[Finding]:
    names = [entry.name for entry in copy.entries if entry.group == GROUP]
    for name in sorted({name for name in names if names.count(name) > 1}):
        message = f"its entry point {name!r} is written twice; the second one is not used"
        yield _of(copy, "entry-point", message, fix=f"pip install -U {copy.distribution}", problem=False)


def _duplicates(group: list[tuple[Copy, str]]) -> Iterator[Finding]:
    """Yield a finding if a plugin's distribution, or segcore's, lies on the path several times."""
    first = group[0][0]
    if len(group) == 1 or not (first.distribution == "segcore" or any(copy.entries for copy, _ in group)):
        return
    equal = len({(copy.version, tuple(sorted(copy.entries))) for copy, _ in group}) == 1
    places = ", ".join(f"{copy.version} in {place}" for copy, place in group)
    yield _of(
        first,
        "copy" if equal else "shadowed",
        f"it lies on the path {len(group)} times: {places}. Python imports the first module that it finds"
        + ("." if equal else "; the metadata of the others are shadowed."),
        fix=f"pip uninstall {first.distribution}, again until none is left, then pip install {first.distribution}; "
        f"what pip does not find, delete",
        problem=not equal,
    )


def _editable(distribution: importlib.metadata.Distribution, copy: Copy) -> Iterator[Finding]:
    """Yield a finding if what was installed as editable is gone, or says something else now."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if not origin.get("dir_info", {}).get("editable"):
            return
        folder = Path(url2pathname(urlsplit(origin["url"]).path))
        pyproject = folder / "pyproject.toml"
        there = folder.is_dir()
        text = pyproject.read_text(encoding="utf-8") if pyproject.is_file() else ""
        project = tomllib.loads(text).get("project", {})
        groups = project.get("entry-points", {})
        declared = {Entry(GROUP, name, value) for name, value in groups.get(GROUP, {}).items()}
        version = str(project.get("version", copy.version))
    except Exception:  # not ours to judge
        return
    ours = copy.distribution == "segcore" or bool(copy.entries or declared)
    if ours and not there:
        message = f"it was installed from {folder} (editable), which is gone"
        yield _of(copy, "stale", message, fix=f"pip uninstall {copy.distribution}, or pip install -e its new folder")
    elif ours and project:
        changed = []
        if _number(version) != _number(copy.version):
            changed.append(f"version {version}, installed as {copy.version}")
        if declared != {entry for entry in copy.entries if entry.group == GROUP}:
            changed.append(f"the plugins {_ids(declared)}, installed as {_ids(copy.entries)}")
        if changed:
            message = f"{pyproject} says {' and '.join(changed)} (editable)"
            yield _of(copy, "stale", message, fix=f"pip install -e {folder}")


def _number(version: str) -> object:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version)
    except InvalidVersion:
        return version


def _ids(entries: Iterable[Entry]) -> str:
    return ", ".join(f"{entry.name} = {entry.value}" for entry in sorted(entries)) or "none"


def describe_environment(timeout: float) -> tuple[dict[str, Any], list[Finding]]:
    """Return what the plugins run in, and what is wrong with that.

    Args:
        timeout: seconds for the process that imports torch.
    """
    from segcore.download import cache_dir

    versions = {name: _version(name) for name in PACKAGES}
    facts, failure = _ask_torch(timeout) if versions["torch"] else ({}, "it is not installed")
    folder = cache_dir()
    environment = {
        "segcore": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": facts.get("device"),
        "cache": {"folder": str(folder), "exists": folder.is_dir(), "writable": _writable(folder)},
    }
    return environment, list(_library_findings(environment, facts, failure))


def _library_findings(
    environment: Mapping[str, Any], facts: Mapping[str, str], failure: str | None
) -> Iterator[Finding]:
    versions = environment["packages"]
    if failure:
        yield Finding("torch", f"torch cannot be used: {failure}", "pip install --force-reinstall torch")
    elif "numpy" in facts:
        message = f"torch and numpy do not work together ({facts['numpy']}); safetensors files cannot be written"
        yield Finding("numpy", message, "pip install -U 'safetensors[torch]' numpy torch")
    if "torchvision" in facts:
        yield Finding(
            "torchvision",
            f"torchvision {versions['torchvision']} does not fit torch {versions['torch']}: importing it raises "
            f"{facts['torchvision']}. segcore-plugin-timm works around that, other users of torchvision do not.",
            "install torch and torchvision as a pair of one build: pip install --force-reinstall torch torchvision",
            problem=False,
        )
    for name, bad in _MALICIOUS.items():
        version = _version(name)
        if version in bad:
            wanted = ",".join(f"!={number}" for number in bad)
            message = f"{name} {version} is a malicious upload (GHSA-w37p-236h-pfx3); treat this machine as compromised"
            yield Finding("malicious", message, f"pip install -U '{name}{wanted}'")
    if _version("segcore") is None:
        frozen = bool(getattr(sys, "frozen", False))
        yield Finding(
            "no-metadata",
            "segcore has no metadata here; plugins are found by theirs, so these may be missing too",
            "bundle them: pyinstaller --copy-metadata segcore, and the same for every plugin; or register by hand"
            if frozen
            else "pip install segcore",
            problem=frozen,
        )
    cache = environment["cache"]
    if not cache["writable"]:
        message = f"the cache folder {cache['folder']} cannot be written to; weights on the web are fetched each time"
        yield Finding("cache", message, "export SEGCORE_CACHE=<a folder of yours>", problem=False)


def _version(name: str) -> str | None:
    with contextlib.suppress(Exception):
        return importlib.metadata.version(name)
    return None


def _ask_torch(timeout: float) -> tuple[dict[str, str], str | None]:
    """Return what a fresh process says of torch, and why it could not."""
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _ASK_TORCH, path], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {}, f"importing it did not end within {timeout:g} s"
    facts: dict[str, str] = {}
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):
            facts |= json.loads(line)
    if "device" not in facts:
        said = " ".join(done.stderr.strip().splitlines()[-1:])
        return facts, f"importing it ended with exit code {done.returncode}: {said:.200}"
    return facts, None


def _writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
