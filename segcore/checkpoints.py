"""Checkpoints: a folder with ``config.json`` and ``model.safetensors``, saved as one rename, loaded without waste.

The truth is the safetensors file: its header carries the config, so that the weights and what they belong to are
replaced together. ``config.json`` is the copy for people.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from segcore.card import MARK, model_card
from segcore.config import CONFIG_NAME, FACTS, MAX_CONFIG, WEIGHTS_NAME, check_config, parse_config, portable_config
from segcore.create import assemble
from segcore.discovery import notify
from segcore.errors import CheckpointError, SegcoreError, UnknownNameError
from segcore.foreign import is_smp_config, translate_config, translate_state
from segcore.heads import Activation
from segcore.model import SegmentationModel
from segcore.options import factory_of, tuples
from segcore.registry import encoders
from segcore.skeleton import Weightless, difference, fill, uncollected
from segcore.tensorfile import TensorFile, TensorFileError, replacing, write_tensors
from segcore.transforms import Preprocessing

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SAVED = "as saved"
_PYRAMID = (1, 4, 8, 16, 32)
_NO_CODE = (
    SegcoreError,
    TypeError,
    ValueError,
    RuntimeError,
    OverflowError,
    ArithmeticError,
    LookupError,
    AttributeError,
)


def save_pretrained(
    model: SegmentationModel,
    folder: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    image_size: Sequence[int] | None = None,
) -> Path:
    """Write a model as a checkpoint and return the folder; an interrupted save leaves the old checkpoint whole.

    Besides ``config.json`` and ``model.safetensors`` a model card ``README.md`` is written, unless there is one that
    somebody else wrote.

    Args:
        model: built by `create_model`.
        folder: made if it does not exist; other files in it are left alone.
        class_names: names of the mask's channels; None keeps those that the model was loaded with.
        preprocessing: what images must look like; None keeps what the encoder's weights or the checkpoint said.
        image_size: height and width in pixels, 1 to 65536, of the images, crops or tiles that the weights were trained
            on; None keeps what the model was loaded with, and is unknown for a new one. Prediction takes it as the
            default size of tiles.

    Raises:
        CheckpointError: the model cannot be rebuilt from names: it was assembled by hand, has a part without a name,
            a callable as activation, or was changed after it was built. Or one of these facts is malformed.
    """
    config = portable_config(model, class_names, preprocessing, image_size)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    problem = difference(_skeleton(lambda: _build(config)), state)
    if problem:
        raise CheckpointError(
            f"the model no longer has the structure that its config describes ({problem}), so it could not be loaded "
            f"again. Build the changed parts through create_model, or save model.state_dict() yourself."
        )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, allow_nan=False)
    write_tensors(target / WEIGHTS_NAME, state, {"format": "pt", "segcore_config": text})
    _write_text(target / CONFIG_NAME, text + "\n")
    card = target / "README.md"
    if not card.exists() or MARK in card.read_text(encoding="utf-8", errors="replace"):
        _write_text(card, model_card(config))
    return target


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def from_pretrained(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str | None = None,
    classes: int | None = None,
    in_channels: int | None = None,
    activation: Activation = _SAVED,
) -> SegmentationModel:
    """Load a checkpoint of segcore's, or of segmentation_models_pytorch's, and return the model in evaluation mode.

    The network is built without memory or random numbers and takes over the mapped tensors of the file. Encoder
    weights are never fetched, and nothing that the config names is imported except through installed plugins.

    Args:
        source: a folder, or a repository on the Hugging Face Hub: ``hf://owner/name``, or ``owner/name`` where no
            folder ``owner`` exists.
        revision: branch, tag or commit of the repository; all files are taken from the commit that it names.
        token: for private repositories; None for the one that is logged in.
        cache_dir: folder for downloads; None for huggingface_hub's own.
        local_files_only: use only what was downloaded before.
        subfolder: folder inside `source` that holds the checkpoint.
        classes: other number of mask channels than saved: the layers that do not fit are initialised afresh and
            listed in a warning.
        in_channels: other number of image channels: the first convolution is fitted.
        activation: other activation than saved.

    Raises:
        CheckpointError: the folder is no checkpoint, is damaged, comes from a newer segcore, or its config and
            tensors contradict each other.
        WeightsError: the files of a repository could not be had: huggingface_hub is missing, the hub refuses or cannot
            be reached, a download is damaged, or requests are forbidden and the files are not in the cache.
        UnknownNameError: a part's plugin is not installed; the message says what to install.
    """
    path = _folder(source, subfolder, revision, token, cache_dir, local_files_only=local_files_only)
    with uncollected():
        model = _loaded(path)
    changes = {"classes": classes, "in_channels": in_channels}
    changes = {key: value for key, value in changes.items() if value is not None}
    if changes or activation != _SAVED:
        model = _changed(model, changes if activation == _SAVED else changes | {"activation": activation})
    model.eval()
    notify("segcore_model_created", model=model, config=model.config)
    return model


def push_to_hub(
    model: SegmentationModel,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload a segcore model",
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    image_size: Sequence[int] | None = None,
) -> str:
    """Save a model and upload the checkpoint to the Hugging Face Hub; return the address of the commit.

    Args:
        model: built by `create_model`.
        repo_id: ``owner/name``; made if it does not exist.
        token: of an account that may write; None for the one that is logged in.
        private: whether a new repository is private; None for the account's default.
        revision: branch to commit to; None for the main one.
        message: of the commit.
        class_names: as in `save_pretrained`.
        preprocessing: as in `save_pretrained`.
        image_size: as in `save_pretrained`.

    Raises:
        CheckpointError: as in `save_pretrained`.
        WeightsError: huggingface_hub is missing, requests are forbidden, or the hub refuses or cannot be reached.
    """
    import tempfile

    from segcore.download import push_folder

    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, class_names=class_names, preprocessing=preprocessing, image_size=image_size)
        return push_folder(Path(folder), repo_id, token=token, private=private, revision=revision, message=message)


def _folder(
    source: str | os.PathLike[str],
    subfolder: str | None,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    *,
    local_files_only: bool,
) -> Path:
    text = os.fspath(source)
    explicit = text.startswith("hf://")
    name = text.removeprefix("hf://")
    path = Path(text)
    if not explicit and path.is_dir():
        return path / subfolder if subfolder else path
    if not _HUB_NAME.fullmatch(name) or (not explicit and (path.parent.exists() or not isinstance(source, str))):
        hint = f" For a repository on the hub write 'hf://{name}'." if _HUB_NAME.fullmatch(name) else ""
        raise CheckpointError(f"{text!r} is no folder. A checkpoint is a folder with {WEIGHTS_NAME}.{hint}")
    from segcore.download import hub_files

    folder, _ = hub_files(
        name,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        subfolder=subfolder,
        names=(WEIGHTS_NAME, CONFIG_NAME),
    )
    return folder


def _loaded(path: Path) -> SegmentationModel:
    """Build the model of a folder and give it the file's tensors."""
    file = _open(path / WEIGHTS_NAME)
    build, translate = _plan(path, file.metadata)
    model = _skeleton(build)
    state = translate(model, file.tensors())
    problem = difference(model, state)
    if problem:
        raise CheckpointError(f"{str(file.path)!r} does not hold what its config describes: {problem}.")
    return fill(model, state, build)


