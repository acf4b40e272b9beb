"""The lists of all sketches of a generation that have a basis in common, one after the other.

What is done once for a question, and not once for each segment, is done here: a generation has
twenty segments for ten million rows, and to call NumPy a dozen times for each took longer than all
the rest. A row is one of the generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from search.generation.allowed import Allowed
from search.nearest.basis import FINER_STEPS, MIDDLE, MOST_PRODUCTS, Basis, Prepared
from search.nearest.bytes import Bytes, multiply_bytes
from search.nearest.ranking import Ranking
from search.nearest.sketch import FINER, MOST, Sketch


class Counted(NamedTuple):
    """How many rows of lists may be found.

    Attributes:
        rows: (num_lists,) float64 how many of each; about, where they are many in its segment: if
            they are as frequent everywhere.
        are_known: (num_lists,) whether it is known which rows they are, as they are few.
        some: (n,) the lists in which there are any.
    """

    rows: npt.NDArray[np.float64]
    are_known: Mask
    some: Integers


class Lists:
    """Lists of some sketches; threads may share it.

    Attributes:
        basis: Of all of them.
        numbers: Of each sketch, which segment of the generation it is of.
        sketches: In order.
        starts: (num_sketches,) the first row of the segment of each.
        sizes: (num_lists,) rows of each list.
        firsts: (num_sketches + 1,) the first list of each sketch, and the number of all lists.
    """

    def __init__(self, sketches: dict[int, Sketch], starts: Integers) -> None:
        """Take the lists of some sketches together.

        Args:
            sketches: Number of a segment → its sketch, at least one, in order; of one basis.
            starts: The first row of each segment of the generation.
        """
        self.numbers, self.sketches = tuple(sketches), tuple(sketches.values())
        self.basis: Basis = self.sketches[0].basis
        self.starts = starts[list(sketches)]
        self._stops = self.starts + [one.num_listed for one in self.sketches]
        self.sizes = np.concatenate([one.sizes for one in self.sketches])
        self.firsts = np.cumsum([0, *(one.num_lists for one in self.sketches)])
        pairs = list(zip(self.starts.tolist(), self.sketches, strict=True))
        self._ends = np.concatenate([start + one.ends for start, one in pairs])
        self._begins = self._ends - self.sizes
        self._centres = np.concatenate([one.centres for one in self.sketches])
        widths = [np.full(one.num_lists, one.half_width) for one in self.sketches]
        self._half_widths = np.concatenate(widths)
        spreads = np.concatenate([one.spreads for one in self.sketches], axis=1)
        self._ranking = Ranking.of(self._centres, spreads, self.basis.parts)

    def __len__(self) -> int:
        return len(self.sizes)

    def count(self, allowed: Allowed) -> Counted:
        """Return how many rows of each list may be found."""
        if self not in allowed.counted:
            each = []
            for number, sketch in zip(self.numbers, self.sketches, strict=True):
                rows = allowed.rows[number]
                share = allowed.counts[number] / max(1, sketch.num_listed)
                each.append(sketch.sizes * share if rows is None else sketch.count_rows(rows))
            rows_of_each = np.concatenate(each).astype(np.float64)
            is_known = [allowed.rows[number] is not None for number in self.numbers]
            are_known = np.repeat(is_known, np.diff(self.firsts))
            allowed.counted[self] = Counted(rows_of_each, are_known, np.flatnonzero(rows_of_each))
        counted: Counted = allowed.counted[self]
        return counted

    def rank(self, prepared: Prepared, reach: float) -> Float32:
        """Return (num_lists,) float32 how near the nearest rows of each list may be: `Ranking`."""
        return self._ranking.rank(prepared, reach)

    def split(self, lists: Integers) -> Iterator[tuple[int, Sketch, Integers]]:
        """Yield the sketches that have some lists, in order, by their place, and these lists.

        They are numbered as in the sketch.
        """
        bounds = np.searchsorted(lists, self.firsts)
        for place in np.flatnonzero(np.diff(bounds)).tolist():
            own = lists[bounds[place] : bounds[place + 1]] - self.firsts[place]
            yield place, self.sketches[place], own

    def each(self) -> Iterator[tuple[int, Integers]]:
        """Yield the number of each segment, and its lists."""
        for number, *bounds in zip(self.numbers, self.firsts[:-1], self.firsts[1:], strict=True):
            yield number, np.arange(*bounds)

    def multiply(self, prepared: Prepared, lists: Integers) -> Float32:
        """Return (n,) float32 the best product of what asks with each row, going by its code.

        That is with all rows of (m,) lists, in order, each given once.
        """
        ends = np.cumsum(self.sizes[lists])
        cuts = np.flatnonzero(np.diff(ends // _rows_at_a_time(prepared))) + 1
        each = [self._multiply_lists(prepared, some) for some in np.split(lists, cuts)]
        return np.concatenate(each)

    def multiply_rows(self, prepared: Prepared, rows: Integers) -> Float32:
        """Return the same of (n,) rows, in order, all of them in lists."""
        step = _rows_at_a_time(prepared)
        blocks = (rows[first : first + step] for first in range(0, len(rows), step))
        each = [self._multiply_some(prepared, some) for some in blocks]
        return np.concatenate([np.empty(0, np.float32), *each])

    def _multiply_lists(self, prepared: Prepared, lists: Integers) -> Float32:
        """Read rows where they are: to copy them would take as long as to multiply them."""
        blocks, sums = [], []
        for _, sketch, own in self.split(lists):
            blocks += sketch.blocks_of(own)
            sums.append(sketch.of_lists(sketch.sums, own))
        near = multiply_bytes(prepared.codes, *blocks)
        if sums:
            near -= np.concatenate(sums) * np.float32(MIDDLE)  # whole numbers below 2^24
        return self._place(near, prepared.sums, 1 / 2, prepared, lists, self.sizes[lists])

    def _multiply_some(self, prepared: Prepared, rows: Integers) -> Float32:
        """Copy the codes of rows, and multiply these."""
        lists, counts = self._lists_of(rows)
        codes, sums = self._take(rows, lists, counts, [one.sums for one in self.sketches])
        near = multiply_bytes(prepared.codes, codes)
        near -= sums * np.float32(MIDDLE)
        return self._place(near, prepared.sums, 1 / 2, prepared, lists, counts)

    def refine(self, prepared: Prepared, rows: Integers) -> Float32:
        """Return the same going by both bytes, of the codes and of what asks."""
        lists, counts = self._lists_of(rows)
        codes, finer = self._take(rows, lists, counts, [one.finer for one in self.sketches])
        given = np.concatenate([prepared.codes, prepared.finer, np.ones_like(prepared.codes[:1])])
        near = multiply_bytes(given, codes)
        near += multiply_bytes(given, finer) / np.float32(FINER)
        coarse, rest = np.split(near[:-1] - MIDDLE * near[-1:], 2)
        coarse += rest / FINER_STEPS
        rest_sums = prepared.finer.sum(1, dtype=np.float32) - MIDDLE * self.basis.width
        sums = prepared.sums + prepared.steps * rest_sums / FINER_STEPS
        return self._place(coarse, sums, 1 / 2 / FINER, prepared, lists, counts)

    def _place(
        self,
        near: Float32,
        sums: Float32,
        middle: float,
        prepared: Prepared,
        lists: Integers,
        counts: Integers,
    ) -> Float32:
        """Return (n,) float32 the best product of what asks with each row.

        Args:
            near: (q, n) products of the bytes of what asks, from -127 to 127, with those of codes.
            sums: (q,) what the components that ask add up to, as these bytes say.
            middle: At which part of a code's step, from its number on, what it stands for is.
            prepared: What asks.
            lists: (m,) lists of the rows, in order.
            counts: (m,) how many of the rows each of them has.
        """
        # A code c stands for (c + middle) 2 h / 255 - h, h being half the width of what they reach.
        half_widths = self._half_widths[lists]
        steps = half_widths * np.float32(2 / MOST)
        near *= np.repeat(prepared.steps[:, None] * steps, counts, axis=1)
        # Summed so that they are the same whatever other lists there are.
        centres = np.einsum("qd,md->qm", prepared.components, self._centres[lists])
        centres += sums[:, None] * (steps * np.float32(middle) - half_widths)
        near += np.repeat(centres, counts, axis=1)
        return near[0] if len(near) == 1 else np.asarray(near.max(0))

    def hold(self, rows: Integers) -> Mask:
        """Return (n,) which of some rows are in one of the lists."""
        place = np.searchsorted(self.starts, rows, side="right") - 1
        return (place >= 0) & (rows < self._stops[place])

    def _lists_of(self, rows: Integers) -> tuple[Integers, Integers]:
        """Return the (m,) lists that hold some rows, in order, and how many of these each holds."""
        if len(rows) > len(self):  # the shorter is looked up in the other
            counts = np.diff(np.searchsorted(rows, self._ends), prepend=0)
            lists = np.flatnonzero(counts)
            return lists, counts[lists]
        of = np.searchsorted(self._ends, rows, side="right")
        is_first = np.append(True, of[1:] != of[:-1])[: len(of)]
        return of[is_first], np.diff(np.flatnonzero(is_first), append=len(of))

    def _take(
        self,
        rows: Integers,
        lists: Integers,
        counts: Integers,
        columns: Sequence[npt.NDArray[Any]],
    ) -> tuple[Bytes, npt.NDArray[Any]]:
        """Return (n, d) codes of rows of some lists, and what a column of each sketch says."""
        codes = np.empty((len(rows), self.basis.width), np.uint8)
        taken = np.empty((len(rows), *columns[0].shape[1:]), columns[0].dtype)
        begins = np.repeat(self._begins[lists], counts)
        bounds = np.searchsorted(rows, self.starts[1:], side="left")
        bounds = np.concatenate([[0], bounds, [len(rows)]])
        for place in np.flatnonzero(np.diff(bounds)).tolist():
            some = slice(bounds[place], bounds[place + 1])
            start = self.starts[place]
            own = rows[some] - start
            codes[some] = self.sketches[place].codes_of(own, begins[some] - start)
            taken[some] = columns[place][own]
        return codes, taken

    def take_each(self, columns: Sequence[npt.NDArray[Any]], rows: Integers) -> npt.NDArray[Any]:
        """Return (n,) what a column of the segment of each sketch says of some rows, in order."""
        bounds = np.searchsorted(rows, self.starts[1:])
        pairs = zip(columns, self.starts, np.split(rows, bounds), strict=True)
        return np.concatenate([column[some - start] for column, start, some in pairs])

    def rows_at(self, lists: Integers, places: Integers) -> Integers:
        """Return (n,) the rows that are at some places, in order, among all of (m,) lists."""
        ends = np.cumsum(self.sizes[lists])
        of = np.searchsorted(ends, places, side="right")
        return np.asarray(places + (self._ends[lists] - ends)[of])


def _rows_at_a_time(prepared: Prepared) -> int:
    return max(1, MOST_PRODUCTS // max(1, len(prepared.codes)))


def take_together(sketches: Sequence[Sketch | None], starts: Integers) -> tuple[Lists, ...]:
    """Return the lists of all sketches of a generation, those of one basis together.

    Args:
        sketches: Of each segment; None of those without.
        starts: The first row of each segment.
    """
    groups: dict[int, dict[int, Sketch]] = {}
    for number, sketch in enumerate(sketches):
        if sketch:
            groups.setdefault(id(sketch.basis), {})[number] = sketch
    return tuple(Lists(group, starts) for group in groups.values())
