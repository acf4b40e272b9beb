"""The rows of a store that may be hits, and all that goes through them to answer a question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, TypeVar

import numpy as np

from indexer.arrays import ID_DTYPE, Float32, Ids, Integers, Mask
from search.asking.browse import best_fits
from search.asking.left_out import AllLeftOut, LeftOut
from search.filters.tags import Asked, Condition
from search.generation.allowed import Allowed
from search.generation.segments import Segment
from search.nearest.index import Neighbours, VectorIndex

T_co = TypeVar("T_co", covariant=True)
#: What was begun, or can be: several stores begin before any of them is waited for.
Later = Callable[[], T_co]

_NO_ROWS = np.empty(0, np.int64)


class Matching(Protocol):
    """Rows of one store that may be hits, wherever they are gone through."""

    @property
    def num_rows(self) -> int:
        """How many there are."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What of the store could not be asked, in sentences; nothing, nearly always."""

    def heard(self) -> Matching:
        """Return them without those in which nothing is heard; themselves if there are none."""

    def without(self, own: AllLeftOut) -> Matching:
        """Return them without what a question asks with, and what overlaps it."""

    def recordings(self) -> Ids:
        """Return the ids of their recordings, in any order."""

    def count_left_out(self, own: Sequence[AllLeftOut]) -> Integers:
        """Return (n,) how many of them each of n questions leaves out."""

    def count_heard(self, asked: Sequence[Asked]) -> Integers:
        """Return (n,) in how many of them each of n terms is heard."""

    def best_fits(self, condition: Condition, k: int) -> Later[Neighbours]:
        """Begin to find those that fit a condition best, see `search.asking.browse`."""

    def search(
        self, vectors: Float32, k: int, *, exact: bool = False, least: float | None = None
    ) -> Later[Neighbours]:
        """Begin to find those that are nearest to any of some vectors, see `VectorIndex.search`."""

    def search_many(
        self, vectors: Float32, k: int, *, exact: bool = False, least: float | None = None
    ) -> Later[tuple[Float32, Integers]]:
        """Begin to find those nearest to each of many vectors, see `VectorIndex.search_many`."""


@dataclass(frozen=True, eq=False)
class MatchingHere:
    """Those of an index that this process has open, and goes through itself.

    Attributes:
        index: Of the rows.
        allowed: Which of them.
    """

    index: VectorIndex
    allowed: Allowed

    @classmethod
    def of(cls, index: VectorIndex, condition: Condition | None) -> MatchingHere:
        """Find the rows that match a condition; None for all that are alive."""
        if condition is None:
            return cls(index, index.alive)
        segments = index.generation.segments
        return cls(index, Allowed.of(condition.matches(one) for one in segments))

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return self.allowed.num_rows

    @property
    def missing(self) -> tuple[str, ...]:
        """Nothing: what cannot be read here is an error."""
        return ()

    def heard(self) -> MatchingHere:
        """Return them without those in which nothing is heard; themselves if there are none."""
        return self._heard

    @cached_property
    def _heard(self) -> MatchingHere:
        silent = self.index.silent
        if not any(map(len, silent)):
            return self
        # Nearly all questions ask for these: what is counted of them is without silence.
        return replace(self, allowed=replace(self.allowed.without(silent), whole=None))

    def without(self, own: AllLeftOut) -> MatchingHere:
        """Return them without what a question asks with, and what overlaps it."""
        return self._without(self._rows_of(own))

    def recordings(self) -> Ids:
        """Return the ids of their recordings, in any order."""
        return np.asarray(self.index.generation.recordings.ids[self.places()])

    def places(self) -> Mask:
        """Return (num_places,) at which first places of recordings there are any of them."""
        has_rows = np.zeros(len(self.index.generation.recordings.ids), bool)
        for segment, mask, _ in self._each():
            has_rows[segment.recordings[mask]] = True
        return has_rows

    def count_left_out(self, own: Sequence[AllLeftOut]) -> Integers:
        """Return (n,) how many of them each of n questions leaves out."""
        counts = np.zeros(len(own), np.int64)
        pairs: list[tuple[int, LeftOut]] = []
        for number, spans in enumerate(own):
            if len({one.recording_id for one in spans}) == len(spans):
                pairs += [(number, one) for one in spans]
            else:  # a row may overlap several of them
                counts[number] = self.num_rows - self.without(spans).num_rows
        ids = np.array([one.recording_id for _, one in pairs], ID_DTYPE)
        places = self.index.generation.recordings.first_rows(ids)
        recordings, starts, ends = self._rows_at(places)
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

    def count_heard(self, asked: Sequence[Asked]) -> Integers:
        """Return (n,) in how many of them each of n terms is heard."""
        counts = np.zeros(len(asked), np.int64)
        for segment, mask, number in self._each():
            if number:
                counts += [np.count_nonzero(each.reaches(segment) & mask) for each in asked]
        return counts

    def best_fits(self, condition: Condition, k: int) -> Later[Neighbours]:
        """Return what finds those that fit a condition best, see `search.asking.browse`."""
        return partial(best_fits, self.index.generation, condition, k, self.allowed)

    def search(
        self, vectors: Float32, k: int, *, exact: bool = False, least: float | None = None
    ) -> Later[Neighbours]:
        """Return what finds those that are nearest to any of some vectors."""
        return partial(self.index.search, vectors, k, self.allowed, exact=exact, least=least)

    def search_many(
        self, vectors: Float32, k: int, *, exact: bool = False, least: float | None = None
    ) -> Later[tuple[Float32, Integers]]:
        """Return what finds those that are nearest to each of many vectors."""
        return partial(self.index.search_many, vectors, k, self.allowed, exact=exact, least=least)

    def _each(self) -> Iterator[tuple[Segment, Mask, int]]:
        """Yield each segment, which of its rows, and how many."""
        allowed = self.allowed
        yield from zip(self.index.generation.segments, allowed.masks, allowed.counts, strict=True)

    def _without(self, rows: Sequence[Integers]) -> MatchingHere:
        return replace(self, allowed=self.allowed.without(rows))

    def _rows_of(self, own: AllLeftOut) -> list[Integers]:
        """Return (n,) of each segment, which of its rows a question asks with, or overlap that."""
        spans = sorted(own)
        return [
            np.unique(np.concatenate([_NO_ROWS, *_overlapping(segment, spans)]))
            for segment in self.index.generation.segments
        ]

    def _rows_at(self, places: Integers) -> tuple[Integers, Integers, Integers]:
        """Return (n,) recording, start and end, in samples, of their rows of some recordings."""
        is_wanted = np.zeros(len(self.index.generation.recordings.ids), bool)
        is_wanted[places[places >= 0]] = True
        found = [np.empty((3, 0), np.int64)]
        for segment, mask, _ in self._each():
            at = np.flatnonzero(mask)
            at = at[is_wanted[segment.recordings[at]]]
            starts = segment.arrays["start_sample"][at]
            ends = starts + segment.arrays["num_samples"][at]
            found.append(np.stack([segment.recordings[at], starts, ends]).astype(np.int64))
        recordings, starts, ends = np.concatenate(found, axis=1)
        return recordings, starts, ends


def _overlapping(segment: Segment, spans: Sequence[LeftOut]) -> Iterator[Integers]:
    """Yield (n,) the rows of a segment that overlap each span."""
    for span in spans:
        yield span.among(segment, segment.rows_of_recording(span.recording_id))