def _open(path: Path) -> TensorFile:
    try:
        return TensorFile(path)
    except FileNotFoundError:
        raise CheckpointError(f"{str(path.parent)!r} holds no {path.name}, so it is no checkpoint.") from None
    except (TensorFileError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged or no safetensors file: {error}.") from error


Build = Callable[[], SegmentationModel]
Translate = Callable[[SegmentationModel, Mapping[str, Tensor]], dict[str, Tensor]]


def _plan(path: Path, metadata: Mapping[str, str]) -> tuple[Build, Translate]:
    """Return how to build the model of a folder, and how to read its tensors."""
    text = metadata.get("segcore_config")
    copy = _config_text(path / CONFIG_NAME)
    if text is not None:
        config = parse_config(text, path / WEIGHTS_NAME)
        check_config(config)
        if copy is not None and copy.strip() != text.strip():
            warnings.warn(
                f"{str(path / CONFIG_NAME)!r} differs from the config inside {WEIGHTS_NAME}; the one inside counts.",
                stacklevel=4,
            )
        return lambda: _build(config), lambda _, state: dict(state)
    foreign = None if copy is None else parse_config(copy, path / CONFIG_NAME)
    if is_smp_config(foreign):
        return smp_builder(foreign), translate_state  # type: ignore[arg-type]
    raise CheckpointError(
        f"{str(path / WEIGHTS_NAME)!r} was not written by segcore or segmentation_models_pytorch: no config says what "
        f"it belongs to. Build the model with create_model and load the tensors into it, or use `segcore convert`."
    )


def _config_text(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_CONFIG:
        raise CheckpointError(
            f"{str(path)!r} has {path.stat().st_size} bytes; a config of at most {MAX_CONFIG} is read."
        )
    return path.read_text(encoding="utf-8", errors="replace")


def smp_builder(config: Mapping[str, Any]) -> Build:
    """Return a function that builds the segcore model of an SMP config."""
    arguments = translate_config(config)
    encoder, decoder = arguments.pop("encoder"), arguments.pop("decoder")
    spec = encoders.resolve(encoder)
    if decoder == "dpt" and spec.strides == _PYRAMID and arguments["encoder_depth"] == 4:
        arguments["encoder_depth"] = 5  # SMP counts the maps, of which the first has stride 4
    parameters = inspect.signature(factory_of(spec)).parameters
    if arguments.get("encoder_output_stride", 32) != 32 and "dilation_rule" in parameters:
        arguments["encoder_dilation_rule"] = "smp"
    return lambda: _assembled(decoder, encoder, arguments)


def _build(config: Mapping[str, Any]) -> SegmentationModel:
    """Build the model that a checked config describes."""
    parts = {kind: config[kind] for kind in ("encoder", "decoder")}
    arguments = {
        f"{kind}_{name}": tuples(value) for kind, part in parts.items() for name, value in part["options"].items()
    }
    arguments |= {key: config[key] for key in ("in_channels", "classes", "activation", "aux_params")}
    arguments["encoder_input_init"] = config["encoder"].get("input_init") or "repeat"
    try:
        model = _assembled(config["decoder"]["name"], config["encoder"]["name"], arguments)
    except UnknownNameError as error:
        came = [
            f"{part['name']!r} came with {part['distribution']} {part['version']}"
            if part["distribution"]
            else f"{part['name']!r} was registered by the program that saved it: register it before loading"
            for part in parts.values()
        ]
        raise UnknownNameError(f"{error} The checkpoint says: {'; '.join(came)}.") from error
    assert model.config is not None
    model.config["encoder"]["weights"] = config["encoder"].get("weights")
    for key in FACTS:
        model.config[key] = config.get(key)
    return model


def _assembled(decoder: str, encoder: str, arguments: Mapping[str, Any]) -> SegmentationModel:
    plain = ("in_channels", "classes", "activation", "aux_params")
    try:
        return assemble(
            decoder,
            encoder,
            encoder_weights=None,
            in_channels=arguments.get("in_channels"),
            classes=arguments.get("classes", 1),
            activation=arguments.get("activation"),
            aux_params=arguments.get("aux_params"),
            options={key: value for key, value in arguments.items() if key not in plain},
        )
    except UnknownNameError:
        raise
    except _NO_CODE as error:
        raise CheckpointError(f"the config cannot be built: {type(error).__name__}: {str(error)[:300]}") from error


def _skeleton(build: Build) -> SegmentationModel:
    with Weightless():
        return build()


def _changed(model: SegmentationModel, changes: Mapping[str, Any]) -> SegmentationModel:
    """Return the model with another number of classes or channels or another activation, keeping all that fits."""
    assert model.config is not None
    config = model.config | dict(changes)
    changed = _build(config)
    state = model.state_dict()
    inner = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    adapted = changed.encoder.adapt_input(inner, config["encoder"].get("input_init") or "repeat")  # type: ignore[operator]
    state |= {f"encoder.{key}": value for key, value in adapted.items()}
    own = changed.state_dict()
    fresh = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    changed.load_state_dict(own | {key: value for key, value in state.items() if key in own and key not in fresh})
    if fresh:
        warnings.warn(
            f"these do not fit {', '.join(f'{key}={value!r}' for key, value in changes.items())} and start from random "
            f"values: {', '.join(fresh)}.",
            stacklevel=3,
        )
    if "classes" in changes and changed.config is not None:
        changed.config["class_names"] = None
    return changed
