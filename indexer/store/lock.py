"""Locks of a store: one writes at a time, and parts stay while somebody reads them."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from indexer.errors import DamagedStoreError
from indexer.progress import Listen, ignore
from indexer.store.disk import open_own, writing

try:
    import fcntl
except ImportError:  # Windows, which deletes no file that somebody has open
    fcntl = None  # type: ignore[assignment]

WRITER_LOCK_FILE = ".writer.lock"
READERS_LOCK_FILE = ".readers.lock"
_SIGNATURE = "\nprocess "

#: Locks that this process holds.
_held: set[IO[bytes]] = set()


@contextmanager
def sole_writer(store: Path, listen: Listen = ignore) -> Iterator[bool]:
    """Be the only one who writes to a store; wait while somebody else is.

    The system lets go of the lock when the process ends, however it ends. It works between machines
    where their file system has locks that do.

    Args:
        store: Directory of the store.
        listen: Hears who is waited for, if somebody is.

    Yields:
        Whether it had to wait: what was looked at before may have changed.

    Raises:
        StoreError: If the store cannot be written, or its file system has no locks.
    """
    with writing(store):
        _open(store / READERS_LOCK_FILE).close()
        lock = _open(store / WRITER_LOCK_FILE)
    with _owned(lock):
        with writing(store):
            has_waited = _take(lock, store, listen)
            _sign(lock, store)
        yield has_waited


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file alone; wait while somebody else does. The file stays.

    Raises:
        OSError: If it cannot be written, or its file system has no locks.
    """
    with _owned(_open(path)) as lock:
        lock_descriptor(lock.fileno())
        yield


class Hold:
    """Parts stay on disk while one of these is there, whatever takes their place meanwhile."""

    def __init__(self, store: Path) -> None:
        """Take part in holding the parts of a store; wait while somebody renames some.

        Every writer makes the lock, so that whoever may only read has it, too. On a disk that is
        read-only nobody can, and nobody deletes parts there.
        """
        with suppress(OSError):
            lock = _open_readers_lock(store)
            _held.add(lock)
            weakref.finalize(self, _release, lock)
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_SH)


@contextmanager
def without_readers(store: Path) -> Iterator[bool]:
    """Keep new readers of the parts of a store waiting, unless there are some.

    Yields:
        Whether there are none, so that parts may be deleted.
    """
    with _owned(_open(store / READERS_LOCK_FILE)) as lock:
        yield lock_descriptor(lock.fileno(), blocking=False)


def _open_readers_lock(store: Path) -> IO[bytes]:
    try:
        return _open(store / READERS_LOCK_FILE, os.O_RDONLY)  # also of a store that others write
    except FileNotFoundError:
        return _open(store / READERS_LOCK_FILE)


def _open(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> IO[bytes]:
    """Open a lock, new or old; it is no link, and keeps what is in it."""
    try:
        return open_own(path, flags)
    except DamagedStoreError as error:
        remedy = "remove it, if nobody needs it: a lock is made anew where one is missing"
        raise DamagedStoreError(path, error.reason, remedy) from error


def _release(lock: IO[bytes]) -> None:
    _held.discard(lock)
    lock.close()


@contextmanager
def _owned(lock: IO[bytes]) -> Iterator[IO[bytes]]:
    """Close a lock at the end, which frees it; a process that is forked meanwhile closes it too."""
    _held.add(lock)
    try:
        yield lock
    finally:
        _release(lock)


def _take(lock: IO[bytes], store: Path, listen: Listen) -> bool:
    if lock_descriptor(lock.fileno(), blocking=False):
        return False
    lock.seek(0 if os.name == "posix" else 1)  # Windows lets nobody read the first byte meanwhile
    who = lock.read(200).decode(errors="replace").strip() or "another process"
    listen(f"{store} is being written by {who}; waiting for it to end")
    lock_descriptor(lock.fileno())
    return True


def _sign(lock: IO[bytes], store: Path) -> None:
    """Say in the lock who holds it, for whoever has to wait."""
    lock.seek(0)
    before = lock.read(200).decode(errors="replace")
    if before.strip() and not before.lstrip().startswith(_SIGNATURE.lstrip()):
        raise DamagedStoreError(
            store / WRITER_LOCK_FILE,
            "it is no lock of this tool, and is not overwritten",
            "delete it if nobody needs what is in it",
        )
    since = datetime.now(UTC).isoformat(timespec="seconds")
    lock.seek(0)
    lock.truncate()
    lock.write(f"{_SIGNATURE}{os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    lock.flush()


def _let_go() -> None:
    """Close the locks in a process that was forked: it must not outlive us as their owner."""
    for lock in set(_held):
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_let_go)
