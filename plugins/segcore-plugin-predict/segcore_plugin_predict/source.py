"""What an image is given as, and how any part of it becomes a tensor for the model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import segcore
from segcore import InputError, Preprocessing
from segcore_plugin_predict.network import Network, described
from segcore_plugin_predict.reading import array_of, fit_channels, read_image

ImageLike = Tensor | np.ndarray | Image.Image | str | os.PathLike[str]
RECORDED = "recorded"


def preprocessing_of(model: Network, given: Preprocessing | str | None) -> Preprocessing | None:
    """Return the preprocessing: the given one, or what the model records.

    Raises:
        InputError: the model is a function or a foreign module, and nothing was given.
        WeightsError: the model records none.
    """
    if isinstance(given, Preprocessing) or given is None:
        return given
    if given != RECORDED:
        raise InputError(f"preprocessing={given!r}: it is a segcore.Preprocessing, {RECORDED!r} or None.")
    if not described(model):
        raise InputError(
            "the model does not say how images are prepared. Pass preprocessing=segcore.Preprocessing(mean=..., "
            "std=...), or preprocessing=None for a tensor that is prepared already."
        )
    return segcore.preprocessing(model)  # type: ignore[arg-type]  # reads nothing but the config


class Source:
    """An image of which parts are asked for; only those are prepared.

    Args:
        image: tensor (C, H, W), or (1, C, H, W); array (H, W, C) or (H, W), also one that is mapped from a file;
            picture of Pillow's; or the path of a file.
        preprocessing: applied to each part; None if the image is what the model takes.
        least: parts are padded to this height and width by repeating the edge; 0 for not at all.

    Raises:
        InputError: for anything else.
    """

    def __init__(self, image: ImageLike, preprocessing: Preprocessing | None, least: tuple[int, int] = (0, 0)) -> None:
        channels = None if preprocessing is None else len(preprocessing.mean)
        if isinstance(image, str | Path | os.PathLike):
            image = read_image(image, channels)
        elif isinstance(image, Image.Image):
            image = fit_channels(array_of(image), channels)
        if isinstance(image, Tensor):
            image = image[0] if image.ndim == 4 and len(image) == 1 else image
        elif isinstance(image, np.ndarray):
            image = image[..., None] if image.ndim == 2 else image
        else:
            raise InputError(f"an image is a tensor, an array, a picture or a path, got {type(image).__name__}.")
        if image.ndim != 3 or 0 in image.shape:
            raise InputError(
                f"one image is predicted at a time: a tensor (C, H, W) or an array (H, W, C) or (H, W), got the shape "
                f"{tuple(image.shape)}. Call it for each image of a batch."
            )
        if preprocessing is None and not (isinstance(image, Tensor) and image.is_floating_point()):
            raise InputError(
                "without preprocessing the image must be a floating-point tensor that is prepared already."
            )
        self._image = image
        self.device = image.device if isinstance(image, Tensor) else torch.device("cpu")
        self._preprocessing = preprocessing
        self._least = least
        self.size: tuple[int, int] = tuple(image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2])

    def part(self, rows: slice, columns: slice) -> Tensor:
        """Return the pixels of some rows and columns, prepared: (C, h, w), floating point."""
        if isinstance(self._image, Tensor):
            part: Tensor | np.ndarray = self._image[:, rows, columns]
        else:
            part = self._image[rows, columns]
            if not part.dtype.isnative:
                part = part.astype(part.dtype.newbyteorder("="))
        if self._preprocessing is not None:
            part = self._preprocessing(part)
        assert isinstance(part, Tensor)
        low, wide = (max(0, least - got) for least, got in zip(self._least, part.shape[-2:], strict=True))
        return F.pad(part[None], (0, wide, 0, low), mode="replicate")[0] if low or wide else part
