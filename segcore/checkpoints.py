"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, saved as one rename, loaded without waste.

The truth is the safetensors file: its header carries the config, so that the weights and what they belong to are
replaced together. ``config.json`` is the copy for people.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segcore import __version__
from segcore.create import CONFIG_FORMAT, assemble
from segcore.discovery import notify
from segcore.errors import CheckpointError, SegcoreError, UnknownNameError, WeightsError
from segcore.model import SegmentationModel
from segcore.tensorfile import TensorFile, TensorFileError, replacing, write_tensors
from segcore.weights import misfit

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
MAX_CONFIG = 2**20

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
}


def save_pretrained(model: SegmentationModel, folder: str | os.PathLike[str]) -> Path:
    """Write a model as a checkpoint and return the folder; an interrupted save leaves the old checkpoint whole.

    Args:
        model: built by `create_model`.
        folder: made if it does not exist; other files in it are left alone.

    Raises:
        CheckpointError: the model cannot be rebuilt from names: it was assembled by hand, has a part without a name,
            a callable as activation, or was changed after it was built.
    """
    config = _portable_config(model)
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    problem = _misfit(_skeleton(config), {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()})
    if problem:
        raise CheckpointError(
            f"the model no longer has the structure that its config describes ({problem}), so it could not be loaded "
            f"again. Build the changed parts through create_model, or save model.state_dict() yourself."
        )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, allow_nan=False)
    write_tensors(target / WEIGHTS_NAME, _untied(state), {"format": "pt", "segcore_config": text})
    with replacing(target / CONFIG_NAME) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return target


