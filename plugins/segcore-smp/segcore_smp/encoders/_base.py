"""`EncoderMixin` in SMP's terms, for people's own encoders."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Sequence
from typing import Dict  # noqa: UP035

from torch import nn

import segcore


class EncoderMixin(segcore.EncoderMixin):
    """Makes an `nn.Module` an encoder, in SMP's terms.

    A subclass sets ``_out_channels`` (a list, the image's first), ``_depth`` and ``_in_channels``, and returns from
    ``forward`` a list of ``_depth + 1`` maps, the image first. A level that it lacks has 0 channels.
    """

    _is_torch_scriptable = True
    _is_torch_exportable = True
    _is_torch_compilable = True
    _output_stride: int = 32
    _depth: int = 5

    @property
    def out_channels(self) -> list[int]:  # type: ignore[override]
        """Channels of each map."""
        return list(self._out_channels[: self._depth + 1])

    @property
    def output_stride(self) -> int:
        """Stride of the deepest map."""
        return int(min(self._output_stride, 2**self._depth))

    @property
    def feature_info(self) -> segcore.FeatureInfo:
        """The maps that have channels."""
        return feature_info(self.out_channels, self._output_stride)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the maps that have channels."""
        return self.feature_info.strides

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:  # type: ignore[override]
        """Make the first convolution take images of another number of channels.

        Args:
            in_channels: of the image.
            pretrained: keep its weights: summed for one channel, else repeated and scaled. False draws new ones.
        """
        if in_channels == self._in_channels:
            return
        before = {id(part.weight) for part in self.modules() if isinstance(part, nn.Conv2d)}  # type: ignore[attr-defined]
        channels = self._out_channels
        super().set_in_channels(in_channels)
        self._out_channels = [in_channels if channels[0] == 3 else channels[0], *channels[1:]]
        if not pretrained:
            for part in self.modules():  # type: ignore[attr-defined]
                if isinstance(part, nn.Conv2d) and id(part.weight) not in before:
                    nn.Conv2d.reset_parameters(part)

    def get_stages(self) -> Dict[int, Sequence[nn.Module]]:  # noqa: UP006
        """Return the modules that lead to the strides 16 and 32, by stride; a subclass that dilates overrides it."""
        raise NotImplementedError(f"{type(self).__name__} does not say which modules its stages have, get_stages().")

    def make_dilated(self, output_stride: int) -> None:
        """Trade strides for dilation, so that the deepest map has another stride.

        Args:
            output_stride: 8 or 16.

        Raises:
            ValueError: another stride.
        """
        if output_stride not in {8, 16}:
            raise ValueError(f"output_stride={output_stride!r}: an encoder can be dilated to 16 or 8.")
        for stride, modules in self.get_stages().items():
            for module in modules:
                if stride > output_stride:
                    replace_strides_with_dilation(module, stride // output_stride)


def replace_strides_with_dilation(module: nn.Module, dilation_rate: int) -> None:
    """Give every convolution of a module stride 1, a dilation, and the padding that keeps the size."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            height, width = part.kernel_size
            part.stride, part.dilation = (1, 1), (dilation_rate, dilation_rate)
            part.padding = (height // 2 * dilation_rate, width // 2 * dilation_rate)


def feature_info(channels: Sequence[int], output_stride: int) -> segcore.FeatureInfo:
    """Return the facts of maps in SMP's order, strides 1, 2, 4, ..., without those of 0 channels."""
    levels = [(count, min(2**level, output_stride)) for level, count in enumerate(channels) if count > 0]
    return segcore.FeatureInfo(tuple(count for count, _ in levels), tuple(stride for _, stride in levels))
