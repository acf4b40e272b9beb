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
from search.nearest.lists import Lists
from search.nearest.plan import Plan

Float64 = npt.NDArray[np.float64]

#: Nanoseconds, or as many times anything else: to multiply a code that is read with all others of
#: its list, and one that is read alone.
SCAN_NS, _PICK_NS = 40, 140
#: To rank a list, to read all of it, and to find which of its rows match.
_RANK_NS, _VISIT_NS, _FIND_NS = 40, 4000, 500
#: Rows that match, of the nearest lists, that say how near the others have to be; and how many
#: times more say it again. At most filters half of the questions about made-up windows needed no
#: others; with 4 times as many, a tenth fewer were scanned in all, and that took longer.
FIRST_ROWS, _GROWTH = 1024, 16
#: Rows of which finer codes are looked at, at most: of a crowd that codes do not tell apart, any.
MOST_KEPT = 1 << 15
#: Rows or lists that say how near the best are, before the others are looked through.
_SAMPLED_ROWS = 4096
_NO_ROWS, _NO_MASK, _NOT_NEAR = np.empty(0, np.int64), np.empty(0, bool), np.empty(0, np.float32)


class Proposed(NamedTuple):
    """What is near by the sketches.

    Attributes:
        rows: (n,) positions in the generation, in any order.
        num_scanned: Rows that match whose codes were multiplied.
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
        counts: How many these are.
        rows: (n,) these rows, in order, if they are few; None of many.
    """

    lists: Lists
    prepared: Prepared
    masks: Sequence[Mask]
    counts: Sequence[int]
    rows: Sequence[npt.NDArray[np.int32] | None]

    @classmethod
    def of(cls, lists: Lists, allowed: Allowed, vectors: Float32) -> _Asking:
        """Prepare what asks."""
        return cls(
            lists,
            lists.basis.prepare(vectors),
            [allowed.masks[one] for one in lists.numbers],
            [allowed.counts[one] for one in lists.numbers],
            [allowed.rows[one] for one in lists.numbers],
        )

    def expect(self) -> Float64:
        """Return how many rows that match each list holds, if they are as frequent everywhere."""
        pairs = zip(self.counts, self.masks, strict=True)
        shares = [count / max(1, len(mask)) for count, mask in pairs]
        return np.asarray(self.lists.sizes * np.repeat(shares, np.diff(self.lists.firsts)))

    def look_ns(self) -> tuple[float, float]:
        """Return how long it takes to look at all rows that may be found, in nanoseconds.

        And how much longer, if lists are visited for it.
        """
        look_ns = visit_ns = 0.0
        for place, sketch in enumerate(self.lists.sketches):
            are_picked = self._are_picked(place)
            pick_ns, scan_ns = _PICK_NS * self.counts[place], SCAN_NS * len(self.masks[place])
            look_ns += pick_ns if are_picked else scan_ns
            visit_ns += sketch.num_lists * (_FIND_NS if are_picked else _VISIT_NS)
        return look_ns, visit_ns

    def _are_picked(self, place: int) -> bool:
        """Whether rows of a sketch that may be found are known and few: looked at one by one.

        They lie together where they lie near, so that whole lists are read sooner than they would
        be if they were as frequent everywhere.
        """
        is_known = self.rows[place] is not None
        return is_known and 2 * _PICK_NS * self.counts[place] < SCAN_NS * len(self.masks[place])

    def look_at_all(self) -> tuple[_Seen, int]:
        """Return how near all rows that may be found are; and how many these are."""
        whole, picked, is_allowed = [_NO_ROWS], [_NO_ROWS], [_NO_MASK]
        for place, sketch in enumerate(self.lists.sketches):
            rows, first = self.rows[place], self.lists.firsts[place]
            if rows is not None and self._are_picked(place):
                own = rows[: np.searchsorted(rows, sketch.num_listed)]
                picked.append(own + self.lists.starts[place])
            else:
                whole.append(np.arange(first, first + sketch.num_lists))
                is_allowed.append(self.masks[place][: sketch.num_listed])
        every = np.concatenate(whole), np.concatenate(is_allowed), np.concatenate(picked)
        return self._look(*every, -math.inf)

    def look_at(self, lists: Integers, bound: float) -> tuple[_Seen, int]:
        """Return how near those rows of some lists are that may be found and are near enough.

        That is as near as the bound, at least. And how many of their rows may be found.
        """
        whole, picked, is_allowed = [_NO_ROWS], [_NO_ROWS], [_NO_MASK]
        for place, sketch, own in self.lists.split(lists):
            rows, mask, num_rows = self.rows[place], self.masks[place], int(sketch.sizes[own].sum())
            if rows is not None and self._are_picked(place):
                some = sketch.find_rows(own, rows)
                if _PICK_NS * len(some) < SCAN_NS * num_rows:
                    picked.append(some + self.lists.starts[place])
                    continue
            whole.append(own + self.lists.firsts[place])
            is_all = self.counts[place] == len(mask)
            is_allowed.append(np.ones(num_rows, bool) if is_all else sketch.of_lists(mask, own))
        joined = np.concatenate(whole), np.concatenate(is_allowed), np.concatenate(picked)
        return self._look(*joined, bound)

    def _look(
        self, whole: Integers, is_allowed: Mask, picked: Integers, bound: float
    ) -> tuple[_Seen, int]:
        """Look at all rows of some lists, and at some of others.

        Args:
            whole: (m,) the former lists.
            is_allowed: (n,) which of their rows may be found.
            picked: (p,) other rows, in order.
            bound: See `look_at`.
        """
        rows, near, number = [picked], [_NOT_NEAR], len(picked)
        if len(picked):
            near = [self.lists.multiply_rows(self.prepared, picked)]
        if len(whole):
            of_all = self.lists.multiply(self.prepared, whole)
            at = np.flatnonzero((of_all >= bound) & is_allowed)
            rows.append(self.lists.rows_at(whole, at))
            near.append(of_all[at])
            number += int(np.count_nonzero(is_allowed))
        return _Seen(np.concatenate(rows), np.concatenate(near)), number


