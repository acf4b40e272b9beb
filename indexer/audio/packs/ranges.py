"""The bytes of an archive: of a file on this machine, or of an object that lies elsewhere.

Of an object only those are fetched that are read: the headers, and then each member by itself.
"""

from __future__ import annotations

import errno
import os
import weakref
from io import SEEK_CUR, SEEK_END, SEEK_SET, FileIO, RawIOBase
from pathlib import Path
from typing import TypeAlias

from xxhash import xxh3_64_intdigest

from indexer.audio.file import State, open_regular, read_at
from indexer.audio.remote.objects import Content, Part, objects, opened_anew
from indexer.errors import AudioError
from indexer.paths import Address, address_of

#: Bytes of headers that are fetched at a time: few at first, four times as many where what is read
#: next lies close behind, and few again where it is far. A request takes 50 ms, in which a network
#: gives some MB, so that up to 2 MiB are rather fetched than left out.
_FEWEST_BYTES, _MOST_BYTES, _CLOSE_BYTES = 1 << 16, 1 << 23, 1 << 21


class TooLongError(ValueError):
    """There are more bytes of headers than are read."""


def ranges_of(path: Path, state: State) -> Ranges:
    """Open an archive.

    Args:
        path: Of it.
        state: Of what it was like when it was found.

    Raises:
        AudioError: If a file cannot be opened.
    """
    address = address_of(path)
    return FileRanges(path) if address is None else ObjectRanges(address, state)


class _Bounded:
    """Lets only so many bytes be read."""

    _most = _left = 0

    def allow(self, num_bytes: int) -> None:
        """Let so many bytes be read from now on."""
        self._most = self._left = num_bytes

    def _spend(self, size: int | None) -> None:
        self._left -= max(size or 0, 0)
        if self._left < 0:
            raise TooLongError(f"more than {self._most:,} bytes of headers")


class FileHeaders(_Bounded, FileIO):
    """Those of a file."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes.

        Raises:
            TooLongError: If they are more than headers may have.
        """
        self._spend(size)
        return super().read(size) or b""


