"""What ``segcore predict`` is asked to do, and all that is done to one image."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import segcore
from segcore import InputError, OptionValueError, PluginError
from segcore_plugin_predict.extensions import TORCH, BackendModel, RasterReader, find_backend, find_raster_reader
from segcore_plugin_predict.inference import overlaps, predict_tiled, predict_together, tile_lengths
from segcore_plugin_predict.inputs import Input
from segcore_plugin_predict.network import Reading, tile_step, trained_size
from segcore_plugin_predict.pictures import MAX_SIDE, palette
from segcore_plugin_predict.reading import ReadOptions, read
from segcore_plugin_predict.results import Finished, Kinds, facts_of, finished, flattened, put_overlay, save, source_of
from segcore_plugin_predict.settings import fingerprint
from segcore_plugin_predict.source import RECORDED
from segcore_plugin_predict.tiff import georeferenced

LARGE = 2_000_000  # pixels above which an image is predicted in tiles, unless the user says otherwise
TILE, OVERLAP = 1024, 128  # unless the checkpoint or the user says otherwise


@dataclass(frozen=True, slots=True)
class Job:
    """The options of ``segcore predict``, which describes them; it can be pickled.

    `tile` is None for the default and 0 for none, `overlap` None for the default, `workers` None for what the engine
    chooses.
    """

    checkpoint: str
    out: Path
    probabilities: bool
    overlays: bool
    flips: str
    tile: int | None
    overlap: int | None
    blend: str
    batch: int
    threshold: float
    multilabel: bool | None
    reading: ReadOptions
    device: str | None
    threads: int | None
    again: bool
    quiet: bool
    backend: str = TORCH
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that was read.

    Attributes:
        image: which.
        pixels: (H, W, C); None for a georeferenced one, which is read window by window while it is predicted.
        source: see `results.source_of`, from before it was read.
    """

    image: Input
    pixels: np.ndarray | None
    source: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An image that was predicted.

    Attributes:
        picture: the image.
        labels: (H, W), or with several labels (K, H, W).
        probabilities: (K, H, W), if they are asked for and are not saved already.
        finished: what is known of a georeferenced one, whose labels and probabilities are saved already. Its pixels and
            labels here are small ones to look at, if an overlay is asked for.
    """

    picture: Picture
    labels: np.ndarray | None
    probabilities: np.ndarray | None
    finished: Finished | None = None


class Worker:
    """A job with its model loaded: does everything that is done to one image. Engines make one for each process.

    A worker cannot be pickled to another process cheaply; send the `Job` and make the worker there. Weights are mapped
    from the checkpoint's file, so workers on one machine share them on the CPU.

    Args:
        job: what to do.

    Attributes:
        job: what to do.
        kinds: which files belong to an image.
        settings: what makes a result another one, as a checksum; the same for equal jobs on every machine.
        displaced: georeferenced images of which `finished` was asked although no reader for them is installed.

    Raises:
        SegcoreError: nothing can be done: wrong options, no checkpoint, no preprocessing, a broken backend.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.displaced = 0
        self._model = load_model(job)
        segcore.preprocessing(self._model)  # type: ignore[arg-type]  # refused now rather than for each image
        self._reading = Reading.of(
            self._model, "probabilities" if job.probabilities else "labels", job.multilabel, job.threshold
        )
        self.kinds = _kinds(self._model, self._reading, job)
        self._raster_kinds = replace(self.kinds, raster=True)
        self.settings = _settings(self._model, job)
        wanted = None if job.tile == 0 else job.tile or RECORDED
        self._tile = tile_lengths(wanted, self._model, tile_step(self._model), TILE)
        self._overlap = overlaps(job.overlap, self._tile, OVERLAP) if self._tile else (0, 0)
        if self._tile and (self._overlap[0] >= self._tile[0] or self._overlap[1] >= self._tile[1]):
            size = " x ".join(map(str, self._tile))
            raise OptionValueError(f"--overlap {job.overlap} must be less than the tiles, {size} pixels. See --tile.")
        self._colours = palette(len(self.kinds.names) + self.kinds.separate)

    @property
    def tiling(self) -> str:
        """What a user should know about tiles, a sentence."""
        if self._tile is None:
            return "Images are predicted whole."
        origin = "as in training" if trained_size(self._model) else "since the checkpoint records no size of training"
        size = f"{self._tile[0]} x {self._tile[1]} pixels"
        if self.job.tile is not None:
            return f"Images are predicted in tiles of {size}."
        return f"Images of more than {LARGE / 1e6:g} million pixels are predicted in tiles of {size}, {origin}."

    def run(self, image: Input, work: Path) -> Finished:
        """Read, predict and save one image.

        Args:
            image: see `find_inputs`.
            work: a folder for unfinished files on the file system of the results; see `workplace`.

        Raises:
            InputError: this image cannot be read or predicted; others may. The message begins with its path.
            OptionValueError: a result cannot be written, which is no fault of the image: stop. The GeoTIFF of a
                georeferenced image raises InputError for that, too.
        """
        return self.save(self.predict(self.read(image)), work)

    def finished(self, image: Input) -> Finished | None:
        """Return the record of an image that was finished before with the same settings, or None if it is to be done.

        With `Job.again` nothing is.
        """
        raster = self._raster(image)
        self.displaced += raster and self._reader is None
        if self.job.again:
            return None
        if raster and self._reader:
            return finished(self.job.out, image, self._raster_kinds, self.settings, self._reader.facts)
        return finished(self.job.out, image, self.kinds, self.settings)

    def read(self, image: Input) -> Picture:
        """Read an image. May be called in another thread than `predict`.

        Raises:
            InputError: it cannot be read; the message begins with its path.
        """
        try:
            source = source_of(image.path)  # before it is read: a file that changes meanwhile is predicted again
            if self._raster(image) and self._reader:
                return Picture(image, None, source)
            return Picture(image, read(image.path, self._model.config["in_channels"], self.job.reading), source)
        except Exception as error:
            raise _named(image, error) from error

    def predict(self, picture: Picture) -> Prediction:
        """Predict an image. The results of a georeferenced one but for the overlay are saved on the way.

        Raises:
            InputError: it cannot be predicted; the message begins with its path.
        """
        try:
            if picture.pixels is None:
                return self._predict_raster(picture)
            return Prediction(picture, *self._result(picture.pixels))
        except Exception as error:
            raise _named(picture.image, error) from error

    def together(self, first: Picture, other: Picture) -> bool:
        """Return whether two images may be predicted in one call of the network: whole ones of one size and kind."""
        a, b = first.pixels, other.pixels
        return a is not None and b is not None and self._whole(a) and (a.shape, a.dtype) == (b.shape, b.dtype)

    def predict_together(self, pictures: Sequence[Picture]) -> list[Prediction | InputError]:
        """Predict images of which each may be predicted together with the first; one that fails spoils no other."""
        arrays = [picture.pixels for picture in pictures if picture.pixels is not None]
        if len(arrays) > 1:
            try:
                found = predict_together(self._model, arrays, **self._options)
                return [
                    Prediction(picture, *self._decided(each)) for picture, each in zip(pictures, found, strict=True)
                ]
            except Exception:  # noqa: S110 - one by one it shows whose fault it is, and less memory is needed
                pass
        outcomes: list[Prediction | InputError] = []
        for picture in pictures:
            try:
                outcomes.append(self.predict(picture))
            except InputError as error:
                outcomes.append(error)
        return outcomes

    def save(self, prediction: Prediction, work: Path) -> Finished:
        """Write the files of an image, the label map last. May be called in another thread than `predict`.

        Raises:
            OptionValueError: a file cannot be written.
        """
        picture, out = prediction.picture, self.job.out
        if prediction.finished and not self.kinds.overlays:
            return prediction.finished
        assert picture.pixels is not None
        assert prediction.labels is not None
        if prediction.finished:
            colours = np.vstack([self._colours, np.zeros((1, 3), np.uint8)])  # for pixels without data
            shown = picture.pixels, flattened(prediction.labels), colours
            put_overlay(out, work, picture.image, self._raster_kinds, *shown)
            return prediction.finished
        found = picture.source, picture.pixels, prediction.labels, prediction.probabilities, self._colours
        return save(out, work, picture.image, self.kinds, self.settings, *found)

    @functools.cached_property
    def _reader(self) -> RasterReader | None:
        return find_raster_reader()

    def _raster(self, image: Input) -> bool:
        """Return whether an image is georeferenced; a page that is asked for is read as a picture."""
        return self.job.reading.frame is None and georeferenced(image.path)

    def _predict_raster(self, picture: Picture) -> Prediction:
        job, name, path = self.job, picture.image.name, picture.image.path
        assert self._reader is not None
        labels = job.out / self._raster_kinds.maps(name)[0]
        labels.parent.mkdir(parents=True, exist_ok=True)
        size, pixels = self._reader.predict(
            self._model,
            path,
            labels,
            job.out / f"{name}.probabilities.tif" if job.probabilities else None,
            facts_of(picture.image, self._raster_kinds, self.settings, picture.source),
            window=job.tile or None,
            halo=job.overlap,
            bands=job.reading.bands,
            full_scale=job.reading.full_scale,
            flips=job.flips,
            threshold=job.threshold,
            multilabel=job.multilabel,
        )
        done = Finished(name, size, tuple(pixels))
        if not job.overlays:
            return Prediction(picture, None, None, done)
        bands, scale = job.reading.bands, job.reading.full_scale
        shown, classes = self._reader.preview(path, labels, MAX_SIDE, bands=bands, full_scale=scale)
        return Prediction(replace(picture, pixels=shown), classes, None, done)

    def _whole(self, pixels: np.ndarray) -> bool:
        """Return whether an image is predicted without tiles."""
        return self._tile is None or (self.job.tile is None and pixels.shape[0] * pixels.shape[1] <= LARGE)

    @property
    def _options(self) -> dict[str, Any]:
        reading, job = self._reading, self.job
        return {"output": reading.output, "flips": job.flips, "multilabel": job.multilabel, "threshold": job.threshold}

    def _result(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the labels, and the probabilities if they are asked for."""
        tile = None if self._whole(pixels) else self._tile
        how = self._options | {"blend": self.job.blend, "batch": self.job.batch}
        return self._decided(predict_tiled(self._model, pixels, tile, self._overlap, **how))

    def _decided(self, predicted: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """Return labels, and probabilities if they are what was predicted."""
        reading = self._reading
        if reading.output == "labels":
            return predicted.numpy(), None
        classes = len(predicted)
        separate = classes > 1 and reading.separate(classes)
        labels = torch.empty(
            predicted.shape if separate else predicted.shape[1:], dtype=torch.uint8 if classes <= 256 else torch.int32
        )
        decide = Reading("labels", probable=True, multilabel=reading.multilabel, threshold=reading.threshold)
        decide.labels(predicted, labels)
        return labels.numpy(), predicted.numpy()


def load_model(job: Job) -> BackendModel:
    """Load the checkpoint of a job with its backend.

    Raises:
        SegcoreError: there is no such backend, checkpoint or device, or the backend's answer lacks what is needed.
    """
    if job.threads:
        torch.set_num_threads(job.threads)
    if job.backend == TORCH:
        return cast("BackendModel", segcore.from_pretrained(job.checkpoint).to(_device(job.device)))
    model = find_backend(job.backend)(job.checkpoint, job.device, job.threads)
    _check_network(model, job.backend)
    return model


def _check_network(model: BackendModel, backend: str) -> None:
    config = getattr(model, "config", None)
    missing = [name for name in ("tile_step", "digest") if not hasattr(model, name)]
    if isinstance(config, dict):
        missing += [f"config[{key!r}]" for key in ("in_channels", "classes", "activation") if key not in config]
    else:
        missing.append("config")
    if missing or not callable(model):
        raise PluginError(
            f"backend {backend!r} returned {type(model).__name__}, which lacks {', '.join(missing) or 'a call'}: see "
            f"segcore_plugin_predict.BackendModel. It may be made for another version of segcore-plugin-predict.",
            phase="contract",
        )


def _named(image: Input, error: Exception) -> InputError:
    """Return an error whose message begins with the image."""
    if isinstance(error, InputError) and str(image.path) in str(error):
        return error
    return InputError(f"{image.path}: {type(error).__name__}: {error}")


def _kinds(model: BackendModel, reading: Reading, job: Job) -> Kinds:
    classes: int = model.config["classes"]
    given = model.config.get("class_names")
    names = tuple(given or (f"class {index}" for index in range(classes)))
    separate = classes > 1 and reading.separate(classes)
    if classes == 1:
        names = ("background", names[0] if given else "object")
    return Kinds(names, bool(given), separate, job.probabilities, job.overlays)


def _settings(model: BackendModel, job: Job) -> str:
    options = ("backend", "flips", "tile", "overlap", "blend", "threshold", "multilabel")
    reading = ("bands", "alpha", "full_scale", "frame")
    return fingerprint(
        model,
        {name: getattr(job, name) for name in options} | {name: getattr(job.reading, name) for name in reading},
    )


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionValueError(f"--device {name!r} cannot be used: {reason}") from error
