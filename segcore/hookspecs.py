"""The hooks of segcore: everything that a plugin can do, on one screen.

A plugin is a module named by one entry point in the group ``segcore.v1``; it implements any of these with `hookimpl`.
An implementation may leave out arguments that it does not use. Wrappers are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from segcore.specs import EncoderSpec, Spec, Weights

if TYPE_CHECKING:
    import click

    from segcore.model import SegmentationModel

hookspec = pluggy.HookspecMarker("segcore")
hookimpl = pluggy.HookimplMarker("segcore")


@hookspec
def segcore_specs() -> Iterable[Spec] | None:
    """Yield the records of all encoders, decoders and losses of the plugin. Called once; must not import torch."""


@hookspec
def segcore_find(kind: str, name: str) -> Spec | None:
    """Return a record for a name that `segcore_specs` did not list, for open namespaces such as ``timm/<any>``.

    Called only when the plugin is addressed: with the bare name where the plugin owns that, else with
    ``namespace/name``, the namespace being the one that the plugin's entry point asks for.

    Raises:
        IncompatiblePartsError: the plugin knows the name, and nothing can be made of it. The user gets it as it is; any
            other exception becomes a `PluginError`.
    """


@hookspec(firstresult=True)
def segcore_open_weights(spec: EncoderSpec, tag: str, weights: Weights, cache_dir: Path) -> Path | None:
    """Return a local file for published weights (a mirror, an air gap), or None. Asked before any download."""


@hookspec
def segcore_model_created(model: SegmentationModel, config: dict[str, Any]) -> None:
    """Look at a model that `create_model` has just assembled. An exception becomes a warning."""


@hookspec
def segcore_commands(cli: click.Group) -> None:
    """Add commands to the command line: ``cli.add_command(...)``. Import what they need inside them."""


@hookspec
def segcore_doctor() -> Iterable[str] | None:
    """Yield one line per problem that the plugin finds with its own installation."""
