"""Images that are too large for one call of the model, predicted in tiles."""

from __future__ import annotations

import torch
from segcore_plugin_predict import predict_tiled
from torch import Tensor

from segcore import SegmentationModel


def by_tiles(model: SegmentationModel, images: Tensor, tile: int | None, overlap: int) -> Tensor | None:
    """Return logits (N, classes, H, W), fp32, of images (N, C, H, W) with one tile in the network at a time.

    Neighbours share `overlap` pixels and are cut in the middle of them. None is returned for images that are no larger
    than a tile, or if there is none.
    """
    if tile is None or max(images.shape[-2:]) <= tile:
        return None
    return torch.stack(
        [
            predict_tiled(model, image, tile, overlap, blend="crop", output="logits", preprocessing=None)
            for image in images
        ]
    )
