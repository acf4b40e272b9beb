"""The lists of all sketches of a generation that have a basis in common, one after the other.

What is done once for a question, and not once for each segment, is done here: a generation has
twenty segments for ten million rows, and to call NumPy a dozen times for each took longer than all
the rest. A row is one of the generation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Float64, Integers, Mask
from search.generation.allowed import Allowed
from search.nearest.basis import FINER_STEPS, MOST_PRODUCTS, Asked, Basis, Prepared
from search.nearest.bytes import Bytes, multiply_bytes
from search.nearest.clumps import CLUMP_ROWS, count_clumps, follow, place_clumps
from search.nearest.ranking import Around, Ranking, bound_products
from search.nearest.sketch import FINER, Sketch

#: Codes that are copied, and then multiplied while they are in the cache.
_BLOCK_ROWS = 8192


class Counted(NamedTuple):
    """How many rows of lists may be found.

    Attributes:
        rows: (num_lists,) how many of each.
        are_known: (num_lists,) whether it is known which rows they are, as they are few in its
            segment.
    """

    rows: Integers
    are_known: Mask


class Visited(NamedTuple):
    """Some lists, and what asks.

    Attributes:
        lists: (m,) which, in order.
        prepared: What asks.
        products: Of each part that is asked by, (q, m) float32 products with their centres.
    """

    lists: Integers
    prepared: Prepared
    products: Sequence[Float32]


class Clumps(NamedTuple):
    """Some clumps of lists that are visited.

    Attributes:
        numbers: (n,) which, among all, in order.
        of: (n,) of which of the lists each is.
        ends: (n,) the row behind its last.
        held: (n,) float64 how many of its rows may be found; about, where they are many in its
            segment: if they are as frequent in all clumps of a list.
    """

    numbers: Integers
    of: Integers
    ends: Integers
    held: Float64

    def take(self, some: Integers | slice) -> Clumps:
        """Return some of them."""
        return Clumps(self.numbers[some], self.of[some], self.ends[some], self.held[some])


class Lists:
    """Lists of some sketches; threads may share it.

    Attributes:
        basis: Of all of them.
        numbers: Of each sketch, which segment of the generation it is of.
        sketches: In order.
        starts: (num_sketches,) the first row of the segment of each.
        sizes: (num_lists,) rows of each list.
        num_clumps: (num_lists,) clumps of each.
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
        self.num_clumps = count_clumps(self.sizes)
        self._clump_ends = np.cumsum(self.num_clumps)
        self.firsts = np.cumsum([0, *(one.num_lists for one in self.sketches)])
        self._clump_firsts = np.append(0, self._clump_ends)[self.firsts]
        pairs = list(zip(self.starts.tolist(), self.sketches, strict=True))
        self._ends = np.concatenate([start + one.ends for start, one in pairs])
        self._begins = self._ends - self.sizes
        self._centres = np.concatenate([one.centres for one in self.sketches])
        self._steps = np.concatenate([np.full(one.num_lists, one.step) for one in self.sketches])
        spreads = np.concatenate([one.spreads for one in self.sketches], axis=1)
        self._ranking = Ranking.of(self._centres, spreads, self.basis.parts)

    def __len__(self) -> int:
        return len(self.sizes)

    def count(self, allowed: Allowed) -> Counted:
        """Return how many rows of each list may be found, with those left out for one question.

        They are counted once for a filter, and the next question leaves out others.
        """
        allowed = allowed.whole or allowed
        if self not in allowed.counted:
            each = []
            for number, sketch in zip(self.numbers, self.sketches, strict=True):
                rows = allowed.rows[number]
                if allowed.counts[number] == len(allowed.masks[number]):
                    each.append(sketch.sizes)
                else:
                    every = allowed.rows_of(number) if rows is None else rows
                    each.append(sketch.count_rows(every))
            is_known = [allowed.rows[number] is not None for number in self.numbers]
            are_known = np.repeat(is_known, np.diff(self.firsts))
            allowed.counted[self] = Counted(np.concatenate(each), are_known)
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

    def each(self, size: int) -> Iterator[tuple[int, Integers]]:
        """Yield the number of each segment, and its rows in lists, so many at a time."""
        stops = self._stops.tolist()
        for number, start, stop in zip(self.numbers, self.starts.tolist(), stops, strict=True):
            for first in range(start, stop, size):
                yield number, np.arange(first, min(first + size, stop))

    def visit(self, prepared: Prepared, lists: Integers) -> Visited:
        """Multiply what asks with the centres of (m,) lists, in order, each given once."""
        centres, components = self._centres[lists], prepared.components
        # Summed so that they are the same whatever other lists there are.
        products = [
            np.einsum("qd,md->qm", components[:, one.part], centres[:, one.part])
            for one in prepared.asked
        ]
        return Visited(lists, prepared, products)

    def clumps_of(self, lists: Integers, allowed: Allowed) -> Clumps:
        """Return the clumps of (m,) lists, in order, each once, that may hold what may be found.

        What has a tag lies together: where a tenth have it and not another, two of three clumps
        that were near enough held none of them.
        """
        counts = self.num_clumps[lists]
        numbers = follow(self._clump_ends[lists] - counts, counts)
        of, ends = place_clumps(self._ends[lists], counts)
        begins = np.maximum(ends - CLUMP_ROWS, self._begins[lists][of])
        share = self.count(allowed).rows[lists] / np.maximum(self.sizes[lists], 1)
        held = (ends - begins) * share[of]
        for place, some in self._blocks(begins, self.starts, max(1, len(ends))):
            rows, start = allowed.rows[self.numbers[place]], self.starts[place]
            if rows is not None:  # of another type, all rows would be copied
                both = np.stack([begins[some] - start, ends[some] - start]).astype(rows.dtype)
                held[some] = np.diff(np.searchsorted(rows, both), axis=0)[0]
        return Clumps(numbers, of, ends, held).take(np.flatnonzero(held))

    def bound_clumps(self, visited: Visited, clumps: Clumps, reach: float) -> Float32:
        """Return (n,) float32 how near the nearest rows of some clumps may be.

        As with lists, see `Ranking.rank`; that what asks is as far from their middles as from the
        centres of their lists is near enough.
        """
        lists, prepared, _ = visited
        near = np.zeros((len(prepared.steps), len(clumps.of)), np.float32)
        spreads = np.empty((len(prepared.asked), len(clumps.of)), np.float32)
        for place, some in self._blocks(clumps.numbers, self._clump_firsts[:-1]):
            sketch, own = self.sketches[place], clumps.numbers[some] - self._clump_firsts[place]
            for each, asked in zip(spreads, prepared.asked, strict=True):
                middles = sketch.parts[asked.number].middles.take(own, axis=0)
                near[:, some] += multiply_bytes(asked.codes, middles)
                each[some] = sketch.clump_spreads[asked.number][own]
        near = self._place(near[..., None], visited, clumps.of)[..., 0]
        around = []
        for asked, products, each in zip(
            prepared.asked, visited.products, np.square(spreads), strict=True
        ):
            away = asked.away(products, self._ranking[asked.number].squares[lists])
            around.append(Around(asked.weights, away[:, clumps.of], each))
        return bound_products(near, around, np.float32(reach))

    def multiply_clumps(self, visited: Visited, clumps: Clumps) -> Float32:
        """Return (n, 16) float32 the best product of what asks with each row that ends clumps.

        Going by its code. If a clump has fewer rows, those before are of others, and what is said
        of them is anything.
        """
        asked = visited.prepared.asked
        near = np.zeros((len(visited.prepared.steps), len(clumps.of), CLUMP_ROWS), np.float32)
        for place, some in self._blocks(clumps.ends - 1, self.starts, _BLOCK_ROWS // CLUMP_ROWS):
            ends = clumps.ends[some] - self.starts[place]
            for one in asked:
                codes = self.sketches[place].parts[one.number].codes_before(ends)
                products = multiply_bytes(one.codes, codes)
                near[:, some] += products.reshape(len(products), -1, CLUMP_ROWS)
        return _best(self._place(near, visited, clumps.of))

    def rows_in(self, visited: Visited, clumps: Clumps, at: Integers) -> tuple[Integers, Mask]:
        """Return (n,) the rows at some places among the sixteen of each clump, one after the other.

        And which of these are in it.
        """
        clump, place = np.divmod(at, CLUMP_ROWS)
        rows = clumps.ends[clump] - CLUMP_ROWS + place
        return rows, rows >= self._begins[visited.lists[clumps.of[clump]]]

    def multiply_rows(self, prepared: Prepared, rows: Integers) -> Float32:
        """Return (n,) float32 the same of some rows, in order, all of them in lists."""
        return self._best_of(self.multiply_each, prepared, rows)

    def refine(self, prepared: Prepared, rows: Integers) -> Float32:
        """Return (n,) the best of them, going by both bytes, of the codes and of what asks."""
        return self._best_of(self._refine_each, prepared, rows)

    def _best_of(
        self,
        multiply: Callable[[Prepared, Integers], Float32],
        prepared: Prepared,
        rows: Integers,
    ) -> Float32:
        """Multiply so many rows at a time that not too much is held, whatever number asks."""
        step = max(1, MOST_PRODUCTS // max(1, len(prepared.steps)))
        blocks = (rows[first : first + step] for first in range(0, len(rows), step))
        each = [_best(multiply(prepared, some)) for some in blocks]
        return np.concatenate([np.empty(0, np.float32), *each])

    def multiply_each(self, prepared: Prepared, rows: Integers) -> Float32:
        """Return (q, n) float32 products of all that asks with some rows, likewise."""
        near = np.zeros((len(prepared.steps), len(rows)), np.float32)
        for asked in prepared.asked:
            codes_of_each = [one.parts[asked.number].codes for one in self.sketches]
            for first in range(0, len(rows), _BLOCK_ROWS):
                some = slice(first, first + _BLOCK_ROWS)
                near[:, some] += multiply_bytes(
                    asked.codes, self.take_each(codes_of_each, rows[some])
                )
        return self._place(near[..., None], *self._visit_rows(prepared, rows))[..., 0]

    def _refine_each(self, prepared: Prepared, rows: Integers) -> Float32:
        """Return (q, n) the same by both bytes."""
        near = np.zeros((len(prepared.steps), len(rows)), np.float32)
        for asked in prepared.asked:
            parts = [one.parts[asked.number] for one in self.sketches]
            codes = self.take_each([one.codes for one in parts], rows)
            finer = self.take_each([one.finer for one in parts], rows)
            near += _multiply_both(asked, codes, finer)
        visited, of = self._visit_rows(prepared, rows)
        return self._place(near[..., None], visited, of, is_finer=True)[..., 0]

    def _place(
        self, near: Float32, visited: Visited, of: Integers, *, is_finer: bool = False
    ) -> Float32:
        """Return (q, n, s) float32 products of what asks with so many rows of each of n lists.

        Args:
            near: (q, n, s) products of the codes of what asks with those of the rows; changed.
            visited: Lists that the rows are in.
            of: (n,) which of these.
            is_finer: Whether products of finer codes are added to these.
        """
        # A code c stands for (c + 128 + 1/2) s - 255 s / 2, s being its step; with a finer one f it
        # is (c + f / 256 + 128 + 128.5 / 256) s - 255 s / 2.
        prepared, steps = visited.prepared, self._steps[visited.lists]
        near *= (prepared.steps[:, None] * steps)[:, of, None]
        sums = prepared.finer_sums if is_finer else prepared.sums
        begin = np.float32(1 + (1 / 2 / FINER if is_finer else 0)) * steps
        near += (sum(visited.products) + sums[:, None] * begin)[:, of, None]
        return near

    def hold(self, rows: Integers) -> Mask:
        """Return (n,) which of some rows are in one of the lists."""
        place = np.searchsorted(self.starts, rows, side="right") - 1
        return (place >= 0) & (rows < self._stops[place])

    def _visit_rows(self, prepared: Prepared, rows: Integers) -> tuple[Visited, Integers]:
        """Visit the lists that hold some rows, in order; and say which of these each is in."""
        if len(rows) > len(self):  # the shorter is looked up in the other
            counts = np.diff(np.searchsorted(rows, self._ends), prepend=0)
            lists = np.flatnonzero(counts)
            of = np.repeat(np.arange(len(lists)), counts[lists])
        else:
            of_each = np.searchsorted(self._ends, rows, side="right")
            is_first = np.append(True, of_each[1:] != of_each[:-1])[: len(rows)]
            lists, of = of_each[is_first], np.cumsum(is_first) - 1
        return self.visit(prepared, lists), of

    def _blocks(
        self, numbers: Integers, firsts: Integers, size: int = _BLOCK_ROWS
    ) -> Iterator[tuple[int, slice]]:
        """Yield places of sketches, and some of the numbers that begin with the first of each.

        Args:
            numbers: (n,) in order.
            firsts: (num_sketches,) the first of each sketch.
            size: So many at a time, at most.
        """
        bounds = np.append(np.searchsorted(numbers, firsts), len(numbers)).tolist()
        for place, (first, last) in enumerate(itertools.pairwise(bounds)):
            for begin in range(first, last, size):
                yield place, slice(begin, min(begin + size, last))

    def take_each(self, columns: Sequence[npt.NDArray[Any]], rows: Integers) -> npt.NDArray[Any]:
        """Return (n, …) what a column of the segment of each sketch says of some rows, in order."""
        taken = np.empty((len(rows), *columns[0].shape[1:]), columns[0].dtype)
        for place, some in self._blocks(rows, self.starts, max(1, len(rows))):
            taken[some] = columns[place].take(rows[some] - self.starts[place], axis=0)
        return taken


def _multiply_both(asked: Asked, codes: Bytes, finer: Bytes) -> Float32:
    """Return (q, n) float32 products of both bytes of what asks with both of (n, c) rows."""
    given = np.concatenate([asked.codes, asked.finer])
    both = multiply_bytes(given, finer)
    both /= FINER  # in place: of many vectors, each copy is 8 MB
    both += multiply_bytes(given, codes)
    near, rest = np.split(both, 2)
    rest /= FINER_STEPS
    near += rest
    return near


def _best(near: Float32) -> Float32:
    """Return the best of all that asks."""
    return near[0] if len(near) == 1 else np.asarray(near.max(0))


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
