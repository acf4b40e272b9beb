"""Intervals of means, by drawing again what was measured: percentiles of the bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: Share of the resamples that lie inside an interval.
CONFIDENCE = 0.95
#: Weights of resamples that are held at once, 128 MB.
_WEIGHTS = 2**24

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Estimate(NamedTuple):
    """A number with its interval.

    Attributes:
        value: What was measured.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def resamples(clusters: Counts, num_resamples: int, seed: int) -> Iterator[Counts]:
    """Yield how often each value counts, (resamples, n) at a time.

    Clusters are drawn, with all their values: what was measured of one sound has no independent
    witnesses. The same seed draws the same clusters, so that intervals compare.

    Args:
        clusters: (n,) to which each value belongs, from 0.
        num_resamples: How many.
        seed: Of the drawing.
    """
    random = np.random.default_rng(seed)
    num_clusters = int(clusters.max()) + 1
    at_once = max(_WEIGHTS // len(clusters), 1)
    for first in range(0, num_resamples, at_once):
        num_rows = min(at_once, num_resamples - first)
        drawn = random.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_rows)
        yield drawn[:, clusters]


def interval(resampled: Values) -> tuple[float, float]:
    """Return between which values all but a twentieth of the resampled ones lie."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def estimates(columns: Values, clusters: Counts, num_resamples: int, seed: int) -> list[Estimate]:
    """Return the mean of each column, with its interval.

    Args:
        columns: (n, m) values.
        clusters: (n,) to which each row belongs, from 0.
        num_resamples: Of which the intervals are made.
        seed: Of the resampling.
    """
    means = [
        weights @ columns / weights.sum(1, keepdims=True)
        for weights in resamples(clusters, num_resamples, seed)
    ]
    resampled = np.concatenate(means)
    return [
        Estimate(float(columns[:, place].mean()), *interval(resampled[:, place]))
        for place in range(columns.shape[1])
    ]
