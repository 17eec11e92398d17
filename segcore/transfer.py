"""Bytes over the network: jobs that end when nothing arrives, and a download by https that can be continued."""

from __future__ import annotations

import contextvars
import http.client
import os
import queue
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from segcore import __version__

T = TypeVar("T")

SCHEMES = ("https",)  # of addresses and of what they redirect to
STALL = 60.0  # seconds without a byte
FLOOR, PATIENCE = 2**16, 600.0  # bytes that must have come within so many seconds, or a drip would never end
RETRIES, PAUSE = 5, 1.0  # failures in a row without a byte, and the seconds between them
TICK = 0.2
MAX_SIZE = 2**36
PIECE = 2**16


class TransferError(Exception):
    """A download failed; callers say what it was for."""


class Watch:
    """What a watched job reports: that bytes came, and how many there will be.

    Attributes:
        position: bytes that are there.
        total: bytes that will be there, if known.
        cancelled: whether the job is to stop: nobody waits for it any more.
    """

    def __init__(self) -> None:
        self.position = 0
        self.total: int | None = None
        self.cancelled = False
        self._last = self._since = time.monotonic()
        self._recent = 0

    def came(self, count: int) -> None:
        """Note that `count` bytes have come; 0 is a sign of life.

        Raises:
            TransferError: the job is cancelled.
        """
        if self.cancelled:
            raise TransferError("it was cancelled")
        self._last = time.monotonic()
        self.position += count
        self._recent += count

    def check(self) -> None:
        """Raise a TransferError if too little has come for too long."""
        now = time.monotonic()
        if now - self._last > STALL:
            raise TransferError(f"nothing came for {STALL:g} seconds")
        if now - self._since > PATIENCE:
            if self._recent < FLOOR:
                raise TransferError(f"only {self._recent} bytes came in {PATIENCE:g} seconds")
            self._since, self._recent = now, 0


def watched(job: Callable[[Watch], T], *, label: str | None = None, probe: Callable[[], int] | None = None) -> T:
    """Run a job in a thread and return its result; give it up when it shows no sign of life for `STALL` seconds.

    Args:
        job: called with the watch that it reports to. One that is given up is told so at its next report.
        label: what is shown before the percentage, if standard error is a terminal; None shows nothing.
        probe: a count of bytes that grows while the job lives, for jobs that cannot report.

    Raises:
        TransferError: nothing, or next to nothing, came for too long.
    """
    watch = Watch()
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, job(watch)))
        except BaseException as error:
            answers.put((False, error))

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    meter = _Meter(label)
    seen = probe() if probe else 0
    try:
        while True:
            try:
                done, answer = answers.get(timeout=TICK)
            except queue.Empty:
                pass
            else:
                break
            if probe and (now := probe()) != seen:
                watch.came(max(0, now - seen))
                seen = now
            meter.show(watch)
            watch.check()
    except BaseException:
        watch.cancelled = True
        raise
    finally:
        meter.end()
    if done:
        return answer  # type: ignore[no-any-return]
    raise answer


class _Meter:
    """One line on a terminal that says how far a download is."""

    def __init__(self, label: str | None) -> None:
        self._label = label if label and sys.stderr is not None and sys.stderr.isatty() else None
        self._shown = ""

    def show(self, watch: Watch) -> None:
        if self._label is None or not watch.position:
            return
        text = f"{self._label}: {watch.position / 1e6:.1f} MB"
        if watch.total:
            text = f"{self._label}: {100 * watch.position // watch.total} % of {watch.total / 1e6:.1f} MB"
        if text != self._shown:
            sys.stderr.write("\r" + text.ljust(len(self._shown)))
            sys.stderr.flush()
            self._shown = text

    def end(self) -> None:
        if self._shown:
            sys.stderr.write("\n")
            sys.stderr.flush()


class _BrokenError(Exception):
    """A transfer ended early in a way that another attempt may mend."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed schemes only."""

    max_redirections = 5

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except BaseException:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if url.partition("://")[0].lower() not in SCHEMES:
        raise TransferError(f"{url:.200} is refused: only {', '.join(SCHEMES)} addresses are fetched")


