"""A new plugin's package from templates, written whole or not at all."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import importlib.resources
import importlib.util
import json
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import segcore
from segcore.discovery import catalogue
from segcore.errors import NameTakenError, OptionValueError, PluginWarning
from segcore.owners import OFFICIAL, distribution_of, owner_of
from segcore.registry import decoders, encoders

KINDS = ("encoder", "decoder", "both")
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 30  # the lines of every package stay short enough
_RESERVED = {"segcore", "plugin", "local"}  # have a meaning where an id is written
_MARK = re.compile(r"@([a-z_]+)@")
_CONDITION = re.compile(r"@(encoder|decoder):")

# template: path in the package, and the kind of package that has it
_FILES = {
    "pyproject.toml.in": ("pyproject.toml", None),
    "README.md.in": ("README.md", None),
    "LICENSE.in": ("LICENSE", None),
    "gitignore.in": (".gitignore", None),
    "ci.yml.in": (".github/workflows/ci.yml", None),
    "init.py.in": ("@package@/__init__.py", None),
    "encoder.py.in": ("@package@/encoder.py", "encoder"),
    "decoder.py.in": ("@package@/decoder.py", "decoder"),
    "test_conformance.py.in": ("tests/test_conformance.py", None),
}


def new_package(name: str, kind: str = "encoder", directory: Path | None = None, author: str | None = None) -> Path:
    """Write the package of a new plugin and return its folder, ``segcore-plugin-<name>``.

    Args:
        name: the plugin's id: lower-case letters, digits and single hyphens.
        kind: what it offers, ``"encoder"``, ``"decoder"`` or ``"both"``.
        directory: existing folder to write into; the current one by default.
        author: who holds the copyright; by default the user's name in git, else "The <name> authors".

    Raises:
        OptionValueError: the name, kind or author cannot be used, or the directory cannot be written to.
        NameTakenError: the folder, the id or a name in the package is taken.
    """
    if kind not in KINDS:
        raise OptionValueError(f"kind={kind!r}: it is {', '.join(map(repr, KINDS))}.")
    _check_name(name)
    parent = Path() if directory is None else directory
    target = parent / distribution_of(name)
    if target.exists() or target.is_symlink():
        raise NameTakenError(
            f"{str(target)!r} exists already. Remove it, choose another name, or write elsewhere with --directory."
        )
    if not parent.is_dir():
        raise OptionValueError(f"{str(parent)!r} is no folder. Make it first, or choose another --directory.")
    _check_free(name, kind)
    files = dict(render(name, kind, _author(author, name)))
    try:
        with tempfile.TemporaryDirectory(prefix=".segcore-new-", dir=parent) as scratch:
            made = Path(scratch) / target.name
            for path, text in files.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(text, encoding="utf-8", newline="\n")
            made.rename(target)  # the package appears whole
    except OSError as error:
        raise OptionValueError(
            f"{str(target)!r} cannot be written: {error.strerror or error}. Choose another --directory."
        ) from error
    return target


def render(name: str, kind: str, author: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of every file of a new package."""
    parts = KINDS[:2] if kind == "both" else (kind,)
    records = [f"{part.title()}Spec" for part in reversed(parts)]
    values = {
        "author": author,
        "author_quoted": json.dumps(author, ensure_ascii=False),
        "bounds": _bounds(segcore.__version__),
        "distribution": distribution_of(name),
        "id": name,
        "package": f"segcore_plugin_{name.replace('-', '_')}",
        "parts": " and ".join(f"{part}s" for part in parts),
        "records": ", ".join(records),
        "records_or": " | ".join(records),
        "title": _title(name),
        "year": str(dt.datetime.now(tz=dt.UTC).year),
    }
    templates = importlib.resources.files("segcore") / "templates"
    for template, (path, part) in _FILES.items():
        if part is None or part in parts:
            text = (templates / template).read_text(encoding="utf-8")
            yield _fill(path, values), _fill(_choose(text, parts), values)
    yield f"{values['package']}/py.typed", ""


