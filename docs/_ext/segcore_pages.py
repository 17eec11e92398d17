"""Pages that are made from the code: commands, components, checks of the conformance kit, changelog."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import click
from component_pages import decoder_reference, encoder_reference
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}


PACKAGES = {path.parent.name: path.parts[-3] for path in Path(__file__).parents[2].glob("plugins/*/*/__init__.py")}


def commands(command: click.Group) -> list[click.Context]:
    """Return contexts of a group's commands and of those below them: the core's, then those of this repository."""
    found = list(_contexts(command))
    return sorted((context for context in found if home(context.command) is not None), key=_rank)


def _contexts(command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    name = command.name if parent else "segcore"
    context = click.Context(command, parent, info_name=name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _contexts(child, context)


def home(command: click.Command) -> str | None:
    """Return the distribution of a command: segcore, a package of this repository, or None."""
    top = command.callback.__module__.partition(".")[0] if command.callback else ""
    return "segcore" if top == "segcore" else PACKAGES.get(top)


def _rank(context: click.Context) -> tuple[bool, str]:
    return home(context.command) != "segcore", context.command_path


def command_reference() -> str:
    """Return the reference of the command line as MyST."""
    from segcore.cli import cli, main

    parts = [_command_section(context) for context in commands(cli)]
    codes = inspect.getdoc(main).partition("Codes:")[2].strip(" .\n").split(", ")
    rows = [f"| {code} | {meaning} |" for code, _, meaning in (line.partition(" ") for line in codes)]
    return "\n".join([*parts, "## Exit codes", "", "| code | meaning |", "|---|---|", *rows, ""])


def _command_section(context: click.Context) -> str:
    path, command = context.command_path, context.command
    lines = [f"## {path}", "", f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```", ""]
    if (package := home(command)) != "segcore":
        lines += [f"Comes with `{package}`.", ""]
    lines += [inspect.cleandoc(command.help or "").replace("\b\n", ""), "", "```{eval-rst}", f".. program:: {path}", ""]
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            names = ", ".join(_spelling(option, context))
            text = (option.help or "").replace("*", r"\*")  # of a pattern, not emphasis
            if option.show_default and option.default is not None:
                text += f"  [default: {option.default}]"
            lines += [f".. option:: {names}", "", f"   {text}", ""]
    return "\n".join([*lines, "```", ""])


def _spelling(option: click.Option, context: click.Context) -> list[str]:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag or option.count else f" {option.make_metavar(context)}"
    return [f"{name}{value}" for name in names]


def check_reference() -> str:
    """Return the checks of the conformance kit as MyST."""
    from segcore.testing import checks

    tables = []
    for title, group in checks.GROUPS.items():
        rows = [f"| `{check.__name__}` | {' '.join(inspect.getdoc(check).split())} |" for check in group]
        tables += [f"### {title}", "", "| check | what is promised |", "|---|---|", *rows, ""]
    return "\n".join(tables)


def changes(folder: Path) -> str:
    """Return the fragments of unreleased changes as MyST, grouped by kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.glob("*.md")):
        kind = path.suffixes[-2].removeprefix(".") if len(path.suffixes) > 1 else ""
        if kind not in KINDS:
            raise ValueError(f"{path.name}: a fragment is named <slug>.<kind>.md, kind one of {', '.join(KINDS)}.")
        found[kind].append("- " + path.read_text(encoding="utf-8").strip().replace("\n", "\n  "))
    return "\n\n".join(f"### {KINDS[kind]}\n\n" + "\n".join(rows) for kind, rows in found.items() if rows)


class _Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(command_reference(), allow_section_headings=True)


class _Checks(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(check_reference(), allow_section_headings=True)


class _Encoders(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(encoder_reference(), allow_section_headings=True)


class _Decoders(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(decoder_reference(), allow_section_headings=True)


class _Changes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.doc2path(self.env.docname)).parent / "changes"
        for path in folder.glob("*.md"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(changes(folder), allow_section_headings=True)


def _record_signature(
    _app: Sphinx, _what: str, _name: str, obj: object, _options: object, signature: str, _result: str
) -> tuple[str, str] | None:
    """Return a signature without types for a record: the types stand in the list of its fields."""
    if signature == "()" or not (isinstance(obj, type) and dataclasses.is_dataclass(obj)):
        return None
    shown = [field for field in dataclasses.fields(obj) if field.init and not field.name.startswith("_")]
    return f"({', '.join(_with_default(field) for field in shown)})", ""


def _with_default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"{field.name}={field.default!r}"
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}={field.default_factory()!r}"
    return field.name


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-signature", _record_signature)
    app.add_directive("segcore-commands", _Commands)
    app.add_directive("segcore-checks", _Checks)
    app.add_directive("segcore-encoders", _Encoders)
    app.add_directive("segcore-decoders", _Decoders)
    app.add_directive("segcore-changes", _Changes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
