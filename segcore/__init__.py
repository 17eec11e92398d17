"""segcore: semantic segmentation models assembled by name from installed packages of encoders and decoders.

Importing this package loads neither torch nor a plugin. Each public name is imported when it is first used; a name
such as ``segcore.Unet`` is the class-style name of an installed decoder.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # importing typing would cost thirty times what this module does

__version__ = "0.1.0"

_HOMES = {
    "checkpoints": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "create": ("create_decoder", "create_encoder", "create_model"),
    "decoder": ("Decoder",),
    "discovery": ("list_plugins", "refresh"),
    "encoder": ("EncoderMixin",),
    "errors": (
        "AmbiguousNameError",
        "CheckpointError",
        "IncompatiblePartsError",
        "InputError",
        "NameTakenError",
        "OptionValueError",
        "PluginError",
        "PluginIncompatibleError",
        "PluginWarning",
        "SegcoreError",
        "UnknownNameError",
        "UnknownOptionError",
        "WeightsError",
    ),
    "features": ("FeatureInfo",),
    "guard": ("guard_torchvision",),
    "heads": ("Activation", "ClassificationHead", "SegmentationHead", "make_activation"),
    "hookspecs": ("hookimpl",),
    "installed": ("Plugin",),
    "loss": ("create_loss",),
    "model": ("SegmentationModel",),
    "registry": ("decoders", "encoders", "list_decoders", "list_encoders", "list_losses", "losses"),
    "transforms": ("Preprocessing", "preprocessing"),
    "specs": ("DecoderSpec", "EncoderSpec", "LossSpec", "Provenance", "Weights"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Activation",
    "AmbiguousNameError",
    "CheckpointError",
    "ClassificationHead",
    "Decoder",
    "DecoderSpec",
    "EncoderMixin",
    "EncoderSpec",
    "FeatureInfo",
    "IncompatiblePartsError",
    "InputError",
    "LossSpec",
    "NameTakenError",
    "OptionValueError",
    "Plugin",
    "PluginError",
    "PluginIncompatibleError",
    "PluginWarning",
    "Preprocessing",
    "Provenance",
    "SegcoreError",
    "SegmentationHead",
    "SegmentationModel",
    "UnknownNameError",
    "UnknownOptionError",
    "Weights",
    "WeightsError",
    "__version__",
    "create_decoder",
    "create_encoder",
    "create_loss",
    "create_model",
    "decoders",
    "encoders",
    "from_pretrained",
    "guard_torchvision",
    "hookimpl",
    "list_decoders",
    "list_encoders",
    "list_losses",
    "list_plugins",
    "losses",
    "make_activation",
    "preprocessing",
    "push_to_hub",
    "refresh",
    "save_pretrained",
]

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from segcore.checkpoints import from_pretrained, push_to_hub, save_pretrained
    from segcore.create import create_decoder, create_encoder, create_model
    from segcore.decoder import Decoder
    from segcore.discovery import list_plugins, refresh
    from segcore.encoder import EncoderMixin
    from segcore.errors import (
        AmbiguousNameError,
        CheckpointError,
        IncompatiblePartsError,
        InputError,
        NameTakenError,
        OptionValueError,
        PluginError,
        PluginIncompatibleError,
        PluginWarning,
        SegcoreError,
        UnknownNameError,
        UnknownOptionError,
        WeightsError,
    )
    from segcore.features import FeatureInfo
    from segcore.guard import guard_torchvision
    from segcore.heads import Activation, ClassificationHead, SegmentationHead, make_activation
    from segcore.hookspecs import hookimpl
    from segcore.installed import Plugin
    from segcore.loss import create_loss
    from segcore.model import SegmentationModel
    from segcore.registry import decoders, encoders, list_decoders, list_encoders, list_losses, losses
    from segcore.specs import DecoderSpec, EncoderSpec, LossSpec, Provenance, Weights
    from segcore.transforms import Preprocessing, preprocessing

    def __getattr__(name: str) -> Callable[..., SegmentationModel]: ...

else:

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            value = getattr(importlib.import_module(f"segcore.{_HOME[name]}"), name)
        elif name[:1].isupper():
            value = importlib.import_module("segcore.registry").titled_builder(name)
        else:
            raise AttributeError(f"module 'segcore' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