def _choose(text: str, parts: tuple[str, ...]) -> str:
    """Return the lines that are for a package with these parts: ``@encoder:`` begins a line for encoders alone."""
    kept = []
    for line in text.splitlines(keepends=True):
        condition = _CONDITION.match(line)
        if condition is None or condition[1] in parts:
            kept.append(line if condition is None else line[condition.end() :])
    return "".join(kept)


def _fill(text: str, values: dict[str, str]) -> str:
    return _MARK.sub(lambda mark: values[mark[1]], text)


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _bounds(version: str) -> str:
    """Return the requirement on segcore: from this minor release up to the next that may break plugins."""
    major, minor = map(int, version.split(".")[:2])
    return f"segcore>={major}.{minor},<{f'0.{minor + 1}' if major == 0 else major + 1}"


def _check_name(name: str) -> None:
    wanted = re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("segcore-plugin-")).strip("-")
    hint = f" Try {wanted!r}." if wanted != name and _ID.fullmatch(wanted) and len(wanted) <= _LONGEST else ""
    if name.startswith("segcore-plugin-"):
        raise OptionValueError(f"{name!r}: give the id alone, the package is named after it.{hint}")
    if not _ID.fullmatch(name) or len(name) > _LONGEST:
        raise OptionValueError(
            f"{name!r} cannot be the id of a plugin: it is up to {_LONGEST} lower-case letters, digits and single "
            f"hyphens, and begins with a letter.{hint}"
        )
    if name in _RESERVED:
        raise OptionValueError(f"{name!r} is a word of segcore's own. Choose another name.")


def _check_free(name: str, kind: str) -> None:
    """Raise if the id, or a name that the package would offer, is taken by what is installed or published."""
    distribution = distribution_of(name)
    advice = "Choose another name"
    if name in OFFICIAL:
        raise NameTakenError(f"{name!r} is the id of {distribution}, a published package of segcore. {advice}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # what is wrong with others is not the question here
        for plugin in catalogue.plugins().values():
            if name in {plugin.namespace, plugin.claim} or plugin.distribution == distribution:
                raise NameTakenError(
                    f"{name!r} is the id of {plugin.title}, which is installed. {advice}, or uninstall it first: "
                    f"pip uninstall {plugin.distribution}"
                )
        module = f"segcore_plugin_{name.replace('-', '_')}"
        if _is_installed(distribution) or importlib.util.find_spec(module) is not None:
            raise NameTakenError(
                f"a package {distribution!r}, or a module {module!r}, is installed. {advice}, or uninstall it first: "
                f"pip uninstall {distribution}"
            )
        offered = [("encoder", f"{name}-small"), ("encoder", f"{name}-base")] if kind != "decoder" else []
        for what, word in [("encoder", name), ("decoder", name), *offered]:  # an id that is a name would mislead
            owner = owner_of(what, word)
            if owner is not None:
                raise NameTakenError(f"the {what} name {word!r} belongs to {distribution_of(owner)}. {advice}.")
            found = (encoders if what == "encoder" else decoders).get(word)
            if found is not None:
                by = found.provenance.distribution if found.provenance else None
                raise NameTakenError(f"the {what} name {word!r} is offered by {by or 'this process'}. {advice}.")
        titles = {*segcore.__all__, *(spec.title for _, spec in decoders.items_matching())}
        if kind != "encoder" and _title(name) in titles:
            raise NameTakenError(f"segcore.{_title(name)}, the class-style name, exists already. {advice}.")


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _author(given: str | None, name: str) -> str:
    """Return who holds the copyright, for one line of a licence and of metadata."""
    author = (_name_in_git() or f"The {name} authors") if given is None else given.strip()
    if not author or not author.isprintable():
        raise OptionValueError(f"--author {given!r}: a name on one line is needed.")
    return author


def _name_in_git() -> str | None:
    command = ["git", "config", "user.name"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    name = done.stdout.strip()
    return name if name.isprintable() else None
