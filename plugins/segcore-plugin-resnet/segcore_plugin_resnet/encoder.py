"""ResNet, ResNeXt and Wide ResNet as one encoder.

Papers: "Deep Residual Learning for Image Recognition" (https://arxiv.org/abs/1512.03385), "Aggregated Residual
Transformations for Deep Neural Networks" (https://arxiv.org/abs/1611.05431), "Wide Residual Networks"
(https://arxiv.org/abs/1605.07146). The computation and the names of the parameters are those of torchvision's
``resnet`` (BSD-3-Clause), which timm and segmentation_models_pytorch share: the stride of a bottleneck sits in its 3x3
convolution. Ours differs in what it builds: no classifier, and only the stages that `depth` uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from segcore import EncoderMixin, OptionValueError

DILATION_RULES = ("standard", "smp")
OUTPUT_STRIDES = (8, 16, 32)
STAGES = ("layer1", "layer2", "layer3", "layer4")


class Conv2d(nn.Conv2d):
    """Convolution without bias, padded to keep the size at stride 1, initialised as ResNets are (Kaiming, fan out)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 * dilation
        super().__init__(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; takes (N, in_channels, H, W) to (N, planes, H/stride, W/stride).

    Args:
        in_channels: channels of the input.
        planes: channels of the output.
        stride: of the first convolution and of the shortcut.
        first_dilation: of the convolution that has the stride.
        dilation: of the other one.
        groups: must be 1; the two-layer block has no grouped variant.
        width_per_group: must be 64.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        first_dilation: int,
        dilation: int,
        groups: int,
        width_per_group: int,
    ) -> None:
        super().__init__()
        if groups != 1 or width_per_group != 64:
            raise OptionValueError(
                f"groups={groups!r}, width_per_group={width_per_group!r}: block='basic' has only groups=1 and "
                f"width_per_group=64. Use block='bottleneck'."
            )
        self.conv1 = Conv2d(in_channels, planes, 3, stride, first_dilation)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = Conv2d(planes, planes, 3, 1, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(in_channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (N, planes, H/stride, W/stride)
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution and a shortcut; takes in_channels to 4 * planes.

    Args:
        in_channels: channels of the input.
        planes: a quarter of the channels of the output.
        stride: of the 3x3 convolution and of the shortcut.
        first_dilation: of the 3x3 convolution, the one that has the stride.
        dilation: unused, there is one 3x3 convolution only.
        groups: of the 3x3 convolution.
        width_per_group: channels of each group at 64 planes; grows with the planes.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        first_dilation: int,
        dilation: int,  # noqa: ARG002 - the two kinds of block are built alike
        groups: int,
        width_per_group: int,
    ) -> None:
        super().__init__()
        width = planes * width_per_group // 64 * groups
        out_channels = planes * self.expansion
        self.conv1 = Conv2d(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride, first_dilation, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = Conv2d(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (N, width, H, W)
        x = self.relu(self.bn2(self.conv2(x)))  # (N, width, H/stride, W/stride)
        x = self.bn3(self.conv3(x))  # (N, 4 * planes, H/stride, W/stride)
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNetEncoder(nn.Module, EncoderMixin):
    """Feature maps of a ResNet: the image, the stem after its ReLU, and the output of each stage.

    Args:
        block: ``"basic"`` (ResNet-18 and -34) or ``"bottleneck"``.
        layers: number of blocks of the four stages.
        groups: of the 3x3 convolutions of bottlenecks; the 32 of ``32x4d``.
        width_per_group: the 4 of ``32x4d``; 64 for a plain ResNet, 128 for the wide ones.
        depth: number of downsampling stages, 1 (the stem) to 5; the others are not built.
        in_channels: channels of the image.
        output_stride: 8, 16 or 32. Stages beyond it trade their stride for dilation.
        dilation_rule: which dilation the first convolution of a dilated stage has. ``"standard"`` keeps the one of the
            stage before, as torchvision and timm do; ``"smp"`` gives it the stage's own, as
            segmentation_models_pytorch does. The parameters are the same and the numbers are not: a model has to be
            run by the rule it was trained with.

    Raises:
        OptionValueError: for a value that an option cannot take.

    Example:
        >>> import torch
        >>> encoder = ResNetEncoder("basic", (2, 2, 2, 2), output_stride=16)
        >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, 64, 64))][3:]
        [(128, 8, 8), (256, 4, 4), (512, 4, 4)]
    """

    _first_conv = "conv1"

    def __init__(
        self,
        block: str,
        layers: Sequence[int],
        groups: int = 1,
        width_per_group: int = 64,
        depth: int = 5,
        in_channels: int = 3,
        output_stride: int = 32,
        dilation_rule: str = "standard",
    ) -> None:
        super().__init__()
        _check(block, layers, depth, in_channels, output_stride, dilation_rule)
        kind = BLOCKS[block]
        self._depth, self._in_channels, self._output_stride = depth, in_channels, output_stride
        self._out_channels = (in_channels, 64, *(64 * 2**level * kind.expansion for level in range(4)))

        self.conv1 = Conv2d(in_channels, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        if depth > 1:
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels, dilation = 64, 1
        for level, name in enumerate(STAGES[: depth - 1]):
            planes, stride, first_dilation = 64 * 2**level, 1 if level == 0 else 2, dilation
            if 4 * 2**level > output_stride:
                dilation, stride = dilation * stride, 1
                first_dilation = dilation if dilation_rule == "smp" else first_dilation
            blocks = nn.Sequential()
            for _ in range(layers[level]):
                blocks.append(kind(channels, planes, stride, first_dilation, dilation, groups, width_per_group))
                channels, stride, first_dilation = planes * kind.expansion, 1, dilation
            self.add_module(name, blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return ``depth + 1`` feature maps (N, C, H/s, W/s), finest first; the first is `x`."""
        features = [x]
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 64, H/2, W/2)
        features.append(x)
        if self._depth > 1:
            x = self.maxpool(x)  # (N, 64, H/4, W/4)
        for name in STAGES[: self._depth - 1]:
            x = getattr(self, name)(x)  # (N, C, H/s, W/s), s = 4, 8, 16, 32
            features.append(x)
        return features

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of a whole ResNet without its classifier and the stages that are not built."""
        dropped = {"fc", *STAGES[self._depth - 1 :]}
        return {key: value for key, value in state.items() if key.partition(".")[0] not in dropped}


def _check(
    block: str, layers: Sequence[int], depth: int, in_channels: int, output_stride: int, dilation_rule: str
) -> None:
    if block not in BLOCKS:
        raise OptionValueError(f"block={block!r} is unknown; it is 'basic' or 'bottleneck'.")
    if len(layers) != len(STAGES) or min(layers) < 1:
        raise OptionValueError(f"layers={layers!r}: a ResNet has four stages of at least one block each.")
    if depth not in range(1, 6):
        raise OptionValueError(f"depth={depth!r}: a ResNet has 1 to 5 downsampling stages.")
    if in_channels < 1:
        raise OptionValueError(f"in_channels={in_channels!r}: an image has at least one channel.")
    if output_stride not in OUTPUT_STRIDES:
        raise OptionValueError(f"output_stride={output_stride!r}: a ResNet can be built with 8, 16 or 32.")
    if dilation_rule not in DILATION_RULES:
        raise OptionValueError(f"dilation_rule={dilation_rule!r} is unknown; it is 'standard' or 'smp'.")
