"""The file itself: which names are taken for audio, how it is opened, when it was changed."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from indexer.errors import AudioError

#: Suffixes of the files that are taken for audio, lower-case. `.ts` is missing on purpose: in most
#: folders that is a program.
AUDIO_EXTENSIONS = frozenset(
    {
        *(".3g2", ".3gp", ".aa3", ".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr"),
        *(".ape", ".asf", ".au", ".avi", ".awb", ".bwf", ".caf", ".dff", ".dsf", ".dts"),
        *(".eac3", ".ec3", ".f4a", ".f4v", ".flac", ".flv", ".m2ts", ".m4a", ".m4b", ".m4r"),
        *(".m4v", ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp3", ".mp4", ".mpa", ".mpc"),
        *(".mpeg", ".mpg", ".mpga", ".mts", ".mxf", ".nist", ".nut", ".oga", ".ogg", ".ogm"),
        *(".ogv", ".ogx", ".oma", ".opus", ".qcp", ".ra", ".rf64", ".rm", ".shn", ".snd"),
        *(".spx", ".sph", ".tak", ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba"),
        *(".webm", ".wma", ".wmv", ".wv"),
    }
)
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
#: The dates that 64 bits hold, in ns since 1970: the years 1677 to 2262.
_FIRST_NS, _LAST_NS = -(2**63), 2**63 - 1
#: Bytes of a file without a name that is kept in memory, at most: six minutes of a CD. Each reader
#: has one.
_MOST_IN_MEMORY = 1 << 26
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has none, and no FIFOs among its files


def is_named_as_sound(name: str) -> bool:
    """Whether a name has an ending of audio."""
    return os.path.splitext(name)[1].lower() in AUDIO_EXTENSIONS  # noqa: PTH122 - of a million names


class State(NamedTuple):
    """What a file was like when it was looked at: if it is the same later, so is the file.

    Attributes:
        size: In bytes.
        mtime_ns: Last change, in ns since 1970, see `date_of`. Of an object the second of its last
            change, and where the fraction would be a digest of its etag, which servers change with
            the content.
    """

    size: int
    mtime_ns: int


def open_regular(path: Path) -> FileIO:
    """Open a regular file that has any bytes in it, without waiting for anybody.

    The kind is checked before opening, since opening a device may act on it, and again on the
    descriptor, since another file may have taken the name. So opened, a FIFO does not block.
    """
    try:
        _check_regular(path.stat())
        file = FileIO(path, opener=lambda name, flags: os.open(name, flags | _NONBLOCK))
    except OSError as error:
        raise AudioError("access", _reason(path, error)) from error
    except ValueError as error:
        raise AudioError("open", "not a file name") from error
    try:
        _check_regular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "device")
        raise AudioError("open", f"not a regular file ({kind})")
    if status.st_size == 0:
        raise AudioError("open", "empty file (0 bytes)")


def _reason(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "broken link" if path.is_symlink() else "no such file"
    return (error.strerror or str(error)).lower()


def unnamed_file(content: Iterable[bytes | memoryview], num_bytes: int) -> FileIO:
    """Return an open file with some bytes, at its beginning, which nobody else can see.

    It is in memory where the system has such files and it is small, otherwise where temporary ones
    are kept.

    Args:
        content: The bytes, some at a time.
        num_bytes: How many there are.

    Raises:
        AudioError: With stage "access" if the system has no room for it, or too many files open;
            or what `content` raises.
    """
    file = None
    try:
        file = new_unnamed_file(num_bytes)
        for block in content:
            rest = memoryview(block)
            while len(rest):
                rest = rest[file.write(rest) :]
        file.seek(0)
    except BaseException as error:
        if file is not None:
            file.close()
        if isinstance(error, OSError):
            raise AudioError("access", f"no room for it: {error.strerror}".lower()) from error
        raise
    return file


def new_unnamed_file(num_bytes: int) -> FileIO:
    """Return an empty file that nobody else can see, and that will have so many bytes."""
    if hasattr(os, "memfd_create") and num_bytes <= _MOST_IN_MEMORY:
        return FileIO(os.memfd_create("content"), "r+b")
    return tempfile.TemporaryFile(buffering=0)


def date_of(status: os.stat_result) -> int:
    """Return when a file was last changed, in ns since 1970, as it is kept and compared.

    Dates before 1677 and after 2262, which disks may have, become the nearest between these.
    """
    return kept_date(status.st_mtime_ns)


def kept_date(date_ns: int) -> int:
    """Return a date in ns since 1970, or the nearest that is kept; see `date_of`."""
    return min(max(date_ns, _FIRST_NS), _LAST_NS)


def read_at(descriptor: int, num_bytes: int, offset: int) -> bytes:
    """Read from an offset on, and leave the file where it stands; fewer bytes where it ends."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, num_bytes, offset)
    position = os.lseek(descriptor, 0, os.SEEK_CUR)  # Windows
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, num_bytes)
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
