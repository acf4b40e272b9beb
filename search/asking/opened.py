"""One store as a query sees it: a generation, its index, and where its recordings are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from indexer.arrays import ID_DTYPE, Mask
from indexer.errors import DamagedStoreError, StoreError
from indexer.paths import local_path
from indexer.store.part import Part
from indexer.store.reader import PARTS_FOLDER, Store
from search.filters.conditions import Together, Where
from search.filters.tags import Condition, ResolvedFilter
from search.generation.segments import Generation, Place, current_name
from search.nearest.index import VectorIndex
from search.nearest.structure import open_index


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """One store, at one generation.

    Attributes:
        store: The store.
        generation: What queries see of it.
        index: Finds its nearest rows.
        roots: library_id → last known root.
    """

    store: Store
    generation: Generation
    index: VectorIndex
    roots: dict[str, Path]

    @classmethod
    def at(cls, path: Path) -> Self:
        """Open a store for searching.

        Raises:
            StoreError: If there is none, or it has no index yet.
            DamagedStoreError: If its index is not as it was written.
        """
        store = Store.open(path)
        while True:
            generation = Generation.current(store)
            try:
                return cls(store, generation, open_index(generation), store.libraries())
            except DamagedStoreError:
                if current_name(store) == generation.path.name:
                    raise  # otherwise it was replaced and deleted meanwhile

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

    def num_new_parts(self) -> int:
        """Return how many parts were committed since the generation was built."""
        new = set(self.store.part_names()) - set(self.generation.parts)
        replaced: set[str] = set()
        for name in new:
            with suppress(StoreError):  # damage there is no reason not to answer
                replaced.update(Part.from_manifest(self.store.path / PARTS_FOLDER / name).replaces)
        return len(new - replaced)

    def paths(self, recording_id: bytes) -> set[Path]:
        """Return all places of a recording."""
        places = self.generation.recordings.places(recording_id)
        return {self._path(place) for place in places}

    def _path(self, place: Place) -> Path:
        root = self.roots.get(place.library_id, Path(f"(library {place.library_id})"))
        return root / local_path(place.path)

    def condition(self, resolved: ResolvedFilter | None, where: Where | None) -> Condition | None:
        """Return what a filter and an expression ask of this store; None if there is neither."""
        expressed = where.on(self.generation, self.roots) if where else None
        parts = tuple(part for part in (resolved, expressed) if part is not None)
        return Together(parts) if parts else None

    def allowed(self, condition: Condition | None, exclude: frozenset[bytes]) -> list[Mask]:
        """Return a mask of the rows of each segment that may be hits."""
        masks, left_out = [], []
        if exclude:
            rows = self.generation.recordings.first_rows(np.array(sorted(exclude), ID_DTYPE))
            left_out = rows[rows >= 0].tolist()
        for segment in self.generation.segments:
            mask = condition.matches(segment) if condition else segment.alive
            for row in left_out:
                mask = mask & (segment.recordings != row)
            masks.append(mask)
        return masks
