"""The contract of encoders: a module, four facts about it, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from segcore.errors import OptionValueError, near_match, shorten
from segcore.features import FeatureInfo, levels_at_depth

INPUT_INITS = ("repeat", "rgb+zero", "mean", "random")


class EncoderMixin:
    """Makes an `nn.Module` an encoder: derives from a few facts all that decoders and models read.

    A subclass sets, in its ``__init__``:

    - ``_out_channels``: channels of each feature map, finest first, for the greatest depth. The first belongs to the
      map at the image's own resolution, normally the image itself.
    - ``_depth``: number of downsampling stages in use, 1 to 5.
    - ``_in_channels``: channels of the image (default 3).

    and returns from ``forward`` a list of tensors (N, C, H/s, W/s), from the input's resolution downwards. It may also
    set, as class or instance attributes:

    - ``_strides``: stride of each map, where it is not 1, 2, 4, ..., 2**depth. A level that the network lacks is left
      out, ``[1, 4, 8, 16, 32]``; a plain ViT repeats its stride, ``[1, 16, 16, 16, 16]``, and lists just what it gives.
    - ``_output_stride``: the deepest stride after dilation, where it is smaller than without.
    - ``_first_conv``: name, or names, of the convolutions that see the image, for `set_in_channels`.
    - ``_prefix_tokens``: number of class and register tokens of a ViT, with a method ``forward_with_prefix``.
    - ``_size_multiple``: height and width of the input must be multiples of it; the model pads and crops.

    Example:
        >>> class Tiny(nn.Module, EncoderMixin):
        ...     def __init__(self, depth=1, in_channels=3):
        ...         super().__init__()
        ...         self._out_channels, self._depth, self._in_channels = [in_channels, 8], depth, in_channels
        ...         self.conv = nn.Conv2d(in_channels, 8, 3, stride=2, padding=1)
        ...     def forward(self, x):
        ...         return [x, self.conv(x)]
        >>> Tiny().strides
        (1, 2)
    """

    _out_channels: Sequence[int]
    _depth: int
    _in_channels: int = 3
    _strides: Sequence[int] | None = None
    _output_stride: int | None = None
    _first_conv: str | tuple[str, ...] | None = None
    _prefix_tokens: int = 0
    _size_multiple: int = 1

    @property
    def depth(self) -> int:
        """Number of downsampling stages in use."""
        return self._depth

    @property
    def in_channels(self) -> int:
        """Number of channels of the image."""
        return self._in_channels

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each feature map, finest first."""
        return self._levels()[0]

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each feature map, parallel to `out_channels`."""
        return self._levels()[1]

    @property
    def output_stride(self) -> int:
        """Stride of the deepest feature map."""
        return self.strides[-1]

    @property
    def size_multiple(self) -> int:
        """Height and width of the input are padded to a multiple of this by the model; 1 if any size will do."""
        return self._size_multiple

    @property
    def feature_info(self) -> FeatureInfo:
        """The facts that a decoder is built from."""
        return FeatureInfo(self.out_channels, self.strides, self._prefix_tokens)

    @property
    def nominal_strides(self) -> tuple[int, ...]:
        """Strides of all feature maps that the network can give, whatever its depth and without dilation."""
        return tuple(self._strides or (2**level for level in range(len(self._out_channels))))

    def _levels(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        channels, strides = levels_at_depth(self._out_channels, self.nominal_strides, self._depth)
        if self._output_stride is not None:
            strides = tuple(min(stride, self._output_stride) for stride in strides)
        return channels, strides

    def forward_with_prefix(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the feature maps and, for each map below the image, its prefix tokens (N, tokens, C).

        Only encoders with prefix tokens implement it; decoders that read tokens ask for it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prefix tokens.")

    def convert_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights under this network's own keys, without those it does not build.

        The default changes nothing. A family overrides it to drop a classifier or to map another library's names.
        """
        return dict(state)

    def set_in_channels(self, in_channels: int, init: str = "repeat") -> None:
        """Make the first convolution take images of another number of channels, keeping its weights.

        Args:
            in_channels: new number of channels, at least 1.
            init: how the weights are carried over; see `adapt_input_weight`.
        """
        if in_channels == self._in_channels:
            return
        if self._first_conv is not None or len(self._image_convs(in_channels)) != 1 or self._image_convs():
            for name in self._first_convs():
                conv = self.get_submodule(name)  # type: ignore[attr-defined]
                with torch.no_grad():
                    weight = adapt_input_weight(conv.weight, in_channels, init)
                conv.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
                conv.in_channels = in_channels
        # else it was built for these channels and only does not say so
        if self._out_channels[0] == self._in_channels:
            self._out_channels = (in_channels, *self._out_channels[1:])
        self._in_channels = in_channels

    def adapt_input(self, state: Mapping[str, Tensor], init: str = "repeat") -> dict[str, Tensor]:
        """Return a state dict whose first convolution fits this encoder's number of input channels."""
        adapted = dict(state)
        for name in self._first_convs():
            weight = adapted.get(f"{name}.weight")
            if weight is not None and weight.ndim == 4 and weight.shape[1] != self._in_channels:
                adapted[f"{name}.weight"] = adapt_input_weight(weight, self._in_channels, init)
        return adapted

    def _first_convs(self) -> tuple[str, ...]:
        if self._first_conv is not None:
            return (self._first_conv,) if isinstance(self._first_conv, str) else self._first_conv
        candidates = self._image_convs()
        if len(candidates) == 1:  # no guess: no other convolution could take the image
            return (candidates[0],)
        raise OptionValueError(
            f"{type(self).__name__} has {len(candidates)} convolutions that could take the image "
            f"({shorten(candidates) or 'none'}), so its input cannot be changed from {self._in_channels} channels. "
            f"Set `_first_conv = 'name.of.the.convolution'` on the class."
        )

    def _image_convs(self, in_channels: int | None = None) -> list[str]:
        """Return the names of the convolutions that could take an image of so many channels."""
        wanted = self._in_channels if in_channels is None else in_channels
        return [
            name
            for name, module in self.named_modules()  # type: ignore[attr-defined]
            if isinstance(module, nn.Conv2d) and module.in_channels == wanted and module.groups == 1
        ]


