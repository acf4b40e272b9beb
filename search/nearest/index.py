"""The vector index: which rows are nearest. It owns the score."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.generation.manifest import Calibration
from search.generation.segments import Generation
from search.nearest.exact import find_near, find_near_each, score_pairs, score_rows
from search.nearest.planner import EXACT, Plan, choose
from search.nearest.scan import Lists

#: Vectors answered at a time by `search_many`.
_BATCH_VECTORS = 1024


class Neighbours(NamedTuple):
    """The nearest rows.

    Attributes:
        scores: (n,) float32 cosine similarities, the highest first.
        rows: (n,) positions in the generation; of equal scores, the lower window id first.
        plan: How they were found, in the end.
        num_allowed: Rows that might have been found.
        scan_ms: Milliseconds until candidates were found.
        rescore_ms: Milliseconds to compute their scores, and sort them.
    """

    scores: Float32
    rows: Integers
    plan: Plan = EXACT
    num_allowed: int = 0
    scan_ms: float = 0.0
    rescore_ms: float = 0.0


class VectorIndex:
    """Searches the segments of a generation: exactly, or by lists where these are quicker.

    Lists only propose rows. One routine scores them again, from the vectors as they are stored.

    Attributes:
        generation: The rows.
        calibration: What the plans cost, and how much they find.
        lists: None if the index is exact.
    """

    def __init__(
        self, generation: Generation, calibration: Calibration, lists: Lists | None = None
    ) -> None:
        self.generation = generation
        self.calibration = calibration
        self.lists = lists

    @property
    def num_lists(self) -> int:
        """How many lists there are; 0 if the index is exact."""
        return self.lists.trained.num_lists if self.lists else 0

    def plan(self, num_allowed: int, k: int, *, exact: bool = False) -> Plan:
        """Return how k of some allowed rows will be found: `choose`, for this index."""
        num_live = self.generation.num_windows
        return choose(self.calibration, num_allowed, num_live, k, exact=exact)

    def search(
        self,
        vectors: Float32,
        k: int,
        allowed: Sequence[Mask] | None = None,
        *,
        exact: bool = False,
    ) -> Neighbours:
        """Return the k rows that are nearest to any of the vectors.

        Args:
            vectors: (q, 768) float32 of length 1; a row's score is its best over them.
            k: How many rows, at least 1.
            allowed: A (num_rows,) mask for each segment; None allows all live rows.
            exact: Whether only an exact answer will do.

        Returns:
            min(k, allowed rows) rows. If the plan is exact, ties at k are decided by window id.
            Damaged rows that are not numbers are never among them.
        """
        masks = self._masks(allowed)
        num_allowed = count_rows(masks)
        plan = self.plan(num_allowed, k, exact=exact)
        return self.run(plan, vectors, k, masks)._replace(num_allowed=num_allowed)

    def run(self, plan: Plan, vectors: Float32, k: int, masks: Sequence[Mask]) -> Neighbours:
        """Search by a plan; lists that hold too few rows which match give way to all rows."""
        began = perf_counter()
        vectors = np.ascontiguousarray(vectors, np.float32)
        rows = None
        if plan.name == "lists":
            assert self.lists is not None  # without lists, no plan says so
            rows, effort = self.lists.propose(plan.reach, vectors, k, masks)
            plan = plan._replace(effort=effort)
        if rows is None:
            rows = find_near(self.generation, vectors, k, masks)
            plan = EXACT._replace(expected_ms=plan.expected_ms)
        scanned = perf_counter()
        scores = self.score(vectors, rows)
        order = np.lexsort((self.generation.window_ids(rows), -scores))[:k]
        order = order[scores[order] > -np.inf]
        scan_ms, rescore_ms = (scanned - began) * 1e3, (perf_counter() - scanned) * 1e3
        return Neighbours(scores[order], rows[order], plan, 0, scan_ms, rescore_ms)

    def search_many(
        self,
        vectors: Float32,
        k: int,
        allowed: Sequence[Mask] | None = None,
        *,
        exact: bool = False,
    ) -> tuple[Float32, Integers]:
        """Return the k rows that are nearest to each of many vectors.

        Args:
            vectors: (n, 768) float32 of length 1.
            k: How many rows for each, at least 1.
            allowed: A (num_rows,) mask for each segment; None allows all live rows.
            exact: Whether only exact answers will do.

        Returns:
            (n, k) float32 scores, the highest first, and (n, k) rows; -inf and -1 where there are
            fewer than k.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        masks = self._masks(allowed)
        num_allowed = count_rows(masks)
        width = min(k, num_allowed)  # that many are found, of each
        plan = self.plan(num_allowed, k, exact=exact)
        for first in range(0, len(vectors) if width else 0, _BATCH_VECTORS):
            block = slice(first, first + _BATCH_VECTORS)
            scores[block, :width], rows[block, :width] = self._search_block(
                plan, vectors[block], width, masks
            )
        return scores, rows

    def _search_block(
        self, plan: Plan, vectors: Float32, k: int, masks: Sequence[Mask]
    ) -> tuple[Float32, Integers]:
        if plan.name == "lists":
            assert self.lists is not None
            _, found, _ = self.lists.visit(plan.reach, vectors, k, masks)
        else:
            found, is_open = find_near_each(self.generation, vectors, k, masks)
        found = np.pad(found, ((0, 0), (0, max(0, k - found.shape[1]))), constant_values=-1)
        scores = score_pairs(self.generation, vectors, found)
        order = np.lexsort((self._ids_of(found), -scores))[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        rows[np.isneginf(scores)] = -1
        if plan.name == "lists":
            is_open = np.asarray((rows < 0).any(1))  # too few in those lists
        for at in np.flatnonzero(is_open):
            one = self.search(vectors[at : at + 1], k, masks, exact=True)
            scores[at, : len(one.rows)], rows[at, : len(one.rows)] = one[:2]
        return scores, rows

    def score(self, vectors: Float32, rows: Integers) -> Float32:
        """Return the score of some rows: `score_rows`, which makes every score that is shown."""
        return score_rows(self.generation, vectors, rows)

    def _masks(self, allowed: Sequence[Mask] | None) -> list[Mask]:
        alive = [segment.alive for segment in self.generation.segments]
        return alive if allowed is None else list(allowed)

    def _ids_of(self, rows: Integers) -> Integers:
        return self.generation.window_ids(np.maximum(rows, 0).ravel()).reshape(rows.shape)


def count_rows(masks: Sequence[Mask]) -> int:
    """Return how many rows some masks hold."""
    return sum(int(np.count_nonzero(mask)) for mask in masks)
