"""One raster to another, window by window: a core that is written and a halo around it that is only seen."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio  # type: ignore[import-untyped]
import rasterio.shutil  # type: ignore[import-untyped]
from rasterio.enums import ColorInterp  # type: ignore[import-untyped]
from rasterio.errors import NotGeoreferencedWarning, RasterioError  # type: ignore[import-untyped]
from rasterio.io import DatasetReader, DatasetWriter  # type: ignore[import-untyped]
from rasterio.windows import Window  # type: ignore[import-untyped]
from segcore_plugin_predict import palette, predict

import segcore
from segcore import InputError, OptionValueError, Preprocessing, SegmentationModel

CACHE = 64 * 2**20  # bytes; GDAL's own default is a share of the machine's memory
NATURAL = {"uint8": 255.0, "uint16": 65535.0}
OUTPUTS = ("labels", "probabilities")
NO_LABEL = 255
CORE, LEAST_CORE = 512, 256


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads windows of chosen bands as float32 in [0, 1], and which of their pixels hold data."""

    dataset: DatasetReader
    bands: tuple[int, ...]
    full_scale: float
    neutral: np.ndarray  # (C, 1, 1), what stands where there is no data: the mean of training

    def __call__(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return (C, h, w) and the mask (h, w), True where there is data."""
        values = self.dataset.read(self.bands, window=window).astype(np.float32)
        valid = self.dataset.dataset_mask(window=window) > 0
        valid &= np.isfinite(values).all(0)
        values /= self.full_scale
        values = np.where(valid, values, self.neutral)
        if self.full_scale == 1 and (values.min() < 0 or values.max() > 1):
            raise InputError(
                f"its floating-point values reach from {values.min():g} to {values.max():g}, not from 0 to 1. Say "
                f"which value counts as 1 with full_scale (--full-scale)"
            )
        return values, valid


def predict_raster(
    model: SegmentationModel,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    core: int | None = None,
    halo: int = 128,
    output: str = "labels",
    bands: Sequence[int] | None = None,
    full_scale: float | None = None,
    flips: str = "",
    threshold: float = 0.5,
    preprocessing: Preprocessing | None = None,
    cloud_optimised: bool = False,
    tags: dict[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Predict a raster into a GeoTIFF of the same size, place and reference system, in memory that does not grow.

    Windows of `core` pixels are predicted with `halo` more pixels on every side and written without them. At the
    raster's own edges the pixels there are repeated until the window is a multiple of the network's stride.

    Args:
        model: with preprocessing, or pass it.
        source: anything that GDAL reads; windows are read as they are needed.
        target: the GeoTIFF; it appears under its name when it is whole.
        core: height and width of windows, and of the blocks of the result; a multiple of 16 and of the stride. None for
            `default_core`.
        halo: pixels around it; made a multiple of the stride.
        output: ``"labels"``, one band of uint8 with a colour table, or for a model with the activation sigmoid one
            band of 0 and 1 for each class; or ``"probabilities"``, one band of float32 for each class.
        bands: which bands to take, counted from 1, in this order; None for all but an alpha band.
        full_scale: the value that counts as 1; None for that of the type, 255 or 65535, and 1 for floating point.
        flips: as in `segcore_plugin_predict.predict`.
        threshold: as in `segcore_plugin_predict.predict`.
        preprocessing: None for what the model records.
        cloud_optimised: write a Cloud-Optimised GeoTIFF, with overviews.
        tags: metadata to add to the result.
        progress: called with the number of windows that are done and of all.

    Returns:
        The path of the result. Pixels without data in the source, by nodata, mask or alpha, have the value 255 or NaN,
        which the result declares as nodata.

    Raises:
        InputError: the source cannot be read, or its bands or numbers do not fit the model.
        OptionValueError: for values that cannot work.
        WeightsError: the model records no preprocessing.
    """
    step = _step(model)
    core = default_core(model) if core is None else core
    _check(core, halo, step, output)
    halo = -(-halo // step) * step
    how = preprocessing or segcore.preprocessing(model)
    target = Path(target)
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part.tif")
    options = {"flips": flips, "threshold": threshold, "preprocessing": how}
    try:
        with _quiet(), rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_NUM_THREADS=1), rasterio.open(source) as dataset:
            reader = _reader(dataset, how, bands, full_scale)
            with rasterio.open(part, "w", **_profile(dataset, model, core, output)) as result:
                _describe(result, dataset, model, output, tags or {})
                _fill(reader, result, model, core, halo, step, output, options, progress)
            if cloud_optimised:
                _optimise(part, core)
        part.replace(target)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except RasterioError as error:
        raise InputError(f"{source}: it cannot be read, or {target} not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def default_core(model: SegmentationModel) -> int:
    """Return the height and width of windows where nobody chooses them, in pixels.

    The shorter side of the images that the weights were trained on, if the model records it, made a multiple of 16 and
    of the stride, and at least 256, since a halo costs more the smaller the window is; else 512.
    """
    size = (model.config or {}).get("image_size")
    multiple = math.lcm(16, _step(model))
    return -(-max(min(size), LEAST_CORE) // multiple) * multiple if size else -(-CORE // multiple) * multiple


def _step(model: SegmentationModel) -> int:
    return math.lcm(max(model.encoder.strides), model.encoder.size_multiple)  # type: ignore[arg-type]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ignore that a raster has no place, which is no fault, and what rasterio has to settle with its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning, module=r"rasterio|affine")
        yield


def _check(core: int, halo: int, step: int, output: str) -> None:
    if core < 16 or core % 16 or core % step:
        raise OptionValueError(f"core={core!r}: blocks of a GeoTIFF are multiples of 16, here also of {step}.")
    if halo < 0:
        raise OptionValueError(f"halo={halo!r}: it is a number of pixels, at least 0.")
    if output not in OUTPUTS:
        raise OptionValueError(f"output={output!r} is unknown; it is {' or '.join(map(repr, OUTPUTS))}.")


def _reader(
    dataset: DatasetReader, how: Preprocessing, bands: Sequence[int] | None, full_scale: float | None
) -> _Reader:
    channels = len(how.mean)
    meanings = dict(zip(dataset.indexes, dataset.colorinterp, strict=True))
    chosen = tuple(bands or (band for band, meaning in meanings.items() if meaning != ColorInterp.alpha))
    if not set(chosen) <= set(dataset.indexes):
        raise InputError(f"it has {dataset.count} bands, and bands {', '.join(map(str, chosen))} were asked for")
    if len(chosen) != channels:
        raise InputError(
            f"it has {len(chosen)} bands, and the model takes {channels}. Choose {channels} with bands=(1, ...) "
            f"(--bands 1,...)"
        )
    if any(meanings[band] == ColorInterp.palette for band in chosen):
        raise InputError("its values are indices of a colour table. Expand it: gdal_translate -expand rgb")
    dtypes = {dataset.dtypes[band - 1] for band in chosen}
    kind = dtypes.pop()
    if full_scale is None:
        full_scale = NATURAL.get(kind, 1.0 if kind.startswith("float") else None)
    if full_scale is None or dtypes:
        raise InputError(f"its numbers are {kind}, which has no natural scale. Say what counts as 1, --full-scale")
    if not full_scale > 0:
        raise OptionValueError(f"full_scale={full_scale!r} must be positive.")
    low, high = how.input_range
    neutral = (np.array(how.mean, np.float32) - low) / (high - low)
    if how.input_space == "BGR":
        neutral = neutral[::-1]
    return _Reader(dataset, chosen, full_scale, neutral.clip(0, 1).reshape(-1, 1, 1))


def _profile(dataset: DatasetReader, model: SegmentationModel, core: int, output: str) -> dict[str, Any]:
    classes = _classes(model)
    if output == "labels" and classes > NO_LABEL:
        raise OptionValueError(f"labels of {classes} classes do not fit a band of 8 bits. Use output='probabilities'.")
    points, system = dataset.gcps
    place = {"gcps": points, "crs": system} if points else {"crs": dataset.crs, "transform": dataset.transform}
    return place | {
        "driver": "GTiff",
        "width": dataset.width,
        "height": dataset.height,
        "count": classes if output == "probabilities" or _separate(model) else 1,
        "dtype": "uint8" if output == "labels" else "float32",
        "nodata": NO_LABEL if output == "labels" else math.nan,
        "tiled": True,
        "blockxsize": core,
        "blockysize": core,
        "compress": "deflate",
        "interleave": "band",
        "BIGTIFF": "IF_SAFER",
    }


def _classes(model: SegmentationModel) -> int:
    if model.config is None:
        raise OptionValueError("the model was assembled by hand. Build it with segcore.create_model.")
    classes: int = model.config["classes"]
    return classes


def _separate(model: SegmentationModel) -> bool:
    """Return whether a pixel may have several classes."""
    return _classes(model) > 1 and model.config is not None and model.config["activation"] == "sigmoid"


def _describe(
    result: DatasetWriter, dataset: DatasetReader, model: SegmentationModel, output: str, tags: dict[str, str]
) -> None:
    assert model.config is not None
    classes = _classes(model)
    names = model.config.get("class_names") or [f"class {index}" for index in range(classes)]
    if result.count == 1 and output == "labels":
        names = ["background", *names] if classes == 1 else names
        result.write_colormap(1, {index: (*map(int, colour), 255) for index, colour in enumerate(palette(len(names)))})
        result.update_tags(1, **{f"class_{index}": name for index, name in enumerate(names)})
    else:
        for band, name in enumerate(names, start=1):
            result.set_band_description(band, name)
    if dataset.rpcs is not None:
        result.rpcs = dataset.rpcs
    result.update_tags(**tags)


def _fill(
    reader: _Reader,
    result: DatasetWriter,
    model: SegmentationModel,
    core: int,
    halo: int,
    step: int,
    output: str,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    height, width = result.height, result.width
    places = [(y, x) for y in range(0, height, core) for x in range(0, width, core)]
    for done, (y, x) in enumerate(places, start=1):
        top, left = max(y - halo, 0), max(x - halo, 0)
        bottom, right = min(y + core + halo, height), min(x + core + halo, width)
        values, valid = reader(Window(left, top, right - left, bottom - top))
        inner = slice(y - top, min(y + core, height) - top), slice(x - left, min(x + core, width) - left)
        block = _block(model, values, valid, inner, step, output, options, result)
        result.write(block, window=Window(x, y, block.shape[2], block.shape[1]))
        if progress:
            progress(done, len(places))


def _block(
    model: SegmentationModel,
    values: np.ndarray,
    valid: np.ndarray,
    inner: tuple[slice, slice],
    step: int,
    output: str,
    options: dict[str, Any],
    result: DatasetWriter,
) -> np.ndarray:
    """Return what is written of a window: (bands, h, w)."""
    here = valid[inner]
    if not here.any():
        return np.full((result.count, *here.shape), result.nodata, result.dtypes[0])
    more = [(0, -size % step) for size in values.shape[1:]]
    padded = np.pad(values, [(0, 0), *more], mode="edge") if any(amount for _, amount in more) else values
    predicted = predict(model, padded.transpose(1, 2, 0), output=output, **options).numpy()
    block: np.ndarray = np.where(here, predicted[(..., *inner)], np.array(result.nodata, predicted.dtype))
    return block[None] if block.ndim == 2 else block


def _optimise(part: Path, core: int) -> None:
    """Rewrite a GeoTIFF as a Cloud-Optimised one: overviews, and all that is needed to find a window at its start."""
    plain = part.with_suffix(".plain.tif")
    part.replace(plain)
    try:
        rasterio.shutil.copy(
            plain,
            part,
            driver="COG",
            blocksize=core,
            compress="deflate",
            overview_resampling="nearest",
            bigtiff="IF_SAFER",
        )
    finally:
        plain.unlink(missing_ok=True)
