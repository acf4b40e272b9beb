"""Tar files, such as the shards of webdataset: files one behind the other, read where they lie."""

from __future__ import annotations

import contextlib
import tarfile
from array import array
from collections.abc import Iterator
from io import FileIO
from typing import Self

import numpy as np

from indexer.audio.file import is_named_as_sound
from indexer.audio.packs.archive import Archive, blocks, date_in_ns, kept_name
from indexer.audio.packs.listing import Listing
from indexer.audio.packs.members import MAX_ROWS
from indexer.audio.packs.pack import NotAPackError
from indexer.audio.packs.ranges import Headers, ObjectRanges, Ranges
from indexer.errors import AudioError, first_line
from indexer.progress import count

#: Bytes of the headers of one member, at most: a path has 4 KiB, and what else is told, a few.
_MAX_HEADER_BYTES = 1 << 16
#: Bytes of zeros at the end of a tar, at most: those of the largest records, as tapes have them. A
#: longer end is a hole, in what is not downloaded to its end; what is not zero is another tar.
_MAX_END_BYTES = 1 << 20
#: What tarfile raises when a file is not what it claims.
_ERRORS = (tarfile.TarError, ValueError, OverflowError, TypeError, LookupError, RecursionError)


class Tar(Archive):
    """An open tar file, of which nothing is read but the headers and what is asked for."""

    fields = np.dtype(
        [("offset", np.int64), ("size", np.int64), ("mtime", np.int64), ("sparse", np.bool_)]
    )

    def list(self, ranges: Ranges, mtime_ns: int) -> Listing:
        """Read its headers; see `Archive`."""
        found = _Listed(ranges, mtime_ns)
        rows = np.empty(len(found.names), self.fields)
        for name in ("offset", "size", "mtime"):
            rows[name] = getattr(found, f"{name}s")
        rows["sparse"] = np.isin(rows["offset"], list(found.sparse))
        return Listing(found.names, rows, found.num_links, found.flaw)

    def extent(self, row: int) -> tuple[int, int]:
        """Return where a member lies; see `Archive`."""
        return int(self._found["offset"][row]), int(self._found["size"][row])

    def require_readable(self, row: int) -> None:
        """Raise if a member has holes, or nothing in it; see `Archive`."""
        if self._found["sparse"][row]:
            raise AudioError("open", "it is packed as a sparse file; pack it anew, holes and all")
        if not self._found["size"][row]:
            raise AudioError("open", "empty file (0 bytes)")

    def content(self, row: int) -> Iterator[bytes]:
        """Yield the bytes of a member; see `Pack`."""
        self.require_readable(row)
        offset, size = self.extent(row)
        file, at = self._ranges.part(offset, size)
        yield from blocks(file, at, size)

    def fetch(self, row: int) -> bytes | None:
        """Have a member on this machine; see `Pack`."""
        self.require_readable(row)
        return self._ranges.fetch(*self.extent(row))

    def open(self, row: int, max_duration_s: float) -> FileIO:
        """Open a member: what was fetched is a file of nothing else; see `Pack`."""
        self.require_readable(row)
        if isinstance(self._ranges, ObjectRanges):
            return self._ranges.open(*self.extent(row))
        return super().open(row, max_duration_s)


