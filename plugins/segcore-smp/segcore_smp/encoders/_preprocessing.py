"""Preprocessing of images as numpy arrays."""

# ruff: noqa: ANN001, ANN202, ANN003, ARG001
# mypy: disable-error-code="no-untyped-def"

import numpy as np


def preprocess_input(x, mean=None, std=None, input_space="RGB", input_range=None, **kwargs):
    """Return an image normalised.

    Args:
        x: (H, W, 3).
        mean: subtracted after scaling.
        std: divided by.
        input_space: ``"BGR"`` swaps the channels of an RGB image.
        input_range: ``[0, 1]`` divides by 255 an image that has values above 1.
        **kwargs: ignored.
    """
    if input_space == "BGR":
        x = x[..., ::-1].copy()
    if input_range is not None and input_range[1] == 1 and x.max() > 1:
        x = x / 255.0
    if mean is not None:
        x = x - np.array(mean)
    if std is not None:
        x = x / np.array(std)
    return x
