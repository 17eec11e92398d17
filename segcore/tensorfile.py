"""Reading and writing safetensors files: read strictly from one descriptor and mapped, written as one rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import platform
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

MAX_HEADER = 16 * 2**20
ALIGNMENT = 64  # of torch's own memory
COPIED = 2**20
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorFileError(ValueError):
    """A file is no well-formed safetensors file; callers turn it into an error of their own kind."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: dtype, shape, and first and last byte behind the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """A safetensors file, opened once: its header is checked at once, its tensors are mapped when asked for.

    Args:
        path: a regular file.

    Attributes:
        entries: what the header says of each tensor, by name.
        metadata: the header's own texts.

    Raises:
        TensorFileError: the header is malformed or contradicts the file.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise TensorFileError("it is no regular file")
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > state.st_size - 8:
                raise TensorFileError("it is no safetensors file, or cut off in its header")
            if length > MAX_HEADER:
                raise TensorFileError(f"its header has {length} bytes; at most {MAX_HEADER} are read")
            self.metadata, self.entries = _parse_header(file.read(length), state.st_size - 8 - length)
            self._start = 8 + length
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors, mapped from the file; writing to one copies the page and leaves the file alone.

        Small ones that do not lie on a multiple of 64 bytes are copied: torch's kernels round differently there, and a
        loaded model must give what the saved one gave.
        """
        return {name: self._tensor(entry) for name, entry in self.entries.items()}

    def _tensor(self, entry: Entry) -> Tensor:
        count = math.prod(entry.shape)
        if count == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        offset, size = self._start + entry.begin, entry.end - entry.begin
        if offset % entry.dtype.itemsize:  # legal, but torch cannot view it
            return torch.frombuffer(bytearray(self._map[offset : offset + size]), dtype=entry.dtype).reshape(
                entry.shape
            )
        mapped = torch.frombuffer(self._map, dtype=entry.dtype, count=count, offset=offset).reshape(entry.shape)
        return mapped.clone() if offset % ALIGNMENT and size <= COPIED else mapped


def _parse_header(raw: bytes, size: int) -> tuple[dict[str, str], dict[str, Entry]]:
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except TensorFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"its header is no JSON: {str(error)[:120]}") from None
    if not isinstance(header, dict):
        raise TensorFileError("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise TensorFileError("its metadata are not texts by name")
    entries = {name: _entry(name, value) for name, value in header.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise TensorFileError(f"tensor {name[:80]!r} begins at byte {entry.begin}; {position} was expected")
        position = entry.end
    if position != size:
        raise TensorFileError(f"its header describes {position} bytes of tensors, the file holds {size}")
    return metadata, entries


def _entry(name: str, value: Any) -> Entry:
    where = f"tensor {name[:80]!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(f"{where} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise TensorFileError(f"{where} has dtype {dtype!r:.40}; known are {', '.join(_DTYPES)}")
    if not _counts(shape) or len(shape) > 16:
        raise TensorFileError(f"{where} has the shape {shape!r:.60}")
    if not _counts(offsets) or len(offsets) != 2:
        raise TensorFileError(f"{where} has the offsets {offsets!r:.60}")
    begin, end = offsets
    if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise TensorFileError(f"{where} of shape {shape!r:.60} and dtype {dtype} cannot have {end - begin} bytes")
    return Entry(_DTYPES[dtype], tuple(shape), begin, end)


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TensorFileError("its header has the same key twice")
    return found


def _no_constant(text: str) -> None:
    raise TensorFileError(f"its header contains {text}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that at every moment the old or the new file is there, whole.

    Tensors whose size is a multiple of 64 bytes come first, behind a header padded to that, so that they can be mapped
    where torch's kernels want them. The reference implementation reads the file's header before it replaces the old.
    """
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (sizes[name] % ALIGNMENT != 0, -tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    for name in order:
        span = [position, position + sizes[name]]
        header[name] = {"dtype": _NAMES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": span}
        position = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                file.write(_bytes(tensors[name]))
        with safe_open(temporary, framework="pt") as check:
            if set(check.keys()) != set(tensors):
                raise TensorFileError("the file that was written does not hold the tensors that it should")


def _bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a tensor without copying it, if it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder; on success it is flushed to disk and renamed to `path`.

    The mode is that of the old file, or what the umask gives a new one. On any exception the old file stays. What a
    killed process left behind is removed.
    """
    host = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    stem = f".{path.name}.{host}-"
    _remove_litter(path.parent, stem)
    temporary = path.with_name(f"{stem}{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield temporary
        temporary.chmod(_mode_for(path))
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_litter(folder: Path, stem: str) -> None:
    for entry in folder.glob(f"{stem}*.tmp"):
        owner = entry.name.removeprefix(stem).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            entry.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # there a signal of 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _mode_for(path: Path) -> int:
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
