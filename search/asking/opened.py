"""One store as a query sees it: a generation, its index, and where its recordings are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from indexer.arrays import ID_DTYPE, Ids, Integers, Mask, id_bytes
from indexer.errors import StoreError
from indexer.store.part import Part
from indexer.store.reader import PARTS_FOLDER, Store
from indexer.windows import SILENT_DBFS
from search.asking.left_out import AllLeftOut, LeftOut
from search.filters.conditions import Together, Where
from search.filters.tags import Condition, ResolvedFilter
from search.generation.frames import StoredFrames
from search.generation.recordings import Places
from search.generation.segments import Generation, current_name, open_newest
from search.nearest.index import VectorIndex
from search.nearest.structure import open_index


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
        is_current = current_name(self.store) == self.generation.path.name
        return is_current and self.store.libraries() == self.places.roots

    def num_new_parts(self) -> int:
        """Return how many parts were committed since the generation was built."""
        new = set(self.store.part_names()) - set(self.generation.parts)
        replaced: set[str] = set()
        for name in new:
            with suppress(StoreError):  # damage there is no reason not to answer
                replaced.update(Part.from_manifest(self.store.path / PARTS_FOLDER / name).replaces)
        return len(new - replaced)

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

    def allowed(self, condition: Condition | None) -> list[Mask]:
        """Return a (num_rows,) mask of the rows of each segment that may be hits."""
        segments = self.generation.segments
        return [condition.matches(one) if condition else one.alive for one in segments]

    @cached_property
    def silent(self) -> list[Mask | None]:
        """(num_rows,) which rows of each segment are silent, None where none is that is alive."""
        each = [one.arrays["level_db"] < SILENT_DBFS for one in self.generation.segments]
        pairs = zip(each, self.generation.segments, strict=True)
        return [silent if (silent & one.alive).any() else None for silent, one in pairs]

    def heard(self, masks: Sequence[Mask]) -> list[Mask]:
        """Return masks of the rows of each segment, less those in which nothing is heard."""
        pairs = zip(masks, self.silent, strict=True)
        return [mask if silent is None else mask & ~silent for mask, silent in pairs]

    def recordings_of(self, masks: Sequence[Mask]) -> Ids:
        """Return the ids of the recordings of some rows, in any order.

        Args:
            masks: A (num_rows,) mask for each segment.
        """
        listed = self.generation.recordings.ids
        has_rows = np.zeros(len(listed), bool)
        for segment, mask in zip(self.generation.segments, masks, strict=True):
            has_rows[segment.recordings[mask]] = True
        return np.asarray(listed[has_rows])

    def without(self, masks: Sequence[Mask], own: AllLeftOut) -> list[Mask]:
        """Return masks of the rows of each segment, less those of what a question asks with."""
        spans = sorted(own)
        ids = np.array([one.recording_id for one in spans], ID_DTYPE)
        rows = self.generation.recordings.first_rows(ids).tolist()
        left = []
        for segment, mask in zip(self.generation.segments, masks, strict=True):
            kept = mask
            for span, row in zip(spans, rows, strict=True):
                if row >= 0:
                    kept = kept & ~((segment.recordings == row) & span.overlaps(segment))
            left.append(kept)
        return left

    def count_left_out(self, masks: Sequence[Mask], own: Sequence[AllLeftOut]) -> Integers:
        """Return (n,) how many rows each of n questions leaves out of those that may be hits.

        Args:
            masks: A (num_rows,) mask for each segment: which rows may be hits.
            own: What each question leaves out.
        """
        counts = np.zeros(len(own), np.int64)
        pairs: list[tuple[int, LeftOut]] = []
        for number, spans in enumerate(own):
            if len({one.recording_id for one in spans}) == len(spans):
                pairs += [(number, one) for one in spans]
            else:  # a row may overlap several of them
                left = zip(masks, self.without(masks, spans), strict=True)
                counts[number] = sum(np.count_nonzero(mask & ~kept) for mask, kept in left)
        ids = np.array([one.recording_id for _, one in pairs], ID_DTYPE)
        places = self.generation.recordings.first_rows(ids)
        recordings, starts, ends = self._rows_at(masks, places)
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

    def _rows_at(
        self, masks: Sequence[Mask], places: Integers
    ) -> tuple[Integers, Integers, Integers]:
        """Return (n,) recording, start and end, in samples, of the rows of some recordings."""
        is_wanted = np.zeros(len(self.generation.recordings.ids), bool)
        is_wanted[places[places >= 0]] = True
        found = [np.empty((3, 0), np.int64)]
        for segment, mask in zip(self.generation.segments, masks, strict=True):
            at = np.flatnonzero(mask)
            at = at[is_wanted[segment.recordings[at]]]
            starts = segment.arrays["start_sample"][at]
            ends = starts + segment.arrays["num_samples"][at]
            found.append(np.stack([segment.recordings[at], starts, ends]).astype(np.int64))
        recordings, starts, ends = np.concatenate(found, axis=1)
        return recordings, starts, ends


def _open_generation(folder: Path) -> tuple[Generation, VectorIndex]:
    generation = Generation.open(folder)
    return generation, open_index(generation)
