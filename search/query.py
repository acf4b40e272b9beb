"""Asking: a query, its hits, and the index that answers from one or several stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from indexer.errors import QueryError, StoreError
from indexer.heard import HeardTag, heard
from indexer.paths import local_path
from indexer.store.ledger import ID_DTYPE, Ids, Integers, Mask
from indexer.store.part import Part
from indexer.store.reader import PARTS_FOLDER, Store
from indexer.store.schema import EMBEDDING_DIM, Identity
from indexer.store.snapshot import Float16, Float32
from indexer.windows import Window
from search.browse import best_fits
from search.filters import ResolvedFilter, TagFilter
from search.index import Neighbours, VectorIndex
from search.segments import Generation, Place

#: Tags shown with a hit, and how probable each must be to be shown.
NUM_TOP_TAGS = 5
MIN_TOP_PROBABILITY = 0.1
#: Where k rows hold fewer than k hits, this many times more are looked at.
_GROWTH = 8


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    Attributes:
        vectors: (q, 768) float32 of length 1; a window's score is its best over them. None asks by
            tag alone: the windows that fit the filter best come first.
        k: How many hits, at least 1.
        filter: Which windows may be hits; None for all.
        exclude: Recordings that are left out: the query's own, as a rule.
        group_by: "file" gives the best window of each recording only.
        min_score: Hits below it are left out.
    """

    vectors: Float32 | None = None
    k: int = 10
    filter: TagFilter | None = None
    exclude: frozenset[bytes] = frozenset()
    group_by: Literal["file"] | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise QueryError(f"k must be at least 1, got {self.k}")
        if not self.filter if self.vectors is None else not len(self.vectors):
            raise QueryError("nothing to look for: give a clip, a window id or a tag")
        if self.vectors is not None and self.vectors.shape[1:] != (EMBEDDING_DIM,):
            raise QueryError(
                f"query vectors need the shape (q, {EMBEDDING_DIM}), got {self.vectors.shape}"
            )
        if self.min_score is not None and np.isnan(self.min_score):
            raise QueryError("the least score is a number, got nan")
        if self.vectors is not None and not np.isfinite(self.vectors).all():
            raise QueryError("query vectors must be finite: these have NaN or infinity in them")


@dataclass(frozen=True, slots=True)
class Hit:
    """One window that answers a query.

    Attributes:
        score: Cosine similarity to the query, or without a clip how well the tags fit, 0 to 1.
        window_id: 63-bit id, the same in every store that has the window.
        recording_id: 16-byte digest of the file's content.
        paths: All places of the recording on this machine, if their libraries still are where they
            were last seen.
        start_s: Start of the window, in seconds.
        end_s: End of the window, in seconds.
        tags: The most probable tags.
    """

    score: float
    window_id: int
    recording_id: bytes
    paths: tuple[Path, ...]
    start_s: float
    end_s: float
    tags: tuple[HeardTag, ...]


class _Found(NamedTuple):
    """Rows of the stores, in the order of an answer: best score, then lowest window id.

    Attributes:
        scores: (n,) float32.
        window_ids: (n,) int64.
        stores: (n,) positions in the list of stores.
        rows: (n,) positions in a store's generation.
    """

    scores: Float32
    window_ids: Integers
    stores: Integers
    rows: Integers

    def take(self, at: Any) -> _Found:
        return _Found(*(column[at] for column in self))


@dataclass(frozen=True, slots=True)
class _Opened:
    """One store, at one generation."""

    store: Store
    generation: Generation
    index: VectorIndex
    roots: dict[str, Path]

    @classmethod
    def at(cls, path: Path) -> Self:
        store = Store.open(path)
        generation = Generation.current(store)
        return cls(store, generation, VectorIndex(generation), store.libraries())

    def num_new_parts(self) -> int:
        new = set(self.store.part_names()) - set(self.generation.parts)
        replaced: set[str] = set()
        for name in new:
            with suppress(StoreError):  # damage there is no reason not to answer
                replaced.update(Part.from_manifest(self.store.path / PARTS_FOLDER / name).replaces)
        return len(new - replaced)

    def paths(self, recording_id: bytes) -> set[Path]:
        places = self.generation.recordings.places(recording_id)
        return {self._path(place) for place in places}

    def _path(self, place: Place) -> Path:
        root = self.roots.get(place.library_id, Path(f"(library {place.library_id})"))
        return root / local_path(place.path)

    def allowed(self, resolved: ResolvedFilter | None, exclude: frozenset[bytes]) -> list[Mask]:
        """Return a mask of the rows of each segment that may be hits."""
        masks = []
        first_rows = self.generation.recordings.first_rows(np.array(sorted(exclude), ID_DTYPE))
        for segment in self.generation.segments:
            mask = resolved.matches(segment) if resolved else segment.alive
            for row in first_rows[first_rows >= 0]:
                mask = mask & (segment.recordings != row)
            masks.append(mask)
        return masks

    def best(
        self, query: Query, resolved: ResolvedFilter | None, k: int, allowed: Sequence[Mask]
    ) -> Neighbours:
        """Return the k best of the allowed rows."""
        if query.vectors is not None:
            return self.index.search(query.vectors, k, allowed)
        assert resolved is not None  # a query has vectors or a filter
        return best_fits(self.generation, resolved, k, allowed)


