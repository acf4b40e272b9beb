"""Many questions at once: in blocks, and asked again for more where an answer is not complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.generation.segments import Generation
from search.nearest.index import VectorIndex

#: Vectors that are asked about at a time, at most.
BLOCK_VECTORS = 1024
#: Answers that are held at a time, at most: vectors times rows for each.
_MAX_CELLS = 1 << 20
#: Where an answer is not complete, this many times more rows are asked for.
_GROWTH = 4


class Nearest(NamedTuple):
    """The nearest rows of some of the vectors.

    Attributes:
        at: (n,) which vectors.
        scores: (n, m) float32, the highest first; -inf where there is none.
        rows: (n, m) positions in the generation; -1 where there is none.
    """

    at: Integers
    scores: Float32
    rows: Integers

    def take(self, chosen: Mask) -> Nearest:
        """Return some of the answers."""
        return Nearest(self.at[chosen], self.scores[chosen], self.rows[chosen])


def block_size(k: int) -> int:
    """Return how many vectors are asked about at a time for k rows each, in bounded memory."""
    return max(1, min(BLOCK_VECTORS, _MAX_CELLS // k))


def nearest_rows(
    index: VectorIndex,
    vectors: Float32,
    k: int,
    allowed: Sequence[Mask],
    is_complete: Callable[[Nearest], Mask],
    *,
    exact: bool = False,
) -> Iterator[Nearest]:
    """Find for each vector as many of the nearest rows as it takes.

    Args:
        index: What is searched.
        vectors: (n, 768) float32 of length 1.
        k: How many rows each is asked for at first; more later, where that was not enough.
        allowed: A (num_rows,) mask for each segment.
        is_complete: Says of some answers, as a (n,) mask, which are enough. An answer that has all
            allowed rows is enough in any case.
        exact: Whether only exact answers will do.

    Yields:
        Every vector's answer once, in any order; nothing if no row is allowed.
    """
    num_allowed = sum(int(np.count_nonzero(mask)) for mask in allowed)
    pending = np.arange(len(vectors) if num_allowed else 0)
    while len(pending):
        k = min(k, num_allowed + 1)  # then the last place stays empty
        size = block_size(k)
        short = []
        for first in range(0, len(pending), size):
            at = pending[first : first + size]
            found = Nearest(at, *index.search_many(vectors[at], k, allowed, exact=exact))
            is_enough = (found.rows[:, -1] < 0) | is_complete(found)
            yield found.take(is_enough)
            short.append(at[~is_enough])
        pending = np.concatenate(short)
        k *= _GROWTH


def live_rows(generation: Generation) -> Integers:
    """Return (n,) all rows of a generation that are alive."""
    starts = generation.starts.tolist()
    return np.concatenate(
        [np.empty(0, np.int64)]
        + [
            start + np.flatnonzero(segment.alive)
            for start, segment in zip(starts, generation.segments, strict=False)
        ]
    )
