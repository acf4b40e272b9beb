"""Proposing rows by their sketches: of all that match, or of the nearest lists.

A list may hold rows that are nearer than its centre: how much, follows from how far away it is and
how far its rows are from it, times the reach, which is measured. Lists are visited, the nearest
first, until none that is left may hold a row nearer than the ten best of those seen; and of those
that are visited the same is asked of each clump, so that most of their rows are not read. So a
question with many like it looks at few rows, and one whose matches lie elsewhere at as many as it
takes, whatever the filter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.generation.allowed import Allowed
from search.nearest.basis import MOST_PRODUCTS, Prepared
from search.nearest.clumps import CLUMP_ROWS
from search.nearest.lists import Clumps, Counted, Lists, Visited
from search.nearest.plan import Plan

#: Nanoseconds, or as many times anything else: to multiply a code that is read with those around
#: it (24 in clumps by scenes, 38 by blends, 36 of all rows in order), and one that is read alone
#: (55 of a tenth of 10^5 rows, 95 to 125 of a hundredth of 10^6).
SCAN_NS, _PICK_NS = 30, 95
#: Clumps that are looked at before others, where many may hold one of the best: so at p95 117,000
#: of 10^7 rows were looked at instead of 133,000, and 80,000 instead of 94,000 where half matched.
_FIRST_CLUMPS = 1024
#: How many times the reach of clumps that of lists is: to visit a list in vain costs little beside
#: the rows of its clumps. Of the true ten of 100 windows by scenes and 100 by blends, with four
#: filters, 0.9975 needed 0.42 to 0.67 of lists, of 10^6 and of 10^7 rows, and of clumps to 0.58.
_LIST_REACH = 1.3
#: To rank a list; and beside that, what it takes to visit any, however few.
_RANK_NS, _VISIT_NS = 40, 450_000
#: Of lists with fewer rows for each clump that may be found, these are picked; and at first, when
#: nothing says yet which clumps may hold something near, wherever that is quicker.
_PICKED, _PICKED_FIRST = 1 / 2, CLUMP_ROWS * SCAN_NS / _PICK_NS
#: Rows that match, of the nearest lists, that say how near the others have to be, of each vector
#: that asks; and how many times more are looked at after them, at a time. At most filters half of
#: the questions about made-up windows needed no others; with 4 times as many, a tenth fewer were
#: scanned in all, and that took longer. Five unlike vectors that shared them found 0.92 of their
#: true ten among 24,000 such windows, and so 0.99.
FIRST_ROWS, _GROWTH = 1024, 256
#: Rows of which finer codes are looked at, at most, and of these rows that are scored, or as many
#: for each hit: of a crowd that codes do not tell apart, any.
MOST_KEPT, _MOST_SCORED, _SCORED_PER_HIT = 1 << 15, 1 << 10, 8
#: Rows or lists that say how near the best are, before the others are looked through.
_SAMPLED_ROWS = 4096


class Proposed(NamedTuple):
    """What is near by the sketches.

    Attributes:
        rows: (n,) positions in the generation, in any order: those that may be among the hits.
        num_scanned: Rows that match whose codes were multiplied; about, where many match.
        num_lists: Lists that they were in; 0 if all rows that match were looked at.
    """

    rows: Integers
    num_scanned: int = 0
    num_lists: int = 0


class _Seen(NamedTuple):
    """Rows whose codes were multiplied.

    Attributes:
        rows: (n,) positions in the generation.
        near: (n,) float32 how near they are, by their codes.
    """

    rows: Integers
    near: Float32


_NONE_SEEN = _Seen(np.empty(0, np.int64), np.empty(0, np.float32))


class _Best:
    """The best rows that were seen so far.

    Attributes:
        plan: How many are wanted, and how far others may be behind these.
        seen: Those that may be hits, in any order; all, as long as they are few.
        bound: How near others have to be, to be kept.
        least: How near the last of as many as are wanted is: what may hold a nearer one has to be
            looked at.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.seen = plan, _NONE_SEEN
        self.bound = self.least = -math.inf

    def add(self, seen: _Seen) -> None:
        """Keep the best of some more rows."""
        if not len(seen.rows):
            return
        rows = np.concatenate([self.seen.rows, seen.rows])
        near = np.concatenate([self.seen.near, seen.near])
        at: Any = slice(None)
        if len(near) >= self.plan.num_hits:
            at, self.bound = _choose_hits(near, self.plan.num_hits, self.plan.margin, MOST_KEPT)
            self.least = self.bound + self.plan.margin
        self.seen = _Seen(rows[at], near[at])


