"""One store as a query sees it: a generation, its index, and where its recordings are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Self

import numpy as np

from indexer.arrays import ID_DTYPE, Ids, Integers, id_bytes
from indexer.errors import StoreError
from indexer.store.part import Part
from indexer.store.reader import LIBRARIES_FILE, PARTS_FOLDER, Store
from indexer.store.watched import Watched
from search.asking.matching import Matching, MatchingHere
from search.filters.conditions import Together, Where
from search.filters.tags import Condition, ResolvedFilter
from search.generation.allowed import Allowed
from search.generation.frames import StoredFrames
from search.generation.recordings import Places
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    Generation,
    current_name,
    open_newest,
)
from search.nearest.index import VectorIndex
from search.nearest.structure import open_index

#: Conditions of which the matching rows are kept, and what these may take.
_MOST_KEPT, _MOST_KEPT_BYTES = 16, 256 << 20
#: Of a row for each condition, at most: whether it matches, and whether it does and is not silent;
#: and where few do, their numbers, which take no more than that.
_KEPT_ROW_BYTES = 4


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
        return self._matching(condition).allowed

    def matching(self, condition: Condition | None) -> Matching:
        """Return the rows that may be hits: all that goes through them is asked of that."""
        return self._matching(condition)

    def _matching(self, condition: Condition | None) -> MatchingHere:
        try:
            hash(condition)
        except TypeError:  # it depends on more than what it says
            return MatchingHere.of(self.index, condition)
        return self._kept(condition)

    @cached_property
    def _kept(self) -> Callable[..., MatchingHere]:
        """What finds the rows that match, and keeps the last: the next question asks the same."""
        num_rows = max(1, int(self.generation.starts[-1]))
        most = min(_MOST_KEPT, _MOST_KEPT_BYTES // (_KEPT_ROW_BYTES * num_rows))
        return lru_cache(max(1, most))(partial(MatchingHere.of, self.index))


def _newest(store: Store) -> tuple[str | None, dict[str, Path]]:
    return current_name(store), store.libraries()


def _open_generation(folder: Path) -> tuple[Generation, VectorIndex]:
    generation = Generation.open(folder)
    return generation, open_index(generation)
