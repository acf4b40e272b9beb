"""Parts that an index was made from, and that are not there any more.

A store has no list of its parts: each is a folder that appears whole. What an index was made from
is the only word on what ought to be there; before there is one, nothing can be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from indexer.arrays import Ids, contains, ids_from_column
from indexer.errors import DamagedStoreError, StoreError
from indexer.paths import path_id
from indexer.store.disk import read_own, require_own_folder
from indexer.store.part import Part
from indexer.store.reader import PARTS_FOLDER, Store
from indexer.store.snapshot import Snapshot
from indexer.store.verify import digest_problems
from search.generation.manifest import GENERATION_FILE, Manifest, digests
from search.generation.segments import (
    INDEX_FOLDER,
    PARTS_FILE,
    Generation,
    is_generation_name,
)

#: What to do about a part that is missing.
GET_BACK = "bring it back from a copy, or index the libraries again, which embeds what is lost"


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there any more.

    Attributes:
        parts: Folders of the parts.
        num_lost: Windows that queries see and that no part holds as live any more, although no
            later word on their files says so; None if that cannot be known, as the index or another
            part is damaged.
        num_indexed: Windows that queries see; None likewise.
    """

    parts: tuple[Path, ...]
    num_lost: int | None
    num_indexed: int | None

    @property
    def cost(self) -> str:
        """What went with them, to be said after "is missing"."""
        if self.num_lost is None:
            return ""
        if not self.num_lost:
            return "; all windows that searches see are in other parts"
        others = len(self.parts) - 1
        also = (
            f" as {others:,} other{'s are' if others > 1 else ' is'}, and with them"
            if others
            else ""
        )
        held = f"{self.num_lost:,} of the {self.num_indexed:,} windows that searches see"
        return f",{also or ' and with it'} {held}"


def missing_parts(store: Store) -> tuple[Path, ...]:
    """Return the folders of the parts that the index was made from, and that are not there.

    That a part is gone in whose place a compaction has put another is right.

    Raises:
        StoreError: If the parts cannot be listed.
    """
    while True:  # parts are deleted after a generation without them was published
        folder = _newest(store)
        if folder is None:
            return ()
        names = store.part_names()
        absent = set(_parts_of(folder)).difference(names)
        if absent:
            absent -= _replaced(store, names)
        if _newest(store) == folder:
            return tuple(store.path / PARTS_FOLDER / name for name in sorted(absent))


def find_missing(store: Store, parts: Sequence[Part] | None = None) -> Missing | None:
    """Return which parts are missing, and what went with them; None if all are there.

    Args:
        store: Of which an index was built.
        parts: Those that count, oldest first; None if they are to be read.

    Raises:
        StoreError: If the parts cannot be listed.
    """
    absent = missing_parts(store)
    folder = _newest(store)
    if not absent or folder is None:
        return None
    with suppress(StoreError):  # what is damaged besides cannot be counted
        generation = Generation.open(folder)
        lost = _num_lost(store, generation, store.parts() if parts is None else parts)
        return Missing(absent, lost, generation.num_windows)
    return Missing(absent, None, None)


def require_all_parts(store: Store, parts: Sequence[Part] | None = None) -> Missing | None:
    """Raise if windows that queries see went with a part.

    Args:
        store: Of which an index was built.
        parts: Those that count, oldest first; None if they are to be read.

    Returns:
        What is missing without being missed, if there is such a thing.

    Raises:
        DamagedStoreError: If windows are lost, or that cannot be known.
    """
    missing = find_missing(store, parts)
    if missing is None or missing.num_lost == 0:
        return missing
    raise DamagedStoreError(
        missing.parts[0],
        f"it is missing{missing.cost}",
        f"{GET_BACK}; to go on without it, build the index anew",
        about="anew",
        value=store.path,
    )


def whole_snapshot(store: Store) -> Snapshot:
    """Return the live windows, to be read to the end, if no part of them is damaged or missing.

    Raises:
        DamagedStoreError: As `require_all_parts`, and as `Store.snapshot`.
    """
    require_all_parts(store)
    return store.snapshot()


def _newest(store: Store) -> Path | None:
    """Return the newest generation that says from which parts it was made."""
    index = store.path / INDEX_FOLDER
    with suppress(OSError, StoreError):
        require_own_folder(index)
        names = (one.name for one in index.iterdir() if is_generation_name(one.name))
        for name in sorted(names, reverse=True):
            with suppress(StoreError):
                files = Manifest.read(index / name / GENERATION_FILE).files
                wanted = {PARTS_FILE: digests(files).get(PARTS_FILE, "")}
                if not list(digest_problems(index / name, wanted)):
                    return index / name
    return None


def _parts_of(generation: Path) -> list[str]:
    # It is replaced meanwhile; or it is no text of ours, which is told where the index is read.
    with suppress(OSError, UnicodeDecodeError):
        return read_own(generation / PARTS_FILE).decode("ascii").splitlines()
    return []


def _replaced(store: Store, names: Sequence[str]) -> set[str]:
    """Return the names of the parts in whose place others have come."""
    replaced: set[str] = set()
    for name in names:
        with suppress(StoreError):  # told where it is read
            replaced.update(Part.from_manifest(store.path / PARTS_FOLDER / name).replaces)
    return replaced


def _num_lost(store: Store, generation: Generation, parts: Sequence[Part]) -> int:
    """Count live windows of a generation that are live in no part, and of whose files none said."""
    live = np.sort(store.snapshot(parts).window_ids)
    rows = generation.live_rows()
    rows = rows[~contains(live, generation.window_ids(rows))]
    recordings = generation.recording_ids(rows)
    return int(contains(_unexplained(generation, parts, np.unique(recordings)), recordings).sum())


def _unexplained(generation: Generation, parts: Sequence[Part], recordings: Ids) -> Ids:
    """Return those of some sorted recordings that are at a place of which no later part speaks.

    That a file could not be read says nothing of what became of it, nor does a word on one span of
    it of what else it holds: an index does not tell spans apart.
    """
    later = [one for one in parts if one.name not in generation.parts and not one.replaces]
    spoken = [np.empty(0, np.int64)]
    for batch in (batch for part in later for batch in part.ledger(("path_id", "status"))):
        is_word = pc.not_equal(batch["status"], "failed")
        spoken.append(batch["path_id"].filter(is_word).to_numpy())
    table = generation.recordings.table.filter(contains(recordings, generation.recordings.ids))
    places = zip(table["library_id"].to_pylist(), table["path"].to_pylist(), strict=True)
    path_ids = np.fromiter((path_id(*place) for place in places), np.int64)
    is_unsaid = ~contains(np.sort(np.concatenate(spoken)), path_ids)
    return np.unique(ids_from_column(table["recording_id"])[is_unsaid])
