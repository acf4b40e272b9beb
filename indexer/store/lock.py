"""One writer at a time: whoever adds to a store, or tidies it, holds its lock meanwhile."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from indexer.progress import Listen, ignore
from indexer.store.disk import writing

WRITER_LOCK_FILE = ".writer.lock"

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
        lock = (store / WRITER_LOCK_FILE).open("a+b")
    with _owned(lock):
        with writing(store):
            has_waited = _take(lock, store, listen)
            _sign(lock)
        yield has_waited


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file alone; wait while somebody else does. The file stays.

    Raises:
        OSError: If it cannot be written, or its file system has no locks.
    """
    with _owned(path.open("ab")) as lock:
        lock_descriptor(lock.fileno())
        yield


@contextmanager
def _owned(lock: IO[bytes]) -> Iterator[IO[bytes]]:
    """Close a lock at the end, which frees it; a process that is forked meanwhile closes it too."""
    _held.add(lock)
    try:
        yield lock
    finally:
        _held.discard(lock)
        lock.close()


def _take(lock: IO[bytes], store: Path, listen: Listen) -> bool:
    if lock_descriptor(lock.fileno(), blocking=False):
        return False
    lock.seek(0 if os.name == "posix" else 1)  # Windows lets nobody read the first byte meanwhile
    who = lock.read().decode(errors="replace").strip() or "another process"
    listen(f"{store} is being written by {who}; waiting for it to end")
    lock_descriptor(lock.fileno())
    return True


def _sign(lock: IO[bytes]) -> None:
    """Say in the lock who holds it, for whoever has to wait."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    lock.truncate(0)
    lock.write(f"\nprocess {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    lock.flush()


def _let_go() -> None:
    """Close the locks in a process that was forked: it must not outlive us as their owner."""
    for lock in _held:
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_let_go)