def check_input_init(init: str) -> str:
    """Return the name of a policy for input channels, or raise OptionValueError; see `adapt_input_weight`."""
    if init not in INPUT_INITS:
        raise OptionValueError(
            f"input_init={init!r} is unknown; it is one of {', '.join(map(repr, INPUT_INITS))}."
            + near_match(init, INPUT_INITS)
        )
    return init


def adapt_input_weight(weight: Tensor, in_channels: int, init: str = "repeat") -> Tensor:
    """Return the weight of a first convolution for another number of input channels.

    Args:
        weight: (out, C, kh, kw), C usually 3.
        in_channels: wanted number of input channels, at least 1.
        init: ``"repeat"`` sums over C for one channel, else repeats the C slices cyclically, scaled by
            C/in_channels (what timm and segmentation_models_pytorch do); ``"rgb+zero"`` keeps the C slices and
            adds zeros, so the response to the first C channels is unchanged; ``"mean"`` gives every channel the
            mean slice, scaled by C/in_channels; ``"random"`` draws new weights (Kaiming, fan in).

    Returns:
        Tensor (out, in_channels, kh, kw) of the same dtype.
    """
    check_input_init(init)
    if in_channels < 1:
        raise OptionValueError(f"in_channels={in_channels!r}: an image has at least one channel.")
    old = weight.shape[1]
    if init == "random":
        fresh = torch.empty((weight.shape[0], in_channels, *weight.shape[2:]), dtype=weight.dtype, device=weight.device)
        nn.init.kaiming_uniform_(fresh, nonlinearity="relu")
        return fresh
    values = weight.float()
    if init == "rgb+zero":
        kept = values[:, :in_channels]
        zeros = values.new_zeros((values.shape[0], max(0, in_channels - old), *values.shape[2:]))
        adapted = torch.cat([kept, zeros], dim=1)
    elif init == "mean":
        adapted = values.mean(1, keepdim=True).repeat(1, in_channels, 1, 1) * (old / in_channels)
    elif in_channels == 1:
        adapted = values.sum(1, keepdim=True)
    else:
        repeats = -(-in_channels // old)
        adapted = values.repeat(1, repeats, 1, 1)[:, :in_channels] * (old / in_channels)
    return adapted.to(weight.dtype)
