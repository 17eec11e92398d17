"""What `encoder_weights` names, to a loaded encoder: a record, a verified local file, a state dict that fits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore.discovery import catalogue
from segcore.download import cache_dir, fetch, package_path, problem_of
from segcore.encoder import EncoderMixin
from segcore.errors import PluginError, WeightsError, near_match, shorten
from segcore.specs import EncoderSpec, Weights, qualified_name
from segcore.tensorfile import TensorFile, TensorFileError
from segcore.transforms import Preprocessing

WeightsLike = str | os.PathLike[str] | Mapping[str, Tensor] | None


def check_weights(weights: WeightsLike, spec: EncoderSpec | None) -> None:
    """Refuse weights that cannot be loaded, before anything is built.

    Raises:
        WeightsError: an unknown tag or a missing file.
    """
    if weights is None or isinstance(weights, Mapping):
        return
    if isinstance(weights, bool) or not isinstance(weights, (str, os.PathLike)):
        raise WeightsError(
            f"weights={weights!r}: a tag, the path of a .safetensors file, a state dict or None is needed. "
            f"None means random weights."
        )
    if _is_path(weights):
        if not Path(weights).is_file():
            raise WeightsError(f"weights={str(weights)!r}: there is no such file.")
        if Path(weights).suffix != ".safetensors":
            raise WeightsError(
                f"weights={str(weights)!r}: only .safetensors files are read, since other formats can run code. "
                f"Load it with torch.load(path, weights_only=True) and pass the state dict."
            )
        return
    if spec is None or spec.weights_named(str(weights)) is None:
        raise WeightsError(_no_such_weights(str(weights), spec))


def _no_such_weights(tag: str, spec: EncoderSpec | None) -> str:
    name = qualified_name(spec) if spec else "this encoder"
    asked, at, revision = tag.partition("@")
    if spec and asked in spec.unpinned:
        record = spec.unpinned[asked]
        wrong = f"; {revision!r} is none" if at else ""
        return (
            f"the weights {asked!r} of {name!r} lie at {record.url} ({record.license}), and its package vouches for "
            f"none of their commits. Name the one that you trust, '{asked}@<40 hexadecimal digits>'{wrong}. "
            f"Or pass the path of the downloaded file."
        )
    tags = [*spec.weights, *(f"{each}@<commit>" for each in spec.unpinned)] if spec else []
    known = f"it has {shorten(map(repr, tags))}" if tags else "it has no published weights"
    near = near_match(asked, {*spec.weights, *spec.unpinned} if spec else ())
    return f"{name!r} has no weights {tag!r}; {known}. A path must end in .safetensors.{near}"


def load_encoder_weights(
    encoder: nn.Module, weights: WeightsLike, spec: EncoderSpec | None, input_init: str
) -> dict[str, Any] | None:
    """Load weights into an encoder and return what a checkpoint records of their origin, None without weights.

    Raises:
        WeightsError: the file is unreadable, is not what was published, or its keys do not fit.
    """
    check_weights(weights, spec)
    if weights is None:
        return None
    origin: dict[str, Any]
    if isinstance(weights, Mapping):
        state: Mapping[str, Tensor] = weights
        origin = {"tag": None, "source": "a state dict", "license": None}
    elif _is_path(weights):
        state = _read(Path(weights))
        origin = {"tag": None, "source": Path(weights).name, "license": None}
    else:
        assert spec is not None
        tag = str(weights)
        record = record_of(spec, tag)
        state = _read(open_weights(spec, tag))
        origin = {"tag": tag, "source": record.url, "license": record.license, "sha256": record.sha256}
        origin["preprocessing"] = Preprocessing.from_weights(record).as_dict()
    assert isinstance(encoder, EncoderMixin)
    state = encoder.adapt_input(encoder.convert_state_dict(state), input_init)
    load_strictly(encoder, state, f"the weights of {type(encoder).__name__}")
    return origin


def _is_path(weights: str | os.PathLike[str]) -> bool:
    text = os.fspath(weights)
    return (
        not isinstance(weights, str)
        or os.sep in text
        or "/" in text
        or Path(text).suffix in {".safetensors", ".pth", ".pt", ".bin", ".ckpt"}
    )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return TensorFile(path).tensors()
    except (TensorFileError, OSError) as error:
        raise WeightsError(f"{str(path)!r} cannot be read as weights: {error}.") from error


def open_weights(spec: EncoderSpec, tag: str) -> Path:
    """Return a local, verified file of published weights.

    Plugins are asked first (`segcore_open_weights`), then package data and the caches are looked up, then the file is
    downloaded.

    Raises:
        WeightsError: the file is not at hand and cannot be fetched, or is not what was published.
        PluginError: a plugin's hook raised.
    """
    record = record_of(spec, tag)
    for plugin, function in catalogue.implementations("segcore_open_weights"):
        try:
            path = function(spec=spec, tag=tag, weights=record, cache_dir=cache_dir())
        except Exception as error:
            raise PluginError(
                f"{plugin.title}: segcore_open_weights for {qualified_name(spec)!r} raised {error!r}.",
                distribution=plugin.distribution,
                phase="hook",
            ) from error
        if path is not None:
            return _verified(Path(path), record, plugin.title)
    package = package_path(record)
    if package is not None:
        return _verified(package, record, "its package")
    return fetch(record, qualified_name(spec), tag)


def record_of(spec: EncoderSpec, tag: str) -> Weights:
    """Return the record of a tag, of an unpinned one if it names a commit: ``"a1_in1k@<commit>"``.

    Raises:
        WeightsError: an unknown tag, or an unpinned one without a commit.
    """
    record = spec.weights_named(tag)
    if record is None:
        raise WeightsError(_no_such_weights(tag, spec))
    return record


def _verified(path: Path, record: Weights, giver: str) -> Path:
    if not path.is_file():
        raise WeightsError(f"{giver} gives {str(path)!r} for {record.url}, but there is no such file.")
    wrong = problem_of(path, record)
    if wrong:
        raise WeightsError(
            f"{str(path)!r}, given by {giver}, is not what {record.url} published: {wrong}. The file is not used."
        )
    return path


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict whose keys and shapes must all fit; nothing is loaded if they do not.

    Raises:
        WeightsError: with counts and the first missing, unexpected and misshapen keys.
    """
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    problem = misfit(wanted, state)
    if problem:
        whole = any(key.startswith(("encoder.", "module.", "model.encoder.")) for key in state)
        hint = " These are the weights of a whole model: load it with from_pretrained." if whole else ""
        raise WeightsError(f"{what} do not fit: {problem}.{hint}")
    module.load_state_dict(with_counters(wanted, state), strict=True)


def misfit(wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Any]) -> str | None:
    """Return in one line how the keys and shapes of a state dict differ from what is wanted, or None."""
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in wanted.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    parts = [
        f"{len(keys)} {kind} ({shorten(keys, 2)})"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if keys
    ]
    return ", ".join(parts) or None


def with_counters(wanted: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict with BatchNorm's step counters added where old files lack them."""
    lacking = [key for key in wanted if key not in state and key.endswith("num_batches_tracked")]
    return dict(state) | {key: torch.zeros((), dtype=torch.int64) for key in lacking}
