"""The one way to ask: questions, each of one or more vectors, and the windows that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers
from indexer.errors import QueryError
from search.asking.answers import Found
from search.asking.diversity import choose_diverse
from search.asking.looking import LookForMany, LookForOne
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.nearest.enough import Near, find_enough


class Question(NamedTuple):
    """What is asked about.

    Attributes:
        vectors: (q, 768) float32 of length 1; a window's score is its best over them. None asks for
            the windows that fit the terms best.
        own: Recordings that ask: left out, unless the terms include them.
    """

    vectors: Float32 | None = None
    own: frozenset[bytes] = frozenset()


def find(index: SoundIndex, questions: Sequence[Question], scope: Scope) -> Found:
    """Find the windows that answer some questions.

    Args:
        index: The stores.
        questions: Any number; only one that is alone may be without vectors.
        scope: What counts as a hit in these stores.

    Returns:
        For each question min(k, matching windows) windows, the best first; of equal scores, the
        lower window id first. Grouped by file, min(k, matching recordings); fewer with a least
        score. A diverse answer is in the order of choice.

    Raises:
        QueryError: If there is nothing to look for.
    """
    is_alone = len(questions) == 1
    for one in questions:
        if one.vectors is None and not (is_alone and scope.is_filtered):
            raise QueryError("nothing to look for: give a clip, a window id or a tag")
    vectors, own = [one.vectors for one in questions], [one.own for one in questions]
    look = (LookForOne if is_alone else LookForMany)(index, scope, vectors, own)
    found = list(find_enough(look, len(questions), look.first_k, look.num_allowed))
    near = Near.joined(found)
    near = near.take(np.argsort(near.asked, kind="stable"))
    near = near.take(near.ranks < scope.terms.num_candidates)
    if scope.terms.diversity:
        near = near.take(_choose(index, near, scope))
    return Found(
        num_questions=len(questions),
        asked=near.asked,
        scores=near.scores,
        window_ids=index.window_ids(near.rows),
        rows=near.rows,
        steps=look.steps(),
    )


def _choose(index: SoundIndex, near: Near, scope: Scope) -> Integers:
    """Return which rows to keep, in the order of choice: the best that are unlike each other."""
    terms, kept = scope.terms, [np.empty(0, np.int64)]
    for at in np.split(np.arange(len(near.rows)), np.flatnonzero(np.diff(near.asked)) + 1):
        vectors = index.vectors(near.rows[at])
        kept.append(at[choose_diverse(vectors, near.scores[at], terms.k, 1 - terms.diversity)])
    return np.concatenate(kept)
