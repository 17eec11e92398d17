"""The command line: what is installed, weights, conversion, and the commands that plugins add."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import click

from segcore import __version__
from segcore.discovery import catalogue, list_plugins, notify
from segcore.doctor import doctor_command
from segcore.errors import CheckpointError, PluginError, PluginWarning, SegcoreError, WeightsError
from segcore.plugin_commands import plugin_commands
from segcore.registry import Registry, decoders, encoders, losses
from segcore.specs import EncoderSpec, as_json, qualified_name
from segcore.weights_commands import weights_commands

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (CheckpointError, 4),
    (WeightsError, 5),
    (PluginError, 6),
    (PluginWarning, 6),  # where warnings are made errors, `python -W error -m segcore`
    (SegcoreError, 2),
)


class _Group(click.Group):
    """A group whose commands include those of plugins, asked for only when they may be needed."""

    _asked = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            self._ask_plugins()
            command = super().get_command(ctx, cmd_name)
        return command

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; a plugin cannot take the name of another command."""
        if self._asked and (name or cmd.name) in self.commands:
            raise ValueError(f"there is a command {name or cmd.name!r} already")
        super().add_command(cmd, name)

    def _ask_plugins(self) -> None:
        if not self._asked:
            self._asked = True
            notify("segcore_commands", cli=self)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="segcore")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Segmentation models assembled by name from installed packages of encoders and decoders."""


@cli.command()
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def plugins(as_data: bool) -> None:
    """List the installed plugins, and what became of each."""
    catalogue.plugins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the table says what they would say
        found = list_plugins()
    rows = [
        {
            "id": plugin.namespace,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": plugin.status,
            "names": len(plugin.specs()),
            "load_ms": None if plugin.load_seconds is None else round(1000 * plugin.load_seconds, 1),
            "reason": plugin.reason,
            "notes": plugin.notes,
        }
        for plugin in found
    ]
    _show(rows, ("id", "distribution", "version", "status", "names", "load_ms", "reason"), as_data)


def _components(registry: Registry[Any], pattern: str | None, as_data: bool, columns: Sequence[str]) -> None:
    rows = []
    for name, spec in registry.items_matching(pattern):
        row = as_json(spec) | {"name": name, "qualified": qualified_name(spec)}
        origin = spec.provenance
        row["package"] = origin.distribution if origin and origin.distribution else "local"
        if isinstance(spec, EncoderSpec):
            row["strides"] = spec.nominal_strides
            row["licence"] = sorted({record.license for record in [*spec.weights.values(), *spec.unpinned.values()]})
            row["tags"] = [*spec.weights, *(f"{tag}@" for tag in spec.unpinned)]
        rows.append(row)
    _show(rows, columns, as_data)


@cli.command(name="encoders")
@click.argument("pattern", required=False)
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def encoders_command(pattern: str | None, as_data: bool) -> None:
    """List encoders by name, all or those that match PATTERN ('resnet*', 'timm/vit_*').

    A tag that ends in @ is not pinned by its package. To use it, name the commit that you trust: "a1_in1k@<commit>".
    """
    _components(
        encoders, pattern, as_data, ("name", "package", "parameters", "out_channels", "strides", "tags", "licence")
    )


@cli.command(name="decoders")
@click.argument("pattern", required=False)
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def decoders_command(pattern: str | None, as_data: bool) -> None:
    """List decoders by name, all or those that match PATTERN ('deeplab*')."""
    _components(decoders, pattern, as_data, ("name", "title", "package"))


@cli.command(name="losses")
@click.argument("pattern", required=False)
@click.option("--json", "as_data", is_flag=True, help="Print JSON.")
def losses_command(pattern: str | None, as_data: bool) -> None:
    """List losses by name, all or those that match PATTERN ('focal*')."""
    _components(losses, pattern, as_data, ("name", "title", "package"))


cli.add_command(weights_commands)
cli.add_command(plugin_commands)
cli.add_command(doctor_command)


@cli.command(name="convert")
@click.argument("source", type=click.Path(exists=True))
@click.argument("target", type=click.Path(file_okay=False))
@click.option("--decoder", help="For a bare state dict: SMP's class, such as Unet.")
@click.option("--encoder", help="For a bare state dict: SMP's encoder name, such as resnet34.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="SMP's argument, with a JSON value.")
def convert_command(
    source: str, target: str, decoder: str | None, encoder: str | None, options: tuple[str, ...]
) -> None:
    """Rewrite a checkpoint of segmentation_models_pytorch as segcore's.

    SOURCE is a folder or a state dict (.safetensors or .pth), TARGET the folder to write.
    """
    from segcore.convert import convert

    done = convert(source, target, decoder=decoder, encoder=encoder, options=dict(map(_option, options)))
    stripped = f", without the prefixes {' '.join(done.prefixes)}" if done.prefixes else ""
    click.echo(
        f"Wrote {done.folder}: {done.config['decoder']['name']} with {done.config['encoder']['name']}{stripped}."
    )


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}: NAME=VALUE is needed, such as encoder_depth=4.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _show(rows: list[dict[str, Any]], columns: Sequence[str], as_data: bool) -> None:
    if as_data:
        click.echo(json.dumps(rows, indent=2))
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells), 0) for i, column in enumerate(columns)]
    for line in ([*columns], *cells):
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) and value >= 100_000:
        return f"{value / 1e6:.1f} M"
    if isinstance(value, Iterable):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Codes: 0 done, 1 a check failed, 2 usage, 3 some inputs failed, 4 checkpoint, 5 weights, 6 plugin, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(words, prog_name="segcore", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        # An interrupt that passed through exec(text), as in a lazy import, leaves a flag that `python -m` turns into
        # death by the signal whatever the exit code says; the next exec(text) clears it.
        exec("")  # noqa: S102
        sys.exit(130)
    except (SegcoreError, PluginWarning) as error:
        if "--debug" in words:
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))
    sys.exit(code if type(code) is int else 0)
