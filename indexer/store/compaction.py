"""Compaction: parts written anew without dead rows, a few large ones in the place of many small."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import ID_DTYPE, Ids, Integers, Mask, contains, ids_from_column, last_of_each
from indexer.progress import Listen, Step, ignore
from indexer.store.disk import TEMPORARY_PREFIX, remove_all, sync_folder, writing
from indexer.store.lock import without_readers
from indexer.store.parquet import FILES_FILE, FRAMES_FILE, SCENE_FILE
from indexer.store.part import MANIFEST_FILE, Part
from indexer.store.reader import PARTS_FOLDER, Store
from indexer.store.schema import FILES_SCHEMA, SCHEMAS, Origin
from indexer.store.snapshot import Snapshot
from indexer.store.writer import PartWriter

#: A compacted part is full with this many windows: 5 GB with pooled frames.
PART_WINDOWS = 100_000
_COLUMNS = ("path_id", "status", "stage", "recording_id")
#: Failures after which the next run may go on with what was embedded.
_PASSING = ("access", "crash")


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction did.

    Attributes:
        num_parts_before: Parts that counted before.
        num_parts_after: Parts that count now.
        num_windows_removed: Windows that no path names any more, or that were doubled.
        num_rows_removed: Rows of the ledger after which there was another word on the same path.
        size_bytes_before: Of the Parquet files of the parts that counted before.
        size_bytes_after: Of those of the parts that count now.
    """

    num_parts_before: int
    num_parts_after: int
    num_windows_removed: int
    num_rows_removed: int
    size_bytes_before: int
    size_bytes_after: int

    @property
    def has_changed(self) -> bool:
        """Whether there was anything to do."""
        is_merged = self.num_parts_before != self.num_parts_after
        return is_merged or self.num_windows_removed + self.num_rows_removed > 0


class _Share(NamedTuple):
    """What is kept of one part.

    Attributes:
        part: Which.
        windows: Rows of scene.parquet and frames.parquet, in order.
        words: Rows of files.parquet, in order.
        num_words: Rows of files.parquet, those that go included.
    """

    part: Part
    windows: Integers
    words: Integers
    num_words: int

    @property
    def num_dead(self) -> tuple[int, int]:
        """How many windows and how many rows of the ledger go."""
        return self.part.num_windows - len(self.windows), self.num_words - len(self.words)

    @property
    def rows(self) -> dict[str, Integers]:
        """The kept rows of each of its files."""
        of_file = {SCENE_FILE: self.windows, FRAMES_FILE: self.windows, FILES_FILE: self.words}
        return {name: of_file[name] for name in self.part.files}


def compact(
    store: Store,
    *,
    listen: Listen = ignore,
    part_windows: int = PART_WINDOWS,
) -> CompactReport:
    """Write parts anew without dead rows, neighbours together until they are large.

    The parts that were replaced count no longer, and stay on disk until `delete_replaced`. Whoever
    calls this holds `indexer.store.lock.sole_writer`; readers go on meanwhile.

    Args:
        store: Whose parts are to be compacted.
        listen: Hears how many rows are written, of all three files of a part.
        part_windows: A part with so many windows takes in no more.

    Raises:
        DamagedStoreError: If a part that would be written anew is not as it was written; what was
            replaced up to then stays replaced.
        StoreError: If the disk is full or read-only; likewise.
    """
    shares = _shares(store, store.parts())
    groups = [group for group in _groups(shares, part_windows) if not _is_compact(group)]
    on_disk = set(store.part_names())
    total = sum(len(rows) for group in groups for share in group for rows in share.rows.values())
    done = 0

    def show(num_rows: int) -> None:
        nonlocal done
        done += num_rows
        listen(Step("compacting", done, total, "row"))

    # An "ok" row anywhere in the history makes a run take its recording for embedded. So no such
    # row may outlive its windows, which are in the same part or an earlier one: newest first.
    for group in reversed(groups):
        _rewrite(store, group, on_disk, show)
    return CompactReport(
        num_parts_before=len(shares),
        num_parts_after=len(shares) - sum(len(group) - 1 for group in groups),
        num_windows_removed=sum(share.num_dead[0] for share in shares),
        num_rows_removed=sum(share.num_dead[1] for share in shares),
        size_bytes_before=_size_of(share.part for share in shares),
        size_bytes_after=_size_of(store.parts()),
    )


def delete_replaced(store: Store, parts: Sequence[Part]) -> None:
    """Delete the parts that others stand for, unless somebody reads them, or has put things there.

    Args:
        store: Whose they are.
        parts: Those that count.

    Raises:
        StoreError: If the store is read-only.
    """
    folder = store.path / PARTS_FOLDER
    doomed = [name for name in replaced_parts(store, parts) if _is_ours(folder / name)]
    if not doomed:
        return
    with writing(store.path), without_readers(store.path) as is_alone:
        if not is_alone:
            return  # a later build or compaction deletes them
        for name in doomed:
            (folder / name).rename(folder / f"{TEMPORARY_PREFIX}{name}")
        sync_folder(folder)  # before their files go: half a part must not come back
    for name in doomed:
        remove_all(folder / f"{TEMPORARY_PREFIX}{name}")


