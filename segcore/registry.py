"""Names to records: local registrations, installed plugins, published owners; errors that say what to install."""

from __future__ import annotations

import fnmatch
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace as with_changes
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from segcore.discovery import Catalogue, catalogue, usable_specs
from segcore.errors import AmbiguousNameError, NameTakenError, PluginError, UnknownNameError, near_match, shorten
from segcore.installed import Plugin, short_name
from segcore.local import spec_from
from segcore.owners import OFFICIAL, OWNERS, distribution_of, owner_of
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
        self._lock = threading.Lock()
        self._local: dict[str, S] = {}  # replaced as a whole, never changed, so that readers need no lock
        self._tables = _Tables((), {}, {})

    def __getitem__(self, name: str) -> S:
        return self.resolve(name)

    def __setitem__(self, name: str, value: object) -> None:
        self.register(value, name=name, replace=True)

    def __delitem__(self, name: str) -> None:
        with self._lock:
            spec = self._local.get(name)
            if spec is None:
                raise UnknownNameError(
                    f"no {self.kind} {name!r} is registered in this process, so there is none to remove."
                )
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
            replace: whether a name that is registered here already may be taken over, with all that it stood for. An
                alias never takes over the name of another component.

        Raises:
            NameTakenError: if the name is registered in this process and `replace` is False.
            TypeError: if the value is malformed; the message says what to fix.
            PluginError: in a plugin that is just being loaded; it lists its records in `segcore_specs`.
        """
        self._source.guarded()
        spec: S = with_changes(spec_from(self.kind, name, value), provenance=Provenance("local"))
        with self._lock:
            local = self._local
            taken = next((word for word in names_of(spec) if word in local), None)
            if taken is not None and not replace:
                raise NameTakenError(f"{self.kind} {taken!r} is registered already; pass replace=True to take it over.")
            kept = {key: value for key, value in local.items() if value.name != spec.name}
            free = [word for word in names_of(spec) if word == spec.name or word not in kept or kept[word].name != word]
            self._local = kept | dict.fromkeys(free, spec)
        return spec

    def names(self, pattern: str | None = None) -> list[str]:
        """Return the names that can be built, sorted, each in its shortest unambiguous form.

        Args:
            pattern: shell-style pattern, ``"resnet*"`` or ``"timm/*"``; matched against short and qualified names.
        """
        return [name for name, _ in self.items_matching(pattern)]

    def items_matching(self, pattern: str | None = None) -> list[tuple[str, S]]:
        """Return names and records, sorted by name; see `names`."""
        tables, local = self._read_tables(), self._local
        rows: dict[str, S] = {}
        for spec in usable_specs(tables.plugins, self.kind):
            bare = spec.name not in local and self._is_bare(spec, tables)
            rows[spec.name if bare else qualified_name(spec)] = spec  # type: ignore[assignment]
        rows |= {spec.name: spec for spec in local.values()}
        return sorted(
            (name, spec)
            for name, spec in rows.items()
            if pattern is None or any(fnmatch.fnmatchcase(form, pattern) for form in (name, qualified_name(spec)))
        )

    def _is_bare(self, spec: Spec, tables: _Tables) -> bool:
        """Whether a record's name means this record when it is written without a namespace."""
        assert spec.provenance is not None
        owner = owner_of(self.kind, spec.name)
        return owner == spec.provenance.namespace if owner else len(tables.names.get(spec.name, ())) == 1

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
            return self._in_plugin(owner, name)
        tables = self._read_tables()
        found = tables.names.get(name) or tables.aliases.get(name) or []
        if len(found) > 1:
            owners = sorted(str(spec.provenance.distribution) for spec in found if spec.provenance)
            forms = sorted(f"'{spec.provenance.namespace}/{name}'" for spec in found if spec.provenance)
            raise AmbiguousNameError(f"{name!r} is offered by {' and '.join(owners)}: write {' or '.join(forms)}.")
        return found[0] if found else None  # type: ignore[return-value]

    def _in_plugin(self, namespace: str, name: str) -> S | None:
        plugin = self._source.load(namespace)
        if plugin is None:
            self._refuse_shared(namespace, name)
        if plugin is None or not plugin.usable:
            return None
        short = short_name(name)
        asked = f"{plugin.claim}/{short}" if "/" in name else name  # the plugin knows itself by what it claims
        return plugin.index(self.kind).get(short) or self._source.find(self.kind, plugin, asked)  # type: ignore[return-value]

    def _refuse_shared(self, namespace: str, name: str) -> None:
        """Raise if several packages claim a namespace, so that none has it."""
        rivals = [plugin for plugin in self._source.plugins().values() if plugin.usable and plugin.claim == namespace]
        if len(rivals) > 1 and namespace not in OFFICIAL:
            forms = [f"'{plugin.namespace}/{short_name(name)}'" for plugin in rivals]
            raise AmbiguousNameError(
                f"{name!r}: the namespace {namespace!r} is claimed by "
                f"{' and '.join(plugin.distribution for plugin in rivals)}: write {' or '.join(forms)}."
            )

    def _read_tables(self) -> _Tables:
        """Return the names of all installed plugins; loads them at the first call and after a rescan."""
        plugins = self._source.load_all()
        if self._tables.plugins is not plugins:
            self._tables = _tabulate(plugins, self.kind)
        return self._tables

    def _unknown(self, name: str) -> str:
        plugins = self._source.plugins()
        namespace, slash, short = name.partition("/")
        owner = namespace if slash else owner_of(self.kind, name)
        message = f"No {self.kind} is named {name!r}."
        offers = sorted(
            qualified_name(spec)
            for spec in usable_specs(plugins.values(), self.kind)
            if short_name(spec.name) == (short or name)
        )
        if offers:
            message += f" There is {' and '.join(map(repr, offers))}."
        if owner in OFFICIAL and owner not in plugins:
            message += f" Install it with `pip install {distribution_of(str(owner))}`."
        elif owner and owner not in plugins:
            message += (
                f" No plugin {owner!r} is installed.{near_match(owner, OFFICIAL | plugins.keys())} "
                f"If you know it, `pip install {distribution_of(owner)}`."
            )
        elif slash and owner:
            message += near_match(name, {qualified_name(spec) for spec in plugins[owner].specs(self.kind)})
        else:
            known = {spec.name for spec in usable_specs(plugins.values(), self.kind)} | set(self._local)
            known |= {word for word in OWNERS[self.kind] if not word.endswith("*")}
            message += near_match(name, known - {name})
        left_out = [plugin for plugin in plugins.values() if not plugin.usable]
        message += _left_out_hint(sorted(left_out, key=lambda plugin: plugin.namespace != owner))
        if not plugins and owner is None:
            message += " No plugin is installed: try `pip install segcore-plugin-resnet segcore-plugin-decoders`."
        return message + self._worker_hint()

    @staticmethod
    def _worker_hint() -> str:
        process = sys.modules.get("multiprocessing.process")  # a worker has it; importing it would cost everybody
        if process is None or process.parent_process() is None:
            return ""
        return " This is a worker process: names registered locally in the parent are not known here."

    def by_title(self, title: str) -> S:
        """Return the record with a class-style name such as ``Unet``.

        Raises:
            UnknownNameError, AmbiguousNameError: as in `resolve`.
        """
        spec = self._titled(title)
        if spec is None and self._source.rescan_if_changed():
            spec = self._titled(title)
        if spec is None:
            specs = [*self._local.values(), *usable_specs(self._source.plugins().values(), self.kind)]
            titles = {known for spec in specs if (known := getattr(spec, "title", None))}
            left_out = [plugin for plugin in self._source.plugins().values() if not plugin.usable]
            raise UnknownNameError(
                f"No installed {self.kind} has the class-style name {title!r}."
                + near_match(title, titles)
                + _left_out_hint(left_out)
            )
        return spec

    def _titled(self, title: str) -> S | None:
        for spec in self._local.values():
            if getattr(spec, "title", None) == title:
                return spec
        if owner_of(self.kind, title.lower()):
            return self.resolve(title.lower())
        specs: list[Any] = list(usable_specs(self._source.load_all(), self.kind))
        found = [spec for spec in specs if getattr(spec, "title", None) == title]
        if len(found) > 1:
            raise AmbiguousNameError(
                f"{title!r} is offered by several packages: use create_model with "
                f"{' or '.join(sorted(repr(qualified_name(spec)) for spec in found))}."
            )
        return found[0] if found else None


