"""The commands ``segcore plugin ...``, for authors of plugins."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from segcore.inspection import Target, check, folder_targets, installed_targets

_FAILED = 1


@click.group(name="plugin")
def plugin_commands() -> None:
    """Make and check plugins."""


@plugin_commands.command(name="new")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["encoder", "decoder", "both"]),
    default="encoder",
    show_default=True,
    help="What the package offers.",
)
@click.option(
    "--directory", type=click.Path(path_type=Path), default=".", help="Folder to write into; the current one."
)
@click.option("--author", help="Who holds the copyright.  [default: your name in git]")
def new_command(name: str, kind: str, directory: Path, author: str | None) -> None:
    """Write the package of a new plugin, segcore-plugin-NAME: a network that works, to be replaced by yours.

    NAME is the plugin's id: lower-case letters, digits and hyphens. The package installs and passes the conformance kit
    as it is written. Nothing that exists is changed.
    """
    from segcore.scaffold import new_package

    folder = new_package(name, kind, directory, author)
    click.echo(f"Wrote {folder}. Next:\n\n  cd {folder}\n  pip install -e '.[test]'\n  python -m pytest")


@plugin_commands.command(name="check")
@click.argument("what", metavar="NAME|PATH")
@click.option(
    "--encoders", "patterns", multiple=True, metavar="PATTERN", help="Build only encoders that match ('tiny-*')."
)
@click.option("--exempt", "exemptions", multiple=True, metavar="CHECK=REASON", help="Expect this check to fail.")
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def check_command(what: str, patterns: tuple[str, ...], exemptions: tuple[str, ...], as_data: bool) -> None:
    """Run the conformance kit over a plugin.

    NAME is the id or the distribution of an installed plugin. PATH is the folder of a package, with its pyproject.toml;
    it need not be installed. The checks run in a process of their own.
    """
    exempt = dict(map(_exemption, exemptions))
    with tempfile.TemporaryDirectory(prefix="segcore-check-") as scratch:
        targets = folder_targets(Path(what), Path(scratch)) if _is_folder(what) else installed_targets(what)
        reports = [_check(target, patterns or ("*",), exempt, as_data=as_data) for target in targets]
    if as_data:
        click.echo(json.dumps(reports, indent=2))
    if any(report["failed"] for report in reports):
        click.get_current_context().exit(_FAILED)


def _check(target: Target, patterns: tuple[str, ...], exempt: dict[str, str], *, as_data: bool) -> dict[str, Any]:
    """Check one plugin, telling what fails when it does; return the report."""
    started, results = time.perf_counter(), []
    progress = _Progress()
    for result in check(target, patterns, exempt, progress.show):
        results.append(result)
        if result["problem"] is not None and not as_data:
            progress.clear()
            click.echo(f"{result['check']}  {result['about']}: {result['problem']}")
    progress.clear()
    failed = sum(result["problem"] is not None for result in results)
    if not as_data:
        outcome = f"{failed} failed" if failed else "all passed"
        exempted = f", {len(exempt)} of them exempted" if exempt else ""
        click.echo(
            f"{target.distribution} {target.version} (plugin {target.claim!r}): {len(results)} checks{exempted}, "
            f"{outcome}, {time.perf_counter() - started:.0f} s."
        )
    return {
        "plugin": target.claim,
        "distribution": target.distribution,
        "version": target.version,
        "failed": failed,
        "exempt": exempt,
        "results": results,
    }


class _Progress:
    """A line that says which check is running, on a terminal only."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def show(self, number: int, total: int, what: str) -> None:
        if self._shown:
            click.echo(f"\r\x1b[K[{number}/{total}] {what:.60}", err=True, nl=False)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def _is_folder(what: str) -> bool:
    return "/" in what or "\\" in what or what.startswith(".") or (Path(what) / "pyproject.toml").is_file()


def _exemption(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise click.BadParameter(f"{text!r}: CHECK=REASON is needed, such as 'compiles_whole=uses a loop over levels'.")
    return name, reason
