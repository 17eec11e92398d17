"""The records that plugins register: plain data, cheap to make, free of torch.

A record is made without checks, so that one bad record cannot take the rest of a plugin's list with it; `problem`
says what is wrong with it, and discovery and local registration ask that of every record.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

NAME = re.compile(r"(?:[a-z0-9][a-z0-9_-]*/)?[a-z0-9][a-z0-9_.+-]*")
TITLE = re.compile(r"[A-Z][A-Za-z0-9]*")
FACTORY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
SHA256 = re.compile(r"[0-9a-f]{64}")
REVISION = re.compile(r"[0-9a-f]{40}")
INPUT_SPACE = re.compile(r"RGB|BGR")

Factory = str | Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record comes from; attached by discovery.

    Attributes:
        namespace: the plugin's id, the part of a qualified name before the slash.
        distribution: the installed distribution, None for a local registration.
        version: its version, None for a local registration.
    """

    namespace: str
    distribution: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Published weights of an encoder, and the preprocessing that belongs to them.

    Attributes:
        url: where the ``.safetensors`` file lies: ``hf://owner/repository/file``, ``https://...``, or
            ``package://package.module/file`` for data of an installed package.
        license: SPDX identifier, or the name under which the licence is published.
        source: who made the weights: an address or a reference.
        mean: per channel, in the units of `input_range`.
        std: per channel, in the units of `input_range`.
        sha256: 64 hex digits of the file; None only together with a pinned `revision`.
        revision: 40 hex digits of the commit, for ``hf://`` addresses.
        size: of the file, in bytes, if known.
        input_range: smallest and largest value of an image before normalisation.
        input_space: order of the channels, ``"RGB"`` or ``"BGR"``.
    """

    url: str
    license: str
    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str | None = None
    revision: str | None = None
    size: int | None = None
    input_range: tuple[float, float] = (0.0, 1.0)
    input_space: str = "RGB"

    def problem(self, *, local: bool = False) -> str | None:
        """Return what is wrong with this record, or None; a local one need not be pinned."""
        if not isinstance(self.url, str) or not self.url.endswith(".safetensors"):
            return f"weights must be a .safetensors file, got {self.url!r}"
        if not all(isinstance(text, str) and text.strip() for text in (self.license, self.source)):
            return "weights must state their licence and their source"
        if self.sha256 is not None and not _matches(SHA256, self.sha256):
            return f"sha256 must be 64 hexadecimal digits in lower case, got {self.sha256!r}"
        if self.revision is not None and not _matches(REVISION, self.revision):
            return f"revision must be 40 hexadecimal digits in lower case, got {self.revision!r}"
        if not local and self.sha256 is None and not (self.revision and self.url.startswith("hf://")):
            return "weights need a sha256, or an hf:// address and a revision of 40 hexadecimal digits"
        if not _numbers(self.mean) or not _numbers(self.std) or len(self.mean) != len(self.std) or min(self.std) <= 0:
            return f"mean and std must be tuples with one number per channel, got {self.mean!r} and {self.std!r}"
        if not _numbers(self.input_range) or len(self.input_range) != 2 or self.input_range[0] >= self.input_range[1]:
            return f"input_range must be a tuple of the smallest and the largest value, got {self.input_range!r}"
        if not _matches(INPUT_SPACE, self.input_space):
            return f"input_space must be 'RGB' or 'BGR', got {self.input_space!r}"
        return None


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder that can be built by name.

    Attributes:
        name: lower case, as the field writes it: ``resnet34``, ``efficientnet-b0``. A name that begins with the
            plugin's id and a slash (``timm/vit_base_patch16_224``) is offered in that form only.
        factory: ``"package.module:attribute"``, or a callable for local registration. It is called with ``depth``,
            ``in_channels``, ``options`` and what the user gives, by keyword, and returns a module with `EncoderMixin`.
        options: arguments of the factory that make up this name and cannot be changed; JSON-able.
        defaults: arguments preset for this name, which a user may change; JSON-able.
        out_channels: channels of each feature map at the greatest depth, finest first; checked on every build.
            None only for local registration, where the built module is believed.
        strides: of each feature map; None for 1, 2, 4, ...
        aliases: other names; a canonical name always beats an alias.
        in_channels: of the image the weights were made for.
        output_strides: the deepest strides that the family can be built with.
        size_multiple: height and width are padded to a multiple of this.
        weights: published weights by tag.
        unpinned: published weights by tag that the package vouches for with neither a checksum nor a revision. They are
            listed with their licence, and loaded only if the caller names a commit, ``"tag@<40 digits>"``.
        license: of the network's code, where it differs from the package's.
        url: paper or reference implementation.
        parameters: number of parameters at the greatest depth, if known.
        deprecated: what to use instead; shown when the name is built.
        provenance: attached by discovery.
    """

    name: str
    factory: Factory
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    out_channels: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    aliases: tuple[str, ...] = ()
    in_channels: int = 3
    output_strides: tuple[int, ...] = (32,)
    size_multiple: int = 1
    weights: Mapping[str, Weights] = field(default_factory=dict)
    unpinned: Mapping[str, Weights] = field(default_factory=dict)
    license: str | None = None
    url: str | None = None
    parameters: int | None = None
    deprecated: str | None = None
    provenance: Provenance | None = field(default=None, compare=False, repr=False)

    def problem(self, *, local: bool = False) -> str | None:
        """Return what is wrong with this record, or None; a local one may leave out its channels."""
        common = _common_problem(self) or _positive_problem(self, ("out_channels", "strides", "output_strides"))
        if common:
            return common
        if self.out_channels is None and not local:
            return f"{self.name!r} must declare out_channels"
        if self.strides is not None:
            if self.out_channels is not None and len(self.strides) != len(self.out_channels):
                return (
                    f"{self.name!r} declares {len(self.out_channels)} channels and strides {self.strides!r}; "
                    f"they must be parallel"
                )
            if self.strides[0] != 1 or list(self.strides) != sorted(self.strides):
                return f"strides of {self.name!r} must begin with 1 and never decrease, got {self.strides!r}"
        for key in ("in_channels", "size_multiple"):
            if not _positive_ints((getattr(self, key),)):
                return f"{key} of {self.name!r} must be a positive whole number, got {getattr(self, key)!r}"
        for what, mapping in (("weights", self.weights), ("unpinned", self.unpinned)):
            if not isinstance(mapping, Mapping):
                return f"{what} of {self.name!r} must be a mapping from tag to Weights, got {mapping!r}"
            for tag, weights in mapping.items():
                if not isinstance(tag, str) or not isinstance(weights, Weights):
                    return f"{what} {tag!r} of {self.name!r}: a tag and a Weights are expected, got {weights!r}"
                wrong = weights.problem(local=local or what == "unpinned")
                if wrong:
                    return f"{what} {tag!r} of {self.name!r}: {wrong}"
                if what == "unpinned" and (weights.revision or weights.sha256 or not weights.url.startswith("hf://")):
                    return f"unpinned {tag!r} of {self.name!r}: its address must be hf://, without revision and sha256"
        return None

    def weights_named(self, tag: str) -> Weights | None:
        """Return the record of a tag, or None for an unknown one.

        Args:
            tag: ``"imagenet"``, or for one of `unpinned` with the commit that the caller trusts,
                ``"a1_in1k@<40 hexadecimal digits>"``.
        """
        name, at, revision = tag.partition("@")
        if not at:
            return self.weights.get(name)
        record = self.unpinned.get(name)
        return replace(record, revision=revision) if record and REVISION.fullmatch(revision) else None

    @property
    def nominal_strides(self) -> tuple[int, ...]:
        """The declared strides, or 1, 2, 4, ... where none are declared."""
        return self.strides or tuple(2**level for level in range(len(self.out_channels or ())))


