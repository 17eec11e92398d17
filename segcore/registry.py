"""Names to records: local registrations, installed plugins, published owners; errors that say what to install."""

from __future__ import annotations

import fnmatch
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace as with_changes
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from segcore.discovery import Catalogue, catalogue, usable_specs
from segcore.errors import AmbiguousNameError, NameTakenError, UnknownNameError, near_match, shorten
from segcore.installed import Plugin
from segcore.local import spec_from
from segcore.owners import OWNERS, distribution_of, owner_of
from segcore.specs import FACTORY, DecoderSpec, EncoderSpec, LossSpec, Provenance, Spec, names_of, qualified_name

if TYPE_CHECKING:
    from segcore.model import SegmentationModel

S = TypeVar("S", EncoderSpec, DecoderSpec, LossSpec)


class Registry(Mapping[str, S], Generic[S]):
    """All components of one kind that can be built by name in this process.

    Reading loads the light modules of plugins, never a network. Writing registers a component locally:
    ``encoders["mine"] = ...`` takes a record, a class, or the mapping that the documentation shows.

    Args:
        kind: ``"encoder"``, ``"decoder"`` or ``"loss"``.
        source: the plugins to look in.
    """

    def __init__(self, kind: str, source: Catalogue = catalogue) -> None:
        self.kind = kind
        self._source = source
        self._local: dict[str, S] = {}
        self._bare: dict[str, list[S]] = {}
        self._bare_aliases: dict[str, list[S]] = {}
        self._generation = -1

    def __getitem__(self, name: str) -> S:
        return self.resolve(name)

    def __setitem__(self, name: str, value: object) -> None:
        self.register(value, name=name, replace=True)

    def __delitem__(self, name: str) -> None:
        if name not in self._local:
            raise UnknownNameError(
                f"no {self.kind} {name!r} is registered in this process, so there is none to remove."
            )
        spec = self._local[name]
        self._local = {key: value for key, value in self._local.items() if value is not spec}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the record of a name, or the default if nothing has it."""
        try:
            return self.resolve(name)
        except LookupError:
            return default

    def __repr__(self) -> str:
        return f"<{self.kind}s: {len(self)} names>"

    def register(self, value: object, *, name: str | None = None, replace: bool = False) -> S:
        """Register a component in this process and return its record.

        Args:
            value: a record, a class or function that builds the component, or a mapping (see `segcore.local`).
            name: needed unless the value is a record.
            replace: whether a name that is registered here already may be taken over.

        Raises:
            NameTakenError: if the name is registered in this process and `replace` is False.
            TypeError: if the value is malformed; the message says what to fix.
        """
        spec: S = with_changes(spec_from(self.kind, name, value), provenance=Provenance("local"))
        for word in names_of(spec):
            if word in self._local and not replace:
                raise NameTakenError(f"{self.kind} {word!r} is registered already; pass replace=True to take it over.")
        self._local |= dict.fromkeys(names_of(spec), spec)
        return spec

    def names(self, pattern: str | None = None) -> list[str]:
        """Return the names that can be built, sorted, each in its shortest unambiguous form.

        Args:
            pattern: shell-style pattern, ``"resnet*"`` or ``"timm/*"``; matched against short and qualified names.
        """
        return [name for name, _ in self.items_matching(pattern)]

    def items_matching(self, pattern: str | None = None) -> list[tuple[str, S]]:
        """Return names and records, sorted by name; see `names`."""
        self._refresh_index()
        rows: dict[str, S] = {}
        for spec in usable_specs(self._source.plugins().values(), self.kind):
            rows[self._shortest(spec)] = spec  # type: ignore[assignment]
        rows |= {spec.name: spec for spec in self._local.values()}
        return sorted(
            (name, spec)
            for name, spec in rows.items()
            if pattern is None or any(fnmatch.fnmatchcase(form, pattern) for form in (name, qualified_name(spec)))
        )

    def _shortest(self, spec: Spec) -> str:
        if "/" in spec.name:
            return spec.name
        assert spec.provenance is not None
        owner = owner_of(self.kind, spec.name)
        bare = owner == spec.provenance.namespace if owner else len(self._bare.get(spec.name, ())) == 1
        return spec.name if bare and spec.name not in self._local else qualified_name(spec)

    def resolve(self, name: str) -> S:
        """Return the record of a name.

        Names registered in this process win; then ``namespace/name`` asks that plugin alone; a bare name belongs to
        its published owner, else to its only provider.

        Raises:
            UnknownNameError: nothing has this name; the message has near matches, what to install and broken plugins.
            AmbiguousNameError: several packages offer it.
        """
        if not isinstance(name, str):
            raise UnknownNameError(f"the name of a {self.kind} is a string, got {name!r}.")
        if name in self._local:
            return self._local[name]
        if FACTORY.fullmatch(name):
            raise UnknownNameError(
                f"{name!r} looks like an import string; names are never imported. "
                f"Import the class yourself and pass it instead of a name."
            )
        spec = self._installed(name)
        if spec is None and self._source.rescan_if_changed():
            spec = self._installed(name)
        if spec is None:
            raise UnknownNameError(self._unknown(name))
        return spec

    def _installed(self, name: str) -> S | None:
        namespace, slash, _ = name.partition("/")
        if slash:
            return self._in_plugin(namespace, name)
        owner = owner_of(self.kind, name)
        if owner:
            return self._in_plugin(owner, f"{owner}/{name}", asked=name)
        self._refresh_index()
        for table in (self._bare, self._bare_aliases):
            found = table.get(name, [])
            if len(found) == 1:
                return found[0]
            if found:
                owners = sorted(str(spec.provenance.distribution) for spec in found if spec.provenance)
                forms = sorted(f"'{spec.provenance.namespace}/{name}'" for spec in found if spec.provenance)
                raise AmbiguousNameError(f"{name!r} is offered by {' and '.join(owners)}: write {' or '.join(forms)}.")
        return None

    def _in_plugin(self, namespace: str, name: str, asked: str | None = None) -> S | None:
        plugin = self._source.load(namespace) or self._source.load(distribution_of(namespace))
        if plugin is None or not plugin.usable:
            return None
        index: dict[str, Any] = plugin.index(self.kind)
        short = name.partition("/")[2]
        return index.get(short) or index.get(name) or self._source.find(self.kind, plugin, asked or name)  # type: ignore[return-value]

    def _refresh_index(self) -> None:
        self._source.load_all()
        if self._generation == self._source.generation:
            return
        self._bare, self._bare_aliases = {}, {}
        for spec in usable_specs(self._source.plugins().values(), self.kind):
            if "/" not in spec.name:
                self._bare.setdefault(spec.name, []).append(spec)  # type: ignore[arg-type]
            for alias in spec.aliases:
                self._bare_aliases.setdefault(alias, []).append(spec)  # type: ignore[arg-type]
        self._generation = self._source.generation

    def _unknown(self, name: str) -> str:
        message = f"No {self.kind} is named {name!r}."
        plugins = self._source.plugins()
        namespace, slash, _ = name.partition("/")
        owner = namespace if slash else owner_of(self.kind, name)
        if owner and owner not in plugins:
            return f"{message} Install it with `pip install {distribution_of(owner)}`.{self._worker_hint()}"
        if slash and owner:
            known = {qualified_name(spec) for spec in plugins[owner].specs(self.kind)}
            message += near_match(name, known)
        else:
            local = set(self._local)
            known = local | {spec.name for spec in usable_specs(plugins.values(), self.kind)}
            known |= {word for word in OWNERS[self.kind] if not word.endswith("*")}
            message += near_match(name, known)
        left_out = [plugin for plugin in plugins.values() if not plugin.usable]
        message += _left_out_hint(left_out)
        if not known and not left_out:
            message += " No plugin is installed: try `pip install segcore-plugin-resnet segcore-plugin-decoders`."
        return message + self._worker_hint()

    @staticmethod
    def _worker_hint() -> str:
        if multiprocessing.parent_process() is None:
            return ""
        return " This is a worker process: names registered locally in the parent are not known here."

    def by_title(self, title: str) -> S:
        """Return the record with a class-style name such as ``Unet``.

        Raises:
            UnknownNameError, AmbiguousNameError: as in `resolve`.
        """
        for spec in self._local.values():
            if getattr(spec, "title", None) == title:
                return spec
        lowered = title.lower()
        if owner_of(self.kind, lowered):
            return self.resolve(lowered)
        self._refresh_index()
        specs: list[Any] = list(usable_specs(self._source.plugins().values(), self.kind))
        found = [spec for spec in specs if spec.title == title]
        if len(found) == 1:
            return found[0]  # type: ignore[no-any-return]
        if found:
            raise AmbiguousNameError(
                f"{title!r} is offered by several packages: use create_model with "
                f"{' or '.join(sorted(repr(qualified_name(spec)) for spec in found))}."
            )
        titles = {spec.title for spec in specs if spec.title}
        raise UnknownNameError(
            f"No installed {self.kind} has the class-style name {title!r}." + near_match(title, titles)
        )


def _left_out_hint(plugins: list[Plugin]) -> str:
    if not plugins:
        return ""
    rows = [f"{plugin.title} ({plugin.status}: {plugin.reason})" for plugin in plugins]
    return f" Left out: {shorten(rows)}."


encoders: Registry[EncoderSpec] = Registry("encoder")
decoders: Registry[DecoderSpec] = Registry("decoder")


def list_encoders(pattern: str | None = None) -> list[str]:
    """Return the names of all encoders that can be built, sorted.

    Args:
        pattern: shell-style pattern such as ``"resnet*"`` or ``"timm/vit_*"``.
    """
    return encoders.names(pattern)


def list_decoders(pattern: str | None = None) -> list[str]:
    """Return the names of all decoders that can be built, sorted.

    Args:
        pattern: shell-style pattern such as ``"deeplab*"``.
    """
    return decoders.names(pattern)


def titled_builder(title: str) -> Callable[..., SegmentationModel]:
    """Return a function that builds models with the decoder of a class-style name, ``segcore.Unet``."""
    try:
        spec = decoders.by_title(title)
    except LookupError as error:
        raise AttributeError(f"segcore has no {title!r}. {error}") from error

    def build(encoder: Any, **options: Any) -> SegmentationModel:
        from segcore.create import create_model

        return create_model(spec, encoder, **options)

    build.__name__ = build.__qualname__ = title
    build.__module__ = "segcore"
    build.__doc__ = f"Build a model with the decoder {qualified_name(spec)!r}; see `segcore.create_model`."
    return build