class _Header(tarfile.TarInfo):
    """A header of which, if it is of a plain file, only what is needed here is parsed.

    That takes half of the time. Where to be is in POSIX, pax Interchange Format, ustar.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        is_plain = len(buf) == tarfile.BLOCKSIZE and buf[156:157] == tarfile.REGTYPE
        if not is_plain or buf[345]:  # the beginning of a long name
            return super().frombuf(buf, encoding, errors)
        try:
            size, mtime, checksum = (
                int(buf[first:end].strip(b"\0 ") or b"0", 8)
                for first, end in ((124, 136), (136, 148), (148, 156))
            )
        except ValueError:  # written in another way
            return super().frombuf(buf, encoding, errors)
        if checksum != sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
            return super().frombuf(buf, encoding, errors)
        header = cls(buf[:100].partition(b"\0")[0].decode(encoding, errors))
        header.size, header.mtime = size, mtime
        return header


def _require_header(block: bytes) -> None:
    """Raise unless a file begins as a tar: what is wrong further on is a flaw of one.

    Raises:
        NotAPackError: If it does not.
    """
    if not any(block):
        raise NotAPackError("it begins with zeros, as the end of a tar")
    try:
        _Header.frombuf(block, "utf-8", "surrogateescape")
    except _ERRORS as error:
        raise NotAPackError("it is no tar, or a compressed one") from error


class _Listed:
    """The regular files of a tar, one by one as their headers come.

    Attributes:
        names: As they are kept.
        offsets: Where each begins.
        sizes: In bytes.
        mtimes: In ns since 1970.
        sparse: Offsets of those that have holes.
        num_links: What is called as a sound is, and is a link.
        flaw: Why there may be more that could not be listed; empty if this is all.
    """

    def __init__(self, ranges: Ranges, mtime_ns: int) -> None:
        self.names: list[bytes] = []
        self.offsets, self.sizes, self.mtimes = array("q"), array("q"), array("q")
        self.sparse: set[int] = set()
        self.flaw, self.num_links = "", 0
        self._num_bytes = ranges.num_bytes
        self._mtime_ns = mtime_ns
        try:
            with contextlib.closing(ranges.headers()) as headers:
                headers.allow(_MAX_HEADER_BYTES)
                _require_header(headers.read(tarfile.BLOCKSIZE))
                headers.seek(0)
                self._read(headers)
        except (OSError, MemoryError) as error:
            raise AudioError("open", f"cannot be read: {first_line(error)}") from error

    def _read(self, headers: Headers) -> None:
        headers.allow(_MAX_HEADER_BYTES)
        try:
            tar = tarfile.open(  # noqa: SIM115 - it holds nothing that is to be closed
                fileobj=headers,
                mode="r:",
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            )
        except _ERRORS as error:
            self._note(f"damaged at byte 0 ({first_line(error)})")
            return
        try:
            is_whole = self._take_all(tar, headers)
            if not is_whole or tar.offset >= self._num_bytes:
                self._note("cut off")
                return
            headers.allow(_MAX_END_BYTES + 1)
            headers.seek(tar.offset)
            end = headers.read(_MAX_END_BYTES + 1)
            if any(end[: tarfile.BLOCKSIZE]):
                self._note(f"damaged at byte {tar.offset:,}")
            elif len(end) > _MAX_END_BYTES or end.strip(b"\0"):
                self._note(f"at its end at byte {tar.offset:,} of {self._num_bytes:,}")
        except _ERRORS as error:
            self._note(f"damaged at byte {tar.offset:,} ({first_line(error)})")

    def _note(self, what: str) -> None:
        self.flaw = f"{what}, behind {count(len(self.names), 'member')} that can be read"

    def _take_all(self, tar: tarfile.TarFile, headers: Headers) -> bool:
        """Add all members; return whether all of the last one is there."""
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined] # or all would be kept
            if not self._take(info, tar.offset):
                return False
            if tar.offset >= self._num_bytes:
                break
            headers.allow(_MAX_HEADER_BYTES)
        return True

    def _take(self, info: tarfile.TarInfo, following: int) -> bool:
        """Add what a header is of; return whether all of it is there.

        Raises:
            ValueError: If its size is none.
        """
        if info.size < 0 or following <= info.offset:
            raise ValueError("a size below 0")
        if not info.isreg():
            self.num_links += (info.issym() or info.islnk()) and is_named_as_sound(info.name)
            return True
        is_sparse = info.issparse()
        end = following - tarfile.BLOCKSIZE + 1 if is_sparse else info.offset_data + info.size
        if end > self._num_bytes:
            return False
        if len(self.names) == MAX_ROWS:
            raise AudioError("open", f"more than {MAX_ROWS:,} members")
        if is_sparse:
            self.sparse.add(info.offset_data)
        self.names.append(kept_name(info.name.encode("utf-8", "surrogateescape")))
        self.offsets.append(info.offset_data)
        self.sizes.append(info.size)
        self.mtimes.append(date_in_ns(info.mtime, self._mtime_ns))
        return True
