"""The records of timm's architectures: listed from a table, found by name and tag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from segcore import EncoderSpec, IncompatiblePartsError
from segcore_plugin_timm.architectures import Architecture, facts, parse, table
from segcore_plugin_timm.families import classic_specs
from segcore_plugin_timm.tags import Tags, tags_of

FACTORY = "segcore_plugin_timm.net:TimmEncoder"
REDIRECTED = ("gernet_", "mobilenetv3_", "regnet", "res2ne", "resnest")


def canonical(name: str) -> str:
    """Return the name under which an architecture is offered.

    That is ``timm/<name>``, but ``tu-<name>`` for those whose bare name is one of the classic encoders: their
    qualified form ``timm/vgg16`` is the classic encoder already.
    """
    return f"tu-{name}" if name in classic_specs() else f"timm/{name}"


def spec_of(name: str, row: Architecture) -> EncoderSpec:
    """Return the record of an architecture."""
    return EncoderSpec(
        canonical(name),
        factory=FACTORY,
        options={"name": name},
        out_channels=row.channels,
        strides=row.strides,
        output_strides=row.output_strides,
        size_multiple=row.multiple,
        weights=Tags(name, pinned=True),
        unpinned=Tags(name, pinned=False),
        parameters=row.parameters,
    )


def universal_specs() -> Iterator[EncoderSpec]:
    """Yield one record per architecture of the table that can be an encoder."""
    for name, line in table().items():
        row = parse(line)
        if not row.refused:
            yield spec_of(name, row)


def find(name: str) -> EncoderSpec | None:
    """Return the record of ``timm/<name>``, ``timm/<name>.<tag>``, or of a name that SMP gives timm's networks.

    Args:
        name: as the user wrote it.

    Raises:
        IncompatiblePartsError: timm has the architecture, but no encoder can be made of it.
    """
    words = name.removeprefix("timm/")
    prefix = next((prefix for prefix in ("tu-", "timm-") if words.startswith(prefix)), "")
    architecture, dot, tag = words.removeprefix(prefix).partition(".")
    if prefix == "timm-":
        if not architecture.startswith(REDIRECTED):
            return None
        if architecture.startswith("mobilenetv3_"):
            architecture = f"tf_{architecture}"  # SMP builds those of TensorFlow, with its padding and epsilon
    if not prefix and architecture in classic_specs():
        found = classic_specs()[architecture]
    else:
        row = facts(architecture) or _measured(architecture)
        if row is None:
            return None
        if row.refused:
            raise IncompatiblePartsError(f"{architecture!r} cannot be an encoder: {row.refused}.")
        found = spec_of(architecture, row)
    if dot:
        if tag not in tags_of(architecture):
            return None
        found = replace(
            found,
            name=f"{found.name}.{tag}",
            weights=Tags(architecture, pinned=True, only=tag),
            unpinned=Tags(architecture, pinned=False, only=tag),
        )
    if prefix and not found.name.startswith(prefix):
        # SMP's name of the same network
        found = replace(found, aliases=tuple({name, words}), deprecated=f"write {found.name!r}")
    return found


def _measured(name: str) -> Architecture | None:
    """Return the facts of an architecture that is not in the table: of a newer timm, or registered by the user."""
    from segcore import guard_torchvision

    guard_torchvision()
    import timm

    if not timm.is_model(name):
        return None
    from segcore_plugin_timm.measure import measure

    return measure(name)
