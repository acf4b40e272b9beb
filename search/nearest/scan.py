"""Proposing rows by their sketches: of all that match, or of the nearest lists.

A list may hold rows that are nearer than its centre, by a number of times its spread: the reach,
which is measured. Lists are visited, the nearest first, until none that is left may hold a row
nearer than the ten best of those seen. So a question with many like it looks at few rows, and one
whose matches lie elsewhere at as many as it takes, whatever the filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from search.nearest.plan import Plan
from search.nearest.sketch import Asked, Sketch, Some

Float64 = npt.NDArray[np.float64]

#: Nanoseconds, or as many times anything else: to look at a row whether it matches, in all of a
#: segment and in some of its lists; and to scan one that does.
_LOOK_NS, _VISIT_NS, SCAN_NS = 1, 8, 40
#: Rows that match, of the nearest lists, that say how near the others have to be; and how many
#: times more say it again. At most filters half of the questions about made-up windows needed no
#: others; with 4 times as many, a tenth fewer were scanned in all, and that took longer.
FIRST_ROWS, _GROWTH = 1024, 16
#: Rows that say how near the best are, before the others are looked through.
_SAMPLED_ROWS = 4096


class Proposed(NamedTuple):
    """What is near by the sketches.

    Attributes:
        rows: (n,) positions in the generation, in any order.
        num_scanned: Rows whose codes were multiplied.
        num_lists: Lists that they were in; 0 if all rows that match were scanned.
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


class Part(NamedTuple):
    """A segment with a sketch, and which of its rows may be found.

    Attributes:
        start: Its first row in the generation.
        sketch: Its sketch.
        mask: (num_rows,) which rows may be found.
        num_matching: How many these are.
        rows: (n,) these rows, in order, if they are few; None of many.
    """

    start: int
    sketch: Sketch
    mask: Mask
    num_matching: int
    rows: npt.NDArray[np.int32] | None = None

    def in_lists(self, lists: Integers) -> Some:
        """Return which rows of some lists may be found."""
        if self.rows is not None:
            return self.sketch.of_rows(lists, self.rows)
        is_whole = self.num_matching == len(self.mask)
        return self.sketch.in_lists(lists, None if is_whole else self.mask)

    def among(self) -> Some:
        """Return all that may be found."""
        if self.rows is None:
            return self.sketch.among(np.flatnonzero(self.mask))
        return self.sketch.among(self.rows.astype(np.int64))


class _Asking(NamedTuple):
    """A part, and what asks it."""

    part: Part
    asked: Asked

    def look_at(self, some: Some) -> _Seen:
        """Return how near some of its rows are."""
        near = self.part.sketch.multiply(self.asked, some)
        return _Seen(some.rows + np.int64(self.part.start), near)


def propose(parts: Sequence[Part], vectors: Float32, plan: Plan) -> Proposed:
    """Propose rows that may be nearest to any of some vectors.

    Args:
        parts: The segments that may have them.
        vectors: (q, 768) or (q, 1295) float32; near is what is near to any of them.
        plan: How far lists are looked through, and how many rows are proposed. All that match are
            looked at where that takes no longer.
    """
    if not parts:
        return Proposed(np.empty(0, np.int64))
    bases = {id(part.sketch.basis): part.sketch.basis for part in parts}
    prepared = {key: basis.prepare(vectors) for key, basis in bases.items()}
    each = [_Asking(one, one.sketch.ask(prepared[id(one.sketch.basis)])) for one in parts]
    if _are_lists_quicker(parts, max(plan.num_scanned, plan.num_best)):
        return _visit(each, plan)
    seen = [one.look_at(one.part.among()) for one in each]
    best = _best_of(seen, plan.num_best)
    return Proposed(_refine(each, best, plan.num_scored), sum(len(one.rows) for one in seen))


