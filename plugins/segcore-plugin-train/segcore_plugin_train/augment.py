"""Augmentation: one call, ``t(image=..., mask=...)``, for all kinds; a default that needs torch alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcore import InputError, OptionValueError
from segcore_plugin_train.wording import near_match


class Transform(Protocol):
    """What albumentations' transforms look like."""

    def __call__(self, *, image: np.ndarray, mask: np.ndarray) -> Mapping[str, Any]:
        """Return ``{"image": ..., "mask": ...}``; the mask is (H, W), or (H, W, classes) of 0, 1 and 255."""


class Augmentation:
    """Random flips, turns, scale, brightness, contrast and noise; a transform like any other.

    Random numbers are torch's, seeded for each sample by the dataset.

    Args:
        hflip: probability of mirroring left and right.
        vflip: probability of mirroring up and down.
        turn: whether to turn by a random multiple of 90 degrees.
        scale: range of the factor by which image and mask are resized; (1, 1) for never. Above 1 objects grow.
        brightness: largest change, as a share of full scale.
        contrast: largest relative change around the mean.
        noise: largest standard deviation of Gaussian noise, as a share of full scale.

    Example:
        >>> out = Augmentation(hflip=1.0, scale=(1, 1), brightness=0, contrast=0, noise=0)(
        ...     image=np.array([[[1], [2]]], np.uint8), mask=np.array([[0, 1]], np.uint8))
        >>> out["mask"].tolist()
        [[1, 0]]
    """

    def __init__(
        self,
        *,
        hflip: float = 0.5,
        vflip: float = 0.0,
        turn: bool = False,
        scale: tuple[float, float] = (0.75, 1.5),
        brightness: float = 0.15,
        contrast: float = 0.2,
        noise: float = 0.02,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise OptionValueError(f"scale={scale!r}: two positive factors are needed, the smaller one first.")
        self.hflip, self.vflip, self.turn, self.scale = hflip, vflip, turn, scale
        self.brightness, self.contrast, self.noise = brightness, contrast, noise

    def __call__(self, *, image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        """Return image (H, W, C) and mask (H, W) or (H, W, classes), changed together, in their own dtypes."""
        if torch.rand(()) < self.hflip:
            image, mask = image[:, ::-1], mask[:, ::-1]
        if torch.rand(()) < self.vflip:
            image, mask = image[::-1], mask[::-1]
        if self.turn:
            turns = int(torch.randint(4, ()))
            image, mask = np.rot90(image, turns), np.rot90(mask, turns)
        full = {"uint8": 255.0, "uint16": 65535.0}.get(image.dtype.name, 1.0)
        x = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1) / full
        low, high = self.scale
        if high > low or low != 1:
            x, mask = _resized(x, mask, low * (high / low) ** float(torch.rand(())))
        if self.contrast:
            x = (x - x.mean()) * (1 + self.contrast * _between()) + x.mean()
        if self.brightness:
            x = x + self.brightness * _between()
        if self.noise:
            x = x + torch.randn(x.shape) * (self.noise * float(torch.rand(())))
        values = (x.clamp(0, 1) * full).permute(1, 2, 0).numpy()
        if image.dtype != np.float32:
            values = np.rint(values)
        return {"image": values.astype(image.dtype), "mask": np.ascontiguousarray(mask)}


def _between() -> float:
    return float(torch.rand(())) * 2 - 1


def _resized(x: Tensor, mask: np.ndarray, factor: float) -> tuple[Tensor, np.ndarray]:
    """Return image (C, H, W) and mask at another size: bilinear without aliasing, and nearest."""
    height, width = (max(1, round(side * factor)) for side in mask.shape[:2])
    x = F.interpolate(x[None], (height, width), mode="bilinear", antialias=factor < 1)[0]
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.int64)
    return x, mask[rows[:, None], columns]


_PRESETS: dict[str, Callable[[], Transform | None]] = {
    "default": Augmentation,
    "aerial": lambda: Augmentation(vflip=0.5, turn=True),
    "flips": lambda: Augmentation(scale=(1, 1), brightness=0, contrast=0, noise=0),
    "none": lambda: None,
}
PRESETS = tuple(_PRESETS)


