"""The commands ``segcore weights list | fetch | verify``: published weights and what this machine holds of them."""

from __future__ import annotations

import json
from typing import Any

import click

from segcore.errors import SegcoreError, WeightsError
from segcore.registry import encoders
from segcore.specs import EncoderSpec, Weights, qualified_name

_DOWNLOAD_FAILED = 5

_as_json = click.option("--json", "as_data", is_flag=True, help="Print JSON.")


@click.group(name="weights")
def weights_commands() -> None:
    """Published weights of encoders: list them, fetch them beforehand, check what was fetched."""


@weights_commands.command(name="list")
@click.argument("pattern", required=False)
@_as_json
def list_weights(pattern: str | None, as_data: bool) -> None:
    """List published weights of all encoders, or of those that match PATTERN ('resnet*'), and which are at hand."""
    from segcore.cli import _show
    from segcore.download import find

    rows = []
    for name, spec in encoders.items_matching(pattern):
        for tag, record in [*spec.weights.items(), *spec.unpinned.items()]:
            pinned = tag in spec.weights
            path = find(record) if pinned else None  # which commit of the others is at hand, only their user knows
            more = {"pinned": "yes" if pinned else "no", "at_hand": "yes" if path else "no", "source": record.source}
            rows.append(_row(name, tag, record) | more | {"path": None if path is None else str(path)})
    _show(rows, ("encoder", "tag", "license", "size", "pinned", "at_hand", "url"), as_data)


@weights_commands.command(name="fetch")
@click.argument("names", nargs=-1)
@click.option("--tag", help="Only the weights with this tag, TAG@COMMIT for unpinned ones; otherwise all pinned ones.")
@click.option("--all-of", "pattern", help="Also all encoders that match a pattern ('resnet*').")
@_as_json
def fetch_weights(names: tuple[str, ...], tag: str | None, pattern: str | None, as_data: bool) -> None:
    """Download the weights of the encoders NAMES, so that they can be used without a network.

    What is at hand already is checked and not downloaded again. One that fails does not stop the others.
    """
    from segcore.weights import check_weights, open_weights, record_of

    if not names and pattern is None:
        raise click.UsageError("Give the name of an encoder, or --all-of PATTERN.")
    wanted: dict[tuple[str, str], EncoderSpec] = {}
    for name in names:
        spec = encoders.resolve(name)
        check_weights(tag, spec)
        if tag is None and not spec.weights:
            raise WeightsError(f"{qualified_name(spec)!r} has no {'pinned' if spec.unpinned else 'published'} weights.")
        wanted |= {(name, each): spec for each in ([tag] if tag else spec.weights)}
    if pattern is not None:
        matching = {(name, each): spec for name, spec, each, _ in _published(pattern) if tag in {None, each}}
        if not matching:
            raise click.UsageError(f"No encoder that matches {pattern!r} has such weights.")
        wanted |= matching
    rows = []
    for (name, each), spec in wanted.items():
        row = _row(name, each, record_of(spec, each))
        try:
            row |= {"path": str(open_weights(spec, each)), "error": None}
        except SegcoreError as error:
            row |= {"path": None, "error": str(error)}
            click.echo(f"Error: {error}", err=True)
        else:
            if not as_data:
                click.echo(f"{name}  {each}  {row['path']}")
        rows.append(row)
    if as_data:
        click.echo(json.dumps(rows, indent=2))
    if any(row["error"] for row in rows):
        click.get_current_context().exit(_DOWNLOAD_FAILED)


@weights_commands.command(name="verify")
@click.argument("pattern", required=False)
@_as_json
def verify_weights(pattern: str | None, as_data: bool) -> None:
    """Compare the weights that are at hand with what was published; PATTERN as in `segcore weights list`."""
    from segcore.cli import _show
    from segcore.download import find, problem_of

    rows = []
    for name, _, tag, record in _published(pattern):
        path = find(record)
        if path is not None:
            wrong = problem_of(path, record)
            status = "ok" if wrong is None else "damaged"
            rows.append(_row(name, tag, record) | {"status": status, "reason": wrong, "path": str(path)})
    _show(rows, ("encoder", "tag", "status", "path", "reason"), as_data)
    if any(row["reason"] for row in rows):
        click.get_current_context().exit(_DOWNLOAD_FAILED)


def _published(pattern: str | None) -> list[tuple[str, EncoderSpec, str, Weights]]:
    return [
        (name, spec, tag, record)
        for name, spec in encoders.items_matching(pattern)
        for tag, record in spec.weights.items()
    ]


def _row(name: str, tag: str, record: Weights) -> dict[str, Any]:
    return {
        "encoder": name,
        "tag": tag,
        "license": record.license,
        "size": record.size,
        "url": record.url,
        "revision": record.revision,
        "sha256": record.sha256,
    }
