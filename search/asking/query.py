"""Asking: a query, its hits, and the index that answers from one or several stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from indexer.arrays import ID_DTYPE, Float16, Float32, Ids, Integers, Mask
from indexer.errors import QueryError
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, Identity
from indexer.tags import heard
from indexer.windows import Window
from search.asking.answers import Found, Hit, Step
from search.asking.browse import best_fits
from search.asking.diversity import MAX_DIVERSE, num_candidates, spread
from search.asking.opened import OpenedStore
from search.filters.conditions import Where
from search.filters.tags import Condition, TagFilter
from search.generation.segments import Generation
from search.nearest.index import Neighbours

#: Tags shown with a hit, and how probable each must be to be shown.
NUM_TOP_TAGS = 5
MIN_TOP_PROBABILITY = 0.1
#: How far the length of a query's vector may be from 1: float16 would be off by less.
_MAX_LENGTH_ERROR = 1e-3
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
        exact: Whether only an exact answer will do, however long it takes.
        diversity: From 0 to 1: how much hits that are like earlier ones are put back, see
            `spread`. At 0 only the score counts, at 1 only the difference; None is as 0.
        where: An expression that hits must fit as well; None for any.
    """

    vectors: Float32 | None = None
    k: int = 10
    filter: TagFilter | None = None
    exclude: frozenset[bytes] = frozenset()
    group_by: Literal["file"] | None = None
    min_score: float | None = None
    exact: bool = False
    diversity: float | None = None
    where: Where | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise QueryError(f"k must be at least 1, got {self.k}")
        is_filtered = bool(self.filter or self.where)
        if not is_filtered if self.vectors is None else not len(self.vectors):
            raise QueryError("nothing to look for: give a clip, a window id or a tag")
        if self.vectors is not None and self.vectors.shape[1:] != (EMBEDDING_DIM,):
            raise QueryError(
                f"query vectors need the shape (q, {EMBEDDING_DIM}), got {self.vectors.shape}"
            )
        if self.min_score is not None and np.isnan(self.min_score):
            raise QueryError("the least score is a number, got nan")
        if self.vectors is not None and not np.isfinite(self.vectors).all():
            raise QueryError("query vectors must be finite: these have NaN or infinity in them")
        if self.vectors is not None and _length_error(self.vectors) > _MAX_LENGTH_ERROR:
            raise QueryError(
                "query vectors must have length 1: divide each by its Euclidean norm; these are "
                f"off by up to {_length_error(self.vectors):.3g}"
            )
        if self.diversity is not None:
            self._check_diversity(self.diversity)

    def _check_diversity(self, diversity: float) -> None:
        if not 0 <= diversity <= 1:
            raise QueryError(f"diversity is a number from 0 to 1, got {diversity}")
        if self.k > MAX_DIVERSE:
            raise QueryError(f"a diverse answer has at most {MAX_DIVERSE:,} hits, got k = {self.k}")

    @property
    def num_candidates(self) -> int:
        """How many of the best hits it takes to choose k."""
        return num_candidates(self.k) if self.diversity else self.k


def _length_error(vectors: Float32) -> float:
    """Return how far lengths are from 1, at most; a vector of zeros has no direction to scale."""
    lengths = np.einsum("ij,ij->i", vectors, vectors) ** 0.5
    return float(np.abs(lengths[lengths > 0] - 1).max(initial=0))


class _Rows(NamedTuple):
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

    def take(self, at: Any) -> _Rows:
        return _Rows(*(column[at] for column in self))


