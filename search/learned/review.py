"""What to label next: windows that nobody has labelled, in the order in which they teach most."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

import numpy as np

from indexer.arrays import Float32, Integers
from indexer.errors import QueryError
from search.filters.tags import LEARNED_PREFIX
from search.generation.segments import Rows
from search.learned.drawing import in_drawn_order
from search.learned.labels import By
from search.learned.line import vectors_of
from search.learned.tags import LearnedTag

#: Of so many times as many of the best, those are taken that are least alike.
_DIVERSE_AMONG = 3


def choose_next(
    rows: Rows, tag: LearnedTag | None, labelled: Collection[int], by: By, k: int, name: str
) -> Integers:
    """Return rows to label next, of each recording one at most, but for those drawn at random.

    Args:
        rows: Of a store.
        tag: What was learned so far; only "random" can do without.
        labelled: Ids of windows that are labelled already, and passed over: if they would be drawn,
            they count as drawn, see `drawn_so_far`.
        by: "top": where the tag is most probable; "margin": where it is least sure; "diverse":
            where it is probable, and which are unlike each other; "random": drawn, each window as
            likely as any other, which alone tells how often the tag is right.
        k: How many.
        name: Of the tag, by which is drawn.

    Raises:
        QueryError: If there is no such order, or nothing was learned yet.
    """
    if by not in get_args(By):
        raise QueryError(f"what to label next is chosen by {', '.join(get_args(By))}, got {by!r}")
    alive = rows.live_rows()
    ids = rows.window_ids(alive)
    if by == "random":
        order = in_drawn_order(ids, name)
    elif tag is None:
        raise QueryError(
            f"a review by {by} needs a learned tag, and {LEARNED_PREFIX}{name} is none yet; draw "
            "at random, or learn it first",
            about="learn",
            value=("STORE", name),
        )
    else:
        heard = np.concatenate([tag.column(one)[one.alive] for one in rows.segments])
        heard = heard.astype(np.float32)
        worth = heard if by != "margin" else -np.abs(heard - np.float32(0.5))
        worth[~np.isfinite(worth)] = -np.inf
        order = np.lexsort((ids, -worth))
    order = order[~np.isin(ids[order], list(labelled))]
    if by == "random":  # of each recording one would draw those of short ones too often
        return np.asarray(alive[order[:k]])
    most = k if by != "diverse" else k * _DIVERSE_AMONG
    chosen = alive[_one_of_each(rows, alive, order, most)]
    if by == "diverse":
        chosen = chosen[_spread(vectors_of(rows.vectors(chosen), rows.tags(chosen)), k)]
    return np.asarray(chosen)


def _one_of_each(rows: Rows, alive: Integers, order: Integers, most: int) -> Integers:
    """Return the first positions in an order, of each recording one."""
    size = 4 * most
    while True:
        some = order[:size]
        recordings = rows.recording_ids(alive[some])
        first = np.sort(np.unique(recordings, return_index=True)[1])
        if len(first) >= most or size >= len(order):
            return np.asarray(some[first][:most])
        size *= 4


def _spread(vectors: Float32, k: int) -> Integers:
    """Return k positions, each as unlike those before it as can be; the first is the best."""
    chosen = [0] if len(vectors) else []
    nearest = np.full(len(vectors), -np.inf, np.float32)
    while 0 < len(chosen) < min(k, len(vectors)):
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return np.array(chosen, np.int64)