class _Tables(NamedTuple):
    """Records by bare name and by bare alias, of the plugins that they were read from."""

    plugins: tuple[Plugin, ...]
    names: dict[str, list[Spec]]
    aliases: dict[str, list[Spec]]


def _tabulate(plugins: tuple[Plugin, ...], kind: str) -> _Tables:
    tables = _Tables(plugins, {}, {})
    for plugin in plugins:
        if plugin.usable:
            index = plugin.index(kind)
            for spec in plugin.specs(kind):
                for word in dict.fromkeys(names_of(spec)):
                    if "/" not in word and index[word] is spec:
                        table = tables.names if word == spec.name else tables.aliases
                        table.setdefault(word, []).append(spec)
    return tables


def _left_out_hint(plugins: list[Plugin]) -> str:
    if not plugins:
        return ""
    rows = [f"{plugin.title} ({plugin.status}: {plugin.reason})" for plugin in plugins]
    return f" Left out: {shorten(rows)}."


encoders: Registry[EncoderSpec] = Registry("encoder")
decoders: Registry[DecoderSpec] = Registry("decoder")
losses: Registry[LossSpec] = Registry("loss")


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


def list_losses(pattern: str | None = None) -> list[str]:
    """Return the names of all losses that can be built, sorted.

    Args:
        pattern: shell-style pattern such as ``"focal*"``.
    """
    return losses.names(pattern)