@dataclass(frozen=True, slots=True)
class _TitledSpec:
    """Fields of the records that carry a class-style name."""

    name: str
    factory: Factory
    title: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    url: str | None = None
    deprecated: str | None = None
    provenance: Provenance | None = field(default=None, compare=False, repr=False)

    def problem(self, *, local: bool = False) -> str | None:  # noqa: ARG002 - one signature for all records
        """Return what is wrong with this record, or None."""
        if self.title is not None and not _matches(TITLE, self.title):
            return f"title of {self.name!r} must be a class name such as 'Unet', got {self.title!r}"
        return _common_problem(self)


@dataclass(frozen=True, slots=True)
class DecoderSpec(_TitledSpec):
    """A decoder that can be built by name.

    Attributes:
        name: lower case: ``unet``, ``deeplabv3plus``.
        factory: ``"package.module:attribute"``, or a callable for local registration. It is called with the encoder's
            `FeatureInfo` first, then ``options`` and what the user gives, by keyword, and returns a `Decoder`.
        title: class-style name, ``Unet``: ``segcore.Unet("resnet34")`` finds the decoder by it.
        options: arguments of the factory that make up this name and cannot be changed; JSON-able.
        defaults: arguments preset for this name, which a user may change; JSON-able.
        aliases: other names.
        url: paper or reference implementation.
        deprecated: what to use instead; shown when the name is built.
        provenance: attached by discovery.
    """


