"""`create_model`: any of the twelve models by the name of its architecture."""

# ruff: noqa: UP045

from typing import Any, Optional

from torch import nn

from segcore_smp.decoders.deeplabv3 import DeepLabV3, DeepLabV3Plus
from segcore_smp.decoders.dpt import DPT
from segcore_smp.decoders.fpn import FPN
from segcore_smp.decoders.linknet import Linknet
from segcore_smp.decoders.manet import MAnet
from segcore_smp.decoders.pan import PAN
from segcore_smp.decoders.pspnet import PSPNet
from segcore_smp.decoders.segformer import Segformer
from segcore_smp.decoders.unet import Unet
from segcore_smp.decoders.unetplusplus import UnetPlusPlus
from segcore_smp.decoders.upernet import UPerNet

MODEL_ARCHITECTURES_MAPPING: dict[str, Any] = {
    kind.__name__.lower(): kind
    for kind in (
        Unet,
        UnetPlusPlus,
        MAnet,
        Linknet,
        FPN,
        PSPNet,
        DeepLabV3,
        DeepLabV3Plus,
        PAN,
        UPerNet,
        Segformer,
        DPT,
    )
}


def create_model(  # type: ignore[no-untyped-def]
    arch: str,
    encoder_name: str = "resnet34",
    encoder_weights: Optional[str] = "imagenet",
    in_channels: int = 3,
    classes: int = 1,
    **kwargs,  # noqa: ANN003
) -> nn.Module:
    """Return a model.

    Args:
        arch: the architecture, in any case: ``"unet"``, ``"deeplabv3plus"``.
        encoder_name: see the architecture's class.
        encoder_weights: see the architecture's class.
        in_channels: of the image.
        classes: of the mask.
        **kwargs: further arguments of the class.

    Raises:
        KeyError: an unknown architecture.
    """
    if arch.lower() not in MODEL_ARCHITECTURES_MAPPING:
        raise KeyError(f"Wrong architecture type `{arch}`. Available options are: {list(MODEL_ARCHITECTURES_MAPPING)}")
    model: nn.Module = MODEL_ARCHITECTURES_MAPPING[arch.lower()](
        encoder_name=encoder_name,
        encoder_weights=encoder_weights,
        in_channels=in_channels,
        classes=classes,
        **kwargs,
    )
    return model
