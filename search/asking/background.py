"""What a score means: how windows that were drawn at random score beside the hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import ID_DTYPE, Float32, Ids, Integers, contains
from search.generation.segments import Rows
from search.nearest.blend import with_roots

#: Windows that are drawn: of so many, a quartile is right within two hundredths of all.
NUM_DRAWN = 2000
#: The same windows for every question.
_SEED = 0
#: So many times as many rows are drawn, as some of them may be dead.
_SPARE = 2
_QUARTILES = (0.25, 0.5, 0.75)
#: Questions whose scores are held at once, 2 MB.
_AT_ONCE = 256


class Drawn(NamedTuple):
    """Windows drawn at random.

    Attributes:
        vectors: (n, 1295) float32: scenes of length 1, and behind them the roots of what is heard,
            likewise: see `search.nearest.blend`.
        recordings: (n,) ids of their recordings.
    """

    vectors: Float32
    recordings: Ids


class Background(NamedTuple):
    """Scores of a question against windows drawn at random, without those of what asks.

    Attributes:
        num_windows: How many were drawn: all, if there are no more than 2,000.
        quartiles: What a quarter, half and three quarters of them score at most.
        highest: The highest score.
    """

    num_windows: int
    quartiles: tuple[float, float, float]
    highest: float


def draw(rows: Rows) -> Drawn:
    """Draw windows from all that are alive: the same each time, in the order in which they lie."""
    total = int(rows.starts[-1])
    random = np.random.default_rng(_SEED)
    chosen = np.sort(random.permutation(_live(rows, random, total))[:NUM_DRAWN])
    vectors = with_roots(rows.vectors(chosen), rows.tags(chosen))
    return Drawn(vectors, rows.recording_ids(chosen))


def _live(rows: Rows, random: np.random.Generator, total: int) -> Integers:
    """Return as many live rows as are drawn, or more; of millions, only some are looked at."""
    if total > _SPARE * NUM_DRAWN:
        some = random.choice(total, _SPARE * NUM_DRAWN, replace=False)
        alive = np.empty(len(some), bool)
        for segment, local, at in rows.locate(some):
            alive[at] = segment.alive[local]
        if np.count_nonzero(alive) >= NUM_DRAWN:
            return some[alive]
    return rows.live_rows()


def backgrounds(
    drawn: Callable[[], Drawn], vectors: Sequence[Float32 | None], own: Sequence[frozenset[bytes]]
) -> Iterator[Background | None]:
    """Yield for each question how windows drawn at random score.

    Args:
        drawn: Gives the windows, if anything asks.
        vectors: (q, 768) float32 of each question, or (q, 1295) of `blended`, of which the best
            counts; None asks by the terms alone, and has no background.
        own: Recordings that ask, whose windows do not count.
    """
    for first in range(0, len(vectors), _AT_ONCE):
        some = vectors[first : first + _AT_ONCE]
        asked = [one for one in some if one is not None]
        scores: Iterator[Float32] = iter(())
        if asked:
            starts = np.cumsum([0, *map(len, asked[:-1])])
            width = max(one.shape[1] for one in asked)  # where only scenes ask, they are enough
            all_asked = np.concatenate([_filled(one, width) for one in asked])
            all_scores = drawn().vectors[:, :width] @ all_asked.T
            scores = iter(np.maximum.reduceat(all_scores, starts, axis=1).T)
        for one, recordings in zip(some, own[first : first + _AT_ONCE], strict=True):
            yield None if one is None else _summed_up(drawn(), next(scores), recordings)


def _filled(vectors: Float32, num_columns: int) -> Float32:
    """Return vectors with zeros behind, so that of what is heard nothing counts."""
    missing = num_columns - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors


def _summed_up(drawn: Drawn, scores: Float32, own: frozenset[bytes]) -> Background | None:
    scores = scores[~contains(np.array(sorted(own), ID_DTYPE), drawn.recordings)]
    if not len(scores):
        return None
    scores.sort()
    at = np.array(_QUARTILES) * (len(scores) - 1)
    low, middle, high = np.interp(at, np.arange(len(scores)), scores).tolist()
    return Background(len(scores), (low, middle, high), float(scores[-1]))