class SoundIndex:
    """Answers queries from one store, or from several that were computed the same way.

    Each store is opened at its current generation and keeps it: what is published later is seen by
    opening again.

    Attributes:
        opened: The stores, each at its generation.
        stores: The stores.
    """

    def __init__(self, opened: Sequence[OpenedStore]) -> None:
        self.opened: tuple[OpenedStore, ...] = tuple(opened)
        self.stores: tuple[Store, ...] = tuple(one.store for one in opened)

    @classmethod
    def open(cls, path: Path, *more: Path) -> Self:
        """Open stores for searching.

        Raises:
            StoreError: If one is not there, or has no index yet.
            IdentityError: If they were not computed the same way.
        """
        opened = [OpenedStore.at(one) for one in (path, *more)]
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
        return sum(one.generation.num_windows for one in self.opened)

    def num_new_parts(self) -> int:
        """Return how many parts were committed since the generations were built."""
        return sum(one.num_new_parts() for one in self.opened)

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
        for one in self.opened:
            row = one.generation.find(window_id)
            if row is not None:
                return one.generation, np.array([row])
        raise QueryError(
            f"no window {window_id} in {', '.join(str(store.path) for store in self.stores)}; "
            f"'soundalike search --format json' shows the ids of hits"
        )

    def query(self, query: Query) -> list[Hit]:
        """Answer a query: `find`, with everything that is known about each window.

        Raises:
            UnknownTagError: If the filter names a tag that cannot be filtered by.
        """
        return self.hits(self.find(query))

    def find(self, query: Query) -> Found:
        """Find the windows that answer a query, and say how.

        Returns:
            min(k, matching windows) hits, the best first; of equal scores, the lower window id
            first. With `group_by`, min(k, matching recordings); fewer with `min_score`. With
            `diversity`, in the order of choice.

        Raises:
            UnknownTagError: If the filter names a tag that cannot be filtered by.
        """
        resolved = query.filter.resolve() if query.filter else None
        began = perf_counter()
        conditions = [one.condition(resolved, query.where) for one in self.opened]
        allowed = [
            one.allowed(condition, query.exclude)
            for one, condition in zip(self.opened, conditions, strict=True)
        ]
        filter_ms = (perf_counter() - began) * 1e3
        rounds: list[list[Neighbours]] = []
        num_asked = query.num_candidates
        while True:
            rounds.append(self._round(query, conditions, num_asked, allowed))
            found, is_all = self._merged(rounds[-1], num_asked)
            if query.min_score is not None:
                num_found = len(found.rows)
                found = found.take(found.scores >= query.min_score)
                is_all |= len(found.rows) < num_found  # whatever comes later is below it as well
            chosen = self._distinct(found, query)
            if is_all or len(chosen.rows) >= query.num_candidates:
                steps = self._steps(rounds, filter_ms)
                return Found(*self._cut(chosen.take(slice(query.num_candidates)), query), steps)
            num_asked *= _GROWTH  # several windows of a recording, or a window in several stores

    def _round(
        self,
        query: Query,
        conditions: Sequence[Condition | None],
        num_asked: int,
        allowed: Sequence[Sequence[Mask]],
    ) -> list[Neighbours]:
        """Return the best rows of each store."""
        if query.vectors is not None:
            return [
                one.index.search(query.vectors, num_asked, masks, exact=query.exact)
                for one, masks in zip(self.opened, allowed, strict=True)
            ]
        return [
            best_fits(one.generation, condition, num_asked, masks)
            for one, condition, masks in zip(self.opened, conditions, allowed, strict=True)
            if condition is not None  # a query has vectors or a condition
        ]

    def _merged(self, each: Sequence[Neighbours], num_asked: int) -> tuple[_Rows, bool]:
        """Return the best rows of all stores, in order and without a gap; and whether that is all.

        Each store gives its best. What it has not given comes after the last that it has, so that
        the merged order holds up to the first such last one.
        """
        columns = [
            _Rows(
                near.scores,
                one.generation.window_ids(near.rows),
                np.full(len(near.rows), n),
                near.rows,
            )
            for n, (one, near) in enumerate(zip(self.opened, each, strict=True))
        ]
        if len(columns) == 1:
            return columns[0], len(columns[0].rows) < num_asked
        merged = _Rows(*(np.concatenate(column) for column in zip(*columns, strict=True)))
        merged = merged.take(np.lexsort((merged.stores, merged.window_ids, -merged.scores)))
        ends = [
            np.flatnonzero(merged.stores == number)[-1] + 1
            for number, near in enumerate(each)
            if len(near.rows) == num_asked
        ]
        return merged.take(slice(min(ends, default=None))), not ends

    def _cut(self, chosen: _Rows, query: Query) -> _Rows:
        """Keep the k best rows, or with `diversity` the k that are best and unlike each other."""
        if not query.diversity:
            return chosen.take(slice(query.k))
        vectors = np.empty((len(chosen.rows), EMBEDDING_DIM), np.float32)
        for number, one in enumerate(self.opened):
            mine = chosen.stores == number
            vectors[mine] = one.generation.vectors(chosen.rows[mine])
        return chosen.take(spread(vectors, chosen.scores, query.k, 1 - query.diversity))

    def _steps(self, rounds: Sequence[Sequence[Neighbours]], filter_ms: float) -> tuple[Step, ...]:
        return tuple(
            Step(
                store=one.store.path,
                plan=rounds[-1][number].plan,
                num_matching=rounds[-1][number].num_allowed,
                num_windows=one.generation.num_windows,
                num_lists=one.index.lists.trained.num_lists if one.index.lists else 0,
                filter_ms=filter_ms / len(self.opened),
                scan_ms=sum(each[number].scan_ms for each in rounds),
                rescore_ms=sum(each[number].rescore_ms for each in rounds),
            )
            for number, one in enumerate(self.opened)
        )

    def _distinct(self, found: _Rows, query: Query) -> _Rows:
        """Drop all but the best row of each window, or of each recording."""
        if len(self.opened) == 1 and not query.group_by:
            return found  # a store has each window once
        keys: Ids | Integers = found.window_ids
        if query.group_by:
            keys = np.empty(len(found.rows), ID_DTYPE)
            for number, one in enumerate(self.opened):
                mine = found.stores == number
                keys[mine] = one.generation.recording_ids(found.rows[mine])
        _, first = np.unique(keys, return_index=True)
        return found.take(np.sort(first))

    def hits(self, found: Found) -> list[Hit]:
        """Return everything that is known about the windows that were found."""
        hits: dict[int, Hit] = {}
        for number, one in enumerate(self.opened):
            places = np.flatnonzero(found.stores == number)
            rows = found.rows[places]
            windows, tags = one.generation.windows(rows), one.generation.tags(rows)
            for at, place in enumerate(places.tolist()):
                score, window_id = float(found.scores[place]), int(found.window_ids[place])
                hits[place] = self._hit(score, window_id, windows.window(at), tags[at])
        return [hits[place] for place in sorted(hits)]

    def _hit(self, score: float, window_id: int, window: Window, tags: Float16) -> Hit:
        paths = set[Path]().union(*(one.paths(window.recording_id) for one in self.opened))
        return Hit(
            score=score,
            window_id=window_id,
            recording_id=window.recording_id,
            paths=tuple(sorted(paths)),
            start_s=window.start_s,
            end_s=window.end_s,
            tags=tuple(heard(tags, threshold=MIN_TOP_PROBABILITY, top=NUM_TOP_TAGS)),
        )
