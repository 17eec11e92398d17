"""Preprocessing: what images must look like for given weights, as data and as a callable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segcore.errors import InputError, OptionValueError, WeightsError, near_match, shorten
from segcore.specs import EncoderSpec, Weights, qualified_name

if TYPE_CHECKING:
    import numpy as np

    from segcore.model import SegmentationModel

_FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Turns images into what a model was trained on: range, order of channels, mean and standard deviation.

    Integers are scaled by the range of their type, never by the values in the picture: a nearly black image stays
    nearly black. Floating-point images are taken to lie in [0, 1].

    Attributes:
        mean: per channel, in the units of `input_range`.
        std: per channel, in the units of `input_range`.
        input_range: what 0 and 1 become before `mean` is subtracted.
        input_space: order in which the model wants colours, ``"RGB"`` or ``"BGR"``; images are given as RGB.

    Example:
        >>> normalise = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> normalise(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)).unique().item()
        1.0
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_range: tuple[float, float] = (0.0, 1.0)
    input_space: str = "RGB"

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise OptionValueError(f"mean={self.mean!r} and std={self.std!r} must have one entry per channel.")
        if not all(value > 0 for value in self.std):
            raise OptionValueError(f"std={self.std!r}: every entry must be positive.")
        if self.input_space not in {"RGB", "BGR"}:
            raise OptionValueError(f"input_space={self.input_space!r}: it is 'RGB' or 'BGR'.")

    def __call__(self, image: Tensor | np.ndarray) -> Tensor:
        """Return the image as a float32 tensor, ready for the model.

        Args:
            image: a tensor (N, C, H, W) or (C, H, W), or a numpy array (H, W, C), (N, H, W, C) or (H, W): uint8,
                uint16, or floating point in [0, 1].

        Returns:
            Tensor (N, C, H, W) or (C, H, W), on the device of a given tensor; the input is left as it is.

        Raises:
            InputError: for another rank, dtype or number of channels.
        """
        x = image if isinstance(image, Tensor) else self._from_array(image)
        if x.ndim not in {3, 4} or x.shape[-3] != len(self.mean):
            raise InputError(
                f"an image of {len(self.mean)} channels is needed, as a tensor (N, C, H, W) or (C, H, W) or an array "
                f"(H, W, C), got the shape {tuple(image.shape)}."
            )
        if x.dtype in _FULL_SCALE:
            x = x.float() / _FULL_SCALE[x.dtype]
        elif x.is_floating_point():
            x = x.float()
        else:
            raise InputError(
                f"an image is uint8, uint16, or floating point in [0, 1], got {x.dtype}. Convert it first."
            )
        if self.input_space == "BGR":
            x = x.flip(-3)
        low, high = self.input_range
        mean = torch.tensor(self.mean, device=x.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(-1, 1, 1)
        return (x * (high - low) + (low - mean)) / std

    @staticmethod
    def _from_array(array: np.ndarray) -> Tensor:
        try:
            x = torch.from_numpy(
                array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()
            )
        except (AttributeError, TypeError) as error:
            raise InputError(
                f"an image is a tensor or a numpy array of numbers, got {type(array).__name__}."
            ) from error
        if x.ndim == 2:
            x = x[..., None]
        return x.movedim(-1, -3) if x.ndim in {3, 4} else x

    def for_channels(self, channels: int) -> Preprocessing:
        """Return the preprocessing for images of another number of channels: averaged for one, else repeated."""
        if channels == len(self.mean):
            return self
        if channels == 1:
            mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
            return Preprocessing((mean,), (std,), self.input_range)
        repeated = [tuple(values[i % len(values)] for i in range(channels)) for values in (self.mean, self.std)]
        return Preprocessing(repeated[0], repeated[1], self.input_range)

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as plain data."""
        return asdict(self)

    @classmethod
    def from_weights(cls, weights: Weights, channels: int | None = None) -> Preprocessing:
        """Return what the record of published weights asks for, for images of `channels` channels."""
        own = cls(weights.mean, weights.std, weights.input_range, weights.input_space)
        return own if channels is None else own.for_channels(channels)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that `as_dict` described.

        Raises:
            OptionValueError: for anything else.
        """
        fields = {"mean", "std", "input_range", "input_space"}
        try:
            if set(data) != fields:
                raise OptionValueError(f"preprocessing has the fields {sorted(fields)}, got {sorted(data)!r:.120}.")
            low, high = map(float, data["input_range"])
            mean, std = (tuple(float(value) for value in data[key]) for key in ("mean", "std"))
            return cls(mean, std, (low, high), data["input_space"])
        except (TypeError, ValueError) as error:
            raise OptionValueError(f"preprocessing is malformed: {error}") from error


def preprocessing(source: SegmentationModel | EncoderSpec | str, tag: str | None = None) -> Preprocessing:
    """Return how images must be prepared for a model, or for published weights of an encoder; needs no network.

    Args:
        source: a model, whose config says it, or an encoder's record or name.
        tag: of the weights, for a record or a name, pinned or not; may be left out if all its pinned ones agree.

    Raises:
        WeightsError: nothing is recorded, or the tag is unknown or needed.
    """
    if isinstance(source, str):
        from segcore.registry import encoders

        source = encoders.resolve(source)
    if not isinstance(source, EncoderSpec):
        recorded = (source.config or {}).get("preprocessing")
        if recorded is None:
            raise WeightsError(
                "the model has no preprocessing: it did not start from published weights. Use what it was trained "
                "with, segcore.Preprocessing(mean=..., std=...), and pass that to save_pretrained."
            )
        return Preprocessing.from_dict(recorded)
    name, weights = qualified_name(source), dict(source.weights)
    if tag is not None:
        tag = tag.partition("@")[0]
        weights |= source.unpinned
    if tag is not None and tag not in weights:
        raise WeightsError(
            f"{name!r} has no weights {tag!r}; it has {shorten(weights) or 'none'}." + near_match(tag, weights)
        )
    found = {Preprocessing.from_weights(weights[key]) for key in ([tag] if tag else weights)}
    if len(found) != 1:
        raise WeightsError(
            f"{name!r} has {'no' if not found else 'several'} published weights"
            + (
                f": say which, of {shorten(weights)}."
                if found
                else ", so there is no preprocessing that belongs to it."
            )
        )
    return found.pop()
