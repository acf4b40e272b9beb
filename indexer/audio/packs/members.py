"""What is in a pack, held in arrays: names, sizes and dates, row by row.

A member's name is what the pack says, made fit for a path. Nothing is ever opened by it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from indexer.errors import AudioError

#: Rows of one pack, at most: AudioSet has 2,084,320 segments.
MAX_ROWS = 3_000_000
#: Bytes of a member's name, at most: what is longer is none.
MAX_NAME_BYTES = 1024
#: Bytes of all names of a pack, at most: those of AudioSet have 35 MB.
_MAX_NAMES_BYTES = 1 << 27
#: How a name begins that says which row it is of; and where none is repeated, what it is.
_OF_A_ROW, _IS_A_ROW = re.compile(rb"row-\d+(?:/|$)"), re.compile(rb"row-\d+$")


class Member(NamedTuple):
    """One sound in a pack.

    Attributes:
        name: Bytes of a relative path.
        size: In bytes, as far as a pack says it without being read.
        mtime_ns: Last change, in ns since 1970.
    """

    name: bytes
    size: int
    mtime_ns: int


class Members:
    """The members of a pack: 24 bytes each, their names, and what the pack gives for sizes.

    Attributes:
        num_unnamed: Rows that are no members.
        num_outside: Names that lead out of the pack, as they stand in it.
        num_links: Links that are called as sounds are, which are no rows; set by who knows.
        flaw: Why there may be more members, of which nothing is known: "cut off, behind …"; empty
            if these are all.
    """

    def __init__(
        self,
        names: Iterable[bytes | None],
        sizes: npt.NDArray[np.int64],
        mtimes_ns: npt.NDArray[np.int64],
        flaw: str = "",
        *,
        are_apart: bool = False,
    ) -> None:
        """Make the names of all rows fit for paths, and different from each other.

        Empty parts of a path, `.` and `..` are left out. Where nothing is left, a member is called
        `row-N`, rows being counted from 0; where a row before has the same name, `row-N/NAME`.

        Args:
            names: As the pack has them, row by row; None for a row that is no member.
            sizes: (num_rows,) in bytes.
            mtimes_ns: (num_rows,) in ns since 1970.
            flaw: See the attribute.
            are_apart: Whether no name is there twice, so that a folder may be called `row-N`.

        Raises:
            AudioError: If there are other than `num_rows` names, or they are far too long.
        """
        self._sizes, self._mtimes_ns, self.flaw = sizes, mtimes_ns, flaw
        self._made_up = _IS_A_ROW if are_apart else _OF_A_ROW
        self.num_outside = self.num_links = 0
        self._take(self._named(row, name) for row, name in enumerate(names))
        if len(self._ends) != len(sizes):
            raise AudioError("open", f"{len(self._ends):,} names, and {len(sizes):,} rows")
        is_repeated = self._find_repeated()
        if is_repeated.any():
            self._take(
                b"row-%d/%s" % (row, self._name(row)) if repeated else self._name(row)
                for row, repeated in enumerate(is_repeated)
            )
        self.num_unnamed = sum(not self._name(row) for row in range(len(sizes)))
        hashes = np.array(self._hashes, np.uint64)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        del self._hashes

    def _take(self, names: Iterable[bytes]) -> None:
        held, ends, hashes = bytearray(), array("q"), array("Q")
        for name in names:
            held += name
            ends.append(len(held))
            hashes.append(xxh3_64_intdigest(name))
            require_short(len(held))
        self._names, self._ends, self._hashes = held, ends, hashes

    def _find_repeated(self) -> npt.NDArray[np.bool_]:
        """Return which rows have a name that a row before has."""
        _, first, which = np.unique(
            np.array(self._hashes, np.uint64), return_index=True, return_inverse=True
        )
        is_named = np.diff(np.array(self._ends, np.int64), prepend=0) > 0
        return np.asarray(is_named & (first[which] != np.arange(len(which))))

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in the order of their rows, in which a pack is read best."""
        return (self[row] for row in range(len(self._ends)) if self._name(row))

    def __getitem__(self, row: int) -> Member:
        return Member(self._name(row), int(self._sizes[row]), int(self._mtimes_ns[row]))

    def row_of(self, name: bytes) -> int | None:
        """Return the row of the member with a name; None if there is none."""
        wanted = np.uint64(xxh3_64_intdigest(name))
        at = int(np.searchsorted(self._sorted, wanted))
        if not name or at == len(self._sorted) or self._sorted[at] != wanted:
            return None
        row = int(self._order[at])
        return row if self._name(row) == name else None

    def _named(self, row: int, name: bytes | None) -> bytes:
        """Return a name as a relative path; nothing for what is no member."""
        if name is None:
            return b""
        plain = plain_name(name)
        self.num_outside += len(plain) < len(name) and b".." in name.split(b"/")
        if not plain or b"\0" in plain or len(plain) > MAX_NAME_BYTES:
            return made_up_name(row)
        # Made-up names stay apart from given ones: those that look like them are of their row, too.
        return b"row-%d/%s" % (row, plain) if self._made_up.match(plain) else plain

    def _name(self, row: int) -> bytes:
        return bytes(self._names[self._ends[row - 1] if row else 0 : self._ends[row]])


def require_short(num_bytes: int) -> None:
    """Raise if the names of a pack are longer, all together, than names ever are.

    Raises:
        AudioError: With stage "open".
    """
    if num_bytes > _MAX_NAMES_BYTES:
        raise AudioError("open", f"its names have more than {_MAX_NAMES_BYTES:,} bytes")


def made_up_name(row: int) -> bytes:
    """Return what a row is called that has no name of its own."""
    return b"row-%d" % row


def plain_name(name: bytes) -> bytes:
    """Return a name as a path that leads nowhere else: without `.`, `..` and empty parts."""
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b".", b".."))
