"""The file itself: which names are taken for audio, how it is opened, the digest of its bytes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from indexer.errors import AudioError, QueryError

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
_HASH_BLOCK_BYTES = 1 << 20
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has none, and no FIFOs among its files


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


@contextmanager
def asked_with(path: Path) -> Iterator[None]:
    """Name the file that a user asked with in whatever is wrong with it.

    Raises:
        QueryError: In place of an AudioError.
    """
    try:
        yield
    except AudioError as error:
        raise QueryError(f"cannot listen to {path}: {error.reason}") from error


def recording_digest(path: Path, beat: Callable[[], None] | None = None) -> bytes:
    """Return the 16-byte BLAKE2b of a file's bytes.

    Args:
        path: A regular file, or a link to one.
        beat: Called after every megabyte.

    Raises:
        AudioError: If it is not a regular file that can be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        try:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
                if beat:
                    beat()
        except OSError as error:
            raise AudioError("access", f"cannot be read: {error.strerror}".lower()) from error
    return digest.digest()


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
