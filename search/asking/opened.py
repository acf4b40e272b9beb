"""One store as a query sees it: a generation, its index, and where its recordings are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np

from indexer.arrays import ID_DTYPE, Ids, Integers, id_bytes
from indexer.errors import StoreError
from indexer.store.part import Part
from indexer.store.reader import LIBRARIES_FILE, PARTS_FOLDER, Store
from indexer.store.watched import Watched
from indexer.windows import SILENT_DBFS
from search.asking.left_out import AllLeftOut, LeftOut
from search.filters.conditions import Together, Where
from search.filters.tags import Condition, ResolvedFilter
from search.generation.allowed import Allowed
from search.generation.frames import StoredFrames
from search.generation.recordings import Places
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    Generation,
    Segment,
    current_name,
    open_newest,
)
from search.nearest.index import VectorIndex
from search.nearest.structure import open_index

_NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True)
class OpenedStore:
    """One store, at one generation.

    Attributes:
        store: The store.
        generation: What queries see of it.
        index: Finds its nearest rows.
        places: Where its recordings are.
    """

    store: Store
    generation: Generation
    index: VectorIndex
    places: Places

    @classmethod
    def at(cls, path: Path) -> Self:
        """Open a store for searching.

        Raises:
            StoreError: If there is none, or it has no index yet.
            DamagedStoreError: If its index is not as it was written.
        """
        store = Store.open(path)
        generation, index = open_newest(store, _open_generation)
        return cls(store, generation, index, Places(generation.recordings, store.libraries()))

    def beside(self, path: Path) -> OpenedStore:
        """Open a store whose vectors are to be compared with those of this one.

        Raises:
            StoreError: If there is none, or it has no index yet.
            IdentityError: If the two were not computed the same way.
        """
        other = OpenedStore.at(path)
        self.store.identity.require(
            other.store.identity,
            f"{path} cannot be compared with {self.store.path}",
            "Index both with the same checkpoint and options",
        )
        return other

    @property
    def is_newest(self) -> bool:
        """Whether no other generation was published since, and no library has moved."""
        return self._newest.now() == (self.generation.path.name, self.places.roots)

    def num_new_parts(self) -> int:
        """Return how many parts were committed since the generation was built."""
        return self._num_new.now()

    @cached_property
    def _num_new(self) -> Watched[int]:
        """How many parts there are that the generation does not hold, nor others replace."""
        return Watched([self.store.path / PARTS_FOLDER], self._count_new)

    def _count_new(self) -> int:
        new = set(self.store.part_names()) - set(self.generation.parts)
        replaced: set[str] = set()
        for name in new:
            with suppress(StoreError):  # damage there is no reason not to answer
                replaced.update(Part.from_manifest(self.store.path / PARTS_FOLDER / name).replaces)
        return len(new - replaced)

    @cached_property
    def _newest(self) -> Watched[tuple[str | None, dict[str, Path]]]:
        """Name of the newest generation, and where the libraries are."""
        files = [self.store.path / INDEX_FOLDER / CURRENT_FILE, self.store.path / LIBRARIES_FILE]
        return Watched(files, partial(_newest, self.store))

    def extent_of(self, recording_id: bytes) -> tuple[int, int]:
        """Return beginning and length of a recording that was embedded whole, at 32 kHz.

        0 and 0 if only spans of it were, or the ledger cannot be read: no reason not to answer.
        """
        with suppress(StoreError):
            ids, firsts, lengths = self._extents
            place = int(np.searchsorted(ids, np.array(recording_id, ID_DTYPE)))
            if place < len(ids) and id_bytes(ids[place]) == recording_id:
                return int(firsts[place]), int(lengths[place])
        return 0, 0

    def recording_with(self, audio_id: bytes) -> bytes | None:
        """Return a recording with some samples, by their digest; None if the ledger knows none."""
        with suppress(StoreError):
            audio_ids, recordings = self._audio_ids
            place = int(np.searchsorted(audio_ids, np.array(audio_id, ID_DTYPE)))
            if place < len(audio_ids) and id_bytes(audio_ids[place]) == audio_id:
                return id_bytes(recordings[place])
        return None

    @cached_property
    def frames(self) -> StoredFrames:
        """The frame embeddings of its rows."""
        return StoredFrames(self.store, self.generation)

    @cached_property
    def _audio_ids(self) -> tuple[Ids, Ids]:
        """What `Store.audio_ids` says, read when it is first asked for."""
        return self.store.audio_ids()

    @cached_property
    def _extents(self) -> tuple[Ids, Integers, Integers]:
        """What `Store.extents` says, read when it is first asked for."""
        return self.store.extents()

    def condition(self, resolved: ResolvedFilter | None, where: Where | None) -> Condition | None:
        """Return what a filter and an expression ask of this store; None if there is neither."""
        expressed = where.on(self.places) if where else None
        parts = tuple(part for part in (resolved, expressed) if part is not None)
        return Together(parts) if parts else None

    def allowed(self, condition: Condition | None) -> Allowed:
        """Return which rows may be hits."""
        if condition is None:
            return self.index.alive
        return Allowed.of(condition.matches(one) for one in self.generation.segments)

    @cached_property
    def silent(self) -> tuple[Integers, ...]:
        """(n,) of each segment, which of its rows are silent and alive."""
        return tuple(
            np.flatnonzero((one.arrays["level_db"] < SILENT_DBFS) & one.alive)
            for one in self.generation.segments
        )

    def heard(self, allowed: Allowed) -> Allowed:
        """Return rows that may be hits, less those in which nothing is heard."""
        return allowed.without(self.silent) if any(map(len, self.silent)) else allowed

    def recordings_of(self, allowed: Allowed) -> Ids:
        """Return the ids of the recordings of some rows, in any order."""
        listed = self.generation.recordings.ids
        has_rows = np.zeros(len(listed), bool)
        for segment, mask in zip(self.generation.segments, allowed.masks, strict=True):
            has_rows[segment.recordings[mask]] = True
        return np.asarray(listed[has_rows])

    def rows_of(self, own: AllLeftOut) -> list[Integers]:
        """Return (n,) of each segment, which of its rows a question asks with, or overlap that."""
        spans = sorted(own)
        ids = np.array([one.recording_id for one in spans], ID_DTYPE)
        places = self.generation.recordings.first_rows(ids).tolist()
        return [
            np.unique(np.concatenate([_NO_ROWS, *_overlapping(segment, spans, places)]))
            for segment in self.generation.segments
        ]

    def count_left_out(self, allowed: Allowed, own: Sequence[AllLeftOut]) -> Integers:
        """Return (n,) how many rows each of n questions leaves out of those that may be hits.

        Args:
            allowed: Which rows may be hits.
            own: What each question leaves out.
        """
        counts = np.zeros(len(own), np.int64)
        pairs: list[tuple[int, LeftOut]] = []
        for number, spans in enumerate(own):
            if len({one.recording_id for one in spans}) == len(spans):
                pairs += [(number, one) for one in spans]
            else:  # a row may overlap several of them
                counts[number] = allowed.num_rows - allowed.without(self.rows_of(spans)).num_rows
        ids = np.array([one.recording_id for _, one in pairs], ID_DTYPE)
        places = self.generation.recordings.first_rows(ids)
        recordings, starts, ends = self._rows_at(allowed, places)
        begins, stops = np.array([one[1:] for _, one in pairs], np.int64).reshape(-1, 2).T
        # Of a recording, what begins before the end of a span overlaps it, but for what ends before
        # it begins. What is sought is a number: a recording and a time in it.
        last = int(ends.max(initial=0)) + 1
        begun, over = (np.sort(recordings * last + at) for at in (starts, ends))
        first = places * last
        overlapping = np.searchsorted(begun, first + np.minimum(stops, last))
        overlapping -= np.searchsorted(over, first + np.minimum(begins + 1, last))
        np.add.at(counts, [number for number, _ in pairs], np.where(places < 0, 0, overlapping))
        return counts

    def _rows_at(self, allowed: Allowed, places: Integers) -> tuple[Integers, Integers, Integers]:
        """Return (n,) recording, start and end, in samples, of the rows of some recordings."""
        is_wanted = np.zeros(len(self.generation.recordings.ids), bool)
        is_wanted[places[places >= 0]] = True
        found = [np.empty((3, 0), np.int64)]
        for segment, mask in zip(self.generation.segments, allowed.masks, strict=True):
            at = np.flatnonzero(mask)
            at = at[is_wanted[segment.recordings[at]]]
            starts = segment.arrays["start_sample"][at]
            ends = starts + segment.arrays["num_samples"][at]
            found.append(np.stack([segment.recordings[at], starts, ends]).astype(np.int64))
        recordings, starts, ends = np.concatenate(found, axis=1)
        return recordings, starts, ends


def _overlapping(
    segment: Segment, spans: Sequence[LeftOut], places: Sequence[int]
) -> Iterator[Integers]:
    """Yield (n,) the rows of a segment that overlap each span, of the recordings listed there."""
    for span, place in zip(spans, places, strict=True):
        if place >= 0:
            yield span.among(segment, np.flatnonzero(segment.recordings == place))


def _newest(store: Store) -> tuple[str | None, dict[str, Path]]:
    return current_name(store), store.libraries()


def _open_generation(folder: Path) -> tuple[Generation, VectorIndex]:
    generation = Generation.open(folder)
    return generation, open_index(generation)
