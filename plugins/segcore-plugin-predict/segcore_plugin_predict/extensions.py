"""What other packages add to ``segcore predict``: engines, which spread images over processes or machines, backends,
which run a network by other means than torch, and readers of rasters, which keep the place on the earth.

A package names them among its entry points; nothing is imported before it is asked for by name:

.. code-block:: toml

    [project.entry-points."segcore_predict.engines"]
    ray = "segcore_plugin_ray.engine:run"

    [project.entry-points."segcore_predict.backends"]
    onnxruntime = "segcore_plugin_export.backends:load_onnxruntime"

    [project.entry-points."segcore_predict.readers"]
    geotiff = "segcore_plugin_raster.reader:GeoTiffs"

**An engine** is a function ``run(job: Job, paths: Sequence[str]) -> int``. It predicts all images that `paths` mean and
returns the exit code. `segcore_plugin_predict.drive` does what every engine has to do around the images, and
`segcore_plugin_predict.Worker` all that is done to one image, so an engine says only where that happens.

**A backend** is a function ``load(checkpoint: str, device: str | None, threads: int | None) -> torch.nn.Module``.
`checkpoint`, `device` and `threads` are what stands on the command line, None where nothing does. What it returns is a
`BackendModel`, described there.

**The reader** ``geotiff`` is a class that is called without arguments and makes a `RasterReader`. Georeferenced TIFFs
are predicted through it if it is installed.

This module imports no torch.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from segcore import AmbiguousNameError, PluginError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from segcore_plugin_predict.job import Job

ENGINES = "segcore_predict.engines"
BACKENDS = "segcore_predict.backends"
READERS = "segcore_predict.readers"
GEOTIFF = "geotiff"
LOCAL = "local"
TORCH = "torch"
_PACKAGES = {
    (ENGINES, "ray"): "segcore-plugin-ray",
    (BACKENDS, "onnxruntime"): "segcore-plugin-export",
    (BACKENDS, "openvino"): "segcore-plugin-export",
    (READERS, GEOTIFF): "segcore-plugin-raster",
}
_BUILT_IN = {ENGINES: [LOCAL], BACKENDS: [TORCH], READERS: []}
_KINDS = {ENGINES: "engine", BACKENDS: "backend", READERS: "reader"}


class BackendModel(Protocol):
    """What prediction needs of a module that is no `segcore.SegmentationModel`; backends return it.

    It is a ``torch.nn.Module``, which need not have parameters. Called with images (N, C, H, W), prepared as
    ``config["preprocessing"]`` says, it returns scores (N, K, H, W) of the same N, H and W, floating point, for any N
    of at least 1 and any H and W. The images come in the dtype and on the device of its first floating-point parameter
    or buffer, and without any as float32 on the CPU. What it returns is not written to. Calls come from one thread at
    a time, never with gradients.

    Attributes:
        config: what a checkpoint's config says, JSON-able. Needed: ``in_channels`` C, ``classes`` K, ``activation``
            (None or ``"identity"`` if the scores are logits, ``"sigmoid"``, or ``"softmax"``), and ``preprocessing`` as
            `segcore.Preprocessing.as_dict` gives it. Optional: ``class_names``, a list of K names, and
            ``image_size``, height and width of the images of training.
        tile_step: tiles start at multiples of this many pixels, so that they are sampled as the whole image is: the
            least common multiple of the encoder's largest stride and its ``size_multiple``; 1 if nothing is known.
        digest: tells these weights from all others, such as a checksum of the file that is run. Results are predicted
            again when it changes.
    """

    config: dict[str, Any]
    tile_step: int
    digest: str

    def __call__(self, x: Any, /) -> Any:
        """Return the scores of a batch of images."""


class RasterReader(Protocol):
    """Predicts georeferenced rasters window by window into georeferenced results."""

    def predict(
        self,
        model: BackendModel,
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
        """Predict a raster and return its width and height, and the number of pixels of each class.

        Args:
            model: also one of `segcore.SegmentationModel`.
            source: the raster.
            labels: the result; it appears whole and last, under this name.
            probabilities: where to write probabilities, None for not at all.
            facts: JSON-able. The result keeps them, with ``"size"`` and ``"pixels"``, which are returned, added.
            window: height and width of what is predicted at a time, made a multiple of what the format and the network
                need; None for a default.
            halo: pixels seen around it, None for a default.
            bands: see `ReadOptions`; so are `full_scale` and, in `predict`, the others.
            full_scale: the value that counts as 1.
            flips: mirror images that are averaged.
            threshold: probability above which a class is present.
            multilabel: whether a pixel may have several classes. Then `labels` has one band for each class.

        Raises:
            SegcoreError: it cannot be done.
        """

    def facts(self, labels: Path) -> Mapping[str, Any] | None:
        """Return what a result keeps, None if it is none of ours or is not whole."""

    def preview(
        self, source: Path, labels: Path, side: int, *, bands: tuple[int, ...] | None, full_scale: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a raster (h, w, C), float32 in [0, 1], and its result (h, w) or (K, h, w), made smaller, to look at.

        Args:
            source: the raster.
            labels: its result.
            side: most pixels of either side.
            bands: see `ReadOptions`.
            full_scale: the value that counts as 1.
        """


