"""Answers of the shards of a store, merged: what is found is what one process finds.

That is so in every row and score, wherever an answer is exact. By sketches, each shard looks
through its own as far as all of them would be looked through together, and so no less of what is
near is found.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import numpy as np

from indexer.arrays import Float32, Ids, Integers
from indexer.progress import count
from search.asking.left_out import AllLeftOut
from search.asking.matching import Later, Matching, MatchingHere
from search.asking.opened import OpenedStore
from search.asking.shards import Ask, Chosen, Piece
from search.filters.tags import Asked, Condition
from search.generation.segments import Generation
from search.nearest.index import Neighbours
from search.nearest.plan import EXACT, Plan

T = TypeVar("T")


class Crew(Protocol):
    """The shards of a store, wherever they are."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """What they have, one after the other."""

    def send(self, chosen: Chosen, ask: Ask[T], skipped: Set[int]) -> Later[Sequence[T | None]]:
        """Ask all of them at the same time.

        Args:
            chosen: Which of their rows.
            ask: What.
            skipped: Numbers of those that are not asked.

        Returns:
            What waits for their answers: of each one, and None of those that are skipped or lost.
        """


@dataclass(frozen=True)
class SpreadStore(OpenedStore):
    """A store whose rows are gone through in shards.

    Attributes:
        crew: Its shards.
    """

    crew: Crew

    def matching(self, condition: Condition | None) -> Matching:
        """Return the rows that may be hits; shards begin to look for them."""
        pickled = pickle.dumps(condition)
        key = hashlib.blake2b(pickled, digest_size=16).digest()
        chosen = Chosen(condition, key, num_bytes=len(pickled))
        return MatchingApart(self.generation, self.crew, chosen)


class MatchingApart:
    """Rows of a store in shards that may be hits.

    What is lost for one of them is lost for all that come from it, to the end of a question: rows
    that were not counted are not found either.
    """

    def __init__(
        self,
        generation: Generation,
        crew: Crew,
        chosen: Chosen,
        lost: set[int] | None = None,
        counts: dict[int, int] | None = None,
    ) -> None:
        """Begin to count them.

        Args:
            generation: That of the shards, open here.
            crew: The shards.
            chosen: Which of their rows.
            lost: Numbers of the shards that do not answer.
            counts: How many each shard has, if that is known.
        """
        self._generation, self._crew, self._chosen = generation, crew, chosen
        self._lost: set[int] = set() if lost is None else lost
        begun = self._begin(_count) if counts is None else None
        self._begun, self._known = begun, counts

    @property
    def num_rows(self) -> int:
        """How many there are, in the shards that answer."""
        counts = self._known or {number: all_of for number, (all_of, _) in self._counted.items()}
        return sum(one for number, one in counts.items() if number not in self._lost)

    @property
    def missing(self) -> tuple[str, ...]:
        """What of the store could not be asked, in sentences."""
        return tuple(self._told(self._crew.pieces[number]) for number in sorted(self._lost))

    def heard(self) -> Matching:
        """Return them without those in which nothing is heard; themselves if there are none."""
        if self._chosen.is_heard or all(every == heard for every, heard in self._counted.values()):
            return self
        counts = {number: heard for number, (_, heard) in self._counted.items()}
        return self._with(self._chosen._replace(is_heard=True), counts)

    def without(self, own: AllLeftOut) -> Matching:
        """Return them without what a question asks with, and what overlaps it."""
        return self._with(self._chosen._replace(own=self._chosen.own | own), None)

    def recordings(self) -> Ids:
        """Return the ids of their recordings, in any order."""
        ids = self._generation.recordings.ids
        has_rows = np.zeros(len(ids), bool)
        for packed in self._asked(_pack_places).values():
            has_rows |= np.unpackbits(packed, count=len(ids)).view(bool)
        return np.asarray(ids[has_rows])

    def count_left_out(self, own: Sequence[AllLeftOut]) -> Integers:
        """Return (n,) how many of them each of n questions leaves out."""
        each = self._asked(partial(_count_left_out, own=own)).values()
        return np.asarray(sum(each, np.zeros(len(own), np.int64)))

    def count_heard(self, asked: Sequence[Asked]) -> Integers:
        """Return (n,) in how many of them each of n terms is heard."""
        each = self._asked(partial(_count_heard, asked=asked)).values()
        return np.asarray(sum(each, np.zeros(len(asked), np.int64)))

    def best_fits(self, condition: Condition, k: int) -> Later[Neighbours]:
        """Begin to find those that fit a condition best, see `search.asking.browse`."""
        begun = self._begin(partial(_best_fits, condition=condition, k=k))
        return partial(self._nearest, begun, k)

    def search(
        self, vectors: Float32, k: int, *, exact: bool = False, least: float | None = None
    ) -> Later[Neighbours]:
        """Begin to find those that are nearest to any of some vectors, see `VectorIndex.search`."""
        how = {"vectors": vectors, "k": k, "exact": exact, "least": least}
        return partial(self._nearest, self._begin(partial(_search, how=how)), k)

    def search_many(
        self, vectors: Float32, k: int, *, exact: bool = False, least: float | None = None
    ) -> Later[tuple[Float32, Integers]]:
        """Begin to find those nearest to each of many vectors, see `VectorIndex.search_many`."""
        how = {"vectors": vectors, "k": k, "exact": exact, "least": least}
        begun = self._begin(partial(_search_many, how=how))
        return partial(self._nearest_each, begun, len(vectors), k)

    def _with(self, chosen: Chosen, counts: dict[int, int] | None) -> MatchingApart:
        return MatchingApart(self._generation, self._crew, chosen, self._lost, counts)

    @cached_property
    def _counted(self) -> dict[int, tuple[int, int]]:
        """Of each shard, how many there are, and in how many of them anything is heard."""
        assert self._begun is not None  # known counts are of rows that are heard, and suffice
        return self._end(self._begun)

    def _asked(self, ask: Ask[T]) -> dict[int, T]:
        return self._end(self._begin(ask))

    def _begin(self, ask: Ask[T]) -> Later[Sequence[T | None]]:
        return self._crew.send(self._chosen, ask, frozenset(self._lost))

    def _end(self, begun: Later[Sequence[T | None]]) -> dict[int, T]:
        """Return what was answered, by the numbers of the shards."""
        found = {number: one for number, one in enumerate(begun()) if one is not None}
        self._lost.update(set(range(len(self._crew.pieces))) - found.keys())
        return found

    def _nearest(self, begun: Later[Sequence[Neighbours | None]], k: int) -> Neighbours:
        """Return the k best rows of what shards have found, as one index gives them."""
        each = self._end(begun)
        found = [one._replace(rows=self._rows_in_all(at, one.rows)) for at, one in each.items()]
        scores = np.concatenate([np.empty(0, np.float32), *(one.scores for one in found)])
        rows = np.concatenate([np.empty(0, np.int64), *(one.rows for one in found)])
        order = np.lexsort((self._generation.window_ids(rows), -scores))[:k]
        return Neighbours(
            scores[order],
            rows[order],
            _done([one.plan for one in found]),
            sum(one.num_allowed for one in found),
            max((one.scan_ms for one in found), default=0.0),  # all work at the same time
            max((one.rescore_ms for one in found), default=0.0),
        )

    def _nearest_each(
        self, begun: Later[Sequence[tuple[Float32, Integers] | None]], num_vectors: int, k: int
    ) -> tuple[Float32, Integers]:
        each = self._end(begun)
        found = [np.empty((num_vectors, 0), np.float32), *(scores for scores, _ in each.values())]
        scores = np.concatenate([*found, np.full((num_vectors, k), -np.inf, np.float32)], axis=1)
        at = [self._rows_in_all(number, rows) for number, (_, rows) in each.items()]
        rows = np.concatenate([*at, np.full((num_vectors, k), -1)], axis=1)
        ids = np.full(rows.shape, np.iinfo(np.int64).max)
        ids[rows >= 0] = self._generation.window_ids(rows[rows >= 0])
        order = np.lexsort((ids, -scores))[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def _rows_in_all(self, number: int, rows: Integers) -> Integers:
        """Return rows of a shard as rows of the generation; -1 stays what it is."""
        first = int(self._generation.starts[self._crew.pieces[number].first])
        return np.where(rows < 0, rows, rows + first)

    def _told(self, piece: Piece) -> str:
        segments = self._generation.segments[piece.first : piece.end]
        number = count(sum(int(np.count_nonzero(one.alive)) for one in segments), "window")
        which = f"segment {piece.first + 1}"
        if len(segments) > 1:
            which = f"segments {piece.first + 1} to {piece.end}"
        return f"left out: {number} of {piece.store} ({which}): the machine that had them is lost"


def _done(plans: Sequence[Plan]) -> Plan:
    """Return what was done in all shards: exact, if it was in each."""
    by_sketches = [one for one in plans if not one.is_exact]
    if not by_sketches:
        return EXACT
    names, scanned, scored, lists, recalls, *most = zip(*by_sketches, strict=True)
    totals = sum(scanned), sum(scored), sum(lists)
    return Plan(names[0], *totals, min(recalls), *map(max, most))


# What is asked of a shard, in its process.


def _count(matching: MatchingHere) -> tuple[int, int]:
    return matching.num_rows, matching.heard().num_rows


def _pack_places(matching: MatchingHere) -> Any:
    return np.packbits(matching.places())


def _count_left_out(matching: MatchingHere, own: Sequence[AllLeftOut]) -> Integers:
    return matching.count_left_out(own)


def _count_heard(matching: MatchingHere, asked: Sequence[Asked]) -> Integers:
    return matching.count_heard(asked)


def _best_fits(matching: MatchingHere, condition: Condition, k: int) -> Neighbours:
    return matching.best_fits(condition, k)()


def _search(matching: MatchingHere, how: dict[str, Any]) -> Neighbours:
    return matching.search(**how)()


def _search_many(matching: MatchingHere, how: dict[str, Any]) -> tuple[Float32, Integers]:
    return matching.search_many(**how)()
