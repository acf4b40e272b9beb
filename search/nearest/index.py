"""The vector index: which rows are nearest. It owns the score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import faiss
import numpy as np

from indexer.arrays import Float32, Integers, Mask
from indexer.store.schema import EMBEDDING_DIM
from search.generation.segments import Generation, Segment
from search.nearest.lists import Bits, Probes, SegmentLists, Trained, packed
from search.nearest.planner import EXACT, Calibration, Plan, choose

#: How far the float32 product of two vectors of length 1 may be from the true one, in whatever
#: order it is summed: 768 roundings of 2^-24.
_ROUNDING = EMBEDDING_DIM * 2.0**-24
#: Rows fetched beyond k, so that the boundary can be seen: by exact products, and by codes.
_MARGIN, _SPARE = 16, 4
#: Rows whose products are held at a time: 25 MB in float64.
_BLOCK_ROWS = 4096
#: Vectors up to this number are multiplied row by row where the rows lie; more are worth a copy.
_FEW_VECTORS = 4
#: Where so many rows of a segment are allowed, reading all of them in order is quicker: one core
#: read 100,000 of 200,000 picked rows in the time in which it read all 200,000.
_MOST = 0.6
#: Rows whose products one core computes in some 10 ms; see the same in `lists`.
_ROWS_WORTH_SHARING = 1 << 16
#: Lists that are visited first, and how their number grows while they hold too few matching rows.
_FIRST_LISTS, _GROWTH = 10, 4
#: Lists whose centres are put in order at first: FAISS does so as it computes them. More are wanted
#: by narrow filters, and of these the rest is sorted too.
_FIRST_RANKED = 64
#: Vectors answered at a time by `search_many`, and rows that they are multiplied with: 0.2 GB.
_BATCH_VECTORS = 1024
_KNN_ROWS = 1 << 16


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
        self._starts: list[int] = generation.starts[:-1].tolist()

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
        num_allowed, num_live = _count(masks), self.generation.num_windows
        plan = choose(self.calibration, num_allowed, num_live, k, exact=exact)
        return self.run(plan, vectors, k, masks)._replace(num_allowed=num_allowed)

    def run(self, plan: Plan, vectors: Float32, k: int, masks: Sequence[Mask]) -> Neighbours:
        """Search by a plan; lists that hold too few rows which match give way to all rows."""
        began = perf_counter()
        vectors = np.ascontiguousarray(vectors, np.float32)
        rows = None
        if plan.name == "lists":
            rows, effort = self._candidates(plan.reach, vectors, k, masks)
            plan = plan._replace(effort=effort)
        if rows is None:
            rows = self._all_near(vectors, k, masks)
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
        num_allowed = _count(masks)
        width = min(k, num_allowed)  # that many are found, of each
        plan = choose(self.calibration, num_allowed, self.generation.num_windows, k, exact=exact)
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
            _, found, _ = self._visit(plan.reach, vectors, k, masks)
        else:
            near, found = self._products_of_all(vectors, k + _MARGIN, masks)
            bound = np.partition(near, -k, axis=1)[:, -k] - 2 * _ROUNDING
            is_open = (near.min(1) >= bound) & (near.min(1) > -np.inf)  # more may be as near
        found = np.pad(found, ((0, 0), (0, max(0, k - found.shape[1]))), constant_values=-1)
        scores = self._score_pairs(vectors, found)
        order = np.lexsort((self._ids_of(found), -scores))[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        rows[np.isneginf(scores)] = -1
        if plan.name == "lists":
            is_open = (rows < 0).any(1)  # too few in those lists
        for at in np.flatnonzero(is_open):
            one = self.search(vectors[at : at + 1], k, masks, exact=True)
            scores[at, : len(one.rows)], rows[at, : len(one.rows)] = one[:2]
        return scores, rows

    def _masks(self, allowed: Sequence[Mask] | None) -> list[Mask]:
        alive = [segment.alive for segment in self.generation.segments]
        return alive if allowed is None else list(allowed)

    def score(self, vectors: Float32, rows: Integers) -> Float32:
        """Return the score of some rows: the highest cosine similarity to any of the vectors.

        This one routine makes every score that is shown. It sums row by row in float64, so that a
        row's score does not depend on how it was found or on which rows it was computed with.

        Args:
            vectors: (q, 768) float32 of length 1.
            rows: (n,) positions in the generation.

        Returns:
            (n,) float32 from -1 to 1; -inf for rows that are not numbers.
        """
        best = np.full(len(rows), -np.inf)
        for first in range(0, len(rows), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            stored = self.generation.vectors(rows[block]).astype(np.float64)
            for vector in vectors:
                np.fmax(best[block], _products(stored, vector), out=best[block])
        return np.asarray(np.where(np.isneginf(best), best, np.clip(best, -1, 1)), np.float32)

    def _score_pairs(self, vectors: Float32, rows: Integers) -> Float32:
        """Return (n, m) scores as `score` gives them, of m rows for each vector; -inf for -1."""
        scores = np.empty(rows.shape, np.float32)
        step = max(1, _BLOCK_ROWS // rows.shape[1])
        for first in range(0, len(rows), step):
            block = rows[first : first + step]
            stored = self.generation.vectors(np.maximum(block, 0).ravel()).astype(np.float64)
            shaped = stored.reshape(*block.shape, EMBEDDING_DIM)
            products = _products(shaped, vectors[first : first + step, None])
            scores[first : first + step] = np.where(block < 0, -np.inf, np.minimum(products, 1))
        return np.where(np.isnan(scores), -np.inf, scores)

    def _ids_of(self, rows: Integers) -> Integers:
        return self.generation.window_ids(np.maximum(rows, 0).ravel()).reshape(rows.shape)

    def _num_fetched(self, k: int) -> int:
        """Candidates to score again for k hits: codes are not quite the vectors."""
        assert self.lists is not None
        return math.ceil(self.lists.fetch * k) + _SPARE

    def _candidates(
        self, reach: float, vectors: Float32, k: int, masks: Sequence[Mask]
    ) -> tuple[Integers | None, int]:
        """Propose rows from the lists near the vectors; None if these hold too few that match.

        Returns:
            Rows, and how many lists were visited for the vector that took most.
        """
        near, rows, num_visited = self._visit(reach, vectors, k, masks)
        distinct, best = _best_of_each(rows, near)
        if len(distinct) < k:
            return None, num_visited
        return distinct[np.argsort(-best, kind="stable")[: self._num_fetched(k)]], num_visited

    def _visit(
        self, reach: float, vectors: Float32, k: int, masks: Sequence[Mask]
    ) -> tuple[Float32, Integers, int]:
        """Scan lists, the nearest first, until no further one can be expected to hold a hit.

        That is when its centre scores less than the k-th best row so far, by `reach` or more. As
        long as there are no k rows, four times as many lists are visited.

        Returns:
            (q, m) approximate scores and rows, -1 where there is none; and the most lists visited.
        """
        assert self.lists is not None  # without lists, no plan says so
        trained, num_lists = self.lists.trained, self.lists.trained.num_lists
        allowed, num_fetched = [packed(mask) for mask in masks], self._num_fetched(k)
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
            near, rows = _best(*both, num_fetched)

    def _scan(
        self, probes: Probes, vectors: Float32, k: int, allowed: Sequence[Bits | None]
    ) -> tuple[Float32, Integers]:
        """Return (q, m) approximate scores and rows of the generation; -inf and -1 for none."""
        assert self.lists is not None
        nears, founds = [], []
        for start, lists, bits in zip(self._starts, self.lists.segments, allowed, strict=True):
            near, rows = lists.search(vectors, probes, k, bits)
            is_none = rows < 0
            rows += start
            near[is_none], rows[is_none] = -np.inf, -1
            nears.append(near)
            founds.append(rows)
        if len(nears) == 1:
            return near, rows
        return _best(np.concatenate(nears, 1), np.concatenate(founds, 1), k)

    def _all_near(self, vectors: Float32, k: int, masks: Sequence[Mask]) -> Integers:
        """Return all rows that may be among the k best, by the float32 products of all of them."""
        rows, near = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for start, segment, mask in self._segments(masks):
            at = np.flatnonzero(mask)
            rows.append(start + at)
            near.append(_nearness(vectors, segment.vectors, at))
        all_rows, all_near = np.concatenate(rows), np.concatenate(near)
        all_near[np.isnan(all_near)] = -np.inf
        # The k-th score may be one rounding below the k-th of these, and so may each that beats it.
        bound = np.partition(all_near, -k)[-k] - 2 * _ROUNDING if len(all_near) > k else -np.inf
        return all_rows[(all_near >= bound) & (all_near > -np.inf)]

    def _products_of_all(
        self, vectors: Float32, k: int, masks: Sequence[Mask]
    ) -> tuple[Float32, Integers]:
        """Return the (n, k) best float32 products, and their rows, -1 where there are fewer."""
        best = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        for start, segment, mask in self._segments(masks):
            at = np.flatnonzero(mask)
            for first in range(0, len(at), _KNN_ROWS):
                block = at[first : first + _KNN_ROWS]
                is_run = block[-1] - block[0] == len(block) - 1
                stored = segment.vectors[block[0] : block[-1] + 1] if is_run else None
                stored = segment.vectors[block] if stored is None else stored
                near, found = faiss.knn(
                    vectors, stored, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
                )
                found = np.where(found < 0, -1, start + block[found])
                both = np.concatenate([best, near], 1), np.concatenate([rows, found], 1)
                best, rows = _best(*both, k)
        return best, rows

    def _segments(self, masks: Sequence[Mask]) -> Iterator[tuple[int, Segment, Mask]]:
        """Yield (first row, segment, mask) of the segments that have allowed rows."""
        generation = self.generation
        for start, segment, mask in zip(
            generation.starts.tolist(), generation.segments, masks, strict=False
        ):
            if mask.any():
                yield start, segment, mask


def _count(masks: Sequence[Mask]) -> int:
    return sum(int(np.count_nonzero(mask)) for mask in masks)


def _products(stored: Any, vectors: Any) -> Any:
    """Return products in float64, each summed by itself: `@` would sum as the shape suits it."""
    with np.errstate(invalid="ignore"):
        return (stored * vectors).sum(-1)


def _nearness(vectors: Float32, stored: Float32, rows: Integers) -> Float32:
    """Return (n,) the best float32 product of some stored rows with any of the vectors."""
    if len(rows) > _MOST * len(stored):
        return _nearness_of_blocks(vectors, stored, slice(None), len(stored))[rows]
    if len(vectors) > _FEW_VECTORS:
        return _nearness_of_blocks(vectors, stored, rows, len(rows))
    near = _nearness_in_place(vectors[0], stored, rows)
    for vector in vectors[1:]:
        np.fmax(near, _nearness_in_place(vector, stored, rows), out=near)
    return near


def _nearness_of_blocks(
    vectors: Float32, stored: Float32, rows: Integers | slice, num_rows: int
) -> Float32:
    """The same by matrix products."""
    near = np.empty(num_rows, np.float32)
    for first in range(0, num_rows, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        picked = stored[block] if isinstance(rows, slice) else stored[rows[block]]
        with np.errstate(invalid="ignore", over="ignore"):
            near[block] = (picked @ vectors.T).max(1)
    return near


def _nearness_in_place(vector: Float32, stored: Float32, rows: Integers) -> Float32:
    """Return (n,) products of a vector with rows that are read where they are."""
    all_cores = faiss.omp_get_max_threads()
    num_cores = all_cores if len(rows) > _ROWS_WORTH_SHARING else 1
    each = -(-len(rows) // num_cores)
    padded = np.full((num_cores, each), rows[-1])  # FAISS shares out queries, not rows
    padded.ravel()[: len(rows)] = rows
    copies = np.tile(vector, (num_cores, 1))
    products = np.empty((num_cores, each), np.float32)
    faiss.omp_set_num_threads(num_cores)  # of this thread; it would wait for idle ones as well
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(products),
        faiss.swig_ptr(copies),
        faiss.swig_ptr(stored),
        faiss.swig_ptr(padded),
        EMBEDDING_DIM,
        num_cores,
        each,
    )
    faiss.omp_set_num_threads(all_cores)
    return products.ravel()[: len(rows)]


def _kth_best(scores: Float32, k: int) -> Float32:
    """Return the (q, 1) k-th best score of each row; -inf if it has fewer."""
    if scores.shape[1] < k:
        return np.full((len(scores), 1), -np.inf, np.float32)
    return np.partition(scores, -k, axis=1)[:, -k, None]


def _best(scores: Float32, rows: Integers, k: int) -> tuple[Float32, Integers]:
    """Return the k best columns of each row, in any order."""
    if scores.shape[1] <= k:
        return scores, rows
    scores = np.where(np.isnan(scores) | (rows < 0), -np.inf, scores)
    at = np.argpartition(scores, -k, axis=1)[:, -k:]
    return np.take_along_axis(scores, at, 1), np.take_along_axis(rows, at, 1)


def _best_of_each(rows: Integers, scores: Float32) -> tuple[Integers, Float32]:
    """Return the distinct rows of what was found for some vectors, and the best score of each."""
    is_row = rows >= 0
    found, near = rows[is_row], scores[is_row]
    if len(rows) == 1:  # one vector finds no row twice
        return found, near
    order = np.argsort(found, kind="stable")
    distinct, first = np.unique(found[order], return_index=True)
    return distinct, np.maximum.reduceat(near[order], first) if len(first) else near
