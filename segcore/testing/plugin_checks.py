"""Checks of plugins and of records: what must hold before anything is built."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import json
import pickle
import re
import sys
import warnings
from typing import Any

from segcore.discovery import catalogue
from segcore.errors import PluginError, PluginWarning
from segcore.installed import Plugin, short_name
from segcore.options import factory_of
from segcore.owners import distribution_of, owner_of
from segcore.probe import examine
from segcore.specs import DecoderSpec, EncoderSpec, Spec, as_json, kind_of, names_of

CPU_LIMIT_MS = 200.0


# --- plugins --------------------------------------------------------------------------------------------------------


def loads_without_warnings(plugin: str) -> None:
    """The plugin loads in a fresh process, all its records are sound, and nothing warns."""
    seen = _listing(plugin)
    assert seen["status"] == "ok", f"{seen['status']}: {seen['reason']}"
    assert not seen["warnings"], f"it warns: {seen['warnings'][0]}"


def listing_is_light(plugin: str) -> None:
    """Asking the plugin for its records imports no heavy package."""
    heavy = _listing(plugin).get("heavy")
    assert not heavy, f"importing the plugin's light module imports {heavy}; import them where the network is"


def listing_is_quick(plugin: str) -> None:
    """Asking the plugin for its records takes less than 200 ms of CPU."""
    spent = _listing(plugin).get("cpu_ms", 0.0)
    assert spent < CPU_LIMIT_MS, f"it takes {spent:.0f} ms; compute when a network is built, not when it is listed"


def listing_is_silent(plugin: str) -> None:
    """Asking the plugin for its records prints nothing."""
    printed = _listing(plugin).get("printed")
    assert not printed, f"it prints {printed!r:.80}, which spoils the output of every command"


def listing_touches_nothing(plugin: str) -> None:
    """Asking the plugin for its records uses no network, writes no file and starts no process."""
    touched = _listing(plugin).get("touched")
    assert not touched, f"it touches more than itself: {'; '.join(touched[:3])}"


def listing_leaves_settings_alone(plugin: str) -> None:
    """Asking the plugin for its records changes no setting of the process."""
    changed = _listing(plugin).get("changed")
    assert not changed, f"it changes {', '.join(changed)}; settings belong to the program"


def records_are_the_same_everywhere(plugin: str) -> None:
    """Two processes get the same records in the same order."""
    loaded = _loaded(plugin)
    here = [json.dumps(as_json(spec), sort_keys=True, default=repr) for spec in loaded.specs()]
    there = _listing(plugin).get("records", here)
    assert here == there, "the records differ from one process to the next: do not list what comes from a set"


def id_is_its_own(plugin: str) -> None:
    """No other package claims the plugin's id."""
    loaded = _loaded(plugin)
    assert loaded.namespace == loaded.claim, f"it asks for the id {loaded.claim!r}: {'; '.join(loaded.notes)}"


def package_bounds_segcore(plugin: str) -> None:
    """The package says which versions of segcore it works with, from one and up to another."""
    from packaging.requirements import Requirement

    lines = [line for line in _loaded(plugin).requirements if re.match(r"segcore(?![\w.-])", line.strip())]
    assert lines, "its metadata do not require segcore; add dependencies = ['segcore>=0.1,<0.2']"
    operators = {part.operator for line in lines for part in Requirement(line).specifier}
    assert operators & {">", ">=", "==", "~="}, f"{lines[0]!r} has no lower bound"
    assert operators & {"<", "<=", "==", "~="}, f"{lines[0]!r} has no upper bound, so a later segcore may break it"


