"""Proposing rows by their sketches: of all that match, or of the nearest lists.

A list may hold rows that are nearer than its centre, by a number of times its spread: the reach,
which is measured. Lists are visited, the nearest first, until none that is left may hold a row
nearer than the ten best of those seen. So a question with many like it looks at few rows, and one
whose matches lie elsewhere at as many as it takes, whatever the filter.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """

    start: int
    sketch: Sketch
    mask: Mask
    num_matching: int

    def in_lists(self, lists: Integers) -> Some:
        """Return which rows of some lists may be found."""
        is_whole = self.num_matching == len(self.mask)
        return self.sketch.in_lists(lists, None if is_whole else self.mask)


def propose(parts: Sequence[Part], vectors: Float32, plan: Plan) -> Proposed:
    """Propose rows that may be nearest to any of some vectors.

    Args:
        parts: The segments that may have them.
        vectors: (q, 768) or (q, 1295) float32; near is what is near to any of them.
        plan: How far lists are looked through, and how many rows are proposed. All that match are
            looked at where that takes no longer.

    Raises:
        DamagedStoreError: If a sketch names rows that there are not.
    """
    if not parts:
        return Proposed(np.empty(0, np.int64))
    asked = [part.sketch.ask(vectors) for part in parts]
    if _are_lists_quicker(parts, max(plan.num_scanned, plan.num_scored)):
        return _visit(parts, asked, plan)
    pairs = zip(parts, asked, strict=True)
    seen = [_look_at(part, one, part.sketch.among(part.mask)) for part, one in pairs]
    return Proposed(_best_of(seen, plan.num_scored).rows, sum(len(one.rows) for one in seen))


def _are_lists_quicker(parts: Sequence[Part], num_scanned: int) -> bool:
    """Whether to visit lists takes less time than to scan all that match, which overlooks none."""
    num_rows = sum(len(part.mask) for part in parts)
    num_matching = sum(part.num_matching for part in parts)
    if num_matching <= num_scanned:
        return False
    visit_ns = num_scanned * (_VISIT_NS * num_rows / num_matching + SCAN_NS)
    return visit_ns < _LOOK_NS * num_rows + SCAN_NS * num_matching


def _visit(parts: Sequence[Part], asked: Sequence[Asked], plan: Plan) -> Proposed:
    """Propose rows of the nearest lists, until enough are nearer than any of a list left may be."""
    order, ranks, held = _rank(parts, asked, plan.reach)
    num_lists = [part.sketch.num_lists for part in parts]
    starts = np.cumsum(num_lists) - num_lists
    best = _Seen(np.empty(0, np.int64), np.empty(0, np.float32))
    num_best = max(plan.num_scored, plan.num_nearer)
    num_rows = max(min(plan.num_scanned, FIRST_ROWS), num_best)
    num_scanned, last, end = 0, 0, len(order)
    while last < end:
        more = int(np.searchsorted(held, num_rows)) + 1
        first, last = last, min(max(more, last + 1), end)
        part_of = np.searchsorted(starts, order[first:last], side="right") - 1
        seen = [best]
        for number, part in enumerate(parts):
            lists = order[first:last][part_of == number] - starts[number]
            if len(lists):
                seen.append(_look_at(part, asked[number], part.in_lists(lists)))
                num_scanned += len(seen[-1].rows)
        best = _best_of(seen, num_best)
        if len(best.rows) == num_best:  # else matches are rare near the question
            bound = np.partition(best.near, -plan.num_nearer)[-plan.num_nearer]
            end = int(np.searchsorted(-ranks, -bound, side="right"))
        num_rows *= _GROWTH
    return Proposed(_best_of([best], plan.num_scored).rows, num_scanned, last)


def _rank(
    parts: Sequence[Part], asked: Sequence[Asked], reach: float
) -> tuple[Integers, Float32, Float64]:
    """Return the lists of all parts, the nearest first, and how near what each holds may be.

    And how many rows that match a list and all before it hold, if they are everywhere as frequent.
    """
    pairs = list(zip(parts, asked, strict=True))
    ranks = np.concatenate([part.sketch.rank(one, reach) for part, one in pairs])
    sizes = [part.sketch.sizes * (part.num_matching / len(part.mask)) for part in parts]
    order = np.argsort(-ranks)
    return order, ranks[order], np.cumsum(np.concatenate(sizes)[order])


def _look_at(part: Part, asked: Asked, some: Some) -> _Seen:
    return _Seen(some.rows + np.int64(part.start), part.sketch.multiply(asked, some))


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
    at = np.flatnonzero(near >= bound)  # few: the nearest lists came first
    if len(at) <= number:
        return at
    return at[np.argpartition(near[at], -number)[-number:]]
