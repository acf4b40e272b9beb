"""Which pack a path leads into, and the packs that a process holds open.

The path of a member is that of its pack, an exclamation mark, and its name: `eval.h5!/Yid.wav`. A
folder that is really called `eval.h5!` comes first.
"""

from __future__ import annotations

import copy
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.audio.file import State, is_named_as_sound, kept_date
from indexer.audio.packs.pack import NotAPackError, Pack, is_of_the_system
from indexer.audio.remote.objects import objects
from indexer.errors import AudioError
from indexer.paths import Address, address_of, as_place

if TYPE_CHECKING:  # it is not for the help of a command, which loads no NumPy
    from indexer.audio.packs.members import Member

#: Which files may be packs, by their endings in lower case.
_HDF5, _PARQUET, _ARCHIVES = {".h5", ".hdf5"}, {".parquet"}, {".tar", ".zip"}
_PACKS = frozenset(_HDF5 | _PARQUET | _ARCHIVES)
#: Endings of what cannot be read at an offset, and so is no pack.
_COMPRESSED_TARS = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
    *(".tar.lz4", ".tar.z", ".tar.br", ".tar.lzma"),
)
#: What stands behind the path of a pack, where it is taken for a folder.
_INSIDE = "!"
#: Parts of an address that say which bucket it is in: "s3:", "sounds".
_BUCKET_PARTS = 2
#: Packs that are held open at a time.
_MOST_HELD = 8

#: What tells a file from another of its name: device, inode, size and date.
Mark = tuple[int, int, int, int]


def inside(pack: Path) -> Path:
    """Return a pack's path as that of the folder that its members seem to lie in."""
    return pack.with_name(pack.name + _INSIDE)


def is_named_as_pack(name: str) -> bool:
    """Whether a file may be a pack, by its name."""
    return os.path.splitext(name)[1].lower() in _PACKS  # noqa: PTH122 - of a million names


def is_named_as_archive(name: str) -> bool:
    """Whether a file may be a pack of files of any kind; a sound there has an ending of audio."""
    return os.path.splitext(name)[1].lower() in _ARCHIVES  # noqa: PTH122 - of a million names


def is_compressed_tar(name: str) -> bool:
    """Whether a file may be a tar that is packed as a whole, by its name: nothing reads it."""
    return name.lower().endswith(_COMPRESSED_TARS)


def sounds_in(path: Path) -> Iterator[Member]:
    """Yield the members of a pack that may be sounds, by their names; hidden files are not told.

    Raises:
        NotAPackError: As `held` does, and the others.
    """
    is_archive = is_named_as_archive(path.name)
    for member in held(path).members:
        is_hidden = b"/." in b"/" + member.name
        if not is_archive or (is_named_as_sound(os.fsdecode(member.name)) and not is_hidden):
            yield member


def split(path: Path) -> tuple[Path, bytes] | None:
    """Return the pack that a path leads into, and what the path names in there; None for a file.

    Nothing but names are looked at: the pack is a regular file that may be one. Of what lies
    elsewhere archives alone are packs, and are none but by their names.

    Args:
        path: `FOLDER/eval.h5!/Yid.wav`, or `FOLDER/eval.h5!` for the pack itself: an empty name.
    """
    text = os.fspath(path)
    at = text.find(_INSIDE)
    while at >= 0:
        pack, rest = text[:at], text[at + len(_INSIDE) :]
        if (not rest or rest[0] == "/") and is_named_as_pack(pack) and _is_taken_as_folder(pack):
            return as_place(pack), os.fsencode(rest[1:])
        at = text.find(_INSIDE, at + 1)
    return None


def _is_taken_as_folder(pack: str) -> bool:
    if address := address_of(pack):
        return is_named_as_archive(pack) and len(address.parts) > _BUCKET_PARTS
    # A name that no path can have, and one in a folder that may not be searched, are no packs.
    return os.path.isfile(pack) and not os.path.lexists(pack + _INSIDE)  # noqa: PTH113


def pack_mark(path: Path) -> Mark | None:
    """Return what the pack that a path leads into is like now; None for a path into none.

    Raises:
        OSError: If it cannot be reached.
    """
    if (parts := split(path)) is None:
        return None
    address = address_of(parts[0])
    return _mark_elsewhere(address) if address else _mark_of(parts[0].stat())


def _mark_of(status: os.stat_result) -> Mark:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _mark_elsewhere(address: Address) -> Mark:
    return 0, 0, *_state_elsewhere(address)


