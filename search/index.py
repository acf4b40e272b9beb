"""The vector index: which rows are nearest. It owns the score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import faiss
import numpy as np

from indexer.store.ledger import Integers, Mask
from indexer.store.schema import EMBEDDING_DIM
from indexer.store.snapshot import Float32
from search.segments import Generation, Segment

#: How far the float32 product of two vectors of length 1 may be from the true one, in whatever
#: order it is summed: 768 roundings of 2^-24.
_ROUNDING = EMBEDDING_DIM * 2.0**-24
#: Rows fetched beyond k, so that the boundary can be seen.
_MARGIN = 16
#: Rows whose products are held at a time: 25 MB in float64.
_BLOCK_ROWS = 4096


class Neighbours(NamedTuple):
    """The nearest rows.

    Attributes:
        scores: (n,) float32 cosine similarities, the highest first.
        rows: (n,) positions in the generation; of equal scores, the lower window id first.
    """

    scores: Float32
    rows: Integers


class VectorIndex:
    """An exact index over the segments of a generation: FAISS's brute force, on mapped memory."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def search(self, vectors: Float32, k: int, allowed: Sequence[Mask] | None = None) -> Neighbours:
        """Return the k rows that are nearest to any of the vectors.

        FAISS finds candidates, and says of everything else how near it can be at most. Should that
        be too near to tell (many equal vectors around rank k), all that are near enough are taken.

        Args:
            vectors: (q, 768) float32 of length 1; a row's score is its best over them.
            k: How many rows, at least 1.
            allowed: A (num_rows,) mask for each segment; None allows all live rows.

        Returns:
            min(k, allowed rows) rows: exact, ties at k included. Damaged rows that are not numbers
            are never among them.
        """
        if allowed is None:
            allowed = [segment.alive for segment in self._generation.segments]
        vectors = np.ascontiguousarray(vectors, np.float32)
        rows, near, unseen = self._fetch(vectors, k + _MARGIN, allowed)
        # The k-th score may be one rounding below the k-th of these, and so may each that beats it.
        bound = float(np.partition(near, -k)[-k]) - 2 * _ROUNDING if len(near) >= k else -np.inf
        is_settled = unseen < bound or np.isneginf(unseen)
        rows = rows[near >= bound] if is_settled else self._at_least(bound, vectors, allowed)
        scores = self.score(vectors, rows)
        order = np.lexsort((self._generation.window_ids(rows), -scores))[:k]
        return Neighbours(scores[order], rows[order])

    def search_many(
        self, vectors: Float32, k: int, allowed: Sequence[Mask] | None = None
    ) -> tuple[Float32, Integers]:
        """Return the k rows that are nearest to each of many vectors.

        Args:
            vectors: (n, 768) float32 of length 1.
            k: How many rows for each, at least 1.
            allowed: A (num_rows,) mask for each segment; None allows all live rows.

        Returns:
            (n, k) float32 scores, the highest first, and (n, k) rows; -inf and -1 where there are
            fewer than k.
        """
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        for at in range(len(vectors)):
            found = self.search(vectors[at : at + 1], k, allowed)
            scores[at, : len(found.rows)], rows[at, : len(found.rows)] = found
        return scores, rows

    def score(self, vectors: Float32, rows: Integers) -> Float32:
        """Return the score of some rows: the highest cosine similarity to any of the vectors.

        This one routine makes every score that is shown. It sums row by row in float64, so that a
        row's score does not depend on how it was found or on which rows it was computed with.

        Args:
            vectors: (q, 768) float32 of length 1.
            rows: (n,) positions in the generation.

        Returns:
            (n,) float32 from -1 to 1.
        """
        best = np.full(len(rows), -1.0)
        for first in range(0, len(rows), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            stored = self._generation.vectors(rows[block]).astype(np.float64)
            for vector in vectors:
                with np.errstate(invalid="ignore"):
                    products = (stored * vector).sum(1)  # not `@`: BLAS sums as the shape suits it
                np.fmax(best[block], products, out=best[block])
        return np.asarray(np.minimum(best, 1), np.float32)

    def _fetch(
        self, vectors: Float32, num_fetched: int, allowed: Sequence[Mask]
    ) -> tuple[Integers, Float32, float]:
        """Find candidates.

        Returns:
            Rows, FAISS's best score of each, and a bound on its scores of all others.
        """
        rows, near = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        unseen = -np.inf
        for start, segment, mask in self._segments(allowed):
            num_allowed = int(np.count_nonzero(mask))
            scores, at = _knn(vectors, segment.vectors, min(num_fetched, num_allowed), mask)
            if num_fetched < num_allowed:
                unseen = max(unseen, float(scores[:, -1].max()))
            found = at >= 0  # FAISS leaves places empty rather than list what is not a number
            rows.append(start + at[found])
            near.append(scores[found])
        return *_best_of_each(np.concatenate(rows), np.concatenate(near)), unseen

    def _at_least(self, bound: float, vectors: Float32, allowed: Sequence[Mask]) -> Integers:
        """Return all allowed rows whose float32 score reaches a bound."""
        found = [np.empty(0, np.int64)]
        for start, segment, mask in self._segments(allowed):
            rows = np.flatnonzero(mask)
            for first in range(0, len(rows), _BLOCK_ROWS):
                block = rows[first : first + _BLOCK_ROWS]
                with np.errstate(invalid="ignore"):
                    near = (segment.vectors[block] @ vectors.T).max(1)  # (n,)
                found.append(start + block[near >= bound])
        return np.concatenate(found)

    def _segments(self, allowed: Sequence[Mask]) -> Iterator[tuple[int, Segment, Mask]]:
        """Yield (first row, segment, mask) of the segments that have allowed rows."""
        generation = self._generation
        for start, segment, mask in zip(
            generation.starts.tolist(), generation.segments, allowed, strict=False
        ):
            if mask.any():
                yield start, segment, mask


def _knn(vectors: Float32, stored: Float32, k: int, allowed: Mask) -> tuple[Float32, Integers]:
    """Return FAISS's (q, k) best scores and their rows, -1 for none, among the allowed rows."""
    scores, rows = np.empty((len(vectors), k), np.float32), np.empty((len(vectors), k), np.int64)
    bits = np.packbits(allowed, bitorder="little")
    selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    # Below `faiss.knn`, which takes no selector. With one, nothing is copied, and it is no slower.
    faiss.knn_inner_product(
        faiss.swig_ptr(vectors),
        faiss.swig_ptr(stored),
        EMBEDDING_DIM,
        len(vectors),
        len(stored),
        k,
        faiss.swig_ptr(scores),
        faiss.swig_ptr(rows),
        selector,
    )
    return scores, rows


def _best_of_each(rows: Integers, scores: Float32) -> tuple[Integers, Float32]:
    """Return the distinct rows, and the best score of each."""
    order = np.argsort(rows, kind="stable")
    distinct, first = np.unique(rows[order], return_index=True)
    return distinct, np.maximum.reduceat(scores[order], first) if len(first) else scores
