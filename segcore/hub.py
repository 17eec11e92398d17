"""The Hugging Face Hub through huggingface_hub: its cache, token and variables hold; one commit serves all files."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from segcore import transfer
from segcore.errors import WeightsError, shorten
from segcore.specs import REVISION, SHA256
from segcore.transfer import TransferError, Watch, offline, watched

T = TypeVar("T")

_PIECE = 2**16


class RefusedError(TransferError):
    """The hub answers, and says no."""


def package(what: str, by_hand: str) -> Any:
    """Return the module huggingface_hub, which is an optional dependency.

    Args:
        what: the beginning of the message if it is missing.
        by_hand: how to do without.

    Raises:
        WeightsError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise WeightsError(
            f"{what}, and huggingface_hub is not installed: `pip install segcore[hub]`, or {by_hand}."
        ) from error
    return huggingface_hub


def split_address(url: str) -> tuple[str, str]:
    """Return repository and file of ``hf://owner/repository/file``.

    Raises:
        WeightsError: the address has another form.
    """
    parts = url.removeprefix("hf://").split("/")
    if len(parts) < 3 or not all(part.strip(".") for part in parts):
        raise WeightsError(f"{url!r} is no address on the hub: 'hf://owner/repository/file.safetensors' is needed.")
    return "/".join(parts[:2]), "/".join(parts[2:])


def cached(url: str, revision: str | None) -> Path | None:
    """Return the file of an ``hf://`` address in the hub's cache, unverified, or None; asks no server."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(*split_address(url), revision=revision)
    except ValueError:  # a malformed address
        return None
    return Path(found) if isinstance(found, str) else None


def cache_folder() -> Path | None:
    """Return the folder of the hub's cache; None if huggingface_hub is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    return Path(constants.HF_HUB_CACHE)


def fetch_file(hub: Any, url: str, revision: str | None) -> Path:
    """Return the file of an ``hf://`` address, downloaded into the hub's cache if it is not there.

    Args:
        hub: the module, from `package`.
        url: the address.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        TransferError: the hub refuses or does not answer.
    """
    repository, name = split_address(url)
    return _ask(repository, lambda watch: _file(hub, watch, repository, name, revision, token=None, cache=None))


def _file(
    hub: Any,
    watch: Watch,
    repository: str,
    name: str,
    revision: str | None,
    *,
    token: str | bool | None,
    cache: str | os.PathLike[str] | None,
) -> Path:
    """Download one file into the hub's cache, reporting what comes."""
    options: dict[str, Any] = {}
    if "tqdm_class" in inspect.signature(hub.hf_hub_download).parameters:
        bar = hub.utils.tqdm

        def update(self: Any, n: float | None = 1) -> bool | None:
            watch.came(int(n or 0))
            return bar.update(self, n)  # type: ignore[no-any-return]

        options["tqdm_class"] = type("WatchedBar", (bar,), {"update": update})
    with _SmallPieces(hub):
        path = hub.hf_hub_download(repository, name, revision=revision, token=token, cache_dir=cache, **options)
    return Path(path)


class _SmallPieces:
    """Lets huggingface_hub write, and so report, more often than every 10 MB: on a slow line those are minutes."""

    _lock = threading.Lock()
    _users = 0
    _usual = _PIECE

    def __init__(self, hub: Any) -> None:
        self._constants = hub.constants

    def __enter__(self) -> None:
        with self._lock:
            if _SmallPieces._users == 0:
                _SmallPieces._usual = getattr(self._constants, "DOWNLOAD_CHUNK_SIZE", _PIECE)
                self._constants.DOWNLOAD_CHUNK_SIZE = _PIECE
            _SmallPieces._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            _SmallPieces._users -= 1
            if _SmallPieces._users == 0:
                self._constants.DOWNLOAD_CHUNK_SIZE = _SmallPieces._usual


