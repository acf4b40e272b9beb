"""Zip files: members that are stored or deflated, each checked by its CRC-32."""

from __future__ import annotations

import calendar
import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.audio.file import is_named_as_sound, read_at
from indexer.audio.packs.archive import BLOCK_BYTES, Archive, blocks, date_in_ns, kept_name
from indexer.audio.packs.listing import Listing
from indexer.audio.packs.pack import NotAPackError, not_read
from indexer.audio.packs.ranges import Headers, Ranges, TooLongError
from indexer.errors import AudioError, first_line

#: How a zip begins: with a member, with its end, or with a mark of one that was split.
_MAGIC = b"PK"
#: Bytes of a directory, at most: a million members with names of 20 characters. What zipfile makes
#: of it takes nine times the room.
_MAX_DIRECTORY_BYTES = 1 << 26
#: Bytes behind it that may be read: the last records, and a comment (APPNOTE.TXT, 4.3.16).
_MAX_END_BYTES = 1 << 17
#: Bytes that a member may unpack to: those of a WAV, whose header has 32 bits for them. No bound is
#: set to how far one is packed, since deflate makes of silence a thousandth.
MAX_MEMBER_BYTES = 1 << 32
#: What stands before a member: a mark, and at its end how long its name and further fields are
#: (APPNOTE.TXT, 4.3.7).
_LOCAL = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\3\4"
#: Bytes of that, at most: both lengths have 16 bits.
_MAX_LOCAL_BYTES = _LOCAL.size + 2 * (2**16 - 1)
#: Flags of a member: encrypted, a patch of another, encrypted in another way (APPNOTE.TXT, 4.4.4).
_ENCRYPTED, _PATCH = 0x01 | 0x40, 0x20
#: The flag that says that a name is in UTF-8.
_UTF_8 = 0x800
#: The system that says of itself that it is MS-DOS, or Windows (APPNOTE.TXT, 4.4.2).
_DOS = 0
#: The date of a zip that has none.
_NO_DATE = (1980, 1, 1, 0, 0, 0)
#: What zipfile raises when a file is not what it claims.
_ERRORS = (
    *(zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error),
    *(EOFError, LookupError, OSError, MemoryError),
)


class Zip(Archive):
    """An open zip file, of which the directory is read once."""

    fields = np.dtype(
        [
            (name, np.int64)
            for name in ("offset", "end", "packed", "size", "method", "flags", "crc", "mtime")
        ]
    )

    def list(self, ranges: Ranges, mtime_ns: int) -> Listing:
        """Read its directory; see `Archive`."""
        try:
            with contextlib.closing(ranges.headers()) as headers:
                headers.allow(len(_MAGIC))
                if headers.read(len(_MAGIC)) != _MAGIC:
                    raise NotAPackError("it is no zip")
                found = _read_directory(headers, mtime_ns, self.fields)
        except TooLongError as error:
            raise AudioError("open", f"its directory is too long: {error}; unpack it") from error
        except _ERRORS as error:
            said = first_line(error)
            raise AudioError("open", f"damaged, or cut off: {said}") from error
        _require_apart(found.rows)
        return found

    def extent(self, row: int) -> tuple[int, int]:
        """Return where a member lies, with what stands before it; see `Archive`."""
        offset, end, packed = (int(self._found[name][row]) for name in ("offset", "end", "packed"))
        return offset, min(end - offset, packed + _MAX_LOCAL_BYTES)

    def require_readable(self, row: int) -> None:
        """Raise unless a member is of a kind that is unpacked here; see `Archive`."""
        entry = self._found[row]
        method, flags, size = int(entry["method"]), int(entry["flags"]), int(entry["size"])
        if flags & _ENCRYPTED:
            raise AudioError("open", "it is encrypted; unpack it with its password")
        if flags & _PATCH or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise AudioError(
                "open", f"packed by method {method}; only stored and deflated are read"
            )
        if size > MAX_MEMBER_BYTES:
            raise AudioError("open", f"it unpacks to {size:,} bytes, {MAX_MEMBER_BYTES:,} at most")
        if not size:
            raise AudioError("open", "empty file (0 bytes)")

    def content(self, row: int) -> Iterator[bytes]:
        """Yield the bytes of a member; see `Pack`."""
        self.require_readable(row)
        entry = self._found[row]
        wanted, crc, num_bytes = int(entry["size"]), 0, 0
        try:
            for block in self._unpacked(*self.extent(row), entry):
                crc, num_bytes = zlib.crc32(block, crc), num_bytes + len(block)
                if num_bytes > wanted:
                    raise AudioError("decode", f"it unpacks to more than its {wanted:,} bytes")
                yield block
        except zlib.error as error:
            raise AudioError("decode", f"the member is damaged: {first_line(error)}") from error
        if (num_bytes, crc) != (wanted, int(entry["crc"])):
            raise AudioError("decode", "the member is damaged: its CRC-32 is another")

    def _unpacked(self, offset: int, num_bytes: int, entry: Any) -> Iterator[bytes]:
        header, at = b"", 0
        try:
            if offset >= 0:  # below, it would be where bytes before it are missing
                file, at = self._ranges.part(offset, num_bytes)
                header = read_at(file.fileno(), _LOCAL.size, at)
        except (OSError, OverflowError) as error:
            raise not_read(error, "the member") from error
        if len(header) < _LOCAL.size or not header.startswith(_LOCAL_MAGIC):
            raise AudioError("decode", "the member is damaged: it is not where it should be")
        _, name_bytes, more_bytes = _LOCAL.unpack(header)
        found = blocks(file, at + _LOCAL.size + name_bytes + more_bytes, int(entry["packed"]))
        return found if entry["method"] == zipfile.ZIP_STORED else _inflate(found)


