"""Browsing: which windows fit a filter best, without a clip to compare them with."""

from __future__ import annotations

import numpy as np

from search.filters.tags import Condition
from search.generation.allowed import Allowed
from search.generation.segments import Generation
from search.nearest.index import Neighbours


def best_fits(generation: Generation, condition: Condition, k: int, allowed: Allowed) -> Neighbours:
    """Return the k rows that fit a condition best; scores are `Condition.relevance`.

    Codes, a byte a tag, tell of most rows that they are not among them. The probabilities, of which
    a row has a kilobyte, are read for the others only.

    Args:
        generation: To be searched.
        condition: The filter.
        k: How many rows, at least 1.
        allowed: Which rows may be found.

    Returns:
        min(k, allowed rows) rows; of equal scores, the lower window id first.
    """
    rows = [allowed.rows_of(number) for number in range(len(allowed.masks))]
    bounds = [
        condition.relevance_bounds(segment, local)
        for segment, local in zip(generation.segments, rows, strict=True)
    ]
    least = np.concatenate([np.empty(0, np.float32), *(one for one, _ in bounds)])
    enough = np.partition(least, -k)[-k] if len(least) > k else np.float32(0)
    scores, found = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for start, segment, local, (_, greatest) in zip(
        generation.starts.tolist(), generation.segments, rows, bounds, strict=False
    ):
        near = local[greatest >= enough]
        scores.append(condition.relevance(segment, near))
        found.append(start + near)
    all_scores, all_rows = np.concatenate(scores), np.concatenate(found)
    order = np.lexsort((generation.window_ids(all_rows), -all_scores))[:k]
    return Neighbours(all_scores[order], all_rows[order], num_allowed=allowed.num_rows)
