"""Downloads: resumed, checked against a published digest, and there only when they are whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from filelock import lock_descriptor

from indexer.errors import CheckpointError
from indexer.progress import Listen, Step, ignore

#: Nothing longer is downloaded or loaded: the published checkpoints have some 113 MB.
MAX_BYTES = 2 << 30

#: Longest silence of a server, in seconds.
_TIMEOUT_S = 30.0
_ATTEMPTS = 5
#: Wait before the second attempt; doubled before each one after it.
_RETRY_WAIT_S = 0.5
_BLOCK_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def download_file(url: str, target: Path, md5: str | None, listen: Listen = ignore) -> None:
    """Download a file, unless it is there already.

    What has come is kept beside the target as `<name>.part`, from which this call or a later one
    resumes. Several processes may ask at once: one downloads, the others wait for it.

    Args:
        url: Of the file, http or https.
        target: Where to. Its folder is made.
        md5: Digest of the file, in hex; None if it is not known: then whatever comes is taken.
        listen: Hears at the start and after each block how many bytes are on disk, fewer than
            before only where a server cannot resume; in a sentence, what is waited for and what
            is tried again.

    Raises:
        CheckpointError: If the server cannot be reached, refuses, breaks off again and again or
            sends something else, or if the file cannot be written.
    """
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise CheckpointError(f"cannot download {url}: only http and https are spoken here")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f".{target.name}.lock"), listen):
            if not target.exists():  # another process may have been first
                _download(url, target, md5, listen)
    except OSError as error:  # of the disk; those of the network are handled where they occur
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error


def md5_of(path: Path) -> str:
    """Return the digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _md5).hexdigest()


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)  # allowed on systems that forbid it for security


@contextlib.contextmanager
def _locked(path: Path, listen: Listen) -> Iterator[None]:
    """Hold a lock that ends with the process. Its file stays: removing it would let two in."""
    with path.open("ab") as file:
        if not lock_descriptor(file.fileno(), blocking=False):
            listen(f"waiting for another process that downloads to {path.parent}")
            lock_descriptor(file.fileno())
        yield


def _download(url: str, target: Path, md5: str | None, listen: Listen) -> None:
    part = target.with_name(f"{target.name}.part")
    if md5 is None:
        part.unlink(missing_ok=True)  # nothing tells whether it is of the same file
        _receive_all(url, part, listen)
    elif not (part.exists() and md5_of(part) == md5):  # it ended between last byte and rename
        _receive_right(url, part, md5, listen)
    with part.open("rb") as file:
        os.fsync(file.fileno())  # so that a loss of power cannot leave the name without the bytes
    part.replace(target)


def _receive_right(url: str, part: Path, md5: str, listen: Listen) -> None:
    """Fill a `.part` file, and make sure that it is what it should be."""
    pieced = _receive_all(url, part, listen)
    found = md5_of(part)
    if found != md5 and pieced:  # the file on the server may have changed between the pieces
        part.unlink()
        _receive_all(url, part, listen)
        found = md5_of(part)
    if found != md5:
        part.unlink()
        raise CheckpointError(f"what came from {url} has MD5 {found}, not {md5}; it was removed")


class _BrokenError(Exception):
    """An attempt failed in a way that the next one may not."""


class _UnreachableError(_BrokenError):
    """No connection was made."""


def _receive_all(url: str, part: Path, listen: Listen) -> bool:
    """Fill a `.part` file, in several attempts if need be; return whether it came in pieces."""
    host = urllib.parse.urlsplit(url).netloc
    reason = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_RETRY_WAIT_S * 2 ** (attempt - 1))
        try:
            return _receive(url, part, listen)
        except _BrokenError as error:
            if attempt == 0 and isinstance(error, _UnreachableError):  # offline: no use in waiting
                raise CheckpointError(f"cannot reach {host} ({error})") from error
            reason = str(error)
            listen(f"attempt {attempt + 1} to download {url}: {reason}")
    kept = _size(part)
    raise CheckpointError(
        f"gave up on {host} after {_ATTEMPTS} attempts ({reason}); running the command again "
        f"resumes after the {kept} bytes that came"
    )


def _receive(url: str, part: Path, listen: Listen) -> bool:
    """Append to a `.part` file until it is whole; return whether it held something before."""
    with _open(url, _size(part)) as response:
        start, total = _extent(response, part)
        done = start
        with part.open("ab" if start else "wb") as file:
            listen(Step("downloading", done, total, "byte"))
            while block := _read(response):
                done += len(block)
                if done > MAX_BYTES:
                    part.unlink()
                    raise CheckpointError(f"{url} sends more than {MAX_BYTES} bytes")
                file.write(block)
                listen(Step("downloading", done, total, "byte"))
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended after {done} of {total} bytes")
    return start > 0


@contextlib.contextmanager
def _open(url: str, offset: int) -> Iterator[HTTPResponse]:
    """Ask for a file from an offset on; the answer may start elsewhere."""
    headers = {"User-Agent": "soundalike", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            with _open(url, 0) as whole:  # the file there is shorter than what is here
                yield whole
            return
        if error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500:
            raise _BrokenError(f"it answers {error.code} {error.reason}") from error
        raise CheckpointError(f"{url} answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _UnreachableError(error.reason) from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: redirected to nonsense
        raise _BrokenError(_reason(error)) from error
    with contextlib.closing(response):
        yield response


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that speaks http and https only, wherever it is redirected."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _extent(response: HTTPResponse, part: Path) -> tuple[int, int | None]:
    """Return the offset at which an answer starts, and the length of the whole file if told."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != _size(part):
        part.unlink(missing_ok=True)
        raise _BrokenError("it sent another part of the file than was asked for")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK_BYTES)
    except (OSError, HTTPException) as error:
        raise _BrokenError(_reason(error)) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
