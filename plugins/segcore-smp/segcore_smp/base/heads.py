"""The two heads, called with one tensor: the factor of the resize is fixed."""

# ruff: noqa: ANN001
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from torch import nn

from segcore_smp.base.modules import Activation


class SegmentationHead(nn.Sequential):
    """Convolution, bilinear resize by a factor with ``align_corners=True``, activation.

    Args:
        in_channels: channels of the decoder's output.
        out_channels: channels of the mask.
        kernel_size: of the convolution, odd.
        activation: see `segcore_smp.base.modules.Activation`.
        upsampling: factor of the resize; 1 for none.
    """

    def __init__(self, in_channels, out_channels, kernel_size=3, activation=None, upsampling=1):  # noqa: ANN204
        conv = nn.Conv2d(in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2)
        resize = nn.Identity()
        if upsampling > 1:
            resize = nn.Upsample(scale_factor=upsampling, mode="bilinear", align_corners=True)  # type: ignore[assignment]
        super().__init__(conv, resize, Activation(activation))


class ClassificationHead(nn.Sequential):
    """Labels of the image from the deepest map: pooling, dropout, linear layer, activation.

    Args:
        in_channels: channels of the deepest map.
        classes: number of labels.
        pooling: ``"avg"`` or ``"max"``.
        dropout: probability, 0 or None for none.
        activation: see `segcore_smp.base.modules.Activation`.

    Raises:
        ValueError: another pooling.
    """

    def __init__(self, in_channels, classes, pooling="avg", dropout=0.2, activation=None):  # noqa: ANN204
        pools = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}
        if pooling not in pools:
            raise ValueError(f"pooling={pooling!r} is unknown; it is 'avg' or 'max'.")
        super().__init__(
            pools[pooling](1),
            nn.Flatten(),
            nn.Dropout(dropout, inplace=True) if dropout else nn.Identity(),
            nn.Linear(in_channels, classes),
            Activation(activation),
        )