@dataclass(frozen=True, slots=True)
class LossSpec(_TitledSpec):
    """A loss that can be built by name; fields as in `DecoderSpec`, its factory takes options alone."""


Spec = EncoderSpec | DecoderSpec | LossSpec
KINDS: dict[str, type[Spec]] = {"encoder": EncoderSpec, "decoder": DecoderSpec, "loss": LossSpec}


def kind_of(spec: object) -> str | None:
    """Return ``"encoder"``, ``"decoder"`` or ``"loss"``, or None for anything that is no record."""
    return next((kind for kind, record in KINDS.items() if isinstance(spec, record)), None)


def qualified_name(spec: Spec) -> str:
    """Return ``namespace/name``; the bare name where the namespace is not known."""
    if "/" in spec.name or spec.provenance is None or spec.provenance.distribution is None:
        return spec.name
    return f"{spec.provenance.namespace}/{spec.name}"


def names_of(spec: Spec) -> Iterator[str]:
    """Yield the canonical name, then the aliases."""
    yield spec.name
    yield from spec.aliases


def as_json(spec: Spec) -> dict[str, Any]:
    """Return the record as plain data for JSON; a callable factory becomes its dotted name."""
    factory = spec.factory
    if not isinstance(factory, str):
        factory = f"{getattr(factory, '__module__', '?')}:{getattr(factory, '__qualname__', repr(factory))}"
    data = {key: value for key, value in _fields(spec).items() if key != "factory"}
    return {"name": qualified_name(spec), "kind": kind_of(spec), "factory": factory} | {
        key: value for key, value in data.items() if key != "name"
    }


def _fields(spec: Spec) -> dict[str, Any]:
    names = spec.__dataclass_fields__
    plain = {name: getattr(spec, name) for name in names}
    plain["provenance"] = None if spec.provenance is None else asdict(spec.provenance)
    plain |= {"options": dict(spec.options), "defaults": dict(spec.defaults)}
    if isinstance(spec, EncoderSpec):
        for what in ("weights", "unpinned"):
            plain[what] = {tag: asdict(weights) for tag, weights in plain[what].items()}
    return plain


def _common_problem(spec: EncoderSpec | _TitledSpec) -> str | None:
    name, factory = spec.name, spec.factory
    if not isinstance(spec.aliases, tuple):
        return f"aliases of {name!r} must be a tuple of names, got {spec.aliases!r}"
    for word in (name, *spec.aliases):
        if not _matches(NAME, word):
            return f"a name is lower-case letters, digits, '_', '-', '.' and '+', got {word!r}"
    if isinstance(factory, str):
        if not FACTORY.fullmatch(factory):
            return f"factory of {name!r} must be 'package.module:attribute', got {factory!r}"
    elif not callable(factory):
        return f"factory of {name!r} must be 'package.module:attribute' or a callable, got {factory!r}"
    for what, arguments in (("options", spec.options), ("defaults", spec.defaults)):
        if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
            return f"{what} of {name!r} must be a mapping from names to values, got {arguments!r}"
        if arguments:
            try:
                json.dumps(dict(arguments), allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                return f"{what} of {name!r} must be JSON-able: {error}"
    for key in ("url", "deprecated"):
        if not isinstance(getattr(spec, key), str | None):
            return f"{key} of {name!r} must be a text, got {getattr(spec, key)!r}"
    return None


def _positive_problem(spec: EncoderSpec, keys: Iterable[str]) -> str | None:
    for key in keys:
        values = getattr(spec, key)
        if not (_positive_ints(values) or (values is None and key != "output_strides")):
            return f"{key} of {spec.name!r} must be a tuple of positive whole numbers, got {values!r}"
    return None


def _positive_ints(values: object) -> bool:
    return isinstance(values, tuple) and bool(values) and all(type(value) is int and value > 0 for value in values)


def _numbers(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(type(value) in {int, float} and math.isfinite(value) for value in values)
    )


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None
