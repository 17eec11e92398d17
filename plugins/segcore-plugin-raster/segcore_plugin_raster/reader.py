"""Georeferenced TIFFs for ``segcore predict``, which finds this class by an entry point."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio  # type: ignore[import-untyped]
from rasterio.enums import Resampling  # type: ignore[import-untyped]
from rasterio.errors import RasterioError  # type: ignore[import-untyped]

from segcore import SegmentationModel
from segcore_plugin_raster.windows import HALO, choose_bands, fitting_core, predict_raster, quiet

TAG = "SEGCORE_RESULT"


class GeoTiffs:
    """Implements `segcore_plugin_predict.extensions.RasterReader`, which says what the methods take and give."""

    def predict(
        self,
        model: SegmentationModel,
        source: Path,
        labels: Path,
        probabilities: Path | None,
        facts: Mapping[str, Any],
        *,
        window: int | None,
        halo: int | None,
        bands: tuple[int, ...] | None,
        full_scale: float | None,
        flips: str,
        threshold: float,
        multilabel: bool | None,
    ) -> tuple[tuple[int, int], Sequence[int]]:
        """Predict a raster into a GeoTIFF, and count the pixels of each class."""
        found: tuple[tuple[int, int], Sequence[int]] = (0, 0), ()

        def tags(size: tuple[int, int], pixels: Sequence[int]) -> dict[str, str]:
            nonlocal found
            found = size, pixels
            return {TAG: json.dumps({**facts, "size": size, "pixels": pixels})}

        predict_raster(
            model,
            source,
            labels,
            core=None if window is None else fitting_core(model, window),
            halo=HALO if halo is None else halo,
            probabilities=probabilities,
            bands=bands,
            full_scale=full_scale,
            flips=flips,
            threshold=threshold,
            multilabel=multilabel,
            tags=tags,
        )
        return found

    def facts(self, labels: Path) -> Mapping[str, Any] | None:
        """Return what the labels keep about themselves."""
        try:
            with quiet(), rasterio.open(labels) as result:
                facts = json.loads(result.tags().get(TAG, "null"))
        except (RasterioError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def preview(
        self, source: Path, labels: Path, side: int, *, bands: tuple[int, ...] | None, full_scale: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a raster and its labels, made smaller; overviews are used where there are any."""
        with quiet(), rasterio.open(labels) as result:
            shrink = max(1, -(-max(result.shape) // side))
            shape = -(-result.height // shrink), -(-result.width // shrink)
            classes = result.read(out_shape=(result.count, *shape), resampling=Resampling.nearest)
        with quiet(), rasterio.open(source) as dataset:
            chosen, scale = choose_bands(dataset, bands, full_scale)
            values = dataset.read(chosen, out_shape=(len(chosen), *shape), resampling=Resampling.nearest)
        shown = np.nan_to_num(values.astype(np.float32) / scale).clip(0, 1)
        return shown.transpose(1, 2, 0), classes[0] if len(classes) == 1 else np.where(classes == 1, classes, 0)