def as_transform(augmentation: str | Callable[..., Any] | None) -> Transform | None:
    """Return a transform out of what a user may give.

    Args:
        augmentation: ``"default"``, ``"aerial"`` (all flips and turns), ``"flips"``, ``"none"``; a callable
            ``t(image=, mask=)`` of arrays, as albumentations has them; a torchvision v2 transform; or None.

    Raises:
        OptionValueError: for anything else.
    """
    if augmentation is None:
        return None
    if isinstance(augmentation, str):
        if augmentation not in _PRESETS:
            raise OptionValueError(
                f"augment={augmentation!r} is unknown; it is {', '.join(map(repr, PRESETS))}."
                + near_match(augmentation, PRESETS)
            )
        return _PRESETS[augmentation]()
    if isinstance(augmentation, torch.nn.Module) and "torchvision" in sys_packages(augmentation):
        return _Torchvision(augmentation)
    if callable(augmentation):
        return augmentation
    raise OptionValueError(f"augment={augmentation!r:.80}: a name, a callable t(image=, mask=) or None is needed.")


def sys_packages(value: object) -> set[str]:
    """Return the top packages that a value's class and its bases come from."""
    return {kind.__module__.partition(".")[0] for kind in type(value).__mro__}


class _Torchvision:
    """A torchvision v2 transform, which changes tensors that know what they are."""

    def __init__(self, transform: torch.nn.Module) -> None:
        self.transform = transform

    def __call__(self, *, image: np.ndarray, mask: np.ndarray) -> dict[str, Tensor]:
        from torchvision import tv_tensors  # type: ignore[import-untyped,unused-ignore]

        x = torch.from_numpy(np.ascontiguousarray(image).astype(image.dtype if image.dtype != "uint16" else "int32"))
        if image.dtype == np.uint16:  # torchvision does not know it
            x = x.float() / 65535
        labels = torch.from_numpy(mask.astype(np.int64))
        pair = (
            tv_tensors.Image(x.permute(2, 0, 1)),
            tv_tensors.Mask(labels.permute(2, 0, 1) if mask.ndim == 3 else labels),
        )
        changed, labels = (value.as_subclass(Tensor) for value in self.transform(*pair))
        return {"image": changed, "mask": labels.permute(1, 2, 0) if mask.ndim == 3 else labels}


def apply(transform: Transform, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a transform makes of image (H, W, C) and mask (H, W) or (H, W, classes), as arrays of these forms.

    Raises:
        InputError: it returns something else, or image and mask of different sizes.
    """
    out = transform(image=np.ascontiguousarray(image), mask=np.ascontiguousarray(mask))
    try:
        new, labels = out["image"], out["mask"]
    except (TypeError, KeyError, IndexError) as error:
        raise InputError(
            f"a transform must return a mapping with 'image' and 'mask', got {type(out).__name__}."
        ) from error
    if isinstance(new, Tensor):
        new = new.permute(1, 2, 0).numpy()
    labels = labels.numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    new = np.asarray(new)
    if new.ndim == 2:
        new = new[..., None]
    if new.dtype == np.float64:
        new = new.astype(np.float32)
    wanted = (*new.shape[:2], *mask.shape[2:])
    if new.ndim != 3 or labels.shape != wanted or labels.dtype.kind not in "iu":
        form = "(H, W)" if mask.ndim == 2 else f"(H, W, {mask.shape[2]})"
        raise InputError(
            f"a transform must return an image (H, W, C) and integer labels {form} of one size, got "
            f"{new.dtype} {new.shape} and {labels.dtype} {labels.shape}. Leave normalisation and tensors to the data."
        )
    return new, labels.astype(mask.dtype)


def seed_all(seed: int, transform: Transform | None) -> None:
    """Seed torch, numpy and random, and a transform that has random numbers of its own."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - transforms of users draw from it
    random.seed(seed)
    own = getattr(transform, "set_random_seed", None)
    if callable(own):
        own(seed % 2**32)
