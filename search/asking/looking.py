"""Looking at the k best rows of some stores, for one question or for many: which of them are hits.

A question on its own is searched as it is, and says how that went. Many, of a vector each, are
searched as one matrix, with what each leaves out dropped from what was found. Either is called by
`find_enough`, with a greater k where the hits were too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from search.asking.answers import Step
from search.asking.copies import collapse
from search.asking.left_out import AllLeftOut, LeftOut, is_left_out
from search.asking.matching import Later
from search.asking.places import best_of_places, windows_at_once
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.nearest.blend import columns_of, is_blend
from search.nearest.enough import Near, near_of
from search.nearest.index import Neighbours

#: Rows looked at beyond k, for windows of what asks.
_SPARE = 8


class LookForOne:
    """One question: what it leaves out is no part of the search."""

    def __init__(
        self, index: SoundIndex, scope: Scope, vectors: Float32 | None, own: AllLeftOut
    ) -> None:
        scope, self._least = _judged(index, scope, vectors)
        self._index, self._scope, self._vectors = index, scope, vectors
        left_out: AllLeftOut = frozenset() if scope.terms.include_self else own
        self._matching = [one.without(left_out) if left_out else one for one in scope.matching]
        self._rounds: list[list[Neighbours]] = []
        self._num_recordings = scope.count_recordings([left_out])
        self.first_k = _first_k(index, scope)
        self.num_allowed = sum(one.num_rows for one in self._matching)
        self.num_left_out = scope.num_allowed - self.num_allowed

    def __call__(self, at: Integers, k: int) -> tuple[Near, Mask]:
        """Return the hits among the k best rows, and whether they are enough."""
        begun = [self._begin(number, k) for number in range(len(self._matching))]
        each = [nearest() for nearest in begun]
        self._rounds.append(each)
        rows = [one.rows + self._index.first_rows[number] for number, one in enumerate(each)]
        scores = np.concatenate([one.scores for one in each])
        near = Near.each(np.zeros(len(scores), np.int64), scores, np.concatenate(rows))
        return _hits(self._index, self._scope, near, at, k, self._num_recordings, {})

    def _begin(self, number: int, k: int) -> Later[Neighbours]:
        matching, is_exact = self._matching[number], self._scope.terms.exact
        if self._vectors is not None:
            return matching.search(self._vectors, k, exact=is_exact, least=self._least)
        condition = self._scope.conditions[number]
        assert condition is not None  # a question has vectors or a condition
        return matching.best_fits(condition, k)

    def steps(self) -> tuple[Step, ...]:
        """Return how each store was searched."""
        return tuple(
            Step(
                store=one.store.path,
                plan=self._rounds[-1][number].plan,
                num_matching=self._rounds[-1][number].num_allowed,
                num_windows=one.generation.num_windows,
                num_lists=one.index.num_lists,
                filter_ms=self._scope.filter_ms / len(self._index.opened),
                scan_ms=sum(each[number].scan_ms for each in self._rounds),
                rescore_ms=sum(each[number].rescore_ms for each in self._rounds),
            )
            for number, one in enumerate(self._index.opened)
        )


class LookForMany:
    """Many questions of one vector each: all that their terms allow is searched for all of them."""

    def __init__(
        self, index: SoundIndex, scope: Scope, vectors: Float32, own: Sequence[AllLeftOut]
    ) -> None:
        left_out = [frozenset[LeftOut]()] * len(own) if scope.terms.include_self else own
        scope, self._least = _judged(index, scope, vectors)
        self._index, self._scope, self._vectors, self._own = index, scope, vectors, left_out
        self._num_recordings = scope.count_recordings(left_out)
        self.first_k = _first_k(index, scope) + (_SPARE if any(left_out) else 0)
        self.num_allowed = scope.num_allowed
        self.num_left_out = np.sum([one.count_left_out(left_out) for one in scope.matching], axis=0)

    def __call__(self, at: Integers, k: int) -> tuple[Near, Mask]:
        """Return the hits among the k best rows of some questions, and which have enough."""
        asking, is_exact = self._vectors[at], self._scope.terms.exact
        begun = [
            one.search_many(asking, k, exact=is_exact, least=self._least)
            for one in self._scope.matching
        ]
        each = [
            near._replace(rows=near.rows + first_row)
            for first_row, near in zip(
                self._index.first_rows.tolist(),
                (near_of(at, *nearest()) for nearest in begun),
                strict=True,
            )
        ]
        own = {number: self._own[number] for number in at.tolist() if self._own[number]}
        num_recordings = self._num_recordings[at]
        return _hits(self._index, self._scope, Near.joined(each), at, k, num_recordings, own)


def _judged(index: SoundIndex, scope: Scope, vectors: Float32 | None) -> tuple[Scope, float | None]:
    """Return a scope as scores are held against it, and the least cosine of scenes of a blend.

    Of all others, that is the score.
    """
    least = scope.terms.min_score
    if least is None or vectors is None or not is_blend(vectors, columns_of(index)):
        return scope, None
    return replace(scope, terms=replace(scope.terms, min_score=None)), least


def _first_k(index: SoundIndex, scope: Scope) -> int:
    """Return how many rows are looked at for each question at first."""
    at_once = windows_at_once(index.identity.geometry) if scope.terms.one_per_place else 1
    return scope.terms.num_wanted * at_once


def _hits(
    index: SoundIndex,
    scope: Scope,
    near: Near,
    at: Integers,
    k: int,
    num_recordings: Integers,
    own: dict[int, AllLeftOut],
) -> tuple[Near, Mask]:
    """Return what is a hit among the k best rows for each question, in order.

    Args:
        index: The stores.
        scope: What counts as a hit.
        near: The k best rows of each store for each question.
        at: (n,) numbers of the questions.
        k: How many rows were looked at.
        num_recordings: (n,) how many recordings may be among the hits of each.
        own: What a question leaves out.

    Returns:
        The hits, and for each question whether they are enough, or all there are.
    """
    ids = index.window_ids(near.rows)
    near = near.take(np.lexsort((near.rows, ids, -near.scores, near.asked)))
    if len(index.opened) > 1:  # each has given k
        near = near.take(near.ranks < k)
    is_enough = _counts(near, at) < k
    terms = scope.terms
    if terms.min_score is not None:
        is_low = near.scores < terms.min_score
        is_enough |= _counts(near.take(is_low), at) > 0  # whatever comes later is below it as well
        near = near.take(~is_low)
    if own:
        near = near.take(~is_left_out(index, near.asked, near.rows, own))
    near = _one_of_each(index, terms, near)
    if terms.group_by:
        is_enough |= _counts(near, at) >= num_recordings  # there are no more
    if terms.unique:
        near = collapse(index, near, terms.unique_at, terms.num_wanted)
    return near, is_enough | (_counts(near, at) >= terms.num_wanted)


def first_of_recordings(index: SoundIndex, near: Near) -> Mask:
    """Return (n,) which rows are the first of their recording, of those of their question."""
    recordings = np.unique(index.recording_ids(near.rows), return_inverse=True)[1]
    return _first_of_each(near.asked, recordings)


def _one_of_each(index: SoundIndex, terms: Terms, near: Near) -> Near:
    """Return the best row of each recording or place, or each window once, as terms say."""
    if terms.group_by:
        return near.take(first_of_recordings(index, near))
    if terms.one_per_place:
        return near.take(best_of_places(index, near))
    if len(index.opened) > 1:  # a store has each window once
        return near.take(_first_of_each(near.asked, index.window_ids(near.rows)))
    return near


def _counts(near: Near, at: Integers) -> Integers:
    """Return (n,) how many rows there are for each question."""
    return np.bincount(near.asked, minlength=int(at.max(initial=-1)) + 1)[at]


def _first_of_each(asked: Integers, keys: Any) -> Mask:
    """Return (n,) which rows are the first with their key among those of their question."""
    order = np.lexsort((np.arange(len(keys)), keys, asked))
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(keys[order]) != 0) | (np.diff(asked[order]) != 0)
    is_first = np.zeros(len(order), bool)
    is_first[order[is_new]] = True
    return is_first
