"""Visiting lists: the nearest first, until no further one can be expected to hold a hit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.nearest.exact import keep_best
from search.nearest.lists import Bits, Probes, SegmentLists, Trained, pack

#: Rows fetched beyond k, so that the boundary can be seen.
_SPARE = 4
#: Lists that are visited first, and how their number grows while they hold too few matching rows.
_FIRST_LISTS, _GROWTH = 10, 4
#: Lists whose centres are put in order at first: FAISS does so as it computes them. More are wanted
#: by narrow filters, and of these the rest is sorted too.
_FIRST_RANKED = 64


class Lists(NamedTuple):
    """The approximate half of an index.

    Attributes:
        trained: Centres and quantiser.
        segments: The lists of each segment, in order.
        fetch: Candidates that are scored again, as a multiple of k.
    """

    trained: Trained
    segments: Sequence[SegmentLists]
    fetch: float

    def propose(
        self, reach: float, vectors: Float32, k: int, masks: Sequence[Mask], num_fetched: int = 0
    ) -> tuple[Integers | None, int]:
        """Propose rows from the lists near the vectors.

        Args:
            reach: See `visit`.
            vectors: (q, 768) float32 of length 1.
            k: How many rows are wanted.
            masks: A (num_rows,) mask for each segment: which rows may be found.
            num_fetched: How many rows to propose, at least, as far as these lists hold them.

        Returns:
            (n,) rows of the generation, None if these lists hold too few that match; and how many
            lists were visited for the vector that took most.
        """
        near, rows, num_visited = self.visit(reach, vectors, k, masks, num_fetched)
        distinct, best = _best_of_each(rows, near)
        if len(distinct) < k:
            return None, num_visited
        num_fetched = max(num_fetched, self._num_fetched(k))
        return distinct[np.argsort(-best, kind="stable")[:num_fetched]], num_visited

    def visit(
        self, reach: float, vectors: Float32, k: int, masks: Sequence[Mask], num_fetched: int = 0
    ) -> tuple[Float32, Integers, int]:
        """Scan lists, the nearest first, until no further one can be expected to hold a hit.

        That is when its centre scores less than the k-th best row so far, by `reach` or more. As
        long as there are no k rows, four times as many lists are visited.

        Returns:
            (q, m) approximate scores and rows, -1 where there is none; and the most lists visited.
        """
        trained, num_lists = self.trained, self.trained.num_lists
        allowed = [pack(mask) for mask in masks]
        num_fetched = max(num_fetched, self._num_fetched(k))
        probes = trained.nearest(vectors, _FIRST_RANKED)
        visited, last = 0, min(_FIRST_LISTS, num_lists)
        near, rows = self._scan(probes.between(0, last), vectors, num_fetched, allowed)
        while True:
            bound = _kth_best(near, k) - reach
            if (probes.scores[:, -1:] > bound).any() and probes.lists.shape[1] < num_lists:
                probes = trained.all_after(vectors, probes)
            wanted = (probes.scores > bound).sum(1)
            # What a neighbour goes on to is not skipped, so that "visited" is true of all vectors.
            more = max(_GROWTH * last, int(wanted.max()))
            wanted = np.where(bound[:, 0] > -np.inf, wanted, more)
            wanted = np.minimum(wanted, num_lists // 2)
            visited, last = last, int(wanted.max())
            if last <= visited:
                return near, rows, visited
            some = probes.between(visited, last)
            some.lists[np.arange(visited, last) >= wanted[:, None]] = -1
            scores, found = self._scan(some, vectors, num_fetched, allowed)
            both = np.concatenate([near, scores], 1), np.concatenate([rows, found], 1)
            near, rows = keep_best(*both, num_fetched)

    def _scan(
        self, probes: Probes, vectors: Float32, k: int, allowed: Sequence[Bits | None]
    ) -> tuple[Float32, Integers]:
        """Return (q, m) approximate scores and rows of the generation; -inf and -1 for none."""
        start, nears, founds = 0, [], []
        for lists, bits in zip(self.segments, allowed, strict=True):
            near, rows = lists.search(vectors, probes, k, bits)
            is_none = rows < 0
            rows += start
            near[is_none], rows[is_none] = -np.inf, -1
            nears.append(near)
            founds.append(rows)
            start += lists.num_rows
        if len(nears) == 1:
            return near, rows
        return keep_best(np.concatenate(nears, 1), np.concatenate(founds, 1), k)

    def _num_fetched(self, k: int) -> int:
        """Return how many candidates to score again for k hits: codes are not quite the vectors."""
        return math.ceil(self.fetch * k) + _SPARE


def _kth_best(scores: Float32, k: int) -> Float32:
    """Return the (q, 1) k-th best score of each row; -inf if it has fewer."""
    if scores.shape[1] < k:
        return np.full((len(scores), 1), -np.inf, np.float32)
    return np.partition(scores, -k, axis=1)[:, -k, None]


def _best_of_each(rows: Integers, scores: Float32) -> tuple[Integers, Float32]:
    """Return the distinct rows of what was found for some vectors, and the best score of each."""
    is_row = rows >= 0
    found, near = rows[is_row], scores[is_row]
    if len(rows) == 1:  # one vector finds no row twice
        return found, near
    order = np.argsort(found, kind="stable")
    distinct, first = np.unique(found[order], return_index=True)
    return distinct, np.maximum.reduceat(near[order], first) if len(first) else near