def from_pretrained(folder: str | os.PathLike[str]) -> SegmentationModel:
    """Load a checkpoint and return the model in evaluation mode.

    The network is built without memory or random numbers and takes over the mapped tensors of the file. Nothing is
    fetched, and nothing that the config names is imported except through installed plugins.

    Args:
        folder: a folder written by `save_pretrained`.

    Raises:
        CheckpointError: the folder is no checkpoint, is damaged, comes from a newer segcore, or its config and
            tensors contradict each other.
        UnknownNameError: a part's plugin is not installed; the message says what to install.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CheckpointError(f"{str(path)!r} is no folder. A checkpoint is a folder with {WEIGHTS_NAME}.")
    weights = path / WEIGHTS_NAME
    try:
        file = TensorFile(weights)
    except FileNotFoundError:
        raise CheckpointError(f"{str(path)!r} holds no {WEIGHTS_NAME}, so it is no checkpoint.") from None
    except (TensorFileError, OSError) as error:
        raise CheckpointError(f"{str(weights)!r} is damaged or no safetensors file: {error}.") from error
    config = _read_config(path, file.metadata)
    model = _skeleton(config)
    problem = _misfit(model, {name: (entry.dtype, entry.shape) for name, entry in file.entries.items()})
    if problem:
        raise CheckpointError(f"{str(weights)!r} does not hold what its config describes: {problem}.")
    model = _fill(model, file.tensors(), lambda: _build(config)).eval()
    notify("segcore_model_created", model=model, config=model.config)
    return model


def _portable_config(model: SegmentationModel) -> dict[str, Any]:
    if model.config is None:
        raise CheckpointError(
            "the model was assembled by hand and has no config. Build it with segcore.create_model, "
            "or save model.state_dict() yourself."
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
    config = {"segcore": __version__} | model.config
    try:
        return json.loads(json.dumps(config, allow_nan=False))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"an option of the model is no plain data and cannot be saved: {error}.") from error


def _read_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get("segcore_config")
    if text is None:
        raise CheckpointError(
            f"{str(path / WEIGHTS_NAME)!r} was not written by segcore: its header has no config. "
            f"Build the model with create_model and load the tensors into it."
        )
    if len(text) > MAX_CONFIG:
        raise CheckpointError(f"the config in {str(path / WEIGHTS_NAME)!r} has {len(text)} bytes; it is not read.")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the config in {str(path / WEIGHTS_NAME)!r} is no JSON: {str(error)[:120]}.") from None
    _check_config(config)
    copy = path / CONFIG_NAME
    if copy.is_file() and copy.stat().st_size <= MAX_CONFIG and copy.read_bytes().strip() != text.encode():
        warnings.warn(
            f"{str(copy)!r} differs from the config inside {WEIGHTS_NAME}; the one inside counts.", stacklevel=3
        )
    return config  # type: ignore[no-any-return]


def _check_config(config: Any) -> None:
    if not isinstance(config, dict):
        raise CheckpointError(f"the config must be a JSON object, got {config!r:.60}.")
    version = config.get("format")
    if isinstance(version, int) and version > CONFIG_FORMAT:
        raise CheckpointError(
            f"the checkpoint has format {version}, written by segcore {config.get('segcore')!r:.20}; "
            f"this is {__version__}. Upgrade segcore."
        )
    for key in config.keys() | _SCHEMA.keys():
        if key not in _SCHEMA:
            raise CheckpointError(f"the config has an unknown field {key[:60]!r}.")
        if key not in config or not isinstance(config[key], _SCHEMA[key]) or isinstance(config[key], bool):
            raise CheckpointError(f"the config's field {key!r} is missing or malformed: {config.get(key)!r:.60}.")
    for kind in ("encoder", "decoder"):
        part = config[kind]
        unknown = part.keys() - _PART_KEYS - ({"input_init", "weights"} if kind == "encoder" else set())
        if unknown or not part.keys() >= _PART_KEYS:
            raise CheckpointError(
                f"the config's field {kind!r} must have {sorted(_PART_KEYS)}, got {sorted(part)!r:.120}."
            )
        if not isinstance(part["name"], str) or not isinstance(part["options"], dict):
            raise CheckpointError(f"the config's field {kind!r} has no name or no options: {part!r:.120}.")


def _build(config: Mapping[str, Any]) -> SegmentationModel:
    """Build the model that a checked config describes."""
    options = {
        f"{kind}_{name}": _tuples(value)
        for kind in ("encoder", "decoder")
        for name, value in config[kind]["options"].items()
    }
    try:
        model = assemble(
            config["decoder"]["name"],
            config["encoder"]["name"],
            encoder_weights=None,
            in_channels=config["in_channels"],
            classes=config["classes"],
            activation=config["activation"],
            aux_params=config["aux_params"],
            options=options,
        )
    except UnknownNameError as error:
        missing = [
            f"{part['name']!r} came with {part['distribution']} {part['version']}"
            for part in (config["encoder"], config["decoder"])
            if part["distribution"]
        ]
        raise UnknownNameError(f"{error} The checkpoint says: {', '.join(missing)}.") from error
    except (SegcoreError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"the config cannot be built: {type(error).__name__}: {str(error)[:300]}") from error
    assert model.config is not None
    model.config["encoder"] |= {key: config["encoder"].get(key) for key in ("input_init", "weights")}
    return model


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


_SKIPPED_INITS = frozenset(
    {getattr(nn.init, name) for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_")}
    | {Tensor.normal_, Tensor.uniform_}
)
_MAKERS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.tensor, torch.arange}
)


class _Weightless(TorchFunctionMode):
    """Within it tensors are made on the meta device and random initialisation does nothing; per thread."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _SKIPPED_INITS:
            return args[0] if args else kwargs["tensor"]
        if func in _MAKERS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def _skeleton(config: Mapping[str, Any]) -> SegmentationModel:
    with _Weightless():
        return _build(config)


def _misfit(model: nn.Module, state: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> str | None:
    """Return how names, shapes or dtypes of a state differ from what a model needs, or None."""
    own = model.state_dict()
    problem = misfit(
        {name: tuple(tensor.shape) for name, tensor in own.items()}, {k: _Shaped(v[1]) for k, v in state.items()}
    )
    if problem:
        return problem
    for name, tensor in own.items():
        dtype = state[name][0]
        if dtype != tensor.dtype and not (dtype.is_floating_point and tensor.dtype.is_floating_point):
            return f"{name} has dtype {dtype}, {tensor.dtype} was expected"
    return None


class _Shaped:
    """Something with a shape, for comparing a file's header with a model."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def _fill(
    model: SegmentationModel, state: dict[str, Tensor], rebuild: Callable[[], SegmentationModel]
) -> SegmentationModel:
    """Give a model without memory its tensors; buffers that no file holds are computed by an ordinary build."""
    model.load_state_dict(state, strict=True, assign=True)
    bare = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_meta]
    if bare:
        model = rebuild()
        try:
            model.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"the tensors do not fit the model: {str(error)[:300]}") from error
    return model


def _untied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without shared memory, which a safetensors file cannot express."""
    seen: set[int] = set()
    untied = {}
    for name, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        untied[name] = tensor.clone() if pointer in seen and tensor.numel() else tensor
        seen.add(pointer)
    return untied
