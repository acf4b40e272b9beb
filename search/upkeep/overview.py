"""What a store holds, at a glance."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.store.compaction import outlook
from indexer.store.own import Own
from indexer.store.part import Part
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.store.words import last_words
from search.generation.manifest import OutdatedIndexError
from search.generation.missing import missing_parts
from search.generation.segments import Generation, current_name
from search.learned.taught import Taught, taught
from search.projection.kept import names as projections
from search.upkeep.files import is_departed

#: Parts that are no burden, beside four times those that a compaction leaves.
_MANY_PARTS = 100
_COLUMNS = ("library_id", "size", "status", "stage", "reason", "warnings")


@dataclass(frozen=True, slots=True)
class Overview:
    """What a store holds.

    Attributes:
        path: Directory of the store.
        checkpoint: Name or file of the checkpoint, as it was given.
        known: Name of the published checkpoint that its weights are of, as the store has it; None
            if they are of none.
        identity: How the embeddings were computed.
        num_windows: Live windows.
        num_recordings: Live recordings.
        audio_s: Seconds of audio in the live windows; what several share counts once.
        size_bytes: Of all files of the store.
        num_parts: Units of commit.
        num_compact_parts: What a compaction would make of them: those that other devices, or other
            versions, have computed do not become one.
        num_dead_windows: Stored windows that no path names any more, or that are doubled.
        num_unfinished_windows: Of recordings that a run began and did not end: no path names them
            yet, and the next run goes on with them.
        num_indexed: Windows that queries see; None if there is no index that this version reads.
        is_outdated: Whether there is one that another version of the program built.
        is_sketched: Whether the index proposes windows by sketches; if not, answers are exact.
        num_new_parts: Parts that the index does not hold yet.
        num_missing_parts: Parts that the index was made from, and that are not there any more.
        statuses: Status → number of paths, the most frequent first. Of libraries that were
            forgotten nothing is gone or moved, nor is what never was there.
        failures: (stage, reason) → number of paths, the most frequent first.
        warnings: Warning → number of paths, the most frequent first.
        libraries: library_id → last known root.
        origins: Distinct (device, precision) of the parts with windows, and how many of each.
        own: Names of the documents that were added to it.
        projections: Names of its projections of text and sound.
        taught: Names that have labels, or a tag that was learned from them.
    """

    path: Path
    checkpoint: str
    known: str | None
    identity: Identity
    num_windows: int
    num_recordings: int
    audio_s: float
    size_bytes: int
    num_parts: int
    num_compact_parts: int
    num_dead_windows: int
    num_unfinished_windows: int
    num_indexed: int | None
    is_outdated: bool
    is_sketched: bool
    num_new_parts: int
    num_missing_parts: int
    statuses: dict[str, int]
    failures: dict[tuple[str, str], int]
    warnings: dict[str, int]
    libraries: dict[str, Path]
    origins: dict[tuple[str, str], int]
    own: tuple[str, ...]
    projections: tuple[str, ...]
    taught: tuple[Taught, ...]

    @property
    def has_many_parts(self) -> bool:
        """Whether compacting pays: each part costs every run and build some milliseconds."""
        return self.num_parts > _MANY_PARTS + 4 * self.num_compact_parts


def overview(path: Path, own: Own | None = None) -> Overview:
    """Count what a store holds.

    Args:
        path: Its directory.
        own: What was added to it, if that is not in the store.

    Raises:
        StoreError: If there is no store at `path`, or it cannot be read.
    """
    store, own = Store.open(path), own or Own.of(path)
    libraries = store.libraries()
    parts, windows, files, (num_dead, num_left) = store.from_parts(
        lambda parts: (
            parts,
            store.snapshot(parts).windows,
            _count_files(parts, libraries),
            outlook(store, parts),
        )
    )
    num_stored, num_live = sum(part.num_windows for part in parts), len(windows.window_id)
    generation, is_outdated = _read_index(store)
    names = {part.name for part in parts}
    return Overview(
        path=path,
        checkpoint=store.checkpoint,
        known=store.known,
        identity=store.identity,
        num_windows=num_live,
        num_recordings=len(np.unique(windows.recording_id)),
        audio_s=windows.audio_s,
        size_bytes=_size_of(path),
        num_parts=len(parts),
        num_compact_parts=num_left,
        num_dead_windows=num_dead,
        num_unfinished_windows=num_stored - num_dead - num_live,
        num_indexed=generation.num_windows if generation else None,
        is_outdated=is_outdated,
        is_sketched=generation is not None and generation.manifest.is_sketched,
        num_new_parts=len(names - set(generation.parts)) if generation else len(names),
        num_missing_parts=len(missing_parts(store)) if generation else 0,
        statuses={status: number for (status,), number in _most_first(files.statuses)},
        failures=dict(_most_first(files.failures)),
        warnings={warning: number for (warning,), number in _most_first(files.warnings)},
        libraries=libraries,
        origins=dict(_count_origins(parts)),
        own=tuple(own.names()),
        projections=tuple(projections(own)),
        taught=tuple(taught(own)),
    )


def _read_index(store: Store) -> tuple[Generation | None, bool]:
    """Return what queries see, if that can be read; and whether another version built it."""
    if not current_name(store):
        return None, False
    try:
        return Generation.current(store), False
    except OutdatedIndexError:
        return None, True


def _count_origins(parts: Sequence[Part]) -> Counter[tuple[str, str]]:
    """Return (device, precision) → how many parts were computed so, of those with windows."""
    origins = (part.origin for part in parts if part.num_windows)
    return Counter((origin.device, origin.precision) for origin in origins)


def _size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder; what a run removes meanwhile counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


class _Counts(NamedTuple):
    """How many files have a status, a failure (stage and reason), and a warning."""

    statuses: Counter[tuple[Any, ...]]
    failures: Counter[tuple[Any, ...]]
    warnings: Counter[tuple[Any, ...]]


def _count_files(parts: Sequence[Part], libraries: Collection[str]) -> _Counts:
    """Count the files that are there, or were; the last words on them are read in passing."""
    counts = _Counts(Counter(), Counter(), Counter())
    for batch in last_words(parts, _COLUMNS):
        is_there = pc.is_in(batch["status"], value_set=pa.array(["ok", "failed"]))
        files = pa.table(batch.filter(pc.or_(is_there, is_departed(batch, libraries))))
        failed, is_ok = pc.equal(files["status"], "failed"), pc.equal(files["status"], "ok")
        warned = files.filter(pc.and_(pc.is_valid(files["warnings"]), is_ok))
        counts.statuses.update(_count_distinct(files, "status"))
        counts.failures.update(_count_distinct(files.filter(failed), "stage", "reason"))
        counts.warnings.update(_count_distinct(warned, "warnings"))
    return counts


def _count_distinct(rows: pa.Table, *columns: str) -> Counter[tuple[Any, ...]]:
    """Return in how many rows some columns have each of their values."""
    counts = rows.group_by(columns).aggregate([([], "count_all")])
    values = zip(*(counts[name].to_pylist() for name in columns), strict=True)
    return Counter(dict(zip(values, counts["count_all"].to_pylist(), strict=True)))


def _most_first(counts: Counter[tuple[Any, ...]]) -> list[tuple[Any, int]]:
    def order(one: tuple[tuple[Any, ...], int]) -> tuple[Any, ...]:
        values, number = one
        return -number, *((value is None, value or "") for value in values)

    return sorted(counts.items(), key=order)