def _ask(repository: str, job: Callable[[Watch], T], cache: str | os.PathLike[str] | None = None) -> T:
    """Run a job that uses huggingface_hub, watched.

    Raises:
        TransferError: the hub refuses or does not answer.
    """
    from huggingface_hub import constants, errors

    blobs = Path(cache or constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"

    def growth() -> int:
        total = 0
        for path in blobs.glob("*.incomplete"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    try:
        return watched(job, probe=growth)
    except TransferError:
        raise
    except errors.LocalEntryNotFoundError as error:
        raise TransferError(f"the hub cannot be reached ({_first_line(error.__cause__ or error)})") from error
    except (errors.RepositoryNotFoundError, errors.GatedRepoError) as error:
        raise RefusedError(
            "the repository does not exist, or it is private or gated: log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RefusedError("the repository has no such revision") from error
    except errors.EntryNotFoundError as error:
        raise RefusedError("the repository has no such file") from error
    except Exception as error:
        raise TransferError(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}".rstrip(". ")


def digest_of(
    path: Path, algorithm: str = "sha256", *, prefix: bytes = b"", came: Callable[[int], None] = lambda _: None
) -> str:
    """Return the digest of a file in hexadecimal.

    Args:
        path: the file.
        algorithm: a name that `hashlib.new` knows.
        prefix: what is taken in before the file.
        came: called now and then, as a sign of life.
    """
    summary = hashlib.new(algorithm, prefix, usedforsecurity=algorithm != "sha1")
    with path.open("rb") as file:
        while piece := file.read(2**20):
            summary.update(piece)
            came(0)
    return summary.hexdigest()


def object_id(path: Path) -> str | None:
    """Return the digest by which the hub's cache names a file, None for other files.

    It is the SHA-256 of a large file, and git's digest of a small one.
    """
    target = path.readlink() if path.is_symlink() else Path()
    return target.name if target.parent.name == "blobs" else None


def hub_files(
    repo_id: str,
    *,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    subfolder: str | None,
    names: Sequence[str],
) -> tuple[Path, str]:
    """Return a folder with files of a repository, all from one commit, and that commit.

    The revision is resolved once. Each file is compared with the digest that the hub has for it. If the hub cannot be
    reached, what was downloaded before is used, with a warning.

    Args:
        repo_id: ``owner/name``.
        revision: branch, tag or commit; None for the main branch.
        token: None for the one that is logged in, False for none.
        cache_dir: None for huggingface_hub's own.
        local_files_only: ask no server.
        subfolder: of the repository, in which the files lie.
        names: of the files; those that the repository lacks are left out.

    Raises:
        WeightsError: the hub refuses, none of the files exists, or one is damaged.
    """
    what = f"repository {repo_id!r}"
    hub = package(f"{what} lies on the hub", "download its files by other means and pass their folder")
    prefix = subfolder.strip("/").split("/") if subfolder else []
    if not all(part.strip(".") for part in (*prefix, *(revision or "main").split("/"))):
        raise WeightsError(f"{what}: subfolder={subfolder!r} and revision={revision!r} must be names inside it.")
    wanted = ["/".join([*prefix, name]) for name in names]
    ids: dict[str, str] = {}
    variable = "local_files_only" if local_files_only else offline()
    files, commit = _local_files(hub, repo_id, revision, cache_dir, wanted)
    if not variable and (len(files) < len(wanted) or not REVISION.fullmatch(revision or "")):

        def remote(watch: Watch) -> tuple[dict[str, Path], str]:
            api = hub.HfApi(token=token)
            info = api.model_info(repo_id, revision=revision, files_metadata=True, timeout=transfer.STALL)
            ids.update({file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings})
            there = [name for name in wanted if name in ids]
            return {
                name: _file(hub, watch, repo_id, name, info.sha, token=token, cache=cache_dir) for name in there
            }, info.sha

        try:
            files, commit = _ask(repo_id, remote, cache_dir)
        except TransferError as error:
            if not files or isinstance(error, RefusedError):
                raise WeightsError(f"{what} cannot be read: {error}.") from error
            warnings.warn(
                f"{what}: {error}. The files that were downloaded before are used, of commit {commit}.", stacklevel=4
            )
    if not files:
        why = f"not in the cache, and {variable} forbids to ask the hub" if variable else "not in it"
        raise WeightsError(f"{what}, revision {revision or 'main'!r}: {shorten(wanted)} are {why}.")
    name, path = next(iter(files.items()))
    snapshot = path.parents[name.count("/")]
    if ids and revision != commit:
        _note_branch(snapshot, revision or "main", commit)
    for name, path in files.items():
        _check_object(path, ids.get(name) or object_id(path), f"{what}, {name!r}")
    return snapshot.joinpath(*prefix), commit


def _local_files(
    hub: Any, repo_id: str, revision: str | None, cache: str | os.PathLike[str] | None, wanted: Sequence[str]
) -> tuple[dict[str, Path], str]:
    """Return the cached files by name, and their commit; a branch is looked up once."""
    found: dict[str, Path] = {}
    commit = revision
    for name in wanted:
        try:
            path = hub.try_to_load_from_cache(repo_id, name, cache_dir=cache, revision=commit)
        except ValueError as error:
            raise WeightsError(f"{repo_id!r} is no repository on the hub: {_first_line(error)}.") from error
        if isinstance(path, str):
            found[name] = Path(path)
            commit = found[name].parents[name.count("/")].name
    return found, commit or ""


def _note_branch(snapshot: Path, revision: str, commit: str) -> None:
    """Note in the hub's cache which commit a branch is at, so that it is found when offline."""
    path = snapshot.parents[1] / "refs" / revision
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit, encoding="ascii")


def _check_object(path: Path, wanted: str | None, what: str) -> None:
    digest = wanted
    if wanted and SHA256.fullmatch(wanted):
        digest = digest_of(path)
    elif wanted and REVISION.fullmatch(wanted):
        digest = digest_of(path, "sha1", prefix=b"blob %d\0" % path.stat().st_size)
    if digest != wanted:
        raise spoilt(what, path, "the hub", f"its digest is {digest:.16}..., {wanted:.16}... was expected")


def spoilt(what: str, path: Path, source: str, wrong: str) -> WeightsError:
    """Return the error for a file in the hub's cache that is not what was published."""
    return WeightsError(
        f"{what}: {str(path)!r} is not what {source} published: {wrong}. The file is not used. "
        f"It belongs to the cache of huggingface_hub: delete it, and the file that it links to, and fetch it again."
    )


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | bool | None,
    private: bool | None,
    revision: str | None,
    message: str,
) -> str:
    """Upload the files of a folder to a repository in one commit and return the address of that commit.

    Args:
        folder: hidden files in it are left out.
        repo_id: ``owner/name``; made if it does not exist.
        token: None for the one that is logged in.
        private: of a new repository; None for the account's default.
        revision: branch, made if it does not exist; None for the main one.
        message: of the commit.

    Raises:
        WeightsError: offline, or the hub refuses or does not answer.
    """
    what = f"{str(folder)!r} cannot be uploaded to {repo_id!r}"
    variable = offline()
    if variable:
        raise WeightsError(f"{what}: {variable} forbids it.")
    hub = package(what, "upload the folder by other means")
    api = hub.HfApi(token=token)

    def prepare(_: Watch) -> None:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)

    try:
        _ask(repo_id, prepare)
        done = api.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message, ignore_patterns=[".*"]
        )
    except Exception as error:
        text = str(error) if isinstance(error, TransferError) else _first_line(error)
        raise WeightsError(f"{what}: {text}.") from error
    return str(done.commit_url)