class SoundIndex:
    """Answers queries from one store, or from several that were computed the same way.

    Each store is opened at its current generation and keeps it: what is published later is seen by
    opening again.

    Attributes:
        stores: The stores.
    """

    def __init__(self, opened: Sequence[_Opened]) -> None:
        self._opened = list(opened)
        self.stores: tuple[Store, ...] = tuple(one.store for one in opened)

    @classmethod
    def open(cls, path: Path, *more: Path) -> Self:
        """Open stores for searching.

        Raises:
            StoreError: If one is not there, or has no index yet.
            IdentityError: If they were not computed the same way.
        """
        opened = [_Opened.at(one) for one in (path, *more)]
        first = opened[0].store
        for other in opened[1:]:
            first.identity.require(
                other.store.identity,
                f"{other.store.path} cannot be searched together with {first.path}",
                "Search them one by one, or index both with the same checkpoint and options",
            )
        return cls(opened)

    @property
    def identity(self) -> Identity:
        """How the vectors were computed; a query's must be computed the same way."""
        return self.stores[0].identity

    @property
    def num_windows(self) -> int:
        """Live windows, in all stores."""
        return sum(one.generation.num_windows for one in self._opened)

    def num_new_parts(self) -> int:
        """Return how many parts were committed since the generations were built."""
        return sum(one.num_new_parts() for one in self._opened)

    def windows(self, window_ids: Iterable[int]) -> tuple[Float32, list[Window]]:
        """Return the vectors of windows that are in the stores, to ask for what is like them.

        Returns:
            (n, 768) float32 vectors of length 1, and the windows.

        Raises:
            QueryError: If an id is not in any of the stores.
        """
        vectors, windows = [], []
        for window_id in window_ids:
            generation, row = self._find(window_id)
            vectors.append(generation.vectors(row)[0])
            windows.append(generation.windows(row).window(0))
        return np.array(vectors, np.float32).reshape(-1, EMBEDDING_DIM), windows

    def _find(self, window_id: int) -> tuple[Generation, Integers]:
        for one in self._opened:
            row = one.generation.find(window_id)
            if row is not None:
                return one.generation, np.array([row])
        raise QueryError(
            f"no window {window_id} in {', '.join(str(store.path) for store in self.stores)}; "
            f"'soundalike search --format json' shows the ids of hits"
        )

    def query(self, query: Query) -> list[Hit]:
        """Answer a query, exactly.

        Returns:
            min(k, matching windows) hits, the best first; of equal scores, the lower window id
            first. With `group_by`, min(k, matching recordings); fewer with `min_score`.

        Raises:
            UnknownTagError: If the filter names a tag that cannot be filtered by.
        """
        resolved = query.filter.resolve() if query.filter else None
        allowed = [one.allowed(resolved, query.exclude) for one in self._opened]
        num_asked = query.k
        while True:
            found, is_all = self._best(query, resolved, num_asked, allowed)
            if query.min_score is not None:
                num_found = len(found.rows)
                found = found.take(found.scores >= query.min_score)
                is_all |= len(found.rows) < num_found  # whatever comes later is below it as well
            chosen = self._distinct(found, query)
            if is_all or len(chosen.rows) >= query.k:
                return self._hits(chosen.take(slice(query.k)))
            num_asked *= _GROWTH  # several windows of a recording, or a window in several stores

    def _best(
        self,
        query: Query,
        resolved: ResolvedFilter | None,
        num_asked: int,
        allowed: Sequence[Sequence[Mask]],
    ) -> tuple[_Found, bool]:
        """Return the best rows of all stores, in order and without a gap; and whether that is all.

        Each store gives its best. What it has not given comes after the last that it has, so that
        the merged order holds up to the first such last one.
        """
        each = []
        for number, (one, masks) in enumerate(zip(self._opened, allowed, strict=True)):
            scores, rows = one.best(query, resolved, num_asked, masks)
            stores = np.full(len(rows), number)
            each.append(_Found(scores, one.generation.window_ids(rows), stores, rows))
        merged = _Found(*(np.concatenate(column) for column in zip(*each, strict=True)))
        merged = merged.take(np.lexsort((merged.stores, merged.window_ids, -merged.scores)))
        ends = [
            np.flatnonzero(merged.stores == number)[-1] + 1
            for number, one in enumerate(each)
            if len(one.rows) == num_asked
        ]
        return merged.take(slice(min(ends, default=None))), not ends

    def _distinct(self, found: _Found, query: Query) -> _Found:
        """Drop all but the best row of each window, or of each recording."""
        keys: Ids | Integers = found.window_ids
        if query.group_by:
            keys = np.empty(len(found.rows), ID_DTYPE)
            for number, one in enumerate(self._opened):
                mine = found.stores == number
                keys[mine] = one.generation.recording_ids(found.rows[mine])
        _, first = np.unique(keys, return_index=True)
        return found.take(np.sort(first))

    def _hits(self, found: _Found) -> list[Hit]:
        hits: dict[int, Hit] = {}
        for number, one in enumerate(self._opened):
            places = np.flatnonzero(found.stores == number)
            rows = found.rows[places]
            windows, tags = one.generation.windows(rows), one.generation.tags(rows)
            for at, place in enumerate(places.tolist()):
                score, window_id = float(found.scores[place]), int(found.window_ids[place])
                hits[place] = self._hit(score, window_id, windows.window(at), tags[at])
        return [hits[place] for place in sorted(hits)]

    def _hit(self, score: float, window_id: int, window: Window, tags: Float16) -> Hit:
        paths = set[Path]().union(*(one.paths(window.recording_id) for one in self._opened))
        return Hit(
            score=score,
            window_id=window_id,
            recording_id=window.recording_id,
            paths=tuple(sorted(paths)),
            start_s=window.start_s,
            end_s=window.end_s,
            tags=tuple(heard(tags, threshold=MIN_TOP_PROBABILITY, top=NUM_TOP_TAGS)),
        )
