"""The one way to ask: questions, each of one or more vectors, and the windows that answer them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers
from indexer.errors import DamagedStoreError, QueryError
from indexer.progress import Listen, ignore
from search.asking.answers import Found, Match, Why
from search.asking.asked import Named
from search.asking.by_place import find_by_place
from search.asking.diversity import choose_diverse
from search.asking.left_out import AllLeftOut
from search.asking.locate import Pattern, locate
from search.asking.looking import LookForMany, LookForOne
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.nearest.blend import blended, parts_of, turned_away
from search.nearest.enough import Near, find_enough

#: What is shorter is found better by whole windows: cut out of other clips, sounds of 0.5 s had
#: their own file first 8 times of 12 by scene and 3 times by place; of 1 s 11 and 7, of 2 s all.
_LEAST_S = 1.0


class Away(NamedTuple):
    """What a question is turned away from: sounds that hits are not to be like.

    Attributes:
        vectors: (u, 768) float32 of length 1.
        tags: (u, 527) probabilities of what is heard in them; None of vectors of a user.
        own: What they are of: no hit either.
        named: What was given.
    """

    vectors: Float32
    tags: Float16 | Float32 | None
    own: AllLeftOut
    named: tuple[Named, ...] = ()


class Question(NamedTuple):
    """What is asked about.

    Attributes:
        vectors: (q, 768) float32 of length 1; a window's score is its best over them. None asks for
            the windows that fit the terms best.
        own: What asks: nothing that overlaps it is a hit, unless the terms include it.
        tags: (q, 527) probabilities of what is heard in the same; None asks with scenes alone.
        starts_s: (q,) where each vector's window begins in its file, in seconds; NaN of vectors of
            a user. None if nobody wants to know.
        patterns: q of them: what is looked for inside windows, see `locate`; None of a vector that
            is of no window, or of one as long as they are.
        notes: What of a clip asks, if that is not all of it as it is, in sentences.
        is_silent: Whether nothing is heard in what asks; silent windows are hits of no other clip.
        away: What hits are not to be like; None for nothing.
        named: What was given, for those who tell of it.
    """

    vectors: Float32 | None = None
    own: AllLeftOut = frozenset()
    tags: Float16 | Float32 | None = None
    starts_s: npt.NDArray[np.float64] | None = None
    patterns: tuple[Pattern | None, ...] = ()
    notes: tuple[str, ...] = ()
    is_silent: bool = False
    away: Away | None = None
    named: tuple[Named, ...] = ()

    def weighted(self, tag_weight: float) -> Question:
        """Return it as rows are scored for it: with vectors of `blended`, if anything is heard.

        And turned away from what hits are not to be like.
        """
        away = self.away
        if self.vectors is None:
            return self._replace(tags=None, away=None)
        tags = self.tags if away is None or away.tags is not None else None
        vectors, own = _weighted(self.vectors, tags, tag_weight), self.own
        if away is not None:
            unlike = _weighted(away.vectors, None if tags is None else away.tags, tag_weight)
            vectors, own = turned_away(vectors, unlike), own | away.own
        return self._replace(vectors=vectors, tags=None, own=own, away=None)

    def ranks_by_place(self, terms: Terms) -> bool:
        """Whether hits are ranked by the place in them: if anything that asks has one there."""
        return terms.by == "place" and any(self.patterns)


def _weighted(scenes: Float32, tags: Float16 | Float32 | None, tag_weight: float) -> Float32:
    if tags is None or not tag_weight:
        return scenes
    return blended(scenes, tags, tag_weight)


def find(
    index: SoundIndex, questions: Sequence[Question], scope: Scope, listen: Listen = ignore
) -> Found:
    """Find the windows that answer some questions.

    Args:
        index: The stores.
        questions: Any number; those without vectors ask by the terms.
        scope: What counts as a hit in these stores.
        listen: Hears how many windows are looked into, if hits are ranked by the place in them.

    Returns:
        For each question min(k, matching places) windows, the best of each place, the best first;
        of equal scores, the lower window id first. It is min(k, matching windows) if all windows
        may be hits, and grouped by file min(k, matching recordings); fewer with a least score.
        Unique hits are min(k, those of them that are like no better one). A diverse answer is in
        the order of choice. Ranked by place, see `find_by_place`, scores are those of matches, and
        places are where these are.

    Raises:
        QueryError: If there is nothing to look for, or no frames to look into.
        DamagedStoreError: If hits are ranked by place, and frames are not what was written.
    """
    terms = scope.terms
    for one in questions:
        if one.vectors is None and not scope.is_filtered:
            raise QueryError("nothing to look for: give a clip, a window id or a tag")
        if one.vectors is None and terms.by == "place":
            raise QueryError("hits are ranked by a place that is like a clip, and no clip asks")
    questions = [one.weighted(terms.tag_weight) for one in questions]
    questions = [one._replace(own=index.with_aliases(one.own)) for one in questions]
    heard = scope.without_silence()
    scopes = [scope if one.is_silent or one.vectors is None else heard for one in questions]
    near, num_left_out, num_overlooked, alone = _look(index, questions, scopes, listen)
    if len(near.rows) > terms.num_candidates:
        near = near.take(near.ranks < terms.num_candidates)
    if terms.diversity:
        near = near.take(_choose(index, near, scope))
    match, trouble = None, None
    if terms.locates and any(any(one.patterns) for one in questions):
        try:
            match = _locate(index, questions, near, by_place=terms.by == "place")
        except DamagedStoreError as error:  # what was found is right all the same
            trouble = error
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
        num_overlooked=num_overlooked,
        match=match,
        trouble=trouble,
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


def unlocated(question: Question, index: SoundIndex, terms: Terms) -> Iterator[str]:
    """Say why it is not known where in hits what asks is, if somebody wants to know.

    Args:
        question: What was asked.
        index: What was asked.
        terms: With which it was asked.
    """
    if question.vectors is None or not terms.locates:
        return
    patterns = [one for one in question.patterns if one is not None]
    if patterns and index.identity.frames == "none":
        yield "where in a hit it is cannot be said: the store keeps no frame embeddings"
    elif terms.by == "place" and not patterns:
        yield "ranked by whole windows: nothing that asks is shorter than a window"
    elif terms.by == "place" and len(patterns) < len(question.patterns):
        yield "ranked by what asks and is shorter than a window, and by nothing else"
    if terms.by == "place" and patterns and max(one.duration_s for one in patterns) < _LEAST_S:
        yield (
            f"ranked by places of less than {_LEAST_S:g} s: their few frames tell little, and "
            f"whole windows often find more"
        )


def _look(
    index: SoundIndex, questions: Sequence[Question], scopes: Sequence[Scope], listen: Listen
) -> tuple[Near, Integers, Integers, LookForOne | None]:
    """Return the hits of each question in turn, how many rows it leaves out, or overlooks.

    And what looked for them, if it is one question.

    Those of a single vector are searched together, if the same rows may be hits. Several vectors
    are another matter: the score of a row is its best over all of them, also over those that did
    not lead to it.
    """
    together = _of_one_vector(questions, scopes[0].terms) if len(questions) > 1 else []
    near: list[Near] = []
    num_left_out, num_overlooked = np.zeros((2, len(questions)), np.int64)
    alone = None
    for silent in (False, True):
        at = np.array([one for one in together if questions[one].is_silent is silent], np.int64)
        if not len(at):
            continue
        some = [questions[number] for number in at.tolist()]
        vectors = np.concatenate([one.vectors for one in some if one.vectors is not None])
        many = LookForMany(index, scopes[at[0]], vectors, [one.own for one in some])
        found = Near.joined(list(find_enough(many, len(some), many.first_k, many.num_allowed)))
        near.append(found._replace(asked=at[found.asked]))
        num_left_out[at] = many.num_left_out
    for number in sorted({*range(len(questions))}.difference(together)):
        one = questions[number]
        if one.vectors is not None and one.ranks_by_place(scopes[number].terms):
            found, alone, num_overlooked[number] = find_by_place(
                index, scopes[number], one.vectors, one.patterns, one.own, listen
            )
        else:
            alone = LookForOne(index, scopes[number], one.vectors, one.own)
            *_, found = find_enough(alone, 1, alone.first_k, alone.num_allowed)
        near.append(found._replace(asked=found.asked + number))
        num_left_out[number] = alone.num_left_out
    if len(questions) == 1:
        return near[0], num_left_out, num_overlooked, alone
    joined = Near.joined(near)
    joined = joined.take(np.argsort(joined.asked, kind="stable"))
    return joined, num_left_out, num_overlooked, None


def _of_one_vector(questions: Sequence[Question], terms: Terms) -> list[int]:
    """Return which questions can be searched as one matrix."""
    shapes = [None if one.vectors is None else one.vectors.shape for one in questions]
    width = max((shape[1] for shape in shapes if shape), default=0)
    return [
        number
        for number, (one, shape) in enumerate(zip(questions, shapes, strict=True))
        if shape == (1, width) and not one.ranks_by_place(terms)
    ]


def _locate(
    index: SoundIndex, questions: Sequence[Question], near: Near, *, by_place: bool
) -> Match:
    """Return where in rows what asks is.

    Of a question with several vectors that is what is nearest; ranked by place, what is most alike.
    """
    found = Match.unknown(len(near.rows))
    bounds = np.searchsorted(near.asked, np.arange(len(questions) + 1))
    for one, low, high in zip(questions, bounds[:-1], bounds[1:], strict=True):
        if one.vectors is None or not any(one.patterns):
            continue
        at = low + np.argsort(near.rows[low:high])  # frames are stored in groups of rows
        best = None if by_place else parts_of(index, one.vectors, near.rows[at]).best
        found.put(at, locate(index, one.patterns, best, near.rows[at]))
    return found


def _choose(index: SoundIndex, near: Near, scope: Scope) -> Integers:
    """Return which rows to keep, in the order of choice: the best that are unlike each other."""
    terms, kept = scope.terms, [np.empty(0, np.int64)]
    for at in np.split(np.arange(len(near.rows)), np.flatnonzero(np.diff(near.asked)) + 1):
        vectors = index.vectors(near.rows[at])
        kept.append(at[choose_diverse(vectors, near.scores[at], terms.k, terms.diversity)])
    return np.concatenate(kept)
