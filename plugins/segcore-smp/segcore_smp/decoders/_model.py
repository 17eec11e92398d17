"""What the constructors of the twelve models share."""

# mypy: disable-error-code="no-untyped-call, assignment"

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from segcore_smp.base import ClassificationHead, SegmentationHead


def add_heads(
    model: nn.Module,
    channels: int,
    classes: int,
    activation: Any,
    aux_params: Mapping[str, Any] | None,
    kernel_size: int,
    upsampling: float = 1,
) -> None:
    """Give a model with an encoder its heads.

    Args:
        model: gets ``segmentation_head`` and ``classification_head``, the latter None without `aux_params`.
        channels: of the decoder's result.
        classes: of the mask.
        activation: of the mask.
        aux_params: arguments of the classification head.
        kernel_size: of the segmentation head.
        upsampling: factor of the segmentation head.
    """
    factor = int(upsampling) if float(upsampling).is_integer() else upsampling
    model.segmentation_head = SegmentationHead(channels, classes, kernel_size, activation, factor)
    model.classification_head = None
    if aux_params is not None:
        model.classification_head = ClassificationHead(model.encoder.out_channels[-1], **aux_params)  # type: ignore[union-attr,index]


def renamed(given: dict[str, Any], old: str, new: str, value: Any) -> Any:
    """Return the value of an argument, which may have been given under the name of an older version.

    Args:
        given: the model's further arguments; the old name is taken out.
        old: the name before.
        new: the name now.
        value: what came under the name of now.
    """
    former = given.pop(old, None)
    if former is None:
        return value
    warnings.warn(f"{old} is deprecated, write {new}.", DeprecationWarning, stacklevel=4)
    return former
