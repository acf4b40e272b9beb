"""Files that are whole or absent: atomic writes, digests, and JSON that carries its own digest.

A store may come from a stranger. It is read, written and deleted only where it is: nothing in it is
followed through a link, and nothing but a regular file is opened.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa

from indexer.errors import DamagedStoreError, StoreError

#: A file that is locked while its owner lives is called like what it guards, and this.
LOCK_SUFFIX = ".lock"
#: What is being written, and what a process left behind that ended while it wrote.
TEMPORARY_PREFIX = ".tmp-"
#: Longest document that is read, in bytes. A manifest of 100,000 files has 15 MB.
MOST_DOCUMENT_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
_DIGEST_KEY = "digest"
#: Of madvise, as Linux, macOS and the BSDs number it.
_MADV_RANDOM = 1
#: What `write_whole` and the writers of folders call what is not whole yet.
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?:.+-)?[0-9a-f]{32}", re.DOTALL)
#: A link is an error, and a pipe does not keep whoever opens it waiting; Windows has neither flag.
AS_IT_LIES = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path: Path, flags: int = os.O_RDONLY) -> BinaryIO:
    """Open a file of a store: a regular one, and not through a link.

    Args:
        path: Of the file.
        flags: As for `os.open`: to read, or to read and write.

    Raises:
        DamagedStoreError: If it is a link, a folder, a pipe or a device.
        OSError: If it cannot be opened.
    """
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        _refuse(path, "a link")
    try:
        descriptor = os.open(path, flags | AS_IT_LIES | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            _refuse(path, "no regular file", error)
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        _refuse(path, "no regular file")
    return os.fdopen(descriptor, "r+b") if flags & os.O_RDWR else os.fdopen(descriptor, "rb")


def own_size(path: Path) -> int:
    """Return the size of a file of a store in bytes.

    Raises:
        DamagedStoreError: If it is a link, a folder, a pipe or a device.
        OSError: If it is not there.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        _refuse(path, "no regular file")
    return status.st_size


def require_own_folder(path: Path) -> None:
    """Raise unless a folder of a store, if it is there, is a folder and no link to one.

    Raises:
        DamagedStoreError: If it is not.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            _refuse(path, "no folder")


def _refuse(path: Path, what: str, cause: OSError | None = None) -> NoReturn:
    if path.is_symlink():
        raise DamagedStoreError(
            path,
            "it is a symbolic link: nothing in a store is read, written or deleted through links",
            "put in its place what it leads to, or move the whole store there",
        ) from cause
    raise DamagedStoreError(
        path, f"it is {what}", "bring back from a copy what belongs there"
    ) from cause


def read_own(path: Path, most_bytes: int = MOST_DOCUMENT_BYTES) -> bytes:
    """Return the content of a small file of a store.

    Raises:
        DamagedStoreError: If it is no regular file, or longer than `most_bytes`.
        OSError: If it cannot be read.
    """
    with open_own(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise DamagedStoreError(path, f"it has more than {most_bytes:,} bytes")
    return content


def map_own(path: Path, *, scattered: bool = False) -> pa.Buffer:
    """Map a file of a store. The mapping lasts as long as the buffer, and needs no descriptor.

    Args:
        path: The file.
        scattered: Whether it is read here and there: then nothing around is read as well.

    Raises:
        DamagedStoreError: If it is a link, a folder, a pipe or a device.
        OSError: If it cannot be read.
    """
    with open_own(path) as file:
        # By its descriptor: pyarrow takes no name that is not UTF-8.
        name = f"/dev/fd/{file.fileno()}" if os.name == "posix" else str(path)
        with pa.memory_map(name) as mapped:
            buffer = mapped.read_buffer()
    if scattered and buffer.size and os.name == "posix":
        with suppress(OSError, AttributeError):  # it is advice
            advise = ctypes.CDLL(None).madvise
            advise(ctypes.c_void_p(buffer.address), ctypes.c_size_t(buffer.size), _MADV_RANDOM)
    return buffer


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file of a store, in hex.

    Raises:
        DamagedStoreError: If it is no regular file.
        OSError: If it cannot be read.
    """
    with open_own(path) as file:
        digest = hashlib.sha256()
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


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
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file in the place of another, which stays as it is for whoever has it open.

    What is there may be a link: that goes, and what it leads to stays as it is.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of that name is what a writer of ours had not finished."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


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
    content = read_own(path)
    try:
        document: dict[str, Any] = json.loads(content)
        del document[_DIGEST_KEY]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedStoreError(path, "its content is no document of this tool") from error
    if seal(document) != content:  # every byte, so that no change goes unseen
        raise DamagedStoreError(path, "its content does not match its digest")
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
