"""One raster to another, window by window: a core that is written and a halo around it that is only seen."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from segcore_plugin_predict import palette, predict, tile_step, trained_size

import segcore
from segcore import InputError, OptionValueError, Preprocessing, SegmentationModel

CACHE = 64 * 2**20  # bytes; GDAL's own default is a share of the machine's memory
NATURAL = {"uint8": 255.0, "uint16": 65535.0}
OUTPUTS = ("labels", "probabilities")
NO_LABEL = 255
CORE, LEAST_CORE, HALO = 512, 256, 128


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
    halo: int = HALO,
    output: str = "labels",
    probabilities: str | os.PathLike[str] | None = None,
    bands: Sequence[int] | None = None,
    full_scale: float | None = None,
    flips: str = "",
    threshold: float = 0.5,
    multilabel: bool | None = None,
    preprocessing: Preprocessing | None = None,
    cloud_optimised: bool = False,
    tags: Mapping[str, str] | Callable[[tuple[int, int], Sequence[int]], Mapping[str, str]] | None = None,
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
        output: ``"labels"``, one band of uint8 with a colour table, or for several labels one band of 0 and 1 for each
            class; or ``"probabilities"``, one band of float32 for each class.
        probabilities: where to write probabilities too, beside labels, from the same run of the network.
        bands: which bands to take, counted from 1, in this order; None for all but an alpha band.
        full_scale: the value that counts as 1; None for that of the type, 255 or 65535, and 1 for floating point.
        flips: as in `segcore_plugin_predict.predict`.
        threshold: as in `segcore_plugin_predict.predict`.
        multilabel: as in `segcore_plugin_predict.predict`.
        preprocessing: None for what the model records.
        cloud_optimised: write a Cloud-Optimised GeoTIFF, with overviews.
        tags: metadata to add to the result; or a function that gives them, called at the end with the width and height
            and, for labels, the number of pixels of each class, else with no numbers.
        progress: called with the number of windows that are done and of all.

    Returns:
        The path of the result. Pixels without data in the source, by nodata, mask or alpha, have the value 255 or NaN,
        which the result declares as nodata.

    Raises:
        InputError: the source cannot be read, or its bands or numbers do not fit the model.
        OptionValueError: for values that cannot work.
        WeightsError: the model records no preprocessing.
    """
    step = tile_step(model)
    core = default_core(model) if core is None else core
    _check(core, halo, step, output)
    halo = -(-halo // step) * step
    how = preprocessing or segcore.preprocessing(model)
    separate = several(model, multilabel)
    targets = ([] if probabilities is None else [("probabilities", Path(probabilities))]) + [(output, Path(target))]
    if len({kind for kind, _ in targets}) < len(targets):
        raise OptionValueError("probabilities= writes them beside labels, and output='probabilities' is no labels.")
    parts = {kind: _unfinished(path) for kind, path in targets}
    options = {"flips": flips, "threshold": threshold, "preprocessing": how, "multilabel": multilabel}
    try:
        with quiet(), rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_NUM_THREADS=1), rasterio.open(source) as dataset:
            reader = _reader(dataset, how, bands, full_scale)
            with contextlib.ExitStack() as files:
                results = {
                    kind: files.enter_context(
                        rasterio.open(part, "w", **_profile(dataset, model, core, kind, separate=separate))
                    )
                    for kind, part in parts.items()
                }
                for kind, result in results.items():
                    _describe(result, dataset, model, kind)
                counts = _fill(reader, results, model, core, halo, step, separate, options, progress)
                for result in results.values():
                    result.update_tags(
                        **(tags((dataset.width, dataset.height), counts) if callable(tags) else tags or {})
                    )
            if cloud_optimised:
                for part in parts.values():
                    _optimise(part, core)
        for kind, path in targets:  # labels last: when they are there, all is
            parts[kind].replace(path)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except RasterioError as error:
        raise InputError(f"{source}: it cannot be read, or {target} not be written: {error}") from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return Path(target)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part.tif")


def default_core(model: SegmentationModel) -> int:
    """Return the height and width of windows where nobody chooses them, in pixels.

    The shorter side of the images that the weights were trained on, if the model records it, made a multiple of 16 and
    of the stride, and at least 256, since a halo costs more the smaller the window is; else 512.
    """
    size = trained_size(model)
    return fitting_core(model, max(min(size), LEAST_CORE) if size else CORE)


