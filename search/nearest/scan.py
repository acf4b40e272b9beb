"""Proposing rows by their sketches: of all that match, or of the nearest lists until enough do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.nearest.sketch import Asked, Sketch, Some

#: Nanoseconds, or as many times anything else: to look at a row whether it matches, in all of a
#: segment and in some of its lists; and to scan one that does.
_LOOK_NS, _VISIT_NS, SCAN_NS = 1, 8, 40
#: Rows that say how near the best are, before the others are looked through.
_FIRST_ROWS = 4096


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


def propose(
    parts: Sequence[Part], vectors: Float32, num_scanned: int, num_proposed: int
) -> Proposed:
    """Propose rows that may be nearest to any of some vectors.

    Args:
        parts: The segments that may have them.
        vectors: (q, 768) or (q, 1295) float32; near is what is near to any of them.
        num_scanned: How many rows that match are looked at, of the nearest lists; all where that
            takes no longer.
        num_proposed: How many of these are proposed, at most.

    Raises:
        DamagedStoreError: If a sketch names rows that there are not.
    """
    if not parts:
        return Proposed(np.empty(0, np.int64))
    asked = [part.sketch.ask(vectors) for part in parts]
    num_lists = 0
    num_scanned = max(num_scanned, num_proposed)
    if _are_lists_quicker(parts, num_scanned):
        each, num_lists = _visit(parts, asked, num_scanned)
    else:
        each = [[part.sketch.among(part.mask)] for part in parts]
    near = [
        part.sketch.multiply(one, some)
        for part, one, found in zip(parts, asked, each, strict=True)
        for some in found
    ]
    rows = [
        some.rows + np.int64(part.start)
        for part, found in zip(parts, each, strict=True)
        for some in found
    ]
    all_near, all_rows = np.concatenate(near), np.concatenate(rows)
    return Proposed(all_rows[_choose(all_near, num_proposed)], len(all_near), num_lists)


def _are_lists_quicker(parts: Sequence[Part], num_scanned: int) -> bool:
    """Whether to visit lists takes less time than to scan all that match, which overlooks none."""
    num_rows = sum(len(part.mask) for part in parts)
    num_matching = sum(part.num_matching for part in parts)
    if num_matching <= num_scanned:
        return False
    visit_ns = num_scanned * (_VISIT_NS * num_rows / num_matching + SCAN_NS)
    return visit_ns < _LOOK_NS * num_rows + SCAN_NS * num_matching


def _visit(
    parts: Sequence[Part], asked: Sequence[Asked], num_scanned: int
) -> tuple[list[list[Some]], int]:
    """Return rows that match, of the nearest lists of each part, and how many lists these were.

    As many as are to be scanned, or a list more; fewer, if there are no more.
    """
    near = np.concatenate([part.sketch.rank(one) for part, one in zip(parts, asked, strict=True)])
    shares = [part.num_matching / len(part.mask) for part in parts]
    num_lists = [part.sketch.num_lists for part in parts]
    order, ends = np.argsort(-near), np.cumsum(num_lists)
    sizes = np.concatenate([part.sketch.sizes for part in parts]) * np.repeat(shares, num_lists)
    held = np.cumsum(sizes[order])  # rows that match, if they are everywhere as frequent
    found: list[list[Some]] = [[] for _ in parts]
    num_found, last = 0, 0
    while last < len(order) and num_found < num_scanned:
        # Where they are rarer near the question than elsewhere, ever more are visited.
        done = held[last - 1] if last else 0
        more = int(np.searchsorted(held, done + num_scanned - num_found)) + 1
        first, last = last, min(max(more, last + last // 4), len(order))
        some = order[first:last]
        part_of = np.searchsorted(ends, some, side="right")
        for number, part in enumerate(parts):
            lists = some[part_of == number] - (ends[number] - num_lists[number])
            if len(lists):
                found[number].append(part.in_lists(lists))
                num_found += len(found[number][-1].rows)
    return found, last


def _choose(near: Float32, number: int) -> Integers:
    """Return where the highest of some products are, in any order."""
    if len(near) <= number:
        return np.arange(len(near))
    first = near[:_FIRST_ROWS]
    bound = np.partition(first, -number)[-number] if len(first) >= number else -np.inf
    at = np.flatnonzero(near >= bound)  # few: the nearest lists came first
    if len(at) <= number:
        return at
    return at[np.argpartition(near[at], -number)[-number:]]