def propose(every: Sequence[Lists], allowed: Allowed, vectors: Float32, plan: Plan) -> Proposed:
    """Propose rows that may be nearest to any of some vectors.

    Args:
        every: The lists of all sketches, see `take_together`.
        allowed: Which rows of the generation may be found; those without a sketch are not.
        vectors: (q, 768) or (q, 1295) float32; near is what is near to any of them.
        plan: How far lists are looked through, and how many rows are proposed. All that match are
            looked at where that takes no longer.
    """
    if not every:
        return Proposed(_NO_ROWS)
    each = [_Asking.of(lists, allowed, vectors) for lists in every]
    if _are_lists_quicker(each, max(plan.num_scanned, plan.num_scored)):
        return _visit(each, plan)
    seen, counts = zip(*(one.look_at_all() for one in each), strict=True)
    best, _ = _keep_best(seen, plan)
    return Proposed(_refine(each, best, plan), sum(counts))


def _are_lists_quicker(each: Sequence[_Asking], num_scanned: int) -> bool:
    """Whether to visit lists takes less time than to look at all that match, and overlook none.

    Args:
        each: What is asked.
        num_scanned: Rows that match that are expected to be in the lists that are visited.
    """
    num_matching = sum(sum(one.counts) for one in each)
    if num_matching <= num_scanned:
        return False
    share = num_scanned / num_matching  # of the lists, if what matches is as frequent everywhere
    rank_ns = _RANK_NS * sum(len(one.lists) for one in each)
    look_ns, visit_ns = map(sum, zip(*(one.look_ns() for one in each), strict=True))
    return rank_ns + share * (look_ns + visit_ns) < look_ns


def _visit(each: Sequence[_Asking], plan: Plan) -> Proposed:
    """Propose rows of the nearest lists, until enough are nearer than any of a list left may be."""
    ranks = np.concatenate([one.lists.rank(one.prepared, plan.reach) for one in each])
    sizes = np.concatenate([one.expect() for one in each])
    ends = np.cumsum([len(one.lists) for one in each])
    best, bound = _Seen(_NO_ROWS, _NOT_NEAR), -math.inf
    num_rows = max(min(plan.num_scanned, FIRST_ROWS), plan.num_scored, plan.num_nearer)
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
            least = np.partition(best.near, -plan.num_nearer)[-plan.num_nearer]
        left = left[ranks[left] >= least]
        num_rows *= _GROWTH
    return Proposed(_refine(each, best, plan), num_scanned, num_lists)


def _keep_best(seen: Sequence[_Seen], plan: Plan) -> tuple[_Seen, float]:
    """Return those of some rows that may be hits, in any order; and how near others have to be.

    All are kept as long as they are few.
    """
    rows, near = (np.concatenate(column) for column in zip(*seen, strict=True))
    number = max(plan.num_scored, plan.num_nearer, plan.num_hits)
    if len(near) < number:
        return _Seen(rows, near), -math.inf
    best = near[_choose(near, number)]
    last = np.partition(best, -plan.num_hits)[-plan.num_hits]
    bound = min(float(best.min()), float(last) - plan.margin)
    at = np.flatnonzero(near >= bound)
    if len(at) > max(number, MOST_KEPT):
        at = _choose(near, max(number, MOST_KEPT))
    return _Seen(rows[at], near[at]), bound


def _refine(each: Sequence[_Asking], best: _Seen, plan: Plan) -> Integers:
    """Return the nearest of some rows, by their finer codes if those tell more, in any order."""
    if len(best.rows) <= plan.num_scored:
        return best.rows
    if not plan.margin:
        return best.rows[_choose(best.near, plan.num_scored)]
    rows = np.sort(best.rows)
    near = np.full(len(rows), -np.inf, np.float32)
    for one in each:
        at = np.flatnonzero(one.lists.hold(rows))
        near[at] = one.lists.refine(one.prepared, rows[at])
    return rows[_choose(near, plan.num_scored)]


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
        some = near[:_SAMPLED_ROWS] if 2 * number < _SAMPLED_ROWS else near
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
    first = near[:_SAMPLED_ROWS]
    bound = np.partition(first, -number)[-number] if len(first) >= number else -np.inf
    at = np.flatnonzero(near >= bound)  # few, where the nearest lists came first
    if len(at) <= number:
        return at
    return at[np.argpartition(near[at], -number)[-number:]]
