"""Ranking by place: windows are looked into, and stand in the order of their best spans.

Which windows, a matched filter says, as those that hold a short sound among others are not those
whose scenes are like it. They are looked for exactly: lists are measured with scenes, and a pass
over all rows takes less time than reading frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from indexer.arrays import Float32
from indexer.progress import Listen, Step
from search.asking.answers import Match
from search.asking.copies import collapse
from search.asking.left_out import AllLeftOut
from search.asking.locate import Pattern, locate
from search.asking.looking import LookForOne, first_of_recordings
from search.asking.places import best_of_places, windows_at_once
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import LOOKED_INTO, MAX_NUMBER, Terms
from search.nearest.blend import columns_of, parts_of, scenes_of
from search.nearest.enough import Near, find_enough

#: Where what was looked into is not enough, this many times as many windows are.
_GROWTH = 4
#: Rows that are looked into between two reports.
_BLOCK = 256


def find_by_place(
    index: SoundIndex,
    scope: Scope,
    vectors: Float32,
    patterns: Sequence[Pattern | None],
    own: AllLeftOut,
    listen: Listen,
) -> tuple[Near, LookForOne, int]:
    """Find the windows in which some place is most like what asks.

    200 windows are looked into, or so many more as overlap with the hop of the stores; more where
    those are too few hits; an exact answer looks into all that may be hits. Of one recording,
    windows whose best spans overlap by half or more are one hit.

    Args:
        index: The stores.
        scope: What counts as a hit.
        vectors: (q, 768) float32 of length 1, or (q, 1295) of `blended`.
        patterns: q of them, of which one is known at least: what is looked for. The best counts.
        own: What asks, and is no hit.
        listen: Hears how many windows are looked into.

    Returns:
        The hits, best first, more than are wanted perhaps; what looked for the windows; and how
        many that may be hits were not looked into.

    Raises:
        QueryError: If the stores keep no frames.
        DamagedStoreError: If frames are not what was written, or not there any more.
    """
    index.require_frames("hits cannot be ranked by the place in them")
    terms, asks = scope.terms, vectors
    number = MAX_NUMBER
    if not terms.exact and index.num_windows:
        asks = index.matched_filter(scenes_of(vectors, columns_of(index)))
        number = LOOKED_INTO * windows_at_once(index.identity.geometry)
    left_out: AllLeftOut = frozenset() if terms.include_self else own
    wanted = min(terms.num_wanted, int(scope.count_recordings([left_out])[0]))
    while True:
        look = LookForOne(index, _all_windows(scope, number), asks, own)
        near = Near.joined(list(find_enough(look, 1, look.first_k, look.num_allowed)))
        near = _rank(index, terms, vectors, patterns, near.take(near.ranks < number), listen)
        if len(near.rows) >= wanted or number >= look.num_allowed:
            return near, look, max(look.num_allowed - number, 0)
        number *= _GROWTH


def _match_best(
    index: SoundIndex, patterns: Sequence[Pattern | None], near: Near, listen: Listen
) -> Match:
    """Return where in rows the place is that is most like any of some patterns."""
    found = Match.unknown(len(near.rows))
    in_order = np.argsort(near.rows)  # frames are stored in groups of rows
    for first in range(0, len(in_order), _BLOCK):
        at = in_order[first : first + _BLOCK]
        found.put(at, locate(index, patterns, None, near.rows[at]))
        listen(Step("looking into", first + len(at), len(in_order), "window"))
    return found


def _all_windows(scope: Scope, number: int) -> Scope:
    """Return the scope in which so many windows are looked for, whatever they are windows of.

    Which of them stands for a place, a recording or its copies is not known before, nor is the
    least score that of what is asked with here.
    """
    terms = replace(
        scope.terms,
        k=number,
        exact=True,
        by="scene",
        diverse=False,
        all_windows=True,
        group_by=None,
        unique=False,
        min_score=None,
    )
    return replace(scope, terms=terms, recordings=None)


def _rank(
    index: SoundIndex,
    terms: Terms,
    vectors: Float32,
    patterns: Sequence[Pattern | None],
    near: Near,
    listen: Listen,
) -> Near:
    """Return rows in the order of their best spans, one for each place, recording or copy."""
    if terms.min_score is not None:
        near = near.take(_scenes_alike(index, vectors, near) >= terms.min_score)
    match = _match_best(index, patterns, near, listen)
    near = near._replace(scores=match.scores)
    order = np.lexsort((index.window_ids(near.rows), -near.scores))
    near, match = near.take(order), match.take(order)
    if terms.group_by:
        near = near.take(first_of_recordings(index, near))
    elif terms.one_per_place:
        near = near.take(best_of_places(index, near, (match.start_s, match.end_s)))
    return collapse(index, near, terms.unique_at, terms.num_wanted) if terms.unique else near


def _scenes_alike(index: SoundIndex, vectors: Float32, near: Near) -> Float32:
    """Return (n,) the cosine of the scenes of rows and what asks."""
    blocks = np.split(near.rows, range(_BLOCK, len(near.rows), _BLOCK))
    return np.concatenate([parts_of(index, vectors, some).scene for some in blocks])
