"""Other programs' checkpoints, rewritten as segcore's: folders of SMP's, and bare state dicts of any trainer."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.checkpoints import from_pretrained, save_pretrained, smp_builder
from segcore.errors import CheckpointError, OptionValueError
from segcore.foreign import strip_prefixes, translate_state
from segcore.skeleton import Weightless, difference, fill
from segcore.tensorfile import TensorFile, TensorFileError


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        folder: the checkpoint that was written.
        prefixes: prefixes of training libraries that were stripped from the keys, outermost first.
        config: the new checkpoint's config.
    """

    folder: Path
    prefixes: list[str]
    config: dict[str, Any]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    decoder: str | None = None,
    encoder: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Rewrite a checkpoint of segmentation_models_pytorch in segcore's format.

    Args:
        source: a folder that SMP saved, or a bare state dict, ``.safetensors`` or ``.pth`` (read with
            ``weights_only=True``); prefixes such as ``module.`` and ``model.`` are stripped from its keys.
        target: folder for the new checkpoint.
        decoder: for a bare state dict: SMP's class, ``"Unet"``.
        encoder: for a bare state dict: SMP's encoder name, ``"resnet34"``.
        options: for a bare state dict: SMP's other arguments where they are not the defaults, such as
            ``{"encoder_depth": 4, "decoder_channels": [64, 32, 16, 8]}``. The number of classes is read from the file.

    Raises:
        CheckpointError: the source cannot be read, or its tensors do not fit the model that is described.
    """
    path = Path(source)
    if path.is_dir():
        if decoder or encoder or options:
            raise OptionValueError(
                "a folder says itself what it holds; decoder, encoder and options are for state dicts."
            )
        model = from_pretrained(path)
        folder = save_pretrained(model, target)
        return Conversion(folder, [], dict(model.config or {}))
    if not decoder or not encoder:
        raise OptionValueError(
            f"{str(path)!r} is a bare state dict: say what it belongs to, decoder='Unet', encoder='resnet34'."
        )
    state, prefixes = strip_prefixes(read_state_dict(path))
    config = _config_from(state, decoder, encoder, dict(options or {}))
    build = smp_builder(config)
    with Weightless():
        model = build()
    translated = translate_state(model, state)
    problem = difference(model, translated)
    if problem:
        raise CheckpointError(
            f"{str(path)!r} does not fit {decoder} with {encoder}: {problem}. "
            f"Give the arguments that the model was built with as options."
        )
    model = fill(model, translated, build)
    return Conversion(save_pretrained(model, target), prefixes, dict(model.config or {}))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` or ``.pth`` file; of a training checkpoint, its ``state_dict``.

    Nothing in the file is run: pickles are read by torch's restricted reader.

    Raises:
        CheckpointError: the file cannot be read so, or holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            return TensorFile(path).tensors()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's version; what counts is whether it can be read
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {str(path)!r}.") from None
    except (TensorFileError, OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read safely as a state dict: {str(error).splitlines()[0][:200]}. A whole pickled "
            f"model must be opened in the program that made it and saved as model.state_dict()."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{str(path)!r} holds no state dict, but a {type(content).__name__}.")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{str(path)!r} holds no tensors under names.")
    return tensors


def _config_from(state: Mapping[str, Tensor], decoder: str, encoder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return an SMP config for a state dict, with the numbers of classes that its heads show."""
    config: dict[str, Any] = {"_model_class": decoder, "encoder_name": encoder} | options
    heads = [value for key, value in state.items() if key.startswith("segmentation_head.") and value.ndim == 4]
    if heads:
        config.setdefault("classes", heads[-1].shape[0])
    label = state.get("classification_head.3.weight")
    if label is not None:
        config.setdefault("aux_params", {"classes": label.shape[0]})
    return config