def with_output_stride(stride: object) -> str:
    """Return a sentence that names the encoders with an output stride, by the words that their names begin with."""
    words: set[str] = set()
    spaces: Counter[str] = Counter()
    for name, spec in encoders.items_matching():
        if stride in spec.output_strides and spec.out_channels:
            space, slash, _ = name.partition("/")
            family = re.match(r"[a-z]+(?:[-_][a-z]{2,})*", name)
            if slash:
                spaces[space] += 1
            else:
                words.add(family[0] if family else name)
    found = [*sorted(words), *(f"{number} of '{space}/*'" for space, number in sorted(spaces.items()))]
    return f"Encoders that have {stride}: {', '.join(found)}." if found else f"No installed encoder has {stride}."


def titled_builder(title: str) -> Callable[..., SegmentationModel]:
    """Return a function that builds models with the decoder of a class-style name, ``segcore.Unet``.

    Raises:
        AttributeError: no decoder has this name, or several have it.
        PluginError: in a plugin that is just being loaded.
    """
    busy = decoders._source.busy()
    if busy is not None:
        raise PluginError(
            f"segcore has no public name {title!r}, and class-style names of decoders cannot be used "
            f"while plugin {busy!r} is being loaded.",
            phase="import",
        )
    try:
        name = qualified_name(decoders.by_title(title))
    except LookupError as error:
        raise AttributeError(f"segcore has no {title!r}. {error}") from error

    def build(encoder: Any, **options: Any) -> SegmentationModel:
        from segcore.create import create_model

        return create_model(decoders.by_title(title), encoder, **options)  # names may have changed since

    build.__name__ = build.__qualname__ = title
    build.__module__ = "segcore"
    build.__doc__ = f"Build a model with the decoder {name!r}; see `segcore.create_model`."
    return build
