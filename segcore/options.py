"""Options: which a component takes, what the user gave, and what is wrong with that."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from segcore.errors import OptionValueError, PluginError, UnknownOptionError, near_match, shorten
from segcore.specs import Spec, qualified_name

AUX_KEYS = ("classes", "pooling", "dropout", "activation")


def split_options(options: Mapping[str, Any], known: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the encoder and of the decoder, without their prefixes; others are refused."""
    for name in options:
        if not name.startswith(("encoder_", "decoder_")):
            raise UnknownOptionError(
                f"create_model takes no option {name!r}; one of a part is written 'encoder_{name}' or 'decoder_{name}'."
                + near_match(name, known)
            )
    return tuple(  # type: ignore[return-value]
        {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}
        for prefix in ("encoder_", "decoder_")
    )


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return the value of an option, or raise OptionValueError unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionValueError(f"{name}={value!r}: a whole number of at least {least} is needed.")
    return value


def check_aux(aux_params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the arguments of the classification head with their defaults, None where there is none."""
    if aux_params is None:
        return None
    if not isinstance(aux_params, Mapping) or "classes" not in aux_params:
        raise OptionValueError(f"aux_params={aux_params!r}: a mapping with at least 'classes' is needed.")
    for key in aux_params:
        if key not in AUX_KEYS:
            raise UnknownOptionError(
                f"aux_params takes no {key!r}; it takes {', '.join(AUX_KEYS)}." + near_match(key, AUX_KEYS)
            )
    whole_number("aux_params['classes']", aux_params["classes"])
    return {"pooling": "avg", "dropout": 0.2, "activation": None} | dict(aux_params)


def factory_of(spec: Spec) -> Callable[..., Any]:
    """Return what builds a record's component, imported now if it was not yet."""
    if spec.deprecated:
        warnings.warn(f"{qualified_name(spec)!r} is deprecated: {spec.deprecated}.", DeprecationWarning, stacklevel=4)
    if not isinstance(spec.factory, str):
        return spec.factory
    module, _, attribute = spec.factory.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    except Exception as error:
        where = spec.provenance.distribution if spec.provenance else None
        raise PluginError(
            f"{qualified_name(spec)!r} of {where or 'a local registration'} cannot be built: "
            f"its factory {spec.factory!r} failed with {type(error).__name__}: {error}.",
            distribution=where,
            phase="build",
        ) from error


def resolve_options(
    spec: Spec,
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    first: str | None = None,
) -> dict[str, Any]:
    """Return every option of a factory with its value: the user's, the record's, or the factory's default.

    Options that make up the name are left out; they are passed on by `_call`.
    """
    signature = inspect.signature(factory)
    parameters = list(signature.parameters.values())
    if first is not None:
        parameters = parameters[1:]
    given = dict(spec.defaults) | dict(options)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return given  # a local recipe: it takes what it takes
    known = {parameter.name: parameter.default for parameter in parameters}
    takes = [name for name in known if name not in spec.options and name != "in_channels"]
    for name in given:
        if name in spec.options:
            raise UnknownOptionError(f"{name!r} is what makes {spec.name!r} and cannot be changed.")
        if name not in takes:
            if name == "in_channels":
                raise UnknownOptionError("the number of image channels is given as in_channels, without a prefix.")
            raise UnknownOptionError(
                f"{spec.name!r} takes no option {name!r}; it takes {shorten(takes, 12) or 'none'}."
                + near_match(name, takes)
            )
    return {name: known[name] for name in takes if known[name] is not inspect.Parameter.empty} | given


def takes_option(factory: Callable[..., Any], option: str) -> bool:
    """Return whether a factory takes an argument of this name."""
    return option in inspect.signature(factory).parameters


def tuples(value: Any) -> Any:
    """Return a value with every list in it as a tuple."""
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value