def package_states_its_licence(plugin: str) -> None:
    """The package's metadata state its licence."""
    metadata = importlib.metadata.metadata(_loaded(plugin).distribution)
    stated = [value for key in ("License-Expression", "License") for value in metadata.get_all(key) or ()]
    stated += [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    assert any(line.strip() for line in stated), "its metadata state no licence; add license = 'MIT', or what it is"


def building_works_anywhere(plugin: str) -> None:
    """The smallest encoder of each network, and every decoder, are built in a fresh process and take an image."""
    wrong = _building(plugin).get("wrong") or {}
    assert not wrong, "; ".join(f"{name}: {error}" for name, error in list(wrong.items())[:3])


def building_is_silent(plugin: str) -> None:
    """Building and evaluating prints nothing."""
    printed = _building(plugin).get("printed")
    assert not printed, f"it prints {printed!r:.80}; use logging"


def building_touches_nothing(plugin: str) -> None:
    """Building without weights uses no network, writes no file and starts no process."""
    touched = _building(plugin).get("touched")
    assert not touched, f"it touches more than itself: {'; '.join(touched[:3])}"


def building_leaves_settings_alone(plugin: str) -> None:
    """Building and evaluating changes no setting of torch or of the process."""
    theirs = {"os.environ", "warnings.filters", "sys.path", "the root logger"}  # libraries do that when imported
    changed = [name for name in _building(plugin).get("changed", ()) if name not in theirs]
    assert not changed, f"it changes {', '.join(changed)}; settings belong to the program"


def _listing(plugin: str) -> dict[str, Any]:
    seen = _examined(plugin, ("list",), (), tuple(map(str, sys.path)))
    assert not seen["ended"], f"while it is imported and asked for its records {_end_of(seen)}"
    listing: dict[str, Any] = seen["list"]
    return listing


def _building(plugin: str) -> dict[str, Any]:
    names = tuple(spec.name for spec in smallest_encoders(_loaded(plugin).specs("encoder")))
    seen = _examined(plugin, ("list", "build"), names, tuple(map(str, sys.path)))
    assert not seen["ended"], f"while its networks are built {_end_of(seen)}"
    building: dict[str, Any] = seen.get("build", {})
    return building


def _end_of(seen: dict[str, Any]) -> str:
    last = seen["where"] or " ".join(seen["output"].strip().splitlines()[-1:])
    return f"{seen['ended']} ({last})"


@functools.lru_cache(maxsize=8)
def _examined(plugin: str, steps: tuple[str, ...], encoders: tuple[str, ...], path: tuple[str, ...]) -> dict[str, Any]:
    del path  # part of the key: tests change it
    return examine(plugin, steps, encoders=encoders, timeout=300)


def _loaded(plugin: str) -> Plugin:
    with warnings.catch_warnings(), contextlib.suppress(PluginError):  # which SEGCORE_STRICT raises
        warnings.simplefilter("ignore", PluginWarning)  # `loads_without_warnings` says it
        catalogue.load(plugin)
    loaded = catalogue.plugins().get(plugin)
    assert loaded is not None, f"no plugin {plugin!r} is installed"
    return loaded


def loaded_safely(plugin: str) -> Plugin | None:
    """Return a plugin with its records; None if it is not usable, or if loading it would end this process."""
    seen = _examined(plugin, ("list",), (), tuple(map(str, sys.path)))
    if seen["ended"] or seen["list"]["status"] == "absent":
        return None
    loaded = _loaded(plugin)
    return loaded if loaded.usable else None


def smallest_encoders(specs: list[Any]) -> list[EncoderSpec]:
    """Return one encoder of each network, the one with the fewest parameters."""
    smallest: dict[object, EncoderSpec] = {}
    for spec in sorted(specs, key=lambda spec: spec.parameters or 0):
        smallest.setdefault(spec.factory, spec)
    return list(smallest.values())


# --- records --------------------------------------------------------------------------------------------------------


def record_is_plain(spec: Spec) -> None:
    """The record survives pickling and is plain data."""
    assert spec.problem() is None, spec.problem()
    assert pickle.loads(pickle.dumps(spec)) == spec, "the record differs after pickling"  # noqa: S301
    json.dumps(as_json(spec), allow_nan=False)


def name_is_free(spec: Spec) -> None:
    """The bare name, the aliases and the class-style name belong to no other published package."""
    assert spec.provenance is not None
    mine = {spec.provenance.namespace, spec.provenance.distribution}
    title = getattr(spec, "title", None)
    for name in (*names_of(spec), *([title.lower()] if title else [])):
        owner = None if "/" in name else owner_of(str(kind_of(spec)), name)
        assert owner is None or mine & {owner, distribution_of(owner)}, (
            f"{name!r} belongs to {distribution_of(str(owner))}; choose another name, or begin it with "
            f"'{spec.provenance.namespace}/'"
        )


def aliases_reach_the_record(spec: Spec) -> None:
    """No alias is the name, or an alias, of another record of the plugin."""
    assert spec.provenance is not None
    plugin = catalogue.load(spec.provenance.namespace)
    index = plugin.index(str(kind_of(spec))) if plugin else {}
    for alias in spec.aliases:
        found = index.get(short_name(alias), spec)
        assert found == spec, f"the alias {alias!r} means {found.name!r}"


def factory_is_found(spec: EncoderSpec | DecoderSpec) -> None:
    """The factory can be imported and called."""
    assert callable(factory_of(spec)), f"{spec.factory!r} cannot be called"


def options_are_explicit(spec: EncoderSpec | DecoderSpec) -> None:
    """The factory names every argument that it takes."""
    for parameter in _parameters(spec):
        assert parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}, (
            f"the factory takes *{parameter.name}, so misspelt options would be swallowed; name its arguments"
        )


def options_fit_the_factory(spec: EncoderSpec | DecoderSpec) -> None:
    """The record's options and defaults are arguments of the factory, and all others have a default."""
    parameters = {parameter.name: parameter for parameter in _parameters(spec)}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # another check's business
    given = {**spec.options, **spec.defaults}
    unknown = sorted(given.keys() - parameters.keys())
    assert not unknown, f"the factory takes no {', '.join(unknown)}"
    lacking = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in given and name not in {"in_channels", "mode"}
    ]
    assert not lacking, (
        f"{', '.join(lacking)} has no default, so the name alone cannot be built; preset it in the record"
    )


def defaults_are_plain(spec: EncoderSpec | DecoderSpec) -> None:
    """The defaults of the factory are plain data, so that a checkpoint can record them."""
    for parameter in _parameters(spec):
        if parameter.default is not parameter.empty:
            try:
                json.dumps(parameter.default, allow_nan=False)
            except (TypeError, ValueError):
                raise AssertionError(
                    f"the default of {parameter.name!r} is {parameter.default!r:.80}; numbers, texts, None and tuples "
                    f"of these can be saved"
                ) from None


def _parameters(spec: EncoderSpec | DecoderSpec) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(factory_of(spec)).parameters.values())
    return parameters[1:] if isinstance(spec, DecoderSpec) else parameters
