"""Random weights in the order in which SMP draws them, so that one seed gives one network.

Layers of a classifier, which is never built here, are drawn too and thrown away: the numbers behind them are others
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_CLASSES = 1000
_CHUNK = 1 << 20


def default(tree: nn.Module) -> None:
    """Draw every layer as torch does when it is made, in the order of the tree."""
    for part in layers(tree):
        redraw(part)


def layers(tree: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """Yield convolutions and linear layers in the order of the tree."""
    return (part for part in tree.modules() if isinstance(part, nn.Conv2d | nn.Linear))


def redraw(part: nn.Conv2d | nn.Linear) -> None:
    """Draw a layer as torch does when it is made, whatever its own class does."""
    (nn.Conv2d if isinstance(part, nn.Conv2d) else nn.Linear).reset_parameters(part)  # type: ignore[arg-type]


def spend(count: int, *, normal: bool = False) -> None:
    """Draw numbers and throw them away."""
    while count > 0:
        size = min(count, _CHUNK)
        count -= size
        torch.empty(size).normal_() if normal else torch.empty(size).uniform_()


def _deepest(tree: Any) -> int:
    return int(tree.out_channels[-1])


def _head(tree: Any) -> int:
    return int(tree.conv_head.out_channels)


@torch.no_grad()
def truncated_normal(weight: Tensor) -> None:
    """Draw by timm's rule, which is not torch's any more: uniformly, through the inverse of the distribution."""
    low, high = (math.erf(bound / 0.02 / math.sqrt(2)) for bound in (-2, 2))
    weight.uniform_(low, high).erfinv_().mul_(0.02 * math.sqrt(2)).clamp_(-2, 2)


def with_classifier(tree: nn.Module, channels: int | None = None, classes: int = _CLASSES) -> None:
    """Draw by default, and a linear classifier behind the network."""
    default(tree)
    width = _deepest(tree) if channels is None else channels
    spend(classes * (width + 1))


def resnet(tree: nn.Module) -> None:
    """Draw as torchvision draws ResNets."""
    with_classifier(tree)
    for part in layers(tree):
        nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def densenet(tree: nn.Module) -> None:
    """Draw as torchvision draws DenseNets."""
    with_classifier(tree)
    for part in layers(tree):
        nn.init.kaiming_normal_(part.weight)


def mobilenet(tree: nn.Module) -> None:
    """Draw as torchvision draws MobileNets."""
    with_classifier(tree)
    for part in layers(tree):
        nn.init.kaiming_normal_(part.weight, mode="fan_out")
    spend(_CLASSES * _deepest(tree), normal=True)


def vgg(tree: nn.Module) -> None:
    """Draw as torchvision draws VGGs, with the three layers of their classifier."""
    sizes = ((512 * 49, 4096), (4096, 4096), (4096, _CLASSES))
    default(tree)
    spend(sum((fan_in + 1) * fan_out for fan_in, fan_out in sizes))
    for part in layers(tree):
        nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    spend(sum(fan_in * fan_out for fan_in, fan_out in sizes), normal=True)


def senet(tree: nn.Module) -> None:
    """Draw as SMP draws SENets: of each stage the shortcut first."""
    for name, stage in tree.named_children():
        blocks = list(stage.children())
        shortcut = getattr(blocks[0], "downsample", None) if blocks and name != "layer0" else None
        first = [] if shortcut is None else list(layers(shortcut))
        done = {id(part) for part in first}
        for part in (*first, *(part for part in layers(stage) if id(part) not in done)):
            redraw(part)
    spend(_CLASSES * (_deepest(tree) + 1))


def inceptionv4(tree: nn.Module) -> None:
    """Draw by default, and a classifier of 1001 classes."""
    with_classifier(tree, classes=1001)


def efficientnet(tree: nn.Module) -> None:
    """Draw by default, and a classifier behind the head."""
    with_classifier(tree, _head(tree))


def timm_efficientnet(tree: nn.Module) -> None:
    """Draw as timm draws EfficientNets."""
    efficientnet(tree)
    spend(2 * (8 * 8 + 8))  # a squeeze-and-excite of 8 channels, with which timm's builder tries out the class
    for part in layers(tree):
        if isinstance(part, nn.Conv2d):
            fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels // part.groups
            nn.init.normal_(part.weight, 0, math.sqrt(2 / fan_out))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    spend(_CLASSES * _head(tree))


def mix_transformer(tree: nn.Module) -> None:
    """Draw as SMP draws Mix Transformers: parts of parts are drawn again with what holds them."""
    default(tree)
    for name, stage in tree.named_children():
        times = 2 if name.startswith("block") else 1
        spend(times * sum(part.weight.numel() for part in layers(stage)))
    for part in layers(tree):
        if isinstance(part, nn.Conv2d):
            fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels // part.groups
            part.weight.data.normal_(0, math.sqrt(2 / fan_out))
        else:
            truncated_normal(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