def download(url: str, part: Path, watch: Watch, *, size: int | None = None) -> bool:
    """Fetch an address into a file and return whether what lay there already was continued.

    A part is continued only if the server names it with the same strong entity tag; the tag lies beside it.

    Args:
        url: an https address.
        part: the unfinished file; it stays there when the transfer fails.
        watch: told of every piece.
        size: bytes that the file must have, if known.

    Raises:
        TransferError: the server refuses, breaks off repeatedly, or sends another number of bytes.
        OSError: the file cannot be written.
    """
    _check_scheme(url)
    failures = 0
    while True:
        before = _length(part)
        try:
            return _attempt(url, part, watch, size)
        except _BrokenError as error:
            failures = 0 if _length(part) > before else failures + 1
            if failures >= RETRIES:
                raise TransferError(f"{error}, {failures} times in a row") from error
        time.sleep(PAUSE)


def discard(part: Path) -> None:
    """Remove an unfinished file and its entity tag."""
    part.unlink(missing_ok=True)
    _tag_path(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, watch: Watch, size: int | None) -> bool:
    tag = _read_tag(part)
    offset = _length(part) if tag else 0
    headers = {"User-Agent": f"segcore/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked
        response = urllib.request.build_opener(_Redirects).open(request, timeout=STALL)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            discard(part)
            raise _BrokenError("the part that was there does not fit the file") from None
        text = f"the server answers {error.code} {' '.join(str(error.reason).split()):.120}"
        if error.code in {408, 429} or error.code >= 500:
            raise _BrokenError(text) from None
        raise TransferError(text) from None
    except urllib.error.URLError as error:
        raise _translated(error.reason if isinstance(error.reason, Exception) else error) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _translated(error) from error
    with response:
        if response.status == 206 and (response.headers.get("ETag") != tag or _start(response) != offset):
            discard(part)
            raise _BrokenError("the file changed on the server")
        if response.status != 206:
            offset = 0
            discard(part)
            _write_tag(part, response.headers.get("ETag"))
        total = _announced(response, offset)
        _check_size(total, size, part.parent, offset)
        watch.position, watch.total = offset, total or size
        _receive(response, part, watch, offset, total or size)
    return offset > 0


def _announced(response: Any, offset: int) -> int | None:
    text = response.headers.get("Content-Length", "")
    return offset + int(text) if text.isascii() and text.isdigit() else None


def _start(response: Any) -> int | None:
    span = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(span) if span.isascii() and span.isdigit() else None


def _check_size(total: int | None, size: int | None, folder: Path, offset: int) -> None:
    if total is None:
        return
    if size is not None and total != size:
        raise TransferError(f"the server offers {total} bytes, {size} were published")
    if total > MAX_SIZE:
        raise TransferError(f"the server offers {total} bytes; at most {MAX_SIZE} are fetched")
    free = shutil.disk_usage(folder).free
    if free < total - offset:
        raise TransferError(f"{total - offset} bytes are needed in {str(folder)!r}, {free} are free")


def _receive(response: Any, part: Path, watch: Watch, position: int, total: int | None) -> None:
    with part.open("ab") as file:
        while True:
            try:
                piece = response.read1(PIECE)
            except (http.client.HTTPException, OSError) as error:
                raise _translated(error) from error
            watch.came(len(piece))
            if not piece:
                break
            position += len(piece)
            if position > (MAX_SIZE if total is None else total):
                raise TransferError(f"the server sends more than {total or MAX_SIZE} bytes")
            file.write(piece)
            file.flush()  # who waits for the lock sees it grow
    if total is not None and position < total:
        raise _BrokenError(f"the connection ended after {position} of {total} bytes")


def _translated(error: Exception) -> Exception:
    if isinstance(error, TimeoutError):
        return TransferError(f"nothing came for {STALL:g} seconds")
    if isinstance(error, http.client.InvalidURL):
        return TransferError(str(error))
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.HTTPException)):
        return _BrokenError(f"the connection broke ({type(error).__name__})")
    return TransferError(f"the server cannot be reached ({error})")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _read_tag(part: Path) -> str:
    try:
        return _tag_path(part).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _write_tag(part: Path, tag: str | None) -> None:
    if tag and tag.startswith('"') and tag.isascii() and tag.isprintable():
        _tag_path(part).write_text(tag, encoding="ascii")


def offline() -> str | None:
    """Return the environment variable that forbids all requests, or None."""
    if os.environ.get("SEGCORE_OFFLINE") not in {None, "", "0"}:
        return "SEGCORE_OFFLINE"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE"
    return None
