"""Archives from the network: checked while they come, unpacked without leaving their folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import urllib.request
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm  # type: ignore[import-untyped]

from segcore import InputError, WeightsError

SCHEMES = ("https",)
_STALL = 60  # seconds without a byte
_PIECE = 2**16


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed schemes only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str) -> None:
    """Raise InputError unless the scheme of an address is allowed."""
    if url.partition("://")[0].lower() not in SCHEMES:
        raise InputError(f"{url:.200} is refused: only {', '.join(SCHEMES)} addresses are fetched.")


def download_url(url: str, filepath: str | Path, md5: str | None = None) -> None:
    """Fetch an address into a file unless it is there.

    The file gets its name when it is complete and has the checksum.

    Args:
        url: an https address.
        filepath: its folder is made.
        md5: checksum of the whole; None for no check.

    Raises:
        InputError: the address, or one that it leads to, is not https.
        OSError: the server cannot be reached, or `SEGCORE_OFFLINE` forbids it.
        WeightsError: what came has another checksum or ended early.
    """
    path = Path(filepath)
    if path.exists():
        return
    _check(url)
    if os.environ.get("SEGCORE_OFFLINE") not in {None, "", "0"}:
        raise OSError(f"SEGCORE_OFFLINE forbids fetching {url}. Unset it, or put the file at {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        digest = _receive(url, part)
        if md5 is not None and digest != md5:
            raise WeightsError(f"{url}: what came has the checksum {digest}, {md5} was published. Try again later.")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, part: Path) -> str:
    """Write what an address gives to a file and return its checksum."""
    seen = hashlib.md5(usedforsecurity=False)
    with (
        urllib.request.build_opener(_Redirects).open(url, timeout=_STALL) as response,
        part.open("wb") as file,
    ):
        length = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=length or None, unit="B", unit_scale=True, unit_divisor=1024, desc=part.name) as bar:
            while piece := _piece(response):
                file.write(piece)
                seen.update(piece)
                bar.update(len(piece))
        if length and file.tell() != length:
            raise WeightsError(f"{url}: the connection ended after {file.tell()} of {length} bytes. Try again.")
    return seen.hexdigest()


def _piece(response: Any) -> bytes:
    """Return the next bytes, none at the end, however that came."""
    try:
        return response.read(_PIECE)  # type: ignore[no-any-return]
    except http.client.IncompleteRead as error:
        return error.partial


def extract_archive(filepath: str | Path) -> None:
    """Unpack a tar archive beside itself; files that are there in the right size stay.

    Raises:
        tarfile.FilterError: a member would lie outside the folder, or is no plain file, folder or link within.
    """
    path = Path(filepath).absolute()
    with tarfile.open(path) as archive:
        for member in archive:
            target = path.parent / member.name
            if member.isfile() and target.is_file() and target.stat().st_size == member.size:
                continue
            archive.extract(member, path.parent, filter="data")
