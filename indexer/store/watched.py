"""What files of a store say now: they are looked at each time, and read where they are others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from indexer.store.disk import AS_IT_LIES

#: What was changed so lately may be changed once more and look the same: the clocks of file systems
#: have steps, of up to 2 s.
_SETTLED_NS = 2_000_000_000
_T = TypeVar("_T")


class Watched(Generic[_T]):
    """What was read from some files or folders, as long as they are what they were then."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], _T]) -> None:
        """Watch some files; nothing is read yet.

        Args:
            paths: Files, or folders for the names in them.
            read: Reads them.
        """
        self._paths, self._read = tuple(paths), read
        self._known: tuple[list[tuple[int, ...] | None], _T] | None = None

    def now(self) -> _T:
        """Return what they say.

        Raises:
            What reading them does.
        """
        stamps = [_stamp(path) for path in self._paths]  # before they are read
        known = self._known
        if known is None or known[0] != stamps or None in stamps:
            self._known = known = stamps, self._read()
        return known[1]


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what differs where a file was changed or replaced; None if that cannot be told.

    It is opened, as a disk of another machine is asked then how it is; what is known of it by its
    name may be old.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | AS_IT_LIES)
    except OSError:  # reading it says why
        return None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - changed_ns < _SETTLED_NS:
        return None
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_dev, status.st_ino, status.st_size, *times