Engine = Callable[["Job", Sequence[str]], int]
Load = Callable[[str, "str | None", "int | None"], BackendModel]


def find_engine(name: str) -> Engine:
    """Return an installed engine; ``"local"`` is built in and is none.

    Raises:
        UnknownNameError: there is none of this name; says which there are, and what to install.
        AmbiguousNameError: several packages have it.
        PluginError: it cannot be imported, or is no function.
    """
    return cast("Engine", _load(ENGINES, name))


def find_backend(name: str) -> Load:
    """Return what loads a checkpoint for an installed backend; ``"torch"`` is built in and is none.

    Raises:
        UnknownNameError: there is none of this name; says which there are, and what to install.
        AmbiguousNameError: several packages have it.
        PluginError: it cannot be imported, or is no function.
    """
    return cast("Load", _load(BACKENDS, name))


def find_raster_reader() -> RasterReader | None:
    """Return the reader of georeferenced TIFFs, None if no package has one.

    Raises:
        AmbiguousNameError: several packages have it.
        PluginError: it cannot be imported.
    """
    try:
        make = _load(READERS, GEOTIFF)
    except UnknownNameError:
        return None
    return cast("RasterReader", make())


def _load(group: str, name: str) -> Any:
    found: dict[str, tuple[str, importlib.metadata.EntryPoint]] = {}
    names = {*_BUILT_IN[group]}
    for distribution, entry in _entries(group):
        names.add(entry.name)
        if entry.name == name:
            found.setdefault(distribution, (distribution, entry))
    if not found:
        package = _PACKAGES.get((group, name))
        hint = f" It comes with {package}: pip install {package}." if package else ""
        raise UnknownNameError(
            f"there is no {_KINDS[group]} {name!r} among the installed packages; there is "
            f"{', '.join(map(repr, sorted(names))) or 'none'}.{hint}"
        )
    if len(found) > 1:
        raise AmbiguousNameError(
            f"{_KINDS[group]} {name!r} is offered by {' and by '.join(sorted(found))}. Uninstall all but one."
        )
    distribution, entry = found.popitem()[1]
    try:
        value = entry.load()
    except Exception as error:
        raise PluginError(
            f"{_KINDS[group]} {name!r} of {distribution} cannot be imported: {type(error).__name__}: {error}. Install "
            f"what it needs, or another version of it.",
            distribution=distribution,
            phase="import",
        ) from error
    if not callable(value):
        raise PluginError(
            f"{_KINDS[group]} {name!r} of {distribution} is no function: {entry.value} is {type(value).__name__}.",
            distribution=distribution,
            phase="contract",
        )
    return value


def _entries(group: str) -> Iterator[tuple[str, importlib.metadata.EntryPoint]]:
    """Yield distributions and entry points; metadata that cannot be read hide nobody else's."""
    for distribution in importlib.metadata.distributions():
        try:
            title = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
            entries = [entry for entry in distribution.entry_points if entry.group == group]
        except Exception:  # noqa: S112 - a stranger's metadata are not our business
            continue
        for entry in entries:
            yield title, entry
