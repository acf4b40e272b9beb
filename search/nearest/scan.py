"""Proposing rows by their sketches: of all that match, or of the nearest lists.

A list may hold rows that are nearer than its centre: how much, follows from how far away it is and
how far its rows are from it, times the reach, which is measured. Lists are visited, the nearest
first, until none that is left may hold a row nearer than the ten best of those seen. So a question
with many like it looks at few rows, and one whose matches lie elsewhere at as many as it takes,
whatever the filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from search.generation.allowed import Allowed
from search.nearest.basis import Prepared
from search.nearest.lists import Counted, Lists
from search.nearest.plan import Plan

Float64 = npt.NDArray[np.float64]

#: Nanoseconds, or as many times anything else: to multiply a code that is read with all others of
#: its list, and one that is read alone.
SCAN_NS, _PICK_NS = 40, 140
#: To rank a list, to read all of it, and to find which of its rows match.
_RANK_NS, _VISIT_NS, _FIND_NS = 40, 4000, 500
#: To read some lists whole and to pick rows of others, rather than do one of these with all.
_BOTH_NS = 1_000_000
#: Rows that match, of the nearest lists, that say how near the others have to be, of each vector
#: that asks; and how many times more say it again. At most filters half of the questions about
#: made-up windows needed no others; with 4 times as many, a tenth fewer were scanned in all, and
#: that took longer. Five unlike vectors that shared them found 0.92 of their true ten among 24,000
#: such windows, and so 0.99.
FIRST_ROWS, _GROWTH = 1024, 16
#: Rows of which finer codes are looked at, at most, and of these rows that are scored, or as many
#: for each hit: of a crowd that codes do not tell apart, any.
MOST_KEPT, _MOST_SCORED, _SCORED_PER_HIT = 1 << 15, 1 << 10, 8
#: Rows or lists that say how near the best are, before the others are looked through.
_SAMPLED_ROWS = 4096
_NO_ROWS = np.empty(0, np.int64)
_NOT_NEAR = np.empty(0, np.float32)


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


class _Asking(NamedTuple):
    """Lists of one basis, which of their rows may be found, and what asks.

    Attributes:
        lists: The lists.
        prepared: What asks.
        masks: (num_rows,) of the segment of each sketch, which of its rows may be found.
        rows: (n,) these rows, in order, if they are few; None of many.
        num_rows: How many these are.
        counted: How many of these each list holds.
    """

    lists: Lists
    prepared: Prepared
    masks: Sequence[Mask]
    rows: Sequence[npt.NDArray[np.int32] | None]
    num_rows: int
    counted: Counted

    @classmethod
    def of(cls, lists: Lists, allowed: Allowed, vectors: Float32) -> _Asking:
        """Prepare what asks."""
        return cls(
            lists,
            lists.basis.prepare(vectors),
            [allowed.masks[one] for one in lists.numbers],
            [allowed.rows[one] for one in lists.numbers],
            sum(allowed.counts[one] for one in lists.numbers),
            lists.count(allowed),
        )

    def look_ns(self) -> float:
        """Return how long it takes to look at all rows that may be found, in nanoseconds."""
        return self._choose_whole(self.counted.some)[1]

    def _choose_whole(self, lists: Integers) -> tuple[Mask, float]:
        """Return of which of some lists all is read, and not only rows that may be found.

        And how long it takes to look at all of them, in nanoseconds.
        """
        whole_ns = _VISIT_NS + SCAN_NS * self.lists.sizes[lists]
        pick_ns = _FIND_NS + _PICK_NS * self.counted.rows[lists]
        pick_ns = np.where(self.counted.are_known[lists], pick_ns, np.inf)
        are_whole = whole_ns <= pick_ns
        both_ns = np.where(are_whole, whole_ns, pick_ns).sum() + _BOTH_NS
        if whole_ns.sum() <= min(pick_ns.sum(), both_ns):
            return np.ones(len(lists), bool), float(whole_ns.sum())
        if pick_ns.sum() <= both_ns:
            return np.zeros(len(lists), bool), float(pick_ns.sum())
        return are_whole, float(both_ns)

    def look_at(self, lists: Integers, bound: float) -> tuple[_Seen, int]:
        """Return how near those rows of some lists are that may be found and are near enough.

        That is as near as the bound, at least. And how many of their rows may be found; about, of
        lists that are read whole.
        """
        are_whole, _ = self._choose_whole(lists)
        whole, picked = lists[are_whole], self._pick(lists[~are_whole])
        number = round(self.counted.rows[whole].sum()) + len(picked.rows)
        return _join([self._read(whole, bound), picked]), number

    def _read(self, lists: Integers, bound: float) -> _Seen:
        """Return rows of some lists that may be found and are near enough; all are read for it."""
        if not len(lists):
            return _Seen(_NO_ROWS, _NOT_NEAR)
        near = self.lists.multiply(self.prepared, lists)
        at = np.flatnonzero(near >= bound)
        rows = self.lists.rows_at(lists, at)
        is_allowed = self.lists.take_each(self.masks, rows)
        return _Seen(rows[is_allowed], near[at[is_allowed]])

    def _pick(self, lists: Integers) -> _Seen:
        """Return all rows of some lists that may be found; no others are read."""
        picked, are_all = [_NO_ROWS], len(lists) == len(self.counted.some)
        for place, sketch, own in self.lists.split(lists):
            rows = self.rows[place]
            assert rows is not None  # else it would take forever
            listed = rows[: np.searchsorted(rows, rows.dtype.type(sketch.num_listed))]
            some = listed if are_all else sketch.find_rows(own, listed)
            picked.append(some + self.lists.starts[place])
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
        return Proposed(_NO_ROWS)
    each = [_Asking.of(lists, allowed, vectors) for lists in every]
    if _are_lists_quicker(each, max(plan.num_scanned, plan.num_hits)):
        return _visit(each, plan)
    seen = [one.look_at(one.counted.some, -math.inf)[0] for one in each]
    best, _ = _keep_best(seen, plan)
    return Proposed(_refine(each, best, plan), sum(one.num_rows for one in each))


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
    rank_ns = _RANK_NS * sum(len(one.lists) for one in each)
    look_ns = sum(one.look_ns() for one in each)
    return rank_ns + share * look_ns < look_ns


def _visit(each: Sequence[_Asking], plan: Plan) -> Proposed:
    """Propose rows of the nearest lists, until enough are nearer than any of a list left may be."""
    ranks = np.concatenate([one.lists.rank(one.prepared, plan.reach) for one in each])
    sizes = np.concatenate([one.counted.rows for one in each])
    ends = np.cumsum([len(one.lists) for one in each])
    best, bound = _Seen(_NO_ROWS, _NOT_NEAR), -math.inf
    num_first = FIRST_ROWS * len(each[0].prepared.codes)
    num_rows = max(min(plan.num_scanned, num_first), plan.num_hits)
    num_scanned = num_lists = 0
    left = np.flatnonzero(sizes)
    while len(left):
        lists = np.sort(_nearest(left, ranks, sizes, num_rows))
        seen = [best]
        for one, own in zip(each, _split(lists, ends), strict=True):
            some, number = one.look_at(own, bound)
            seen.append(some)
            num_scanned += number
        best, bound = _keep_best(seen, plan)
        num_lists += len(lists)
        ranks[lists] = -np.inf
        least = np.finfo(np.float32).min  # as long as matches are rare near the question
        if bound > -math.inf:
            least = np.partition(best.near, -plan.num_hits)[-plan.num_hits]
        left = left[ranks[left] >= least]
        num_rows *= _GROWTH
    return Proposed(_refine(each, best, plan), num_scanned, num_lists)


def _keep_best(seen: Sequence[_Seen], plan: Plan) -> tuple[_Seen, float]:
    """Return those of some rows that may be hits, in any order; and how near others have to be.

    All are kept as long as they are few.
    """
    rows, near = joined = _join(seen)
    if len(near) < plan.num_hits:
        return joined, -math.inf
    at, bound = _choose_hits(near, plan.num_hits, plan.margin, MOST_KEPT)
    return _Seen(rows[at], near[at]), bound


def _join(seen: Sequence[_Seen]) -> _Seen:
    return _Seen(*(np.concatenate(column) for column in zip(*seen, strict=True)))


def _refine(each: Sequence[_Asking], best: _Seen, plan: Plan) -> Integers:
    """Return those of some rows that may be hits, by their finer codes if those tell more."""
    rows, near = best
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


def _nearest(left: Integers, ranks: Float32, sizes: Float64, num_rows: int) -> Integers:
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
