"""Pages of the encoders and decoders that the packages of this repository register."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from segcore.options import factory_of
from segcore.owners import OFFICIAL
from segcore.registry import Registry, decoders, encoders
from segcore.specs import DecoderSpec, EncoderSpec

INTERNAL = {"self", "features"}


def _registered(registry: Registry[Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and records of the packages of this repository, and of no other that is installed here."""
    for name, spec in registry.items_matching():
        if spec.provenance is not None and spec.provenance.namespace in OFFICIAL:
            yield name, spec


def encoder_reference() -> str:
    """Return the reference of the encoders as MyST: tables per package, timm's models by their strides."""
    packages: dict[str, list[tuple[str, EncoderSpec]]] = {}
    models: dict[tuple[int, ...], list[tuple[str, EncoderSpec]]] = {}
    for name, spec in _registered(encoders):
        if "/" in name or name.startswith("tu-"):
            models.setdefault(spec.nominal_strides, []).append((name, spec))
        else:
            packages.setdefault(spec.provenance.distribution, []).append((name, spec))
    parts = []
    for package, rows in sorted(packages.items()):
        parts += [f"## {package}", "", *_encoder_table(rows, strides=True), ""]
    if models:
        parts += [f"## timm's models ({sum(map(len, models.values()))})", ""]
    for strides, rows in sorted(models.items(), key=lambda item: -len(item[1])):
        parts += [f"### Strides {', '.join(map(str, strides))} ({len(rows)})", "", *_encoder_table(rows, strides=False)]
        parts.append("")
    return "\n".join(parts)


def _encoder_table(rows: Iterable[tuple[str, EncoderSpec]], *, strides: bool) -> Iterator[str]:
    columns = ["name", "parameters", "channels", *(["strides"] if strides else []), "output strides", "weights"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for name, spec in rows:
        cells = ["<br>".join(f"`{word}`" for word in (name, *spec.aliases)), _millions(spec.parameters)]
        cells.append(_numbers(spec.out_channels or ()))
        cells += [_numbers(spec.nominal_strides)] if strides else []
        cells += [_numbers(sorted(spec.output_strides)), _tags(spec)]
        yield f"| {' | '.join(cells)} |"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _millions(parameters: int | None) -> str:
    return "" if parameters is None else f"{parameters / 1e6:.1f} M"


def _tags(spec: EncoderSpec) -> str:
    """Return the tags by licence; an unpinned tag ends in ``@``, as in ``segcore encoders``."""
    licences: dict[str, list[str]] = {}
    for mark, mapping in (("", spec.weights), ("@", spec.unpinned)):
        for tag, record in mapping.items():
            licences.setdefault(record.license, []).append(f"`{tag}{mark}`")
    return "; ".join(f"{', '.join(tags)} ({licence})" for licence, tags in licences.items())


def decoder_reference() -> str:
    """Return the reference of the decoders as MyST: a section each, with its options and their defaults."""
    parts = []
    for name, spec in _registered(decoders):
        factory = factory_of(spec)
        first = inspect.cleandoc(factory.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")
        parts += [f"## {name}", "", f"{first}", ""]
        parts += [f"`segcore.{spec.title}` from `{spec.provenance.distribution}`; [source]({spec.url}).", ""]
        wishes: Mapping[str, Any] = getattr(factory, "encoder_options", {})
        if wishes:
            said = ", ".join(f"`encoder_{key}={value!r}`" for key, value in wishes.items())
            parts += [f"It asks the encoder for {said}, unless you say otherwise.", ""]
        parts += ["| option | default |", "|---|---|", *_options(spec, factory), ""]
    return "\n".join(parts)


def _options(spec: DecoderSpec, factory: Any) -> Iterator[str]:
    for key, parameter in inspect.signature(factory).parameters.items():
        if key not in INTERNAL and key not in spec.options:
            yield f"| `decoder_{key}` | `{spec.defaults.get(key, parameter.default)!r}` |"
