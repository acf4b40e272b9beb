"""What archives have in common: the last of a name counts, members are read where they lie."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import ClassVar

import numpy as np

from indexer.audio.file import State, kept_date, read_at, unnamed_file
from indexer.audio.packs.listing import Listing, recalled
from indexer.audio.packs.members import MAX_NAME_BYTES, Members, plain_name
from indexer.audio.packs.pack import Pack, not_read
from indexer.audio.packs.ranges import ObjectRanges, Ranges, ranges_of
from indexer.errors import AudioError

#: Bytes of a member that are read, or unpacked, at a time.
BLOCK_BYTES = 1 << 20
_SECOND_NS = 10**9


class Archive(Pack):
    """An open archive: its headers are read once, members from where they lie.

    Only regular files are members, not what links to them. Of several with one name the last
    counts, as where an archive is unpacked. Of an object it is known when it is another, though its
    members may have the names, lengths and dates of those before: their dates have its version in
    the place of the fraction of a second.
    """

    outlives_fork = True
    #: What is known of each row: "size" in bytes, "mtime" in ns since 1970, and the archive's own.
    fields: ClassVar[np.dtype[np.void]]

    def __init__(self, path: Path, state: State) -> None:
        """Open it.

        Args:
            path: The file, or the address of the object.
            state: What it was like when it was found; its date is that of members that have none.

        Raises:
            NotAPackError: If it does not begin as such an archive.
            AudioError: If it cannot be read, or is damaged.
        """
        self._ranges = ranges_of(path, state)
        found = recalled(
            self._ranges.key, self.fields, lambda: self.list(self._ranges, state.mtime_ns)
        )
        rows = last_of_each_name(found.names)
        self._found = found.rows[rows]
        names = (found.names[row] for row in rows)
        sizes, dates = self._found["size"], self._found["mtime"]
        if isinstance(self._ranges, ObjectRanges):
            # Those at the bounds of what is kept stay within them.
            dates = np.clip(dates, kept_date(-(2**64)) + _SECOND_NS, kept_date(2**64) - _SECOND_NS)
            dates = dates // _SECOND_NS * _SECOND_NS + self._ranges.version
        self.members = Members(names, sizes, dates, found.flaw, are_apart=True)
        self.members.num_links = found.num_links

    @abstractmethod
    def list(self, ranges: Ranges, mtime_ns: int) -> Listing:
        """Read its headers.

        Args:
            ranges: Its bytes.
            mtime_ns: Its date, in ns since 1970, for members that have none.
        """

    @abstractmethod
    def extent(self, row: int) -> tuple[int, int]:
        """Return where what a member is read from begins, and how many bytes that is."""

    @abstractmethod
    def require_readable(self, row: int) -> None:
        """Raise unless a member is of a kind that is read here.

        Raises:
            AudioError: With stage "open".
        """

    def open(self, row: int, max_duration_s: float) -> FileIO:
        """Open a member; see `Pack`."""
        return unnamed_file(self.content(row), self.members[row].size)

    def fetch_ahead(self, row: int) -> None:
        """Say which member is read soon; see `Pack`."""
        with contextlib.suppress(AudioError):  # for whoever reads it to report
            self.require_readable(row)
            self._ranges.fetch_ahead(*self.extent(row))

    def fetch(self, row: int) -> bytes | None:
        """Have a member on this machine; see `Pack`."""
        self.require_readable(row)
        self._ranges.fetch(*self.extent(row))
        return None


def kept_name(name: bytes) -> bytes:
    """Return a name as it is kept: nothing in the place of one that is too long."""
    return name if len(name) <= MAX_NAME_BYTES else b""


def last_of_each_name(names: Sequence[bytes]) -> list[int]:
    """Return, in order, the rows of which no later one has the same name.

    What is unpacked later takes the place of what was unpacked before. Rows without a name stay.

    Args:
        names: Of all rows.
    """
    last = {plain_name(name): row for row, name in enumerate(names)}
    return [row for row, name in enumerate(names) if not name or last[plain_name(name)] == row]


def date_in_ns(seconds: float, otherwise: int) -> int:
    """Return a date in ns since 1970.

    Args:
        seconds: Since 1970; 0 is what stands for no date.
        otherwise: The date of the archive, for a member without one, in ns since 1970.
    """
    if not seconds or not math.isfinite(seconds):
        return otherwise
    return kept_date(round(seconds * 1_000_000_000))


def blocks(source: FileIO, offset: int, num_bytes: int) -> Iterator[bytes]:
    """Yield a span of a file, some bytes at a time; where it stands does not matter.

    Raises:
        AudioError: If it cannot be read, or ends before.
    """
    end = offset + num_bytes
    while offset < end:
        try:
            block = read_at(source.fileno(), min(BLOCK_BYTES, end - offset), offset)
        except OSError as error:
            raise not_read(error, "the member") from error
        if not block:
            raise AudioError("decode", "the pack ends where there should be more of the member")
        offset += len(block)
        yield block
