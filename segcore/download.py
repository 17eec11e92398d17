"""Published weights to a local, verified file: segcore's own cache, the cache of the hub, the hub, https."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from segcore import hub, transfer
from segcore.errors import WeightsError
from segcore.hub import hub_files, push_folder
from segcore.specs import SHA256, Weights
from segcore.transfer import TransferError, Watch, offline, watched

__all__ = ["cache_dir", "fetch", "find", "hub_files", "own_path", "package_path", "problem_of", "push_folder"]


def cache_dir() -> Path:
    """Return the folder for downloaded weights: ``SEGCORE_CACHE``, else ``~/.cache/segcore``."""
    return Path(os.environ.get("SEGCORE_CACHE") or Path.home() / ".cache" / "segcore")


def own_path(record: Weights) -> Path:
    """Return where segcore's own cache keeps a file, whether it is there or not."""
    words = unquote(record.url.partition("://")[2].partition("?")[0]).split("/")
    name = "--".join(words) if _on_hub(record) else words[-1]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name.removesuffix(".safetensors"))[:100]
    return cache_dir() / "weights" / f"{name}-{(record.sha256 or _key(record))[:16]}.safetensors"


def _key(record: Weights) -> str:
    return hashlib.sha256(f"{record.url}@{record.revision}".encode()).hexdigest()


def package_path(record: Weights) -> Path | None:
    """Return where the file of a ``package://`` address lies, None for other addresses.

    Raises:
        WeightsError: the package is not installed.
    """
    if not record.url.startswith("package://"):
        return None
    package, _, name = record.url.removeprefix("package://").partition("/")
    try:
        return Path(str(importlib.resources.files(package).joinpath(name)))
    except ImportError as error:
        raise WeightsError(f"the package {package!r}, which holds {record.url}, is not installed.") from error


def find(record: Weights) -> Path | None:
    """Return the local file of published weights, unverified, or None.

    Package data and both caches are looked up; plugins and servers are not asked.
    """
    try:
        own = package_path(record) or own_path(record)
    except WeightsError:
        return None
    if own.is_file():
        return own
    return hub.cached(record.url, record.revision) if _on_hub(record) else None


def _on_hub(record: Weights) -> bool:
    return record.url.startswith("hf://")


def problem_of(path: Path, record: Weights, came: Callable[[int], None] = lambda _: None) -> str | None:
    """Return in a few words why a file is not the published one, or None if it is.

    Where the record has no checksum, the file must be a sound safetensors file and have the digest of the first
    download. That is noted in the cache; the first download itself is compared with the digest by which the hub names
    it, if it does.

    Args:
        path: the file.
        record: what was published.
        came: called now and then, as a sign of life.
    """
    from segcore.tensorfile import TensorFile, TensorFileError  # imports torch, which listing does not need

    wanted, when = record.sha256, ""
    if wanted is None:
        wanted, when = _noted(record), " as at the first download"
    if wanted is None:
        wanted, when = hub.object_id(path), " by the hub"
    try:
        if record.sha256 is None:
            TensorFile(path)
        digest = hub.digest_of(path, came=came)
    except (TensorFileError, OSError) as error:
        return f"it is no sound safetensors file ({error})"
    if wanted and SHA256.fullmatch(wanted) and digest != wanted:
        return f"its SHA-256 is {digest[:16]}..., {wanted[:16]}... was expected{when}"
    if record.sha256 is None and (record.revision or not _on_hub(record)):
        _note(record, digest)
    return None


def fetch(record: Weights, name: str, tag: str) -> Path:
    """Return the local, verified file of published weights; it is downloaded if no cache has it.

    Args:
        record: where the weights lie and what they are.
        name: of the encoder, for messages.
        tag: of the weights, for messages.

    Raises:
        WeightsError: the file is not at hand and cannot be fetched, or is not what was published.
    """
    what = f"weights {tag!r} of {name!r}"
    variable = offline()
    own = own_path(record)
    found = find(record)
    if found and found != own and record.revision is None and not variable:
        found = None  # the main branch may have moved
    removed = ""
    if found:
        wrong = problem_of(found, record)
        if wrong is None:
            return found
        if found != own:
            raise hub.spoilt(what, found, record.url, wrong)
        removed = f" The file in the cache was damaged and is removed: {wrong}."
        if variable or _on_hub(record):
            own.unlink(missing_ok=True)
    by_hand = f"put the file at {str(own)!r}, or pass its path as the weights"
    if variable:
        cache = hub.cache_folder() if _on_hub(record) else None
        raise WeightsError(
            f"{what} are not on this machine, and {variable} forbids to fetch {record.url}.{removed} "
            f"Run `segcore weights fetch {name} --tag {tag}` on a connected machine and copy its cache to "
            f"{str(cache or cache_dir())!r}, or {by_hand}."
        )
    try:
        if _on_hub(record):
            return _from_hub(record, what, by_hand)
        return watched(lambda watch: _from_web(record, watch), label=name)
    except (TransferError, OSError) as error:
        raise WeightsError(f"{what} cannot be fetched from {record.url}: {error}.{removed} Or {by_hand}.") from error


def _from_hub(record: Weights, what: str, by_hand: str) -> Path:
    module = hub.package(f"{what} lie at {record.url}", by_hand)
    path = hub.fetch_file(module, record.url, record.revision)
    wrong = problem_of(path, record)
    if wrong:
        raise hub.spoilt(what, path, record.url, wrong)
    return path


def _from_web(record: Weights, watch: Watch) -> Path:
    from segcore.tensorfile import replacing

    own = own_path(record)
    part = own.with_name(own.name + ".part")
    own.parent.mkdir(parents=True, exist_ok=True)
    with _locked(own, part, watch):
        if own.is_file():
            if problem_of(own, record, watch.came) is None:
                return own  # another process was faster
            own.unlink()
        while True:
            continued = transfer.download(record.url, part, watch, size=record.size)
            wrong = problem_of(part, record, watch.came)
            if wrong is None:
                break
            transfer.discard(part)
            if not continued:
                raise TransferError(f"what came is not what was published, and is removed: {wrong}")
        with replacing(own) as temporary:
            part.replace(temporary)
        transfer.discard(part)
    return own


@contextlib.contextmanager
def _locked(path: Path, part: Path, watch: Watch) -> Iterator[None]:
    """Hold the lock of a file; whoever waits for it lives as long as the part grows."""
    import filelock  # not needed by a model without downloads

    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    seen = 0
    while True:
        try:
            lock.acquire(timeout=transfer.TICK, poll_interval=transfer.TICK / 4)
            break
        except filelock.Timeout:
            if watch.cancelled:
                raise TransferError("it was cancelled") from None
            size = part.stat().st_size if part.exists() else 0
            if size != seen:
                watch.came(max(0, size - seen))
                seen = size
    try:
        yield
    finally:
        lock.release()


def _note_path(record: Weights) -> Path:
    return cache_dir() / "digests" / f"{_key(record)[:32]}.json"


def _noted(record: Weights) -> str | None:
    try:
        digest = json.loads(_note_path(record).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return digest if isinstance(digest, str) and SHA256.fullmatch(digest) else None


def _note(record: Weights, digest: str) -> None:
    from segcore.tensorfile import replacing

    path = _note_path(record)
    if _noted(record) is None:
        with contextlib.suppress(OSError):  # a cache that cannot be written to is used all the same
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                facts = {"url": record.url, "revision": record.revision, "sha256": digest}
                temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
