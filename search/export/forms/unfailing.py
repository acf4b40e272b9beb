"""A file that HDF5 can write to: it crashes where a write fails below it, as on a full disk."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from search.output import cannot_write


class Unfailing(io.RawIOBase):
    """Takes all that is written to it, and says when it is asked what has failed.

    What did not fit is held in memory, so that whoever writes reads what it has written. That is
    little, if it is asked often: what comes after the failure, until then and while it is closed.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Begin an empty file.

        Args:
            file: What is below, empty and not used by anybody else.
            path: What it is called, for the error.
        """
        super().__init__()
        self._descriptor, self._path = file.fileno(), path
        self._at = self._size = 0
        self._failure: OSError | None = None
        self._held: list[tuple[int, bytes]] = []

    def require(self) -> None:
        """Raise OutputError if anything could not be written."""
        if self._failure:
            raise cannot_write(self._path, self._failure) from self._failure

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset, and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self._at

    def write(self, data: Any) -> int:
        """Write some bytes, or hold them."""
        content, written = bytes(data), 0
        try:
            while not self._failure and written < len(content):
                rest = content[written:] if written else content
                written += os.pwrite(self._descriptor, rest, self._at + written)
        except OSError as error:
            self._failure = error
        if self._failure:
            self._held.append((self._at, content))
        self._at += len(content)
        self._size = max(self._size, self._at)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        """Read what was written, and zeros where nothing was."""
        target = memoryview(buffer).cast("B")
        found = os.pread(self._descriptor, len(target), self._at)
        target[:] = found + bytes(len(target) - len(found))
        for offset, content in self._held:
            first, last = max(offset, self._at), min(offset + len(content), self._at + len(target))
            if first < last:
                target[first - self._at : last - self._at] = content[first - offset : last - offset]
        self._at += len(target)
        return len(target)

    def truncate(self, size: int | None = None) -> int:
        """Make the file shorter or longer."""
        size = self._at if size is None else size
        try:
            if not self._failure:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._failure = error
        self._size = size
        return size
