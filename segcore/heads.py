"""Heads: the only parts of a model that know of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import OptionValueError, near_match

Activation = str | Callable[[Tensor], Tensor] | type[nn.Module] | None
"""The name of an activation, a module or module class, a function of one tensor, or None for logits."""


class _Function(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _ArgMax(nn.Module):
    """Index of the largest channel: (N, C, ...) to (N, ...), int64."""

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(dim=1)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=1),
    "logsoftmax": lambda: nn.LogSoftmax(dim=1),
    "tanh": nn.Tanh,
    "argmax": _ArgMax,
}


def make_activation(activation: Activation) -> nn.Module:
    """Return an activation as a module.

    Args:
        activation: None or ``"identity"`` (logits), ``"sigmoid"``, ``"softmax"`` and ``"logsoftmax"`` over the
            channels, ``"tanh"``, ``"argmax"`` (labels without a channel dimension); or a module, a module class, or
            a function of one tensor. Only names can be saved in a checkpoint.

    Raises:
        OptionValueError: for any other value.
    """
    if activation is None:
        return nn.Identity()
    if isinstance(activation, nn.Module):
        return activation
    if isinstance(activation, type):
        if issubclass(activation, nn.Module):
            return activation()
    elif isinstance(activation, str):
        if activation in ACTIVATIONS:
            return ACTIVATIONS[activation]()
    elif callable(activation):
        return _Function(activation)
    raise OptionValueError(
        f"activation={activation!r} is unknown; it is None, one of {', '.join(map(repr, ACTIVATIONS))}, "
        f"a module or a function of one tensor." + near_match(str(activation), ACTIVATIONS)
    )


class SegmentationHead(nn.Sequential):
    """Convolution to the classes, bilinear resize to the image's size, activation.

    Args:
        in_channels: channels of the decoder's output.
        classes: channels of the mask.
        kernel_size: odd kernel of the convolution; padded, so that it keeps the size.
        activation: see `make_activation`.
        align_corners: how the resize maps coordinates. False is exact for every factor; True is what
            segmentation_models_pytorch trains with, and shifts the mask by up to half the factor in pixels.
        resize: False for a decoder that gives the image's own resolution, so that exported programs need no comparison.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        kernel_size: int = 3,
        activation: Activation = None,
        align_corners: bool = False,
        resize: bool = True,
    ) -> None:
        conv = nn.Conv2d(in_channels, classes, kernel_size, padding=kernel_size // 2)
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        super().__init__(conv, nn.Identity(), make_activation(activation))
        self.align_corners = align_corners
        self.resize = resize

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:  # type: ignore[override]
        """Turn (N, in_channels, h, w) into (N, classes, H, W); `size` is (H, W)."""
        x = self[0](x)
        if self.resize:
            x = F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=self.align_corners)
        return self[2](x)  # type: ignore[no-any-return]


class ClassificationHead(nn.Sequential):
    """Image-level labels from the deepest feature map: global pooling, dropout, linear layer, activation.

    Args:
        in_channels: channels of the deepest feature map.
        classes: number of labels.
        pooling: ``"avg"`` or ``"max"``.
        dropout: probability in [0, 1); None or 0 for none.
        activation: see `make_activation`.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        pooling: str = "avg",
        dropout: float | None = 0.2,
        activation: Activation = None,
    ) -> None:
        pools: dict[str, type[nn.Module]] = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}
        if pooling not in pools:
            raise OptionValueError(f"aux_params: pooling={pooling!r} is unknown; it is 'avg' or 'max'.")
        if dropout is not None and not 0 <= dropout < 1:
            raise OptionValueError(f"aux_params: dropout={dropout!r} is no probability in [0, 1).")
        linear = nn.Linear(in_channels, classes)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        super().__init__(
            pools[pooling](1),
            nn.Flatten(),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            linear,
            make_activation(activation),
        )
