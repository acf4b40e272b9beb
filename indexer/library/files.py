"""Long lists of files: a name and four numbers each, held in arrays rather than as objects."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.paths import Span, local_path

#: In the place of a span: there is none.
_WHOLE = -1


class FoundFile(NamedTuple):
    """A file to look at, as it was when it was found.

    Attributes:
        path: POSIX-relative to the library's root, as stored.
        size: In bytes; 0 for what has no size.
        mtime_ns: Last change, in ns since 1970, see `indexer.audio.content.State`.
        span: The part of it that is asked for, in samples at 32 kHz; None for the whole.
    """

    path: str
    size: int
    mtime_ns: int
    span: Span | None = None

    def local(self, root: Path) -> Path:
        """Return its path on this machine."""
        return root / local_path(self.path)


class FileList:
    """Files in the order in which they were added: 40 bytes each, and their names."""

    def __init__(self, files: Iterable[FoundFile] = ()) -> None:
        self._names = bytearray()
        self._ends = array("q")
        self._sizes = array("q")
        self._mtimes_ns = array("q")
        self._span_starts = array("q")  # -1 for a whole file
        self._span_lengths = array("q")
        for file in files:
            self.append(file)

    def append(self, file: FoundFile) -> None:
        """Add a file at the end."""
        self._names += file.path.encode()
        self._ends.append(len(self._names))
        self._sizes.append(file.size)
        self._mtimes_ns.append(file.mtime_ns)
        start, length = file.span or (_WHOLE, _WHOLE)
        self._span_starts.append(start)
        self._span_lengths.append(length)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(num_files,) int64, in bytes."""
        return np.array(self._sizes, np.int64)

    @property
    def mtimes_ns(self) -> npt.NDArray[np.int64]:
        """(num_files,) int64, in ns since 1970."""
        return np.array(self._mtimes_ns, np.int64)

    def in_order(self) -> FileList:
        """Return the same files in the order of their paths, and of their spans."""
        return FileList(self[at] for at in sorted(range(len(self)), key=self._key))

    def _key(self, at: int) -> tuple[bytes, int, int]:
        return self._name(at), self._span_starts[at], self._span_lengths[at]

    def _name(self, at: int) -> bytes:
        return bytes(self._names[self._ends[at - 1] if at else 0 : self._ends[at]])

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[FoundFile]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> FoundFile:
        """Return a file by its position from the start, 0 being the first."""
        if not 0 <= at < len(self):
            raise IndexError(f"files are 0 to {len(self) - 1}, got {at}")
        start = self._span_starts[at]
        span = None if start == _WHOLE else (start, self._span_lengths[at])
        return FoundFile(self._name(at).decode(), self._sizes[at], self._mtimes_ns[at], span)
