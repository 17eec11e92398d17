"""The config of a checkpoint: plain data with a closed schema, written from a model and read from a stranger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segcore import __version__
from segcore.errors import CheckpointError, OptionValueError
from segcore.model import SegmentationModel
from segcore.transforms import Preprocessing

CONFIG_FORMAT = 1
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
MAX_CONFIG = 2**20
MAX_SIDE = 2**16

_PART_KEYS = {"name", "distribution", "version", "options"}
_SCHEMA: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "segcore": (str,),
    "encoder": (dict,),
    "decoder": (dict,),
    "in_channels": (int,),
    "classes": (int,),
    "activation": (str, type(None)),
    "aux_params": (dict, type(None)),
    "class_names": (list, type(None)),
    "preprocessing": (dict, type(None)),
    "image_size": (list, type(None)),
}
FACTS = ("class_names", "preprocessing", "image_size")  # of the training, not of the network; all optional


def portable_config(
    model: SegmentationModel,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    image_size: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return a model's config as it is written, or say why it cannot be.

    An unknown image size is left out, so that a segcore from before that field can read the checkpoint.

    Raises:
        CheckpointError: the model could not be rebuilt from the config.
    """
    if model.config is None:
        raise CheckpointError(
            "the model was assembled by hand and has no config. Build it with segcore.create_model, "
            "or save model.state_dict() yourself."
        )
    if not {"encoder", "decoder"} <= model.config.keys():
        raise CheckpointError(
            "the model's config is of another library: it names no encoder and decoder of segcore. "
            "Use the model's own save_pretrained if it has one, or save model.state_dict() yourself."
        )
    for kind in ("encoder", "decoder"):
        if model.config[kind]["name"] is None:
            raise CheckpointError(
                f"the {kind} was passed as an object and has no name to be found by. "
                f"Register it, segcore.{kind}s['name'] = ..., and build the model with that name."
            )
    aux = model.config["aux_params"] or {}
    for where, activation in (("activation", model.config["activation"]), ("aux_params", aux.get("activation"))):
        if activation is not None and not isinstance(activation, str):
            raise CheckpointError(
                f"{where}: {activation!r} cannot be saved. Use a name such as 'sigmoid', or None and apply it outside."
            )
    config = {"format": CONFIG_FORMAT, "segcore": __version__} | model.config
    if class_names is not None:
        config["class_names"] = list(class_names)
    if preprocessing is not None:
        config["preprocessing"] = preprocessing.as_dict()
    if image_size is not None:
        config["image_size"] = list(image_size) if isinstance(image_size, Sequence) else image_size
    if config.get("image_size") is None:
        config.pop("image_size", None)
    try:
        plain: dict[str, Any] = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"an option of the model is no plain data and cannot be saved: {error}.") from error
    check_config(plain)
    return plain


def parse_config(text: str, where: Path) -> Any:
    """Return the data of a config's text.

    Raises:
        CheckpointError: it is too long, or no JSON.
    """
    if len(text) > MAX_CONFIG:
        raise CheckpointError(f"the config in {str(where)!r} has {len(text)} characters; it is not read.")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the config in {str(where)!r} is no JSON: {str(error)[:120]}.") from None


def check_config(config: Any) -> None:
    """Refuse what is not a config of this or an older format.

    Raises:
        CheckpointError: names the field.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"the config must be a JSON object, got {config!r:.60}.")
    version = config.get("format")
    if isinstance(version, int) and version > CONFIG_FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {version}, written by segcore {config.get('segcore')!r:.20}; "
            f"this is {__version__}. Upgrade segcore."
        )
    for key in config:
        if key not in _SCHEMA:
            raise CheckpointError(
                f"the config has an unknown field {key[:60]!r}. It was written by segcore "
                f"{config.get('segcore')!r:.20}; this is {__version__}. If that is newer, upgrade segcore."
            )
    for key, kinds in _SCHEMA.items():
        value = config.get(key)
        lacking = key not in config and key not in FACTS
        if lacking or not isinstance(value, kinds) or isinstance(value, bool):
            raise CheckpointError(f"the config's field {key!r} is missing or malformed: {value!r:.60}.")
    for kind in ("encoder", "decoder"):
        _check_part(kind, config[kind])
    names = config.get("class_names")
    if names is not None and (len(names) != config["classes"] or not all(isinstance(name, str) for name in names)):
        raise CheckpointError(f"class_names must be {config['classes']} texts, got {names!r:.80}.")
    _check_size(config.get("image_size"))
    if config.get("preprocessing") is not None:
        try:
            Preprocessing.from_dict(config["preprocessing"])
        except OptionValueError as error:
            raise CheckpointError(f"the config's field 'preprocessing' is malformed: {error}") from error


def _check_size(size: list[Any] | None) -> None:
    if size is None:
        return
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MAX_SIDE for side in size)
    if len(size) != 2 or not whole:
        raise CheckpointError(
            f"image_size must be height and width in pixels, two whole numbers from 1 to {MAX_SIDE}, got {size!r:.60}."
        )


def _check_part(kind: str, part: Mapping[str, Any]) -> None:
    optional = {"input_init", "weights"} if kind == "encoder" else set()
    if part.keys() - _PART_KEYS - optional or not part.keys() >= _PART_KEYS:
        raise CheckpointError(f"the config's field {kind!r} must have {sorted(_PART_KEYS)}, got {sorted(part)!r:.120}.")
    if not isinstance(part["name"], str) or not isinstance(part["options"], dict):
        raise CheckpointError(f"the config's field {kind!r} has no name or no options: {part!r:.120}.")
    for key in ("distribution", "version"):
        if not isinstance(part[key], str | None):
            raise CheckpointError(f"the config's field {kind!r} has a malformed {key}: {part[key]!r:.60}.")
    if not isinstance(part.get("weights"), dict | None):
        raise CheckpointError(f"the config's field {kind!r} has malformed weights: {part['weights']!r:.60}.")


def _no_constant(text: str) -> None:
    raise ValueError(f"it contains {text}")