def fitting_core(model: SegmentationModel, size: int) -> int:
    """Return a size made a multiple of 16, as blocks of a GeoTIFF are, and of the network's stride."""
    multiple = math.lcm(16, tile_step(model))
    return -(-size // multiple) * multiple


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


def choose_bands(
    dataset: DatasetReader, bands: Sequence[int] | None, full_scale: float | None
) -> tuple[tuple[int, ...], float]:
    """Return which bands are read, and the value that counts as 1.

    Raises:
        InputError: there are no such bands, or what they hold has no scale.
        OptionValueError: the scale makes no sense.
    """
    meanings = dict(zip(dataset.indexes, dataset.colorinterp, strict=True))
    chosen = tuple(bands or (band for band, meaning in meanings.items() if meaning != ColorInterp.alpha))
    if not set(chosen) <= set(dataset.indexes):
        raise InputError(f"it has {dataset.count} bands, and bands {', '.join(map(str, chosen))} were asked for")
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
    return chosen, full_scale


def _reader(
    dataset: DatasetReader, how: Preprocessing, bands: Sequence[int] | None, full_scale: float | None
) -> _Reader:
    chosen, scale = choose_bands(dataset, bands, full_scale)
    channels = len(how.mean)
    if len(chosen) == 1 and channels == 3 and not bands:
        chosen *= 3  # grey
    if len(chosen) != channels:
        raise InputError(
            f"it has {len(chosen)} bands, and the model takes {channels}. Choose {channels} with bands=(1, ...) "
            f"(--bands 1,...)"
        )
    low, high = how.input_range
    neutral = (np.array(how.mean, np.float32) - low) / (high - low)
    if how.input_space == "BGR":
        neutral = neutral[::-1]
    return _Reader(dataset, chosen, scale, neutral.clip(0, 1).reshape(-1, 1, 1))


def _profile(
    dataset: DatasetReader, model: SegmentationModel, core: int, output: str, *, separate: bool
) -> dict[str, Any]:
    classes = _classes(model)
    if output == "labels" and classes > NO_LABEL:
        raise OptionValueError(f"labels of {classes} classes do not fit a band of 8 bits. Use output='probabilities'.")
    points, system = dataset.gcps
    place = {"gcps": points, "crs": system} if points else {"crs": dataset.crs, "transform": dataset.transform}
    return place | {
        "driver": "GTiff",
        "width": dataset.width,
        "height": dataset.height,
        "count": classes if output == "probabilities" or separate else 1,
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


def several(model: SegmentationModel, multilabel: bool | None) -> bool:
    """Return whether a pixel may have several classes."""
    if multilabel is None:
        multilabel = model.config is not None and model.config["activation"] == "sigmoid"
    return _classes(model) > 1 and multilabel


def _describe(result: DatasetWriter, dataset: DatasetReader, model: SegmentationModel, output: str) -> None:
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


def _fill(
    reader: _Reader,
    results: dict[str, DatasetWriter],
    model: SegmentationModel,
    core: int,
    halo: int,
    step: int,
    separate: bool,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> list[int]:
    """Write all windows and return the number of pixels of each class; without labels none is counted."""
    counts = np.zeros(max(_classes(model), 2), np.int64)
    any_result = next(iter(results.values()))
    height, width = any_result.height, any_result.width
    places = [(y, x) for y in range(0, height, core) for x in range(0, width, core)]
    for done, (y, x) in enumerate(places, start=1):
        top, left = max(y - halo, 0), max(x - halo, 0)
        bottom, right = min(y + core + halo, height), min(x + core + halo, width)
        values, valid = reader(Window(left, top, right - left, bottom - top))
        inner = slice(y - top, min(y + core, height) - top), slice(x - left, min(x + core, width) - left)
        here = valid[inner]
        blocks = _blocks(model, values, inner, step, separate, [*results], options) if here.any() else {}
        for kind, result in results.items():
            nothing = np.array(result.nodata, result.dtypes[0])
            block = np.where(here, blocks[kind], nothing) if blocks else np.full((result.count, *here.shape), nothing)
            result.write(block, window=Window(x, y, block.shape[2], block.shape[1]))
            if kind == "labels":
                counts += _counted(block, len(counts))
        if progress:
            progress(done, len(places))
    found: list[int] = counts.tolist()
    return found


def _counted(block: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of pixels of each class in labels (1, h, w), or in as many maps of 0 and 1 (classes, h, w)."""
    counts: np.ndarray
    if len(block) == 1:
        counts = np.bincount(block.ravel(), minlength=NO_LABEL + 1)[:classes]
    else:
        counts = np.count_nonzero(block == 1, axis=(1, 2))
    return counts


def _blocks(
    model: SegmentationModel,
    values: np.ndarray,
    inner: tuple[slice, slice],
    step: int,
    separate: bool,
    kinds: list[str],
    options: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Return what is written of a window, by kind: (bands, h, w)."""
    more = [(0, -size % step) for size in values.shape[1:]]
    padded = np.pad(values, [(0, 0), *more], mode="edge") if any(amount for _, amount in more) else values
    found = predict(model, padded.transpose(1, 2, 0), output=kinds[0], **options).numpy()[(..., *inner)]
    blocks = {kinds[0]: found if found.ndim == 3 else found[None]}
    if len(kinds) > 1:
        decided = found > options["threshold"] if separate or len(found) == 1 else found.argmax(0)[None]
        blocks["labels"] = decided.astype(np.uint8)
    return blocks


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
