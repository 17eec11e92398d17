"""What other packages add to ``segcore predict``: engines, which spread images over processes or machines, and
backends, which run a network by other means than torch.

A package names them among its entry points; nothing is imported before it is asked for by name:

.. code-block:: toml

    [project.entry-points."segcore_predict.engines"]
    ray = "segcore_plugin_ray.engine:run"

    [project.entry-points."segcore_predict.backends"]
    onnxruntime = "segcore_plugin_export.backends:load_onnxruntime"

**An engine** is a function ``run(job: Job, paths: Sequence[str]) -> int``. It predicts all images that `paths` mean and
returns the exit code. `segcore_plugin_predict.drive` does what every engine has to do around the images, and
`segcore_plugin_predict.Worker` all that is done to one image, so an engine says only where that happens.

**A backend** is a function ``load(checkpoint: str, device: str | None, threads: int | None) -> torch.nn.Module``.
`checkpoint`, `device` and `threads` are what stands on the command line, None where nothing does. What it returns is a
`BackendModel`, described there.

This module imports no torch.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from segcore import AmbiguousNameError, PluginError, UnknownNameError

if TYPE_CHECKING:
    from segcore_plugin_predict.job import Job

ENGINES = "segcore_predict.engines"
BACKENDS = "segcore_predict.backends"
LOCAL = "local"
TORCH = "torch"
_PACKAGES = {
    (ENGINES, "ray"): "segcore-plugin-ray",
    (BACKENDS, "onnxruntime"): "segcore-plugin-export",
    (BACKENDS, "openvino"): "segcore-plugin-export",
}
_BUILT_IN = {ENGINES: LOCAL, BACKENDS: TORCH}
_KINDS = {ENGINES: "engine", BACKENDS: "backend"}


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


def _load(group: str, name: str) -> Any:
    found: dict[str, tuple[str, importlib.metadata.EntryPoint]] = {}
    names = {_BUILT_IN[group]}
    for distribution, entry in _entries(group):
        names.add(entry.name)
        if entry.name == name:
            found.setdefault(distribution, (distribution, entry))
    if not found:
        package = _PACKAGES.get((group, name))
        hint = f" It comes with {package}: pip install {package}." if package else ""
        raise UnknownNameError(
            f"there is no {_KINDS[group]} {name!r} among the installed packages; there is "
            f"{', '.join(map(repr, sorted(names)))}.{hint}"
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