def _is_ours(part: Path) -> bool:
    """Whether nothing is in a part but what belongs there; one with notes of somebody's stays."""
    names = {entry.name for entry in part.iterdir() if not entry.name.startswith(".")}
    return names <= {*SCHEMAS, MANIFEST_FILE}


def replaced_parts(store: Store, parts: Sequence[Part]) -> list[str]:
    """Return the names of the parts on disk that those which count stand for."""
    replaced = {name for part in parts for name in part.replaces}
    return [name for name in store.part_names() if name in replaced]


def outlook(store: Store, parts: Sequence[Part]) -> tuple[int, int]:
    """Return how many windows of some parts, oldest first, a compaction would remove.

    And how many parts it would leave.
    """
    shares = _shares(store, parts)
    return sum(share.num_dead[0] for share in shares), len(_groups(shares, PART_WINDOWS))


def _shares(store: Store, parts: Sequence[Part]) -> list[_Share]:
    """Return what is to be kept of each part, oldest first."""
    schema = pa.schema([FILES_SCHEMA.field(name) for name in _COLUMNS])
    tables = [pa.Table.from_batches(part.ledger(_COLUMNS), schema) for part in parts]
    words = pa.concat_tables([schema.empty_table(), *tables])
    is_last = np.zeros(len(words), bool)
    is_last[last_of_each(words["path_id"].to_numpy())] = True
    kept = _kept_recordings(words, is_last, parts)
    snapshot = Snapshot(parts, kept, store.identity.frames)
    windows = {part.name: rows for part, rows in snapshot.by_part()}
    stops = np.cumsum([len(table) for table in tables], dtype=np.int64)
    pieces = np.split(is_last, stops)  # of each part, and one after the last, with nothing
    return [
        _Share(part, windows.get(part.name, stops[:0]), np.flatnonzero(piece), len(piece))
        for part, piece in zip(parts, pieces, strict=False)
    ]


def _kept_recordings(words: pa.Table, is_last: Mask, parts: Sequence[Part]) -> Ids:
    """Return the sorted ids of the recordings whose windows are kept.

    They are the live ones, and those that a run began and was not able to finish: the next run
    goes on with them. Of these no word was written yet, "ok" or "failed" for good.
    """
    recording_id = ids_from_column(words["recording_id"])
    is_ok, is_failed = (pc.equal(words["status"], one).to_numpy() for one in ("ok", "failed"))
    may_pass = pc.is_in(words["stage"], value_set=pa.array(_PASSING, pa.string())).to_numpy()
    ended = np.unique(recording_id[is_ok | (is_failed & ~may_pass)])
    begun = np.array([one for part in parts for one in part.unfinished], ID_DTYPE)
    return np.union1d(recording_id[is_ok & is_last], begun[~contains(ended, begun)])


def _groups(shares: Sequence[_Share], part_windows: int) -> list[list[_Share]]:
    """Divide parts into runs of neighbours, each to be one part.

    Parts with one sequence number stay together: their random names order them, and the one that
    takes their place gets another.
    """
    groups: list[list[_Share]] = []
    for _, tied in groupby(shares, key=lambda share: share.part.sequence):
        unit = list(tied)
        if groups and _joins(groups[-1], unit, part_windows):
            groups[-1] += unit
        else:
            groups.append(unit)
    return groups


def _joins(group: Sequence[_Share], unit: Sequence[_Share], part_windows: int) -> bool:
    """Whether parts become one with the group before them."""
    if not any(len(share.windows) or len(share.words) for share in unit):
        return True  # nothing is left of them, and nothing would say that they are replaced
    if sum(len(share.windows) for share in group) >= part_windows:
        return False
    one, other = _origin(group), _origin(unit)
    return one is None or other is None or replace(one, created=other.created) == other


def _origin(group: Sequence[_Share]) -> Origin | None:
    """Return how the windows of a group were computed; None if it has only a ledger."""
    origins = [share.part.origin for share in group if len(share.windows)]
    return origins[-1] if origins else None


def _is_compact(group: Sequence[_Share]) -> bool:
    return len(group) == 1 and not any(group[0].num_dead)


def _rewrite(
    store: Store, group: Sequence[_Share], on_disk: Collection[str], show: Callable[[int], None]
) -> None:
    """Write what is kept of a group as one part in its place."""
    parts = [share.part for share in group]
    for part in parts:
        part.require_intact(*part.files)  # a copy of damage would have a digest that fits it
    origin = _origin(group) or parts[-1].origin
    newest = max(part.origin.created for part in parts)
    with PartWriter(store, replace(origin, created=newest)) as writer:
        for share in group:
            for name, rows in share.rows.items():
                for table in share.part.tables(name, rows):
                    writer.add_rows(name, table)
                    show(len(table))
        # What these replaced, and is not deleted yet, must not come back when they are.
        names = [name for part in parts for name in (*part.replaces, part.name)]
        writer.commit([name for name in names if name in on_disk], parts[-1].sequence)


def _size_of(parts: Iterable[Part]) -> int:
    return sum(size for part in parts for size, _ in part.files.values())
