"""EfficientNet and EfficientNet-Lite as one encoder.

Paper: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (https://arxiv.org/abs/1905.11946);
reference: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet (Apache-2.0). Names of parameters
are timm's. Ours differs in what it builds: no head convolution, and only the blocks that `depth` uses. The map at
stride 2 is the stem's (32 channels in B0), as in segmentation_models_pytorch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from segcore import EncoderMixin, OptionValueError
from segcore_plugin_efficientnet.blocks import Block, DownConv2d, activation, check_padding, round_channels
from segcore_plugin_efficientnet.keys import convert

OUTPUT_STRIDES = (8, 16, 32)


class Stage(NamedTuple):
    """One row of the paper's table 1.

    Attributes:
        repeats: blocks, before scaling.
        kernel: of the depthwise convolutions.
        stride: of the first block.
        expansion: of the blocks.
        channels: of the output, before scaling.
        level: the feature map that the stage leads to; its stride is ``2**level``.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    level: int


STAGES = (
    Stage(1, 3, 1, 1, 16, 2),
    Stage(2, 3, 2, 6, 24, 2),
    Stage(2, 5, 2, 6, 40, 3),
    Stage(3, 3, 2, 6, 80, 4),
    Stage(3, 5, 1, 6, 112, 4),
    Stage(4, 5, 2, 6, 192, 5),
    Stage(1, 3, 1, 6, 320, 5),
)
STRIDE_16 = 4  # index of the stage that ends in the map at stride 16


class EfficientNetEncoder(nn.Module, EncoderMixin):
    """Feature maps of an EfficientNet: the image, the stem after its activation, and four of the seven stages.

    Args:
        width_multiplier: scales channels.
        depth_multiplier: scales the number of blocks of each stage.
        lite: EfficientNet-Lite: no squeeze-and-excite, ReLU6, stem and outer stages not scaled.
        stride16_block: which block of the fifth stage gives the map at stride 16; -1 is the last. 0 is where
            segmentation_models_pytorch takes it in ``efficientnet-b0``; the blocks behind it then count to stride 32.
        depth: number of downsampling levels, 1 (the stem) to 5; blocks beyond are not built.
        in_channels: channels of the image.
        output_stride: 8, 16 or 32. Blocks beyond it lose their stride, and all of their convolutions are dilated by
            the stride of their level over the output stride, the first one too, and padded symmetrically: the rule of
            segmentation_models_pytorch, and the only one here.
        padding: of the five convolutions with stride 2. ``"symmetric"`` pads by half the kernel; ``"same"`` pads as
            TensorFlow does, by the size of the input; ``"static"`` pads as ``"same"`` would for images of
            `nominal_size`, whatever their size is. A model has to be run with the padding it was trained with.
        nominal_size: height and width of the image that ``"static"`` assumes.
        norm_eps: of the batch norms.
        norm_momentum: of the batch norms.
        drop_path_rate: probability of skipping the last block while training (stochastic depth); grows linearly from 0.

    Raises:
        OptionValueError: for a value that an option cannot take.

    Example:
        >>> import torch
        >>> encoder = EfficientNetEncoder(depth=3)
        >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, 64, 64))]
        [(3, 64, 64), (32, 32, 32), (24, 16, 16), (40, 8, 8)]
    """

    _first_conv = "conv_stem"

    def __init__(
        self,
        width_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        lite: bool = False,
        stride16_block: int = -1,
        depth: int = 5,
        in_channels: int = 3,
        output_stride: int = 32,
        padding: str = "symmetric",
        nominal_size: int = 224,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        drop_path_rate: float = 0.2,
    ) -> None:
        super().__init__()
        _check(depth, in_channels, output_stride, drop_path_rate)
        check_padding(padding, nominal_size)
        outer = (0, len(STAGES) - 1) if lite else ()
        self._repeats = tuple(
            stage.repeats if index in outer else math.ceil(stage.repeats * depth_multiplier)
            for index, stage in enumerate(STAGES)
        )
        if not -1 <= stride16_block < self._repeats[STRIDE_16]:
            raise OptionValueError(
                f"stride16_block={stride16_block!r}: the fifth stage has {self._repeats[STRIDE_16]} blocks, "
                f"so it is -1 to {self._repeats[STRIDE_16] - 1}."
            )
        widths = [round_channels(stage.channels, width_multiplier) for stage in STAGES]
        stem = 32 if lite else round_channels(32, width_multiplier)
        self._depth, self._in_channels, self._output_stride = depth, in_channels, output_stride
        self._out_channels = (in_channels, stem, widths[1], widths[2], widths[STRIDE_16], widths[6])

        self.conv_stem = DownConv2d(in_channels, stem, 3, 1, padding, nominal_size)
        self.bn1 = nn.BatchNorm2d(stem, eps=norm_eps, momentum=norm_momentum)
        self.act = activation(lite)
        self.blocks = nn.Sequential()
        self._unbuilt: set[str] = set()
        last_of_level: dict[int, int] = {}
        channels, current_stride, built = stem, 2, 0
        for index, (stage, width, repeats) in enumerate(zip(STAGES, widths, self._repeats, strict=True)):
            rows = nn.Sequential()
            for row in range(repeats):
                level = stage.level + int(index == STRIDE_16 and -1 < stride16_block < row)
                if level > depth:
                    self._unbuilt.add(f"blocks.{index}.{row}")
                    continue
                dilation = max(1, 2**level // output_stride)
                block = Block(
                    channels,
                    width,
                    kernel=stage.kernel,
                    stride=stage.stride if row == 0 and dilation == 1 else 1,
                    dilation=dilation,
                    expansion=stage.expansion,
                    lite=lite,
                    norm_eps=norm_eps,
                    norm_momentum=norm_momentum,
                    padding=padding,
                    size=math.ceil(nominal_size / current_stride),
                    drop_path_rate=drop_path_rate * built / sum(self._repeats),
                )
                rows.append(block)
                last_of_level[level] = built
                channels, built = width, built + 1
            if len(rows):
                self.blocks.append(rows)
            current_stride *= stage.stride
        self._taps = frozenset(last_of_level.values())

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return ``depth + 1`` feature maps (N, C, H/s, W/s), finest first; the first is `x`."""
        features = [x]
        x = self.act(self.bn1(self.conv_stem(x)))  # (N, 32, H/2, W/2) in B0
        features.append(x)
        index = 0
        for stage in self.blocks.children():
            for block in stage.children():
                x = block(x)  # (N, C, H/s, W/s), s = 2, 4, 8, 16, 32
                if index in self._taps:
                    features.append(x)
                index += 1
        return features

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of timm or of EfficientNet-PyTorch under our names, without those that are not built."""
        return convert(state, self._repeats, self._unbuilt)


def _check(depth: int, in_channels: int, output_stride: int, drop_path_rate: float) -> None:
    if depth not in range(1, 6):
        raise OptionValueError(f"depth={depth!r}: an EfficientNet has 1 to 5 downsampling levels.")
    if in_channels < 1:
        raise OptionValueError(f"in_channels={in_channels!r}: an image has at least one channel.")
    if output_stride not in OUTPUT_STRIDES:
        raise OptionValueError(f"output_stride={output_stride!r}: an EfficientNet can be built with 8, 16 or 32.")
    if not 0 <= drop_path_rate < 1:
        raise OptionValueError(f"drop_path_rate={drop_path_rate!r} is no probability in [0, 1).")
