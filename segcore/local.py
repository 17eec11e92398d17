"""Local registration: a record from what a user writes, in either documented style.

>>> spec_from("encoder", "mine", {"encoder": dict, "params": {"depth": 5}}).name
'mine'
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from segcore.errors import near_match
from segcore.specs import KINDS, EncoderSpec, Spec, Weights, kind_of

S = TypeVar("S", bound=Spec)

_WEIGHT_KEYS = ("url", "repo_id", "revision", "sha256", "license", "mean", "std", "input_range", "input_space")
_IGNORED_WEIGHT_KEYS = ("input_size", "num_classes")  # written by SMP's own tables; nothing reads them


def spec_from(kind: str, name: str | None, value: object) -> Any:
    """Return a record for a local registration.

    Args:
        kind: ``"encoder"``, ``"decoder"`` or ``"loss"``.
        name: wanted name; may be None if the value is a record.
        value: a record; a class or function; or a mapping with the class under the kind's own name (``"encoder"``),
            its arguments under ``"params"`` and, for encoders, weights by tag under ``"pretrained_settings"``: each
            with ``"url"``, or ``"repo_id"`` and ``"revision"``, and preprocessing (``"mean"``, ``"std"``, ...).

    Raises:
        TypeError: if the value is malformed; the message says what to fix.
    """
    record = KINDS[kind]
    if isinstance(value, record):
        spec = value if name is None or name == value.name else replace(value, name=name)
    elif kind_of(value):
        raise TypeError(f"{kind}s[{name!r}] takes an instance of {record.__name__}, got a {type(value).__name__}.")
    elif name is None:
        raise TypeError(f"registering {value!r} needs a name.")
    elif isinstance(value, Mapping):
        spec = _from_mapping(kind, name, value)
    elif _is_class(value):
        spec = record(name, factory=value)  # type: ignore[arg-type]
    else:
        comma = " It is a tuple: remove the comma behind the closing brace." if isinstance(value, tuple) else ""
        raise TypeError(
            f"{kind}s[{name!r}] takes a class, an instance of {record.__name__} or a mapping with the key {kind!r}, "
            f"got {_shown(value)}.{comma}"
        )
    wrong = spec.problem(local=True)
    if wrong:
        raise TypeError(f"{kind} {spec.name!r} cannot be registered: {wrong}.")
    return spec


def _from_mapping(kind: str, name: str, value: Mapping[Any, Any]) -> Spec:
    known = (kind, "params", *(("pretrained_settings",) if kind == "encoder" else ("title",)))
    for key in value:
        if key not in known:
            raise TypeError(
                f"{kind}s[{name!r}]: unknown key {key!r}; known are {', '.join(map(repr, known))}."
                + near_match(key, known)
            )
    if not _is_class(value.get(kind)):
        raise TypeError(f"{kind}s[{name!r}]: the key {kind!r} must hold the class, got {_shown(value.get(kind))}.")
    options = _given(value, "params", {})
    if not isinstance(options, Mapping):
        raise TypeError(f"{kind}s[{name!r}]: 'params' must be a mapping of arguments, got {options!r}.")
    if kind == "encoder":
        settings = _given(value, "pretrained_settings", {})
        if not isinstance(settings, Mapping):
            raise TypeError(f"encoders[{name!r}]: 'pretrained_settings' must be a mapping by tag, got {settings!r}.")
        weights = {tag: _weights(name, tag, entry) for tag, entry in settings.items()}
        return EncoderSpec(name, factory=value[kind], defaults=dict(options), weights=weights)
    return KINDS[kind](name, factory=value[kind], defaults=dict(options), title=value.get("title"))  # type: ignore[call-arg]


def _weights(name: str, tag: object, entry: object) -> Weights:
    where = f"encoders[{name!r}]: pretrained_settings[{tag!r}]"
    if not isinstance(entry, Mapping):
        raise TypeError(f"{where} must be a mapping, got {entry!r}.")
    for key in entry:
        if key not in _WEIGHT_KEYS and key not in _IGNORED_WEIGHT_KEYS:
            raise TypeError(
                f"{where}: unknown key {key!r}; known are {', '.join(map(repr, _WEIGHT_KEYS))}."
                + near_match(str(key), _WEIGHT_KEYS)
            )
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    url = given.get("url")
    if url is None and given.get("repo_id"):
        url = f"hf://{given['repo_id']}/model.safetensors"
    if not isinstance(url, str):
        raise TypeError(f"{where} needs 'url', or 'repo_id' and 'revision'.")
    return Weights(
        url=url,
        license=_given(given, "license", "unknown"),
        source=url,
        mean=_given(given, "mean", (0.485, 0.456, 0.406)),
        std=_given(given, "std", (0.229, 0.224, 0.225)),
        sha256=given.get("sha256"),
        revision=given.get("revision"),
        input_range=_given(given, "input_range", (0.0, 1.0)),
        input_space=_given(given, "input_space", "RGB"),
    )


def _given(values: Mapping[Any, Any], key: str, default: Any) -> Any:
    """Return a value; the default where it is missing or None."""
    value = values.get(key)
    return default if value is None else value


def _is_class(value: object) -> bool:
    """Whether something can be called to build a component; a network that is built already cannot."""
    torch = sys.modules.get("torch")  # without torch nobody has built a network
    return callable(value) and not (torch is not None and isinstance(value, torch.nn.Module))


def _shown(value: object) -> str:
    built = callable(value) and not isinstance(value, type)
    return f"a {type(value).__name__} that is built already" if built else f"{value!r:.200}"