def _state_of(mark: Mark) -> State:
    _, _, size, mtime_ns = mark
    return State(size, kept_date(mtime_ns))


def _state_elsewhere(address: Address) -> State:
    """Return the state of an object; of one that is open the former one, where that cannot be told.

    What is read of it says its state once more.
    """
    try:
        return objects.state_of(address)
    except FileNotFoundError:
        raise
    except OSError:
        if known := _held.state_of(address):
            return known
        raise


def held(path: Path) -> Pack:
    """Return an open pack: this process opens it once, and again when the file is another.

    So it is with a file that is none, or damaged: whoever asks for each of its members is told the
    same, without its being listed for each.

    Raises:
        NotAPackError: If it is none, which is no fault.
        AudioError: If it is one, and cannot be listed.
        OSError: If it cannot be reached.
    """
    if address := address_of(path):
        if not is_named_as_archive(path.name):
            raise NotAPackError("it lies elsewhere, where archives alone are packs")
        mark, is_regular = _mark_elsewhere(address), True
    else:
        status = path.stat()
        mark, is_regular = _mark_of(status), stat.S_ISREG(status.st_mode)
    if not is_regular or not _state_of(mark).size:
        raise NotAPackError("it is empty, or no regular file")
    return _held.get(path, mark)


def _open(path: Path, state: State) -> Pack:
    # What reads HDF5 takes a tenth of a second to load, and most libraries have no packs.
    ending = path.suffix.lower()
    if ending in _HDF5:
        from indexer.audio.packs.waveforms import Waveforms  # noqa: PLC0415

        return Waveforms(path, state.mtime_ns)
    if ending in _ARCHIVES:
        from indexer.audio.packs.tar import Tar  # noqa: PLC0415
        from indexer.audio.packs.zipped import Zip  # noqa: PLC0415

        return (Tar if ending == ".tar" else Zip)(path, state)
    from indexer.audio.packs.table import AudioTable  # noqa: PLC0415

    return AudioTable(path, state.mtime_ns)


def _opened(path: Path, state: State) -> Pack | NotAPackError | AudioError:
    """Return a pack, or why there is none as long as the file is the same.

    Raises:
        AudioError: If there may be one another time.
    """
    try:
        return _open(path, state)
    except NotAPackError as error:
        return copy.copy(error)  # without its trace, which holds what was open
    except AudioError as error:
        if error.stage == "access" or is_of_the_system(error.__cause__):
            raise
        return copy.copy(error)


class _Held:
    """The packs that were asked last, or why they are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opening: dict[Path, threading.Lock] = {}  # of each that is being opened
        self._packs: OrderedDict[Path, tuple[Mark, Pack | NotAPackError | AudioError]] = (
            OrderedDict()
        )

    def begin_anew(self) -> None:
        """Hold what a process had open before it was forked, or leave it to the parent to close."""
        self._lock, self._opening, self._of_parent = threading.Lock(), {}, self._packs
        self._packs = OrderedDict(
            (path, one)
            for path, one in self._packs.items()
            if isinstance(one[1], Exception) or one[1].outlives_fork
        )

    def get(self, path: Path, mark: Mark) -> Pack:
        with self._lock:
            pack = self._known(path, mark)
        if pack is None:
            pack = self._open(path, mark)
        if isinstance(pack, Exception):
            raise copy.copy(pack)
        return pack

    def state_of(self, path: Path) -> State | None:
        """Return the state that an object had when it was opened; None if it is not open."""
        with self._lock:
            mark, _ = self._packs.get(path, (None, None))
        return _state_of(mark) if mark else None

    def _known(self, path: Path, mark: Mark) -> Pack | NotAPackError | AudioError | None:
        known, pack = self._packs.get(path, (None, None))
        if known != mark:
            return None
        self._packs.move_to_end(path)
        return pack

    def _open(self, path: Path, mark: Mark) -> Pack | NotAPackError | AudioError:
        with self._lock:
            opening = self._opening.setdefault(path, threading.Lock())
        with opening:  # others are had meanwhile: to list one in a bucket may take minutes
            with self._lock:
                pack = self._known(path, mark)
            if pack is None:  # no other thread was first
                pack = _opened(path, _state_of(mark))
            with self._lock:
                self._packs[path] = mark, pack
                self._packs.move_to_end(path)
                self._opening.pop(path, None)
                while len(self._packs) > _MOST_HELD:
                    self._packs.popitem(last=False)
        return pack


_held = _Held()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.begin_anew)
