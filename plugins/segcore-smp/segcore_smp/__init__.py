"""segmentation_models_pytorch's interface, version 0.6, on segcore: ``import segcore_smp as smp``.

Names are imported when they are first used, so that listing segcore's plugins loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segcore import hookimpl

if TYPE_CHECKING:
    import click

__version__ = "0.1.0"

_MODELS = {
    "Unet": "unet",
    "UnetPlusPlus": "unetplusplus",
    "MAnet": "manet",
    "Linknet": "linknet",
    "FPN": "fpn",
    "PSPNet": "pspnet",
    "DeepLabV3": "deeplabv3",
    "DeepLabV3Plus": "deeplabv3",
    "PAN": "pan",
    "UPerNet": "upernet",
    "Segformer": "segformer",
    "DPT": "dpt",
}
_HOMES = {name: f"decoders.{module}" for name, module in _MODELS.items()} | {
    "from_pretrained": "base.hub_mixin",
    "create_model": "factory",
    "MODEL_ARCHITECTURES_MAPPING": "factory",
}
_MODULES = ("base", "datasets", "decoders", "encoders", "losses", "metrics", "utils")

__all__ = [
    "DPT",
    "FPN",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "Linknet",
    "MAnet",
    "PSPNet",
    "Segformer",
    "UPerNet",
    "Unet",
    "UnetPlusPlus",
    "__version__",
    "create_model",
    "datasets",
    "decoders",
    "encoders",
    "from_pretrained",
    "losses",
    "metrics",
]


@hookimpl
def segcore_commands(cli: click.Group) -> None:
    """Add ``migrate`` to the command line; libcst is loaded when it runs."""
    from segcore_smp.migrate.command import migrate_command

    cli.add_command(migrate_command)


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
