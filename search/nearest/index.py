"""The vector index: which rows are nearest. It owns the score."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.generation.manifest import Calibration
from search.generation.segments import Generation
from search.nearest.blend import columns_of, is_blend, scenes_of
from search.nearest.exact import find_near, find_near_each, narrow, score_pairs, score_rows
from search.nearest.planner import EXACT, Plan, choose
from search.nearest.scan import Lists

#: Of what lists propose by scene, so many are scored by the blend. Of 10^5 windows that were made
#: of 870 real ones, the 200 nearest by scene held all of the best ten of 500 questions.
NUM_BLENDED = 400
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
        least: float | None = None,
    ) -> Neighbours:
        """Return the k rows that are nearest to any of the vectors.

        Args:
            vectors: (q, 768) float32 of length 1, or (q, 1295) of `blended`; a row's score is its
                best over them.
            k: How many rows, at least 1.
            allowed: A (num_rows,) mask for each segment; None allows all live rows.
            exact: Whether only an exact answer will do.
            least: Of a blend, the least cosine of scenes; None for any.

        Returns:
            min(k, allowed rows) rows, of those that reach the least cosine. If the plan is exact,
            ties at k are decided by window id. Damaged rows that are not numbers are never among
            them.
        """
        masks = self._masks(allowed)
        num_allowed = count_rows(masks)
        plan = self.plan(num_allowed, k, exact=exact)
        return self.run(plan, vectors, k, masks, least)._replace(num_allowed=num_allowed)

    def run(
        self,
        plan: Plan,
        vectors: Float32,
        k: int,
        masks: Sequence[Mask],
        least: float | None = None,
    ) -> Neighbours:
        """Search by a plan; lists that hold too few rows which match give way to all rows."""
        began = perf_counter()
        vectors = np.ascontiguousarray(vectors, np.float32)
        rows = None
        if plan.name == "lists":
            assert self.lists is not None  # without lists, no plan says so
            asked, num_fetched = self._for_lists(vectors)
            rows, effort = self.lists.propose(plan.reach, asked, k, masks, num_fetched)
            plan = plan._replace(effort=effort)
            if rows is not None and least is None:
                rows = narrow(self.generation, vectors, k, rows)
        if rows is None:
            rows = find_near(self.generation, vectors, k, masks, least)
            plan = EXACT._replace(expected_ms=plan.expected_ms)
        scanned = perf_counter()
        scores = self.score(vectors, rows)
        if least is not None:
            scores[self._scene_scores(vectors, rows) < least] = -np.inf
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
        least: float | None = None,
    ) -> tuple[Float32, Integers]:
        """Return the k rows that are nearest to each of many vectors.

        Args:
            vectors: (n, 768) float32 of length 1, or (n, 1295) of `blended`.
            k: How many rows for each, at least 1.
            allowed: A (num_rows,) mask for each segment; None allows all live rows.
            exact: Whether only exact answers will do.
            least: As of `search`.

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
                plan, vectors[block], width, masks, least
            )
        return scores, rows

    def _search_block(
        self, plan: Plan, vectors: Float32, k: int, masks: Sequence[Mask], least: float | None
    ) -> tuple[Float32, Integers]:
        if plan.name == "lists":
            assert self.lists is not None
            asked, num_fetched = self._for_lists(vectors)
            _, found, _ = self.lists.visit(plan.reach, asked, k, masks, num_fetched)
        else:
            found, is_open = find_near_each(self.generation, vectors, k, masks)
        found = np.pad(found, ((0, 0), (0, max(0, k - found.shape[1]))), constant_values=-1)
        scores = score_pairs(self.generation, vectors, found)
        if plan.name == "lists":
            is_open = np.asarray((scores > -np.inf).sum(1) < k)  # too few in those lists
        if least is not None:
            scenes = scenes_of(vectors, self._num_columns)
            scores[score_pairs(self.generation, scenes, found) < least] = -np.inf
            if plan.is_exact:  # what is less like it may have a scene that is more so
                is_open |= (scores > -np.inf).sum(1) < k
        order = np.lexsort((self._ids_of(found), -scores))[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        rows[np.isneginf(scores)] = -1
        for at in np.flatnonzero(is_open):
            one = self.search(vectors[at : at + 1], k, masks, exact=True, least=least)
            scores[at], rows[at] = -np.inf, -1
            scores[at, : len(one.rows)], rows[at, : len(one.rows)] = one[:2]
        return scores, rows

    @property
    def _num_columns(self) -> int:
        """See `columns_of`."""
        return columns_of(self.generation)

    def _for_lists(self, vectors: Float32) -> tuple[Float32, int]:
        """Return what lists are asked with, and how many rows they are to propose, at least."""
        num_blended = NUM_BLENDED if is_blend(vectors, self._num_columns) else 0
        return scenes_of(vectors, self._num_columns), num_blended

    def _scene_scores(self, vectors: Float32, rows: Integers) -> Float32:
        return self.score(scenes_of(vectors, self._num_columns), rows)

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
