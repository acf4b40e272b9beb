"""Forgetting a library: its files are gone for the store, though they may still be on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from indexer.arrays import Ids, Integers, contains
from indexer.errors import LibraryError
from indexer.library.packs import library_root
from indexer.paths import as_place
from indexer.progress import Listen, ignore
from indexer.run.survey import origin_now
from indexer.store.creation import forget_root
from indexer.store.ledger import Ledger
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.schema import STATUSES
from indexer.store.staging import clear_leftovers
from indexer.store.writer import PartWriter

#: Characters of an id by which a library can be named, at least: those that an overview shows.
_ID_CHARS = 8
#: Rows of the ledger in one part: some 50 MB of them in memory.
_PART_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What goes with a library.

    Attributes:
        library_id: Which library.
        root: Its folder, when it was last seen.
        num_files: Paths, and spans of files, that were there when last seen, those that failed too.
        num_windows: Windows that no other library holds as well.
        audio_s: Seconds of audio in them.
        num_shared_windows: Windows that stay, because another library holds the same sounds.
        is_done: Whether it is forgotten; otherwise this is what would go.
    """

    library_id: str
    root: Path
    num_files: int
    num_windows: int
    audio_s: float
    num_shared_windows: int
    is_done: bool


def forget(
    path: Path, library: str, *, dry_run: bool = False, listen: Listen = ignore
) -> Forgotten:
    """Take a library out of a store.

    The ledger hears that its files are gone, and the store no longer knows its folder. Nothing is
    removed before a compaction: until then, whoever indexes the folder again has everything back
    without a window being embedded.

    Args:
        path: Directory of the store.
        library: Its folder, which need not be there, or its id, or the beginning of that.
        dry_run: Only say what would go.
        listen: Hears which other process has to end first, if one has.

    Raises:
        LibraryError: If the store has no such library; it names those that it has.
        StoreError: If there is no store at `path`, or it cannot be written.
    """
    store = Store.open(path)
    if dry_run:
        return _look(store, library)[0]
    with sole_writer(path, listen):
        clear_leftovers(store)
        found, path_ids = _look(store, library)
        with PartWriter(store, origin_now()) as writer:
            parts = store.parts()  # what is written meanwhile is about other paths
            for some in np.array_split(path_ids, len(path_ids) // _PART_ROWS + 1):
                rows = store.files_at(some, parts)
                gone = [replace(row, status="gone", stage=None, reason=None) for row in rows]
                writer.add_ledger(gone)
                writer.commit()
        forget_root(store, found.library_id)  # last: until then it can be done again
    return replace(found, is_done=True)


def _look(store: Store, library: str) -> tuple[Forgotten, Integers]:
    """Return what goes with a library, and the ids of its paths."""
    parts, roots = store.parts(), store.libraries()
    library_id = _find(roots, library)
    ledger, windows = store.ledger(parts), store.snapshot(parts).windows
    mine = ledger.present(library_id)
    others = np.setdiff1d(np.arange(len(ledger)), mine, assume_unique=True)
    is_mine = contains(_recordings(ledger, mine), windows.recording_id)
    is_shared = is_mine & contains(_recordings(ledger, others), windows.recording_id)
    going = windows.take(is_mine & ~is_shared)
    found = Forgotten(
        library_id=library_id,
        root=roots[library_id],
        num_files=len(mine),
        num_windows=len(going.window_id),
        audio_s=going.audio_s,
        num_shared_windows=int(is_shared.sum()),
        is_done=False,
    )
    return found, ledger.path_id[mine]


def _find(roots: Mapping[str, Path], library: str) -> str:
    """Return the id of the library that is meant."""
    folder = as_place(library).absolute()
    places = {folder, folder.resolve(), library_root(folder)}
    is_id = len(library) >= _ID_CHARS
    meant = [
        library_id
        for library_id, root in roots.items()
        if root in places or (is_id and library_id.startswith(library))
    ]
    if len(meant) != 1:
        which = "several libraries" if meant else "no library"
        known = ", ".join(f"{root} ({key[:_ID_CHARS]})" for key, root in roots.items())
        raise LibraryError(f"{which} {library!r} in this store; it has {known or 'none'}")
    return meant[0]


def _recordings(ledger: Ledger, at: Integers) -> Ids:
    """Return the sorted ids of what is at some paths."""
    is_ok = ledger.status[at] == STATUSES.index("ok")
    return np.unique(ledger.recording_id[at[is_ok]])
