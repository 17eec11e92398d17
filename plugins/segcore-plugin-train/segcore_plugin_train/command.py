"""``segcore train`` and ``segcore evaluate`` as commands; what they do loads torch and Lightning when it runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from segcore_plugin_train.settings import FIELDS, Settings, parse_assignment, read_settings

_TYPES: dict[str, type] = {"str": str, "int": int, "float": float}
_DATA = (
    "images",
    "masks",
    "mask_suffix",
    "multilabel",
    "class_folders",
    "table",
    "names",
    "label",
    "ignore_label",
    "bands",
    "full_scale",
    "alpha",
    "tile",
    "overlap",
)


def _options(names: list[str]) -> Callable[[Any], Any]:
    """Return a decorator that adds the options of some fields."""

    def add(function: Any) -> Any:
        for name in reversed(names):
            function = _click_option(FIELDS[name])(function)
        return function

    return add


def _click_option(field: Any) -> Callable[[Any], Any]:
    kind = str(field.type).removesuffix(" | None")
    flag = "--" + field.name.replace("_", "-")
    text = field.metadata["help"]
    if kind == "bool":
        return click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text)
    if kind.startswith("list"):
        item = int if "int" in kind else str
        return click.option(flag, field.name, type=item, multiple=True, help=text)
    if kind.startswith("dict"):
        return click.option(flag, field.name, multiple=True, metavar="NAME=VALUE", help=text)
    if field.default not in {None, ""}:
        text = f"{text}  [default: {field.default}]"
    return click.option(flag, field.name, type=_TYPES[kind], default=None, help=text)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return what was given on the command line, as fields of `Settings`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == ():
            continue
        kind = str(FIELDS[name].type)
        if kind.startswith("dict"):
            found[name] = dict(parse_assignment(name, text) for text in value)
        else:
            found[name] = list(value) if kind.startswith("list") else value
    return found


@click.command(name="train")
@click.option(
    "--config", type=click.Path(path_type=Path), help="YAML or TOML file with the same options; those given here win."
)
@_options(list(FIELDS))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else to standard output.")
def train_command(config: Path | None, as_json: bool, **values: Any) -> None:
    """Train a model on images and masks.

    Writes the best and the last checkpoint, a log and a report into a folder. A run that was killed or interrupted
    continues with --resume, to the same weights. Starts by itself, under torchrun or under srun.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: threads that wait must not spin
    settings = Settings(**{**(read_settings(config) if config else {}), **_given(values)})
    from segcore_plugin_train.run import train

    evaluation = train(settings, tell=lambda line: click.echo(line, err=as_json))
    if as_json and evaluation is not None:
        click.echo(evaluation.as_json())


@click.command(name="evaluate")
@click.argument("checkpoint")
@_options(list(_DATA))
@click.option("--report", type=click.Path(path_type=Path), help="HTML file to write, with the worst images.")
@click.option("--worst", type=click.IntRange(0), default=12, show_default=True, help="Images in the report.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def evaluate_command(
    checkpoint: str, report: Path | None, worst: int, device: str, as_json: bool, **values: Any
) -> None:
    """Measure a checkpoint on images and masks: IoU of each class, and the confusion matrix.

    CHECKPOINT is a folder, or hf://owner/name.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    settings = dataclasses.replace(Settings(), **_given(values))
    from segcore_plugin_train.run import evaluate_files

    evaluation = evaluate_files(checkpoint, settings, report=report, worst=worst, device=device)
    click.echo(evaluation.as_json() if as_json else evaluation.text())
