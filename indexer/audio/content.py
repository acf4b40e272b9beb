"""What is at a path, be it a file, an object or a member of a pack: is it there, state, bytes.

Whoever has a path asks here, and need not know which of these it is.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from heapq import nlargest
from io import FileIO
from itertools import accumulate, islice
from operator import and_, eq
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from indexer.audio.file import State, date_of, open_regular
from indexer.audio.packs.held import held, inside, is_named_as_pack, sounds_in, split
from indexer.audio.packs.pack import NotAPackError, Pack
from indexer.audio.remote.objects import objects
from indexer.errors import AudioError, QueryError
from indexer.paths import address_of

if TYPE_CHECKING:  # it is not for the help of a command, which loads no NumPy
    from indexer.audio.source import Source

_HASH_BLOCK_BYTES = 1 << 20
#: Members of a pack that are looked at for one that may have been meant, and how many are told.
_COMPARED, _SHOWN = 100_000, 3
#: Objects whose states are asked for before the first of them is wanted: the fetcher asks for 32 at
#: a time, and what has been asked takes 4 kB until it is wanted.
_AHEAD = 1000

Thing = TypeVar("Thing")


def state_of(path: Path) -> State:
    """Return the size and the date of a file, or of a member of a pack.

    Raises:
        OSError: If it is not there (FileNotFoundError, NotADirectoryError), or that cannot be told.
    """
    if found := _find(path):
        pack, row = found
        member = pack.members[row]
        return State(member.size, member.mtime_ns)
    if address := address_of(path):
        return objects.state_of(address)
    status = path.stat()
    return State(status.st_size, date_of(status))


def asked_state(path: Path) -> State:
    """Return the size and the date of what a user asks with.

    Raises:
        QueryError: If it is not there, or that cannot be told.
    """
    try:
        return state_of(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        told = in_its_place(path) or "a query is an audio file or a window id"
        raise QueryError(f"no such file: {path}; {told}") from error
    except (OSError, ValueError) as error:
        told = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise QueryError(f"cannot open {path}: {told}") from error


def exists(path: Path) -> bool:
    """Whether something is at a path, as far as anybody may know: a file, a folder or a member."""
    try:
        state_of(path)
    except (OSError, ValueError):
        return False
    return True


def require_name(path: Path) -> None:
    """Raise unless something has that very name: a member of a pack, a link that leads nowhere.

    Raises:
        OSError: If nothing has it (FileNotFoundError, NotADirectoryError), or that cannot be told.
        ValueError: If it is no name.
    """
    if _find(path):
        return
    if address := address_of(path):
        objects.state_of(address)
    else:
        path.lstat()


def has_name(path: Path) -> bool:
    """Whether something has that very name, as far as anybody may know; see `require_name`."""
    try:
        require_name(path)
    except (OSError, ValueError):
        return False
    return True


def look_ahead(things: Iterable[Thing], path_of: Callable[[Thing], Path]) -> Iterator[Thing]:
    """Yield things whose states are asked for next: those of objects are asked for before.

    In the place of members, those of their packs are.

    Args:
        things: Of any kind.
        path_of: Tells where one is.
    """
    rest = iter(things)
    while some := list(islice(rest, _AHEAD)):
        paths = ((path, split(path)) for path in map(path_of, some) if address_of(path))
        objects.look_ahead(dict.fromkeys(parts[0] if parts else path for path, parts in paths))
        yield from some


def fetch_ahead(path: Path) -> bool:
    """Say what is read soon; return whether that is worth the while, as it is of objects alone."""
    if (address := address_of(path)) is None:
        return False
    try:
        found = _find(path)
    except OSError:  # for whoever reads it to report
        return False
    if found is None:
        objects.fetch_ahead(address)
    else:
        found[0].fetch_ahead(found[1])
    return True


def may_change(path: Path) -> bool:
    """Whether what is at a path may become another while it is read: an object is fetched whole."""
    return address_of(path) is None or split(path) is not None


def reading_order(path: Path) -> tuple[bytes, int]:
    """Return what files are sorted by to be read: paths, and in a pack the rows of members."""
    try:
        found, parts = _find(path), split(path)
    except OSError:  # for the decoder to report
        return os.fsencode(path), 0
    if found is None or parts is None:
        return os.fsencode(path), 0
    return os.fsencode(parts[0]), found[1]


def open_content(path: Path, max_duration_s: float) -> FileIO | Source:
    """Open a file, or a member of a pack.

    Args:
        path: A regular file, a link to one, or a member.
        max_duration_s: Of a member that is samples, reading further is an error, in seconds.

    Returns:
        An open file that stands at its beginning; or samples, where there is no file's format.

    Raises:
        AudioError: If it is none of these, or cannot be read.
    """
    if found := _require(path):
        return found[0].open(found[1], max_duration_s)
    address = address_of(path)
    return objects.open(address) if address else open_regular(path)


def bytes_of(path: Path) -> bytes:
    """Return the bytes of a file, an object, or a member of a pack that is a file.

    Raises:
        AudioError: If it cannot be read, or is samples without a file's format.
    """
    content = open_content(path, math.inf)
    if not isinstance(content, FileIO):
        content.close()
        raise AudioError("open", "it is samples, and no file; write it as one")
    with content:
        return content.readall()


def recording_digest(path: Path, beat: Callable[[], None] | None = None) -> bytes:
    """Return the 16-byte BLAKE2b of a file's bytes; of samples, of how they are kept and of them.

    A member of a pack that is a file has the digest of that file.

    Args:
        path: A regular file, a link to one, or a member of a pack.
        beat: Called after every megabyte or so.

    Raises:
        AudioError: If it is not a regular file, or a member, that can be read.
    """
    with objects.beating(beat):
        found = _require(path)
        fetched = found[0].fetch(found[1]) if found else None
        if found is None and (address := address_of(path)):
            fetched = objects.digest(address)
    if fetched:
        return fetched
    digest = hashlib.blake2b(digest_size=16)
    for block in found[0].content(found[1]) if found else _blocks(path):
        digest.update(block)
        if beat:
            beat()
    return digest.digest()


@contextmanager
def asked_with(path: Path) -> Iterator[None]:
    """Name the file that a user asked with in whatever is wrong with it.

    Raises:
        QueryError: In place of an AudioError.
    """
    try:
        yield
    except AudioError as error:
        there = in_its_place(path)
        told = f"{error.reason}; {there}" if there else error.reason
        raise QueryError(f"cannot listen to {path}: {told}") from error


def in_its_place(path: Path) -> str | None:
    """Say some names that a pack has, where a path leads to none of them.

    Returns:
        None for a path that leads into no pack, or to one of its members. What goes through a pack
        as through a folder, `a.tar/b.wav`, is told how it is written.
    """
    try:
        parts = split(path)
        members = list(islice(sounds_in(parts[0]), _COMPARED)) if parts else []
    except (NotAPackError, AudioError, OSError, ValueError):
        return None
    if parts is None:
        return _through_a_pack(path)
    if exists(path):
        return None
    wanted = parts[1]
    stem = os.path.splitext(wanted)[0]  # noqa: PTH122 - it is bytes

    def likeness(name: bytes) -> tuple[bool, int]:
        return stem in name, sum(accumulate(map(eq, name, wanted), and_))  # of their beginning

    names = nlargest(_SHOWN, (one.name for one in members), likeness)
    return f"{parts[0].name} has {', '.join(map(os.fsdecode, names)) or 'nothing in it'}"


def _through_a_pack(path: Path) -> str | None:
    for pack in path.parents:
        try:
            _require_no_pack(pack)
        except AudioError as error:
            return error.reason.replace("it is", f"{pack.name} is", 1)
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    with open_regular(path) as file:
        try:
            while block := file.read(_HASH_BLOCK_BYTES):
                yield block
        except OSError as error:
            raise AudioError("access", f"cannot be read: {error.strerror}".lower()) from error


def _require(path: Path) -> tuple[Pack, int] | None:
    """Return the pack and the row that a path means; None for a path that is no member's.

    Raises:
        AudioError: If there is no such member, or the pack cannot be read; or if a pack is meant,
            and none of its members.
    """
    _require_no_pack(path)
    try:
        return _find(path)
    except OSError as error:
        raise AudioError("access", error.strerror or str(error)) from error


def _require_no_pack(path: Path) -> None:
    """Raise if a path is that of a pack, in which there is something."""
    if not is_named_as_pack(path.name):
        return
    try:
        one = next(sounds_in(path), None)
    except (NotAPackError, AudioError, OSError, ValueError):
        return  # for whoever reads it as a file to report
    if one:
        name = inside(Path(path.name)) / os.fsdecode(one.name)
        raise AudioError("open", f"it is a pack; a sound in it is named as in {name}")


def _find(path: Path) -> tuple[Pack, int] | None:
    """Return the pack and the row that a path means; None for a path that is no member's.

    Raises:
        OSError: If there is no such member, or the pack cannot be read.
    """
    if (parts := split(path)) is None:
        return None
    try:
        pack = held(parts[0])
    except NotAPackError as error:  # if it was one, nobody knows what is in it
        raise OSError(errno.EIO, f"it is no pack: {error}", os.fspath(path)) from error
    except AudioError as error:
        raise OSError(errno.EIO, f"the pack cannot be read: {error}", os.fspath(path)) from error
    except FileNotFoundError as error:
        said = f"the pack is not there: {error.strerror}"
        raise FileNotFoundError(errno.ENOENT, said, os.fspath(path)) from error
    row = pack.members.row_of(parts[1])
    if row is None and pack.members.flaw:  # nobody knows whether there was one
        raise OSError(errno.EIO, f"the pack is {pack.members.flaw}", os.fspath(path))
    if row is None:
        raise FileNotFoundError(errno.ENOENT, "no such member of the pack", os.fspath(path))
    return pack, row