def _read_directory(headers: Headers, mtime_ns: int, fields: np.dtype[np.void]) -> Listing:
    """Return the regular files, as the directory has them."""
    headers.allow(_MAX_DIRECTORY_BYTES + _MAX_END_BYTES)
    names, rows, num_links = [], [], 0
    with zipfile.ZipFile(headers) as found:
        for info in found.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where no Unix made it
            name = _name_of(info)
            num_links += kind == stat.S_IFLNK and is_named_as_sound(info.filename)
            if name.endswith(b"/") or kind not in (0, stat.S_IFREG):  # a folder, a link
                continue
            names.append(kept_name(name))
            rows.append(
                (
                    *(info.header_offset, found.start_dir, info.compress_size, info.file_size),
                    *(info.compress_type, info.flag_bits, info.CRC, _date_of(info, mtime_ns)),
                )
            )
    listed = np.array(rows, fields)
    order = np.argsort(listed["offset"], kind="stable")
    # Behind the last is the directory.
    listed["end"][order[:-1]] = listed["offset"][order[1:]]
    return Listing(names, listed, num_links)


def _name_of(info: zipfile.ZipInfo) -> bytes:
    """Return a name in UTF-8, which some programs write without saying so: macOS, for one.

    Old programs of Windows have backslashes between folders; as unzip does, these are taken for
    that in what is from there and has no other.
    """
    if info.create_system == _DOS and "/" not in info.filename:
        info.filename = info.filename.replace("\\", "/")
    try:
        written = info.filename.encode("utf-8" if info.flag_bits & _UTF_8 else "cp437")
        written.decode("utf-8")
    except UnicodeError:
        return info.filename.encode()
    return written


def _date_of(info: zipfile.ZipInfo, otherwise: int) -> int:
    """Return the date of a member, which has no time zone, as if it was in UTC."""
    try:
        seconds = 0 if info.date_time == _NO_DATE else calendar.timegm((*info.date_time, 0, 0, 0))
    except ValueError:  # month 0, for one
        seconds = 0
    return date_in_ns(seconds, otherwise)


def _require_apart(found: npt.NDArray[np.void]) -> None:
    """Raise if members share bytes: so a small file would unpack to more than all disks hold.

    Raises:
        AudioError: With stage "open".
    """
    order = np.argsort(found["offset"], kind="stable")
    offsets, packed = found["offset"][order], found["packed"][order]
    # Not the sum, which might be too much for 64 bits.
    if (np.diff(offsets) - _LOCAL.size < packed[:-1]).any() or (packed < 0).any():
        raise AudioError("open", "members of it overlap")


def _inflate(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what deflated bytes stand for, `BLOCK_BYTES` at a time and no more.

    Raises:
        zlib.error: If they are damaged.
    """
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    for block in packed:
        rest = block
        while rest and not unpacker.eof:
            yield unpacker.decompress(rest, BLOCK_BYTES)
            rest = unpacker.unconsumed_tail
    yield unpacker.flush()  # what the last bits stand for: some kB
