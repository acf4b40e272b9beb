"""Zip files: members that are stored or deflated, each checked by its CRC-32."""

from __future__ import annotations

import calendar
import stat
import struct
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.audio.file import is_named_as_sound, open_regular, read_at, unnamed_file
from indexer.audio.packs.archive import (
    BLOCK_BYTES,
    Headers,
    TooLongError,
    blocks,
    date_in_ns,
    kept_name,
    last_of_each_name,
)
from indexer.audio.packs.members import Members
from indexer.audio.packs.pack import NotAPackError, not_read
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
_FIELDS = np.dtype(
    [(name, np.int64) for name in ("offset", "packed", "size", "method", "flags", "crc", "mtime")]
)


class Zip:
    """An open zip file, of which the directory is read once.

    Only regular files are members, not links. Of several with one name the last counts, as where a
    zip is unpacked.
    """

    outlives_fork = True

    def __init__(self, path: Path, mtime_ns: int) -> None:
        """Open it.

        Args:
            path: The file.
            mtime_ns: Its date, for members that have none.

        Raises:
            NotAPackError: If it does not begin as a zip.
            AudioError: If it cannot be read, is damaged, or members overlap in it.
        """
        self._source = open_regular(path)
        weakref.finalize(self, self._source.close)
        try:
            if read_at(self._source.fileno(), len(_MAGIC), 0) != _MAGIC:
                raise NotAPackError("it is no zip")
            names, found, num_links = _read_directory(self._source, mtime_ns)
        except TooLongError as error:
            raise AudioError("open", f"its directory is too long: {error}; unpack it") from error
        except _ERRORS as error:
            said = first_line(error)
            raise AudioError("open", f"damaged, or cut off: {said}") from error
        _require_apart(found)
        rows = last_of_each_name(names)
        self._found = found[rows]
        self.members = Members(
            (names[row] for row in rows),
            self._found["size"],
            self._found["mtime"],
            are_apart=True,
        )
        self.members.num_links = num_links

    def content(self, row: int) -> Iterator[bytes]:
        """Yield the bytes of a member; see `Pack`."""
        entry = self._found[row]
        _require_readable(entry)
        wanted, crc, num_bytes = int(entry["size"]), 0, 0
        try:
            for block in self._unpacked(entry):
                crc, num_bytes = zlib.crc32(block, crc), num_bytes + len(block)
                if num_bytes > wanted:
                    raise AudioError("decode", f"it unpacks to more than its {wanted:,} bytes")
                yield block
        except zlib.error as error:
            raise AudioError("decode", f"the member is damaged: {first_line(error)}") from error
        if (num_bytes, crc) != (wanted, int(entry["crc"])):
            raise AudioError("decode", "the member is damaged: its CRC-32 is another")

    def open(self, row: int, max_duration_s: float) -> FileIO:
        """Open a member; see `Pack`."""
        return unnamed_file(self.content(row), self.members[row].size)

    def _unpacked(self, entry: Any) -> Iterator[bytes]:
        offset, packed = int(entry["offset"]), int(entry["packed"])
        try:
            # Below 0 it would be where bytes before it are missing.
            header = read_at(self._source.fileno(), _LOCAL.size, offset) if offset >= 0 else b""
        except (OSError, OverflowError) as error:
            raise not_read(error, "the member") from error
        if len(header) < _LOCAL.size or not header.startswith(_LOCAL_MAGIC):
            raise AudioError("decode", "the member is damaged: it is not where it should be")
        _, name_bytes, more_bytes = _LOCAL.unpack(header)
        found = blocks(self._source, offset + _LOCAL.size + name_bytes + more_bytes, packed)
        return found if entry["method"] == zipfile.ZIP_STORED else _inflate(found)


def _read_directory(source: FileIO, mtime_ns: int) -> tuple[list[bytes], npt.NDArray[np.void], int]:
    """Return the names of regular files, what the directory has of them, and links to sounds."""
    headers = Headers(source.fileno(), closefd=False)
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
                    *(info.header_offset, info.compress_size, info.file_size),
                    *(info.compress_type, info.flag_bits, info.CRC, _date_of(info, mtime_ns)),
                )
            )
    return names, np.array(rows, _FIELDS), num_links


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


def _require_readable(entry: Any) -> None:
    """Raise unless a member is of a kind that is unpacked here.

    Raises:
        AudioError: With stage "open".
    """
    method, flags, size = int(entry["method"]), int(entry["flags"]), int(entry["size"])
    if flags & _ENCRYPTED:
        raise AudioError("open", "it is encrypted; unpack it with its password")
    if flags & _PATCH or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise AudioError("open", f"packed by method {method}; only stored and deflated are read")
    if size > MAX_MEMBER_BYTES:
        raise AudioError("open", f"it unpacks to {size:,} bytes, {MAX_MEMBER_BYTES:,} at most")
    if not size:
        raise AudioError("open", "empty file (0 bytes)")


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
