"""Files that are whole or absent: atomic writes, digests, and JSON that carries its own digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from indexer.errors import DamagedStoreError, StoreError

#: A file that is locked while its owner lives is called like what it guards, and this.
LOCK_SUFFIX = ".lock"
#: What is being written, and what a process left behind that ended while it wrote.
TEMPORARY_PREFIX = ".tmp-"
_DIGEST_KEY = "digest"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make a file's bytes survive a loss of power, as far as the disk is honest."""
    _sync(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # Windows syncs what it may write


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    if hasattr(os, "O_DIRECTORY"):  # Windows lets nobody open a folder
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a mixture."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_all(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def seal(document: dict[str, Any]) -> bytes:
    """Return a document as JSON that carries the SHA-256 of its own content."""
    return _encode({**document, _DIGEST_KEY: hashlib.sha256(_encode(document)).hexdigest()})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a document that `seal` made.

    Returns:
        The document, without its digest.

    Raises:
        DamagedStoreError: If the bytes are not those that were written.
        OSError: If the file cannot be read.
    """
    content = path.read_bytes()
    try:
        document: dict[str, Any] = json.loads(content)
        del document[_DIGEST_KEY]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedStoreError(f"{path} is damaged: it is not a document of this tool") from error
    if seal(document) != content:  # every byte, so that no change goes unseen
        raise DamagedStoreError(f"{path} is damaged: its content does not match its digest")
    return document


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn what a full or a read-only disk makes a write raise into a StoreError.

    Args:
        path: Directory of the store.
        advice: What the message ends with.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreError(f"cannot write to the store {path}: {reason}{advice}") from error
