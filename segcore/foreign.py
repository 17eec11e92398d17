"""Checkpoints of segmentation_models_pytorch (SMP): its config and state dict in segcore's terms.

Known dialects: SMP 0.4 to 0.6 folders (``config.json`` with ``_model_class`` and flat arguments, and
``model.safetensors``), and bare state dicts of any version, whose keys may carry the prefixes of a training library.
Names, argument spellings and key layouts were read in SMP 0.6.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from segcore.errors import CheckpointError, near_match
from segcore.model import SegmentationModel
from segcore.registry import encoders
from segcore.weights import with_counters

_DECODERS = {
    title.lower(): title
    for title in (
        "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet",
        "Segformer", "DPT",
    )
}  # fmt: skip
_RENAMED = {
    "decoder_use_norm": "decoder_norm",
    "decoder_attention_type": "decoder_attention",
    "psp_out_channels": "decoder_psp_channels",
    "psp_dropout": "decoder_dropout",
    "upscale_mode": "decoder_interpolation",
    "encoder_output_indices": "encoder_out_indices",
}
_OLD_NORM = ("decoder_use_batchnorm", "psp_use_batchnorm")
_DROPPED = (
    "upsampling",
    "encoder_weights",
    "dynamic_img_size",
    "strict_img_size",
)  # follow from the sizes, or from nothing
_DEPTHS = {"pspnet": 3, "dpt": 4}
_STRIDES = {"deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "segmentation_model.")
_PARTS = ("encoder.", "decoder.", "segmentation_head.", "classification_head.")


def is_smp_config(config: object) -> bool:
    """Return whether a config was written by SMP."""
    return isinstance(config, dict) and "_model_class" in config


def translate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `create_model` for an SMP config: the same computation, ``decoder_legacy=True`` included.

    Raises:
        CheckpointError: an unknown model class or argument, or a value that segcore does not have.
    """
    known = dict(config)
    title = str(known.pop("_model_class"))
    decoder = title.lower()
    if decoder not in _DECODERS:
        raise CheckpointError(
            f"_model_class={title[:60]!r} is none of SMP's models ({', '.join(_DECODERS.values())})."
            + near_match(decoder, _DECODERS)
        )
    encoder = known.pop("encoder_name", None)
    if not isinstance(encoder, str):
        raise CheckpointError(f"the SMP config has no encoder_name, or a malformed one: {encoder!r:.60}.")
    arguments: dict[str, Any] = {
        "decoder": decoder,
        "encoder": named.name if (named := encoders.get(encoder)) else encoder,  # old spellings come with a note
        "encoder_depth": known.pop("encoder_depth", _DEPTHS.get(decoder, 5)),
        "decoder_legacy": True,
    }
    stride = known.pop("encoder_output_stride", _STRIDES.get(decoder))
    if stride is not None:
        arguments["encoder_output_stride"] = stride
    if encoder.startswith("vgg") and decoder in {"unet", "unetplusplus"}:
        arguments["decoder_center"] = True
    for key in _DROPPED:
        known.pop(key, None)
    for key in _OLD_NORM:
        if key in known:
            known["decoder_use_norm"] = known.pop(key)
    for key, value in known.items():
        if key in {"in_channels", "classes", "activation", "aux_params"}:
            arguments[key] = value
        elif key.startswith(("decoder_", "encoder_")) or key in _RENAMED:
            arguments[_RENAMED.get(key, key)] = tuple(value) if isinstance(value, list) else value
        else:
            raise CheckpointError(f"the SMP config has an argument {key[:60]!r} that no model of SMP 0.6 takes.")
    if "decoder_norm" in arguments:
        arguments["decoder_norm"] = _norm(arguments["decoder_norm"])
    return arguments


def _norm(value: object) -> str | dict[str, Any]:
    if isinstance(value, bool):
        return "batchnorm" if value else "identity"
    if isinstance(value, str) and value.lower() in {"batchnorm", "identity"}:
        return value.lower()
    if isinstance(value, dict) and value.get("type") in {"batchnorm", "identity"}:
        return value
    trained = isinstance(value, dict) and value.get("type") == "instancenorm" and value.get("affine") is True
    if isinstance(value, dict) and trained and not value.get("track_running_stats"):
        return {key: item for key, item in value.items() if key in {"type", "eps", "affine"}}
    raise CheckpointError(
        f"decoder_use_norm={value!r:.60}: of SMP's norms only 'batchnorm', 'identity' and an affine 'instancenorm' "
        "without running statistics can have been trained and are known here."
    )


def strip_prefixes(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a state dict without the prefixes of training libraries, and those prefixes, outermost first.

    Keys that do not belong to the model (a loss's buffers beside it) are dropped together with the prefix.
    """
    found: list[str] = []
    current = dict(state)
    while not any(key.startswith(_PARTS[:2]) for key in current):
        prefix = next((p for p in _PREFIXES if any(key.startswith(p) for key in current)), None)
        if prefix is None:
            break
        found.append(prefix)
        current = {key.removeprefix(prefix): value for key, value in current.items() if key.startswith(prefix)}
    return current, found


def translate_state(model: SegmentationModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an SMP state dict under a segcore model's own keys; the given one is left as it is."""
    encoder = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    rest = {_decoder_key(key): value for key, value in state.items() if not key.startswith("encoder.")}
    own = model.encoder.state_dict().keys()
    if any(key.startswith("model.") for key in own) and not any(key.startswith("model.") for key in encoder):
        encoder = {f"model.{_stages(key)}": value for key, value in encoder.items()}  # before SMP's 0.4
    encoder = model.encoder.convert_state_dict(encoder)  # type: ignore[operator]
    translated = {f"encoder.{key}": value for key, value in encoder.items()} | rest
    return with_counters(model.state_dict(), translated)


def _decoder_key(key: str) -> str:
    """Map DeepLabV3's numbered keys of SMP before 0.4."""
    old = re.match(r"decoder\.([012])\.", key)
    names = {"0": "aspp", "1": "conv", "2": "bn"}
    return f"decoder.{names[old[1]]}.{key[old.end() :]}" if old else key


def _stages(key: str) -> str:
    """Map the stage names of gernet encoders before SMP 0.4, ``stages.0.`` to ``stages_0.``."""
    return re.sub(r"^stages\.", "stages_", key)
