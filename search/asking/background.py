"""What a score means: how windows that were drawn at random score beside the hits."""

from __future__ import annotations

from typing import Any, NamedTuple

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

    @classmethod
    def of(cls, scores: Float32) -> Background | None:
        """Sum up scores, the lowest first; None of none."""
        if not len(scores):
            return None
        at = np.array(_QUARTILES) * (len(scores) - 1)
        low, middle, high = np.interp(at, np.arange(len(scores)), scores).tolist()
        return cls(len(scores), (low, middle, high), float(scores[-1]))


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


class Beside(NamedTuple):
    """A question, and windows drawn at random: the background is computed for who wants to see it.

    Attributes:
        drawn: The windows.
        vectors: (q, 768) float32, or (q, 1295) of `blended`: what asks. The best score counts.
        own: Recordings that ask, whose windows do not count.
    """

    drawn: Drawn
    vectors: Float32
    own: frozenset[bytes]

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled, or copied, as what it tells: the windows take 10 MB."""
        return Told, (self.background(),)

    def scores(self) -> Float32:
        """Return (n,) float32 how the windows score but those of what asks, the lowest first."""
        stored = self.drawn.vectors[:, : self.vectors.shape[1]]  # of scenes alone, or the blend
        scores = (stored @ self.vectors.T).max(axis=1)
        is_own = contains(np.array(sorted(self.own), ID_DTYPE), self.drawn.recordings)
        return np.sort(scores[~is_own])

    def background(self) -> Background | None:
        """Return how the windows score; None if there are none but those of what asks."""
        return Background.of(self.scores())


class Told(NamedTuple):
    """What such a question has told, where the windows are not."""

    told: Background | None

    def background(self) -> Background | None:
        """Return it."""
        return self.told