class _Asking(NamedTuple):
    """Lists of one basis, which of their rows may be found, and what asks.

    Attributes:
        lists: The lists.
        prepared: What asks.
        allowed: Which rows of the generation may be found.
        masks: (num_rows,) of the segment of each sketch, which of its rows.
        num_rows: How many these are.
        counted: How many of these each list holds, with those left out for this question alone.
    """

    lists: Lists
    prepared: Prepared
    allowed: Allowed
    masks: Sequence[Mask]
    num_rows: int
    counted: Counted

    @classmethod
    def of(cls, lists: Lists, allowed: Allowed, vectors: Float32) -> _Asking:
        """Prepare what asks."""
        return cls(
            lists,
            lists.basis.prepare(vectors),
            allowed,
            [allowed.masks[one] for one in lists.numbers],
            sum(allowed.counts[one] for one in lists.numbers),
            lists.count(allowed),
        )

    @property
    def _rows_at_a_time(self) -> int:
        return max(1, MOST_PRODUCTS // len(self.prepared.steps))

    def look_ns(self) -> float:
        """Return how long it takes to look at all rows that may be found, in nanoseconds."""
        each_ns = np.where(self.counted.are_known, _PICK_NS, SCAN_NS)
        return float((self.counted.rows * each_ns).sum())

    def look_at_all(self) -> Iterator[_Seen]:
        """Yield all rows that may be found, some at a time, and how near they are."""
        found = [_NONE_SEEN.rows]
        for place, sketch in enumerate(self.lists.sketches):
            rows = self.allowed.rows_of(self.lists.numbers[place])
            listed = rows[: np.searchsorted(rows, sketch.num_listed)]
            found.append(listed + self.lists.starts[place])
            is_last = place == len(self.lists.sketches) - 1
            if is_last or sum(map(len, found)) >= self._rows_at_a_time:
                every = np.concatenate(found)
                yield _Seen(every, self.lists.multiply_rows(self.prepared, every))
                found.clear()

    def look_at(self, lists: Integers, best: _Best) -> int:
        """Look at rows of some lists that may be found, and may be among the best.

        Returns:
            How many were looked at; about, where they are many.
        """
        least = _PICKED if best.least > -math.inf else _PICKED_FIRST
        num_picked = least * self.lists.num_clumps[lists]
        is_picked = self.counted.are_known[lists] & (self.counted.rows[lists] < num_picked)
        picked = self._pick(lists[is_picked])
        best.add(picked)
        number = len(picked.rows)
        for visited, clumps in self._divide(lists[~is_picked]):
            for one in self._order(visited, clumps, best):
                best.add(self._read(visited, one, best.bound))
                number += round(one.held.sum())
        return number

    def _order(self, visited: Visited, clumps: Clumps, best: _Best) -> Iterator[Clumps]:
        """Yield those of some clumps that may hold one of the best: if they are many, first some.

        These are where the best may be: what they hold leaves fewer of the others.
        """
        if best.least == -math.inf:
            yield clumps
            return
        bounds = self.lists.bound_clumps(visited, clumps, best.plan.reach)
        if len(bounds) > 2 * _FIRST_CLUMPS:
            first = np.partition(bounds, -_FIRST_CLUMPS)[-_FIRST_CLUMPS]
            yield clumps.take(np.flatnonzero(bounds >= max(first, best.least)))
            bounds[bounds >= first] = -np.inf
        yield clumps.take(np.flatnonzero(bounds >= best.least))

    def _read(self, visited: Visited, clumps: Clumps, bound: float) -> _Seen:
        """Return rows of clumps that may be found and are near enough."""
        near = self.lists.multiply_clumps(visited, clumps).ravel()
        at = np.flatnonzero(near >= bound)
        rows, is_own = self.lists.rows_in(visited, clumps, at)
        rows, near = rows[is_own], near[at[is_own]]
        is_allowed = self.lists.take_each(self.masks, rows)
        return _Seen(rows[is_allowed], near[is_allowed])

    def _divide(self, lists: Integers) -> Iterator[tuple[Visited, Clumps]]:
        """Yield the clumps to look at, some at a time: what is made of their rows is in memory."""
        if not len(lists):
            return
        most = max(1, self._rows_at_a_time // CLUMP_ROWS)
        numbers = np.cumsum(self.lists.num_clumps[lists]) // most
        for some in np.split(lists, np.flatnonzero(np.diff(numbers)) + 1):
            visited = self.lists.visit(self.prepared, some)
            clumps = self.lists.clumps_of(some, self.allowed)
            for first in range(0, len(clumps.of), most):  # a crowd may have a list of its own
                yield visited, clumps.take(slice(first, first + most))

    def _pick(self, lists: Integers) -> _Seen:
        """Return all rows of some lists that may be found; no others are read."""
        if not len(lists):
            return _NONE_SEEN
        picked = []
        for place, sketch, own in self.lists.split(lists):
            rows = self.allowed.rows[self.lists.numbers[place]]
            assert rows is not None  # else it would take forever
            picked.append(sketch.find_rows(own, rows) + self.lists.starts[place])
        every: Integers = np.concatenate(picked)
        return _Seen(every, self.lists.multiply_rows(self.prepared, every))


def propose(every: Sequence[Lists], allowed: Allowed, vectors: Float32, plan: Plan) -> Proposed:
    """Propose rows that may be nearest to any of some vectors.

    Args:
        every: The lists of all sketches, see `take_together`.
        allowed: Which rows of the generation may be found; those without a sketch are not.
        vectors: (q, 768) or (q, 1295) float32; near is what is near to any of them.
        plan: How far lists are looked through, and how much less near than the last hit rows may
            be that are proposed. All that match are looked at where that takes no longer.
    """
    if not every:
        return Proposed(_NONE_SEEN.rows)
    each = [_Asking.of(lists, allowed, vectors) for lists in every]
    if _are_lists_quicker(each, max(plan.num_scanned, plan.num_hits)):
        return _visit(each, plan)
    best = _Best(plan)
    for seen in itertools.chain.from_iterable(one.look_at_all() for one in each):
        best.add(seen)
    return Proposed(_refine(each, best), sum(one.num_rows for one in each))


def _are_lists_quicker(each: Sequence[_Asking], num_scanned: int) -> bool:
    """Whether to visit lists takes less time than to look at all that match, and overlook none.

    Args:
        each: What is asked.
        num_scanned: Rows that match that are expected to be in the lists that are visited.
    """
    num_matching = sum(one.num_rows for one in each)
    if num_matching <= num_scanned:
        return False
    share = num_scanned / num_matching  # of the lists, if what matches is as frequent everywhere
    visit_ns = _VISIT_NS + _RANK_NS * sum(len(one.lists) for one in each)
    look_ns = sum(one.look_ns() for one in each)
    return visit_ns + share * look_ns < look_ns


def _visit(each: Sequence[_Asking], plan: Plan) -> Proposed:
    """Propose rows of the nearest lists, until enough are nearer than any of a list left may be."""
    reach = _LIST_REACH * plan.reach
    ranks = np.concatenate([one.lists.rank(one.prepared, reach) for one in each])
    sizes = np.concatenate([one.counted.rows for one in each])
    ends = np.cumsum([len(one.lists) for one in each])
    best, num_first = _Best(plan), FIRST_ROWS * len(each[0].prepared.steps)
    num_rows = max(min(plan.num_scanned, num_first), plan.num_hits)
    num_scanned = num_lists = 0
    left = np.flatnonzero(sizes)
    while len(left):
        lists = np.sort(_nearest(left, ranks, sizes, num_rows))
        for one, own in zip(each, _split(lists, ends), strict=True):
            num_scanned += one.look_at(own, best)
        num_lists += len(lists)
        ranks[lists] = -np.inf
        # Those that were visited go, even where too few were seen for others to be too far.
        left = left[ranks[left] >= max(best.least, np.finfo(np.float32).min)]
        num_rows *= _GROWTH
    return Proposed(_refine(each, best), num_scanned, num_lists)


def _refine(each: Sequence[_Asking], best: _Best) -> Integers:
    """Return those of the best rows that may be hits, by their finer codes if those tell more."""
    (rows, near), plan = best.seen, best.plan
    if len(rows) <= plan.num_hits:
        return rows
    if plan.margin:
        rows = np.sort(rows)
        near = np.full(len(rows), -np.inf, np.float32)
        for one in each:
            at = np.flatnonzero(one.lists.hold(rows))
            near[at] = one.lists.refine(one.prepared, rows[at])
    most = max(_MOST_SCORED, _SCORED_PER_HIT * plan.num_hits)
    return rows[_choose_hits(near, plan.num_hits, plan.finer_margin, most)[0]]


def _choose_hits(near: Float32, number: int, margin: float, most: int) -> tuple[Integers, float]:
    """Return where rows are that may be among so many nearest, in any order; and the bound.

    Args:
        near: (n,) how near the rows are, at least so many; about.
        number: How many are wanted.
        margin: By how much less near than the last of them one may be.
        most: So many are returned at most, or as many as are wanted.
    """
    bound = float(near[_choose(near, number)].min()) - margin
    at = np.flatnonzero(near >= bound)
    if len(at) > max(number, most):
        at = _choose(near, max(number, most))
    return at, bound


def _split(lists: Integers, ends: Integers) -> Iterator[Integers]:
    """Yield which of some lists end before each of some ends, counted from the one before."""
    start = first = 0
    for end, last in zip(ends.tolist(), np.searchsorted(lists, ends).tolist(), strict=True):
        yield lists[first:last] - start
        start, first = end, last


def _nearest(left: Integers, ranks: Float32, sizes: Integers, num_rows: int) -> Integers:
    """Return the nearest of some lists: as many as are expected to hold so many rows that match.

    Not all lists are put in order for that, but twice as many as it should take, if they do.
    """
    near = ranks[left]
    number = int(2 * num_rows / max(sizes.mean(), 1e-9)) + 1
    if number < len(near):
        some = _sample(near) if 2 * number < _SAMPLED_ROWS else near
        bound = np.partition(some, -number)[-number]
        at = np.flatnonzero(near >= bound)  # with all that are as near
        if sizes[left[at]].sum() >= num_rows:
            left, near = left[at], near[at]
    lists = left[np.argsort(-near, kind="stable")]
    return lists[: int(np.searchsorted(np.cumsum(sizes[lists]), num_rows)) + 1]


def _choose(near: Float32, number: int) -> Integers:
    """Return where the highest of some products are, in any order."""
    if len(near) <= number:
        return np.arange(len(near))
    some = _sample(near)
    bound = np.partition(some, -number)[-number] if len(some) >= number else -np.inf
    at = np.flatnonzero(near >= bound)
    if len(at) <= number:
        return at
    return at[np.argpartition(near[at], -number)[-number:]]


def _sample(near: Float32) -> Float32:
    """Return some of many numbers, from all over them: those side by side are of rows alike."""
    return near[:: len(near) // _SAMPLED_ROWS + 1]
