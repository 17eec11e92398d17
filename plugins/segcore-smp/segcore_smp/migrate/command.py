"""``segcore migrate`` as a command; what it does needs libcst, which is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segcore import PluginError

if TYPE_CHECKING:
    from segcore_smp.migrate.files import File

UNREADABLE = 3  # the exit code where a file could not be read or written


@click.command(name="migrate")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--native", is_flag=True, help="Also rewrite calls to segcore's own, where they compute the same.")
@click.option("--write", "writing", is_flag=True, help="Change the files.  [default: show what would change]")
@click.pass_context
def migrate_command(context: click.Context, path: Path, native: bool, writing: bool) -> None:
    """List what a program uses of segmentation_models_pytorch, and rewrite it.

    PATH is a Python file, a notebook or a folder of them. Imports become those of segcore_smp under the same names, so
    that nothing else need change. Strings and other files are listed and left. Without --write nothing is changed.
    """
    try:
        import libcst  # noqa: F401 - said here once, rather than by each module
    except ImportError as error:
        raise PluginError(
            f"segcore migrate needs libcst ({error}). Install it: pip install 'segcore-smp[migrate]'",
            distribution="segcore-smp",
            phase="import",
        ) from error
    from segcore_smp.migrate.files import examined, write

    files = []
    for file in examined(path, native=native):
        files.append(file)
        if writing and file.new != file.old:
            try:
                write(file)
            except OSError as error:
                file.problem = f"it cannot be written ({error.strerror or error})"
        _show(file)
    click.echo(_summary(files, writing=writing))
    if any(file.problem for file in files):
        context.exit(UNREADABLE)


def _show(file: File) -> None:
    name = click.format_filename(file.path)
    for use in file.uses:
        note = f"  ({use.note})" if use.note else ""
        click.echo(f"{name}:{use.line}: {use.kind} {use.name}{note}")
    if file.problem:
        click.echo(f"{name}: {file.problem}", err=True)
    if file.new != file.old:
        click.echo(file.diff(), nl=False)


def _summary(files: list[File], *, writing: bool) -> str:
    uses = sum(len(file.uses) for file in files)
    noted = sum(bool(use.note) for file in files for use in file.uses)
    changed = sum(file.new != file.old and not file.problem for file in files)
    failed = sum(file.problem is not None for file in files)
    words = [f"{_count(uses, 'use')} in {_count(len(files), 'file')}", f"{noted} to look at"]
    words.append(f"{_count(changed, 'file')} {'changed' if writing else 'would change'}")
    if failed:
        words.append(f"{failed} failed")
    return ", ".join(words) + ("." if writing or not changed else ". Nothing was written: add --write.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
