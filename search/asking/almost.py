"""Where no window has the tags that were asked for: which come nearest, and how near."""

from __future__ import annotations

import math

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.asking.answers import Found
from search.asking.opened import OpenedStore
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.filters.tags import ResolvedFilter

#: Windows that are told.
NUM_TOLD = 3
#: Windows looked at for them: of some, what must not be heard may be as probable.
_LOOKED_AT = 100
#: Digits of the threshold that would find one.
_DIGITS = 3


def almost_heard(index: SoundIndex, scope: Scope) -> Found | None:
    """Return the windows that would be heard first if the threshold were lower, best first.

    All else that was asked for holds for them. The score is how probable what was asked for is: of
    tags that must all be heard the least, of those of which one must the greatest.

    Args:
        index: The stores.
        scope: What counts as a hit in these stores.

    Returns:
        At most three; None if some window has the tags, or no tag has to be heard.
    """
    tags = scope.resolved.tags
    if tags is None or not (tags.all_of or tags.any_of):
        return None
    if scope.num_allowed:
        return None
    wanted, unwanted = tags._replace(none_of=()), ResolvedFilter((), (), tags.none_of)
    scores, rows = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for first, one in zip(index.first_rows.tolist(), index.opened, strict=True):
        matching = one.matching(one.condition(unwanted, scope.resolved.where))
        near = matching.best_fits(wanted, _LOOKED_AT)()
        would = _would_be_found(one, near.rows, near.scores, tags)
        scores.append(near.scores[would])
        rows.append(first + near.rows[would])
    all_scores, all_rows = np.concatenate(scores), np.concatenate(rows)
    ids = index.window_ids(all_rows)
    order = np.lexsort((ids, -all_scores))
    order = order[np.sort(np.unique(ids[order], return_index=True)[1])][:NUM_TOLD]
    return Found(
        num_questions=1,
        asked=np.zeros(len(order), np.int64),
        scores=all_scores[order],
        window_ids=ids[order],
        rows=all_rows[order],
        stands_for=np.ones(len(order), np.int64),
        num_left_out=np.zeros(1, np.int64),
        num_silent=np.zeros(1, np.int64),
        num_overlooked=np.zeros(1, np.int64),
    )


def threshold_that_finds(probability: float) -> float:
    """Return a threshold of few digits that a probability reaches: rounded, but never up."""
    if probability <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(probability)) - _DIGITS + 1)
    return float(f"{math.floor(probability / step) * step:.{_DIGITS}g}")


def _would_be_found(
    one: OpenedStore, rows: Integers, scores: Float32, tags: ResolvedFilter
) -> Mask:
    """Return (n,) for which rows a threshold at their score would not be one for what must not."""
    bounds = np.array([threshold_that_finds(score) for score in scores.tolist()], np.float32)
    would = bounds > 0
    for segment, local, at in one.generation.locate(rows):
        for asked in tags.none_of:
            would[at] &= asked.term.exactly(segment, local) < bounds[at]
    return would