def _are_lists_quicker(parts: Sequence[Part], num_scanned: int) -> bool:
    """Whether to visit lists takes less time than to scan all that match, which overlooks none."""
    num_matching = sum(part.num_matching for part in parts)
    if num_matching <= num_scanned:
        return False
    # Rows that are known need not be looked for among others.
    num_looked = sum(len(part.mask) for part in parts if part.rows is None)
    visit_ns = num_scanned * (_VISIT_NS * num_looked / num_matching + SCAN_NS)
    return visit_ns < _LOOK_NS * num_looked + SCAN_NS * num_matching


def _visit(each: Sequence[_Asking], plan: Plan) -> Proposed:
    """Propose rows of the nearest lists, until enough are nearer than any of a list left may be."""
    ranks = np.concatenate([part.sketch.rank(asked, plan.reach) for part, asked in each])
    sizes = _expect(each)
    ends = np.cumsum([one.part.sketch.num_lists for one in each])
    best = _Seen(np.empty(0, np.int64), np.empty(0, np.float32))
    num_best = max(plan.num_best, plan.num_nearer)
    num_rows = max(min(plan.num_scanned, FIRST_ROWS), num_best)
    num_scanned = num_lists = 0
    left = np.arange(len(ranks))
    while len(left):
        lists = np.sort(_nearest(left, ranks, sizes, num_rows))
        seen = [best]
        for one, own in zip(each, _split(lists, ends), strict=True):
            if len(own):
                seen.append(one.look_at(one.part.in_lists(own)))
                num_scanned += len(seen[-1].rows)
        best = _best_of(seen, num_best)
        num_lists += len(lists)
        ranks[lists] = -np.inf
        bound = -np.inf
        if len(best.rows) == num_best:  # else matches are rare near the question
            bound = np.partition(best.near, -plan.num_nearer)[-plan.num_nearer]
        left = np.flatnonzero((ranks >= bound) & (ranks > -np.inf))
        num_rows *= _GROWTH
    best = _best_of([best], plan.num_best)
    return Proposed(_refine(each, best, plan.num_scored), num_scanned, num_lists)


def _refine(each: Sequence[_Asking], best: _Seen, number: int) -> Integers:
    """Return the nearest of some rows, by their finer codes, in any order."""
    if len(best.rows) <= number:
        return best.rows
    rows = np.sort(best.rows)
    near = np.empty(len(rows), np.float32)
    for part, asked in each:
        some = slice(*np.searchsorted(rows, [part.start, part.start + len(part.mask)]).tolist())
        if some.start < some.stop:
            near[some] = part.sketch.refine(asked, rows[some] - part.start)
    return rows[_choose(near, number)]


def _expect(each: Sequence[_Asking]) -> Float64:
    """Return how many rows that match each list holds, if they are everywhere as frequent."""
    shares = [one.part.num_matching / len(one.part.mask) for one in each]
    sizes = [one.part.sketch.sizes for one in each]
    return np.concatenate([some * share for some, share in zip(sizes, shares, strict=True)])


def _split(lists: Integers, ends: Integers) -> Iterator[Integers]:
    """Yield of each part, whose lists end there, which of some lists it has, by its own numbers."""
    start = first = 0
    for end, last in zip(ends.tolist(), np.searchsorted(lists, ends).tolist(), strict=True):
        yield lists[first:last] - start
        start, first = end, last


def _nearest(left: Integers, ranks: Float32, sizes: Float64, num_rows: int) -> Integers:
    """Return the nearest of some lists: as many as are expected to hold so many rows that match.

    Not all lists are put in order for that, but twice as many as it should take, if they do.
    """
    near = -ranks[left]
    number = int(2 * num_rows / max(sizes.mean(), 1e-9)) + 1
    if number < len(left):
        at = np.sort(np.argpartition(near, number)[:number])
        if sizes[left[at]].sum() >= num_rows:
            left, near = left[at], near[at]
    lists = left[np.argsort(near, kind="stable")]
    return lists[: int(np.searchsorted(np.cumsum(sizes[lists]), num_rows)) + 1]


def _best_of(seen: Sequence[_Seen], number: int) -> _Seen:
    """Return the nearest of some rows, in any order; all, if there are no more."""
    rows, near = (np.concatenate(column) for column in zip(*seen, strict=True))
    at = _choose(near, number)
    return _Seen(rows[at], near[at])


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
