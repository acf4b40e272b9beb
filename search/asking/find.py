"""The one way to ask: questions, each of one or more vectors, and the windows that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers
from indexer.errors import QueryError
from search.asking.answers import Found, Why
from search.asking.diversity import choose_diverse
from search.asking.left_out import AllLeftOut
from search.asking.looking import LookForMany, LookForOne
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.nearest.blend import blended, parts_of
from search.nearest.enough import Near, find_enough


class Question(NamedTuple):
    """What is asked about.

    Attributes:
        vectors: (q, 768) float32 of length 1; a window's score is its best over them. None asks for
            the windows that fit the terms best.
        own: What asks: nothing that overlaps it is a hit, unless the terms include it.
        tags: (q, 527) probabilities of what is heard in the same; None asks with scenes alone.
        starts_s: (q,) where each vector's window begins in its file, in seconds; NaN of vectors of
            a user. None if nobody wants to know.
        notes: What of a clip asks, if that is not all of it as it is, in sentences.
        is_silent: Whether nothing is heard in what asks; silent windows are hits of no other clip.
    """

    vectors: Float32 | None = None
    own: AllLeftOut = frozenset()
    tags: Float16 | Float32 | None = None
    starts_s: npt.NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    is_silent: bool = False

    def weighted(self, tag_weight: float) -> Question:
        """Return it as rows are scored for it: with vectors of `blended`, if anything is heard."""
        if self.vectors is None or self.tags is None or not tag_weight:
            return self._replace(tags=None)
        return self._replace(vectors=blended(self.vectors, self.tags, tag_weight), tags=None)


def find(index: SoundIndex, questions: Sequence[Question], scope: Scope) -> Found:
    """Find the windows that answer some questions.

    Args:
        index: The stores.
        questions: Any number; those without vectors ask by the terms.
        scope: What counts as a hit in these stores.

    Returns:
        For each question min(k, matching places) windows, the best of each place, the best first;
        of equal scores, the lower window id first. It is min(k, matching windows) if all windows
        may be hits, and grouped by file min(k, matching recordings); fewer with a least score.
        Unique hits are min(k, those of them that are like no better one). A diverse answer is in
        the order of choice.

    Raises:
        QueryError: If there is nothing to look for.
    """
    for one in questions:
        if one.vectors is None and not scope.is_filtered:
            raise QueryError("nothing to look for: give a clip, a window id or a tag")
    questions = [
        one.weighted(scope.terms.tag_weight)._replace(own=index.with_aliases(one.own))
        for one in questions
    ]
    heard = scope.without_silence(index.opened)
    scopes = [scope if one.is_silent or one.vectors is None else heard for one in questions]
    near, num_left_out, alone = _look(index, questions, scopes)
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
        stands_for=near.stands_for,
        steps=alone.steps() if alone else (),
        num_left_out=num_left_out,
        num_silent=np.array([scope.num_allowed - one.num_allowed for one in scopes], np.int64),
    )


def take_apart(index: SoundIndex, questions: Sequence[Question], found: Found, terms: Terms) -> Why:
    """Return why some windows are hits.

    Args:
        index: What was asked.
        questions: What it was asked.
        found: What `find` has found for them.
        terms: With which it was asked.
    """
    scene, heard = np.full((2, len(found.rows)), np.nan, np.float32)
    starts_s = np.full(len(found.rows), np.nan)
    for number, one in enumerate(questions):
        vectors, at = one.weighted(terms.tag_weight).vectors, np.flatnonzero(found.asked == number)
        if vectors is not None and len(at):
            scene[at], heard[at], best = parts_of(index, vectors, found.rows[at])
            if one.starts_s is not None:
                starts_s[at] = one.starts_s[best]
    return Why(scene, heard, starts_s)


def _look(
    index: SoundIndex, questions: Sequence[Question], scopes: Sequence[Scope]
) -> tuple[Near, Integers, LookForOne | None]:
    """Return the best hits of each question, how much it leaves out, and what looked for them.

    The last if it is one question.

    Those of a single vector are searched together, if the same rows may be hits. Several vectors
    are another matter: the score of a row is its best over all of them, also over those that did
    not lead to it.
    """
    shapes = [None if one.vectors is None else one.vectors.shape for one in questions]
    width = max((shape[1] for shape in shapes if shape), default=0)
    is_plain = [shape == (1, width) for shape in shapes]
    together = np.flatnonzero(is_plain) if len(questions) > 1 else np.empty(0, np.int64)
    near: list[Near] = []
    num_left_out, alone = np.zeros(len(questions), np.int64), None
    silent = np.array([one.is_silent for one in questions], bool)[together]
    for at in filter(len, (together[~silent], together[silent])):
        some = [questions[number] for number in at.tolist()]
        vectors = np.concatenate([one.vectors for one in some if one.vectors is not None])
        many = LookForMany(index, scopes[at[0]], vectors, [one.own for one in some])
        found = Near.joined(list(find_enough(many, len(some), many.first_k, many.num_allowed)))
        near.append(found._replace(asked=at[found.asked]))
        num_left_out[at] = many.num_left_out
    for number in np.setdiff1d(np.arange(len(questions)), together).tolist():
        one = questions[number]
        alone = LookForOne(index, scopes[number], one.vectors, one.own)
        found = Near.joined(list(find_enough(alone, 1, alone.first_k, alone.num_allowed)))
        near.append(found._replace(asked=found.asked + number))
        num_left_out[number] = alone.num_left_out
    return Near.joined(near), num_left_out, alone if len(questions) == 1 else None


def _choose(index: SoundIndex, near: Near, scope: Scope) -> Integers:
    """Return which rows to keep, in the order of choice: the best that are unlike each other."""
    terms, kept = scope.terms, [np.empty(0, np.int64)]
    for at in np.split(np.arange(len(near.rows)), np.flatnonzero(np.diff(near.asked)) + 1):
        vectors = index.vectors(near.rows[at])
        kept.append(at[choose_diverse(vectors, near.scores[at], terms.k, terms.diversity)])
    return np.concatenate(kept)