class FileRanges:
    """The bytes of a file.

    Attributes:
        num_bytes: How many there are.
        key: None: what is in it is not kept elsewhere.
    """

    key = None

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            AudioError: If it cannot be opened.
        """
        self._file = open_regular(path)
        weakref.finalize(self, self._file.close)
        self.num_bytes = os.fstat(self._file.fileno()).st_size

    def headers(self) -> FileHeaders:
        """Open it once more, at its beginning."""
        found = FileHeaders(self._file.fileno(), closefd=False)
        found.seek(0)
        return found

    def part(self, offset: int, num_bytes: int) -> tuple[FileIO, int]:
        """Return an open file that has some bytes, and where in it they begin: the file itself.

        Args:
            offset: Where they begin in the archive.
            num_bytes: How many they are.
        """
        return self._file, offset

    def fetch_ahead(self, offset: int, num_bytes: int) -> None:
        """Say which bytes are read soon: the system sees that by itself."""

    def fetch(self, offset: int, num_bytes: int) -> None:
        """Have some bytes on this machine, which they are: nothing is digested on the way."""


class ObjectRanges:
    """The bytes of an object.

    Attributes:
        num_bytes: How many there are.
        key: What tells it from all others, and from what it was before.
        version: A digest of its size, date and etag, below 10^9.
    """

    def __init__(self, address: Address, state: State) -> None:
        """Prepare; nothing is fetched yet.

        Raises:
            AudioError: If nothing would tell a part of it from one of another in its place.
        """
        if not state.mtime_ns:
            raise AudioError("open", "the server gives neither a date nor a version of it (ETag)")
        self.num_bytes, self.key = state.size, f"{address} {state.size} {state.mtime_ns}"
        self.version = xxh3_64_intdigest(str(state).encode()) % 10**9
        self._address, self._state = address, state

    def headers(self) -> ObjectHeaders:
        """Open it to read its headers."""
        return ObjectHeaders(self)

    def part(self, offset: int, num_bytes: int) -> tuple[FileIO, int]:
        """Return an open file of some bytes, see `FileRanges`.

        Raises:
            AudioError: With stage "access", if they cannot be had; "decode", if there are none.
        """
        return self._fetched(offset, num_bytes).file, 0

    def fetch(self, offset: int, num_bytes: int) -> bytes:
        """Return the 16-byte BLAKE2b of some bytes, once they are here, see `part`."""
        return self._fetched(offset, num_bytes).digest

    def open(self, offset: int, num_bytes: int) -> FileIO:
        """Return an open file of nothing but some bytes, at its beginning, see `part`."""
        return opened_anew(self._fetched(offset, num_bytes).file)

    def fetch_ahead(self, offset: int, num_bytes: int) -> None:
        """Begin to fetch some bytes."""
        if (part := self._within(offset, num_bytes)).num_bytes:
            objects.fetch_ahead(self._address, part)

    def forgo(self, offset: int, num_bytes: int) -> None:
        """Say that what was begun to be fetched is not read after all."""
        objects.forgo_part(self._address, self._within(offset, num_bytes))

    def _fetched(self, offset: int, num_bytes: int) -> Content:
        part = self._within(offset, num_bytes)
        if not part.num_bytes:
            raise AudioError("decode", "the member is damaged: it is not where it should be")
        return objects.part(self._address, part)

    def _within(self, offset: int, num_bytes: int) -> Part:
        """Return as much as there is of a span, which headers may give as they like."""
        is_there = 0 <= offset < self.num_bytes
        left = max(0, min(num_bytes, self.num_bytes - offset)) if is_there else 0
        return Part(offset, left, self._state)


class ObjectHeaders(_Bounded, RawIOBase):
    """Those of an object: fetched in blocks, which grow where one header lies close to the next."""

    def __init__(self, ranges: ObjectRanges) -> None:
        """Stand at the beginning; nothing is fetched yet."""
        self._ranges = ranges
        self._position = 0
        self._first, self._block = 0, b""
        self._ahead: tuple[int, int] | None = None

    def seekable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return where it stands."""
        return self._position

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Stand elsewhere."""
        base = {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._ranges.num_bytes}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, f"a position below 0: {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes.

        Raises:
            TooLongError: If they are more than headers may have.
            AudioError: If they cannot be had.
        """
        left = max(0, self._ranges.num_bytes - self._position)
        size = left if size is None or size < 0 else min(size, left)
        self._spend(size)
        pieces = []
        while size:
            if not self._first <= self._position < self._first + len(self._block):
                self._fetch(size)
            at = self._position - self._first
            pieces.append(self._block[at : at + size])
            self._position += len(pieces[-1])
            size -= len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        """Do without what was begun to be fetched."""
        self._forgo()
        super().close()

    def _fetch(self, size: int) -> None:
        """Have a block with where it stands: so many bytes from there on, or more."""
        end = self._first + len(self._block)
        first, num_bytes = self._position, _FEWEST_BYTES
        if end and 0 <= first - end <= _CLOSE_BYTES:
            num_bytes = min(_MOST_BYTES, 4 * len(self._block))
            first = end if first < end + num_bytes else first
        elif first + num_bytes > self._ranges.num_bytes:  # a zip is read from its end
            first = max(0, self._ranges.num_bytes - num_bytes)
        least = self._position + size - first
        num_bytes = min(max(num_bytes, least), self._ranges.num_bytes - first)
        if self._ahead != (first, num_bytes):
            self._forgo()
        self._ahead = None
        file, at = self._ranges.part(first, num_bytes)
        self._first, self._block = first, read_at(file.fileno(), num_bytes, at)
        if len(self._block) < num_bytes:
            raise AudioError("access", f"{len(self._block):,} bytes came of {num_bytes:,}")
        following = min(num_bytes, self._ranges.num_bytes - first - num_bytes)
        if num_bytes == _MOST_BYTES and following > 0:
            self._ahead = first + num_bytes, following
            self._ranges.fetch_ahead(*self._ahead)

    def _forgo(self) -> None:
        if self._ahead is not None:
            self._ranges.forgo(*self._ahead)
            self._ahead = None


#: What archives are read from.
Ranges: TypeAlias = FileRanges | ObjectRanges
#: An open archive, of which only so much is read as headers may have.
Headers: TypeAlias = FileHeaders | ObjectHeaders
