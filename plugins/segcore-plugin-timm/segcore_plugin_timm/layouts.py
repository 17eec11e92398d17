"""Where the classic families are tapped, and how SMP names their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Levels = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Layout:
    """What the encoder of a family needs to know.

    Attributes:
        levels: given the plain network, the dotted paths of the modules to run, in order, up to each tap.
        first_conv: path of the convolution that sees the image, or of the block of parallel ones.
        first: level of the first tap: 1 for stride 2; 0 where the network has a map at the image's resolution.
        prepare: changes the plain network in place.
        tap: turns what runs on into the feature map of a level.
        rename: SMP's key to timm's.
        arguments: of timm's constructor.
    """

    levels: Callable[[nn.Module], Levels]
    first_conv: str
    first: int = 1
    prepare: Callable[[nn.Module], None] = lambda _: None
    tap: Callable[[Tensor, int], Tensor] = lambda x, _: x
    rename: Callable[[str], str] = lambda key: key
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _fixed(text: str) -> Callable[[nn.Module], Levels]:
    """Read levels separated by ``|``, paths by spaces; ``block3-11`` stands for nine paths."""

    def spread(word: str) -> list[str]:
        match = re.fullmatch(r"(.*?)(\d+)-(\d+)", word)
        if match is None:
            return [word]
        return [f"{match[1]}{number}" for number in range(int(match[2]), int(match[3]) + 1)]

    levels = [[path for word in level.split() for path in spread(word)] for level in text.split("|")]
    return lambda _: levels


def _vgg_levels(plain: nn.Module) -> Levels:
    """Cut before every max pool; the last tap is the last pool."""
    levels: list[list[str]] = [[]]
    for name, module in plain.get_submodule("features").named_children():
        if isinstance(module, nn.MaxPool2d):
            levels.append([])
        levels[-1].append(f"features.{name}")
    return levels


def _dpn_levels(plain: nn.Module) -> Levels:
    """One level per stage; the pool belongs to the second, the final norm to the last."""
    names = [name for name, _ in plain.get_submodule("features").named_children()]
    stage = {"conv1_1": 1, "conv1_pool": 2}
    numbers = [stage.get(name, int(name[4])) for name in names]
    return [
        [f"features.{name}" for name, number in zip(names, numbers, strict=True) if number == n] for n in range(1, 6)
    ]


def _dpn_tap(x: Tensor | tuple[Tensor, Tensor], level: int) -> Tensor:
    """Activate what a dual-path stage hands on; stem and final norm do it themselves. Older timm keeps paths apart."""
    joined = torch.cat(x, dim=1) if isinstance(x, tuple) else x
    return torch.relu(joined) if level in {2, 3, 4} else joined


def _bare_last_norm(plain: nn.Module) -> None:
    """The last map of a DenseNet is tapped before the activation."""
    plain.get_submodule("features.norm5").act = nn.Identity()


def _pad_unpadded(plain: nn.Module) -> None:
    """Pad every 3x3 convolution and max pool, so that all maps have the size ceil(H/s)."""
    for module in plain.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.padding = (1, 1)
        if isinstance(module, nn.MaxPool2d):
            module.padding = 1


def _pad_xception(plain: nn.Module) -> None:
    for name in ("conv1", "conv2"):
        plain.get_submodule(name).padding = (1, 1)  # type: ignore[assignment]


def _densenet_key(key: str) -> str:
    """Old files write ``norm.1`` for ``norm1``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)


_MOBILEONE = {"rbr_skip": "identity", "rbr_conv": "conv_kxk", "rbr_scale": "conv_scale"}


def _mobileone_key(key: str) -> str:
    match = re.match(r"stage(\d)\.", key)
    if match is None:
        return key
    key = ("stem." if match[1] == "0" else f"stages.{int(match[1]) - 1}.") + key[match.end() :]
    key = key.replace("se.reduce", "attn.fc1").replace("se.expand", "attn.fc2")
    return ".".join(_MOBILEONE.get(word, word) for word in key.split("."))


_MOBILENET_BLOCKS = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count)]
_MOBILENET_FIRST = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
_MOBILENET_OTHER = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}


def _mobilenet_key(key: str) -> str:
    match = re.fullmatch(r"features\.(\d+)\.(.*)\.(\w+)", key)
    if match is None:
        return key
    number, inner, tensor = int(match[1]), match[2].removeprefix("conv."), match[3]
    if number == 0:
        return f"{({'0': 'conv_stem', '1': 'bn1'})[inner]}.{tensor}"
    if number == 18:
        return f"{({'0': 'conv_head', '1': 'bn2'})[inner]}.{tensor}"
    stage, block = _MOBILENET_BLOCKS[number - 1]
    names = _MOBILENET_FIRST if stage == 0 else _MOBILENET_OTHER
    return f"blocks.{stage}.{block}.{names[inner]}.{tensor}"


_DENSE = "|".join(
    [
        "features.conv0 features.norm0",
        "features.pool0 features.denseblock1 features.transition1.norm",
        *(
            f"features.transition{n}.conv features.transition{n}.pool features.denseblock{n + 1} "
            + (f"features.transition{n + 1}.norm" if n < 3 else "features.norm5")
            for n in (1, 2, 3)
        ),
    ]
)

LAYOUTS = {
    # the convolutions of its classifier, 120 million parameters, are built whatever one asks for: one channel will do
    "vgg": Layout(_vgg_levels, "features.0", first=0, arguments={"mlp_ratio": 1 / 4096}),
    "densenet": Layout(_fixed(_DENSE), "features.conv0", prepare=_bare_last_norm, rename=_densenet_key),
    "dpn": Layout(_dpn_levels, "features.conv1_1.conv", tap=_dpn_tap),
    "senet": Layout(_fixed("layer0|pool0 layer1|layer2|layer3|layer4"), "layer0.conv1"),
    "sknet": Layout(_fixed("conv1 bn1 act1|maxpool layer1|layer2|layer3|layer4"), "conv1"),
    "inceptionv4": Layout(
        _fixed("features.0-2|features.3-4|features.5-8|features.9-14|features.15-21"),
        "features.0.conv",
        prepare=_pad_unpadded,
    ),
    "inceptionresnetv2": Layout(
        _fixed(
            "conv2d_1a conv2d_2a conv2d_2b|maxpool_3a conv2d_3b conv2d_4a|maxpool_5a mixed_5b repeat|"
            "mixed_6a repeat_1|mixed_7a repeat_2 block8 conv2d_7b"
        ),
        "conv2d_1a.conv",
        prepare=_pad_unpadded,
    ),
    "xception": Layout(
        _fixed("conv1 bn1 act1 conv2 bn2 act2|block1|block2|block3-11|block12 conv3 bn3 act3 conv4 bn4"),
        "conv1",
        prepare=_pad_xception,
    ),
    "mobilenet": Layout(
        _fixed("conv_stem bn1 blocks.0|blocks.1|blocks.2|blocks.3-4|blocks.5-6 conv_head bn2"),
        "conv_stem",
        rename=_mobilenet_key,
    ),
    "mobileone": Layout(_fixed("stem|stages.0|stages.1|stages.2|stages.3"), "stem", rename=_mobileone_key),
}
