"""What a search must answer, worked out the slow way from what was put into a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from synthetic import Synthetic

from indexer.tags import TagVocabulary
from search.asking.answers import Found, Hit
from search.asking.find import Question, find
from search.asking.left_out import LeftOut
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.filters.tags import TagFilter

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Query:
    """A question and its terms, in the oracle's words."""

    vectors: Array | None = None
    k: int = 10
    filter: TagFilter | None = None
    exclude: frozenset[bytes] = frozenset()
    group_by: Literal["file"] | None = None
    min_score: float | None = None
    exact: bool = False
    diversity: float = 0.0
    all_windows: bool | None = None
    unique_at: float | None = None
    where: str | None = None
    metadata: Path | None = None
    is_silent: bool = False

    @property
    def question(self) -> Question:
        own = frozenset(map(LeftOut, self.exclude))
        return Question(self.vectors, own, is_silent=self.is_silent)

    @property
    def terms(self) -> Terms:
        tags = TagFilter() if self.filter is None else self.filter
        return Terms(
            k=self.k,
            tags=tags.all_of,
            any_tags=tags.any_of,
            not_tags=tags.none_of,
            threshold=tags.threshold,
            descendants=tags.descendants,
            where=self.where,
            metadata=self.metadata,
            group_by=self.group_by,
            min_score=self.min_score,
            diverse=self.diversity,
            all_windows=self.all_windows,
            **({} if self.unique_at is None else {"unique": True, "unique_at": self.unique_at}),
            exact=self.exact,
        )


def find_one(index: SoundIndex, query: Query) -> Found:
    """What the index finds, to be held against `answer`."""
    return find(index, [query.question], Scope.of(query.terms, index.opened))


def find_among_others(index: SoundIndex, query: Query) -> Found:
    """What it finds if the question is one of three."""
    other = Question(np.eye(1, 768, dtype=np.float32), frozenset({LeftOut(b"x" * 16)}))
    scope = Scope.of(query.terms, index.opened)
    found = find(index, [other, query.question, other], scope)
    mine = found.asked == 1
    assert found.ranks[mine].tolist() == list(range(1, int(mine.sum()) + 1))
    columns = (found.scores, found.window_ids, found.rows, found.stands_for)
    counts = found.num_left_out[1:2], found.num_silent[1:2], found.num_overlooked[1:2]
    return Found(1, found.asked[mine] - 1, *(one[mine] for one in columns), *counts)


def ask(index: SoundIndex, query: Query) -> list[Hit]:
    """The hits of what it finds."""
    return index.hits(find_one(index, query))[0]


class Row(NamedTuple):
    """A live window, and what a query makes of it."""

    window_id: int
    recording_id: bytes
    scene: Array
    tags: Array
    start: int
    end: int
    level_db: float


def live_rows(*stores: Synthetic) -> list[Row]:
    return [
        Row(
            store.windows[at].window_id,
            store.windows[at].recording_id,
            store.scene[at],
            store.tags[at],
            store.windows[at].start_sample,
            store.windows[at].start_sample + store.windows[at].num_samples,
            store.levels_db[at],
        )
        for store in stores
        for at in store.live()
    ]


def unit(scene: Array) -> Array:
    """Vectors of length 1 in float64; zeros stay."""
    wide = np.atleast_2d(scene).astype(np.float64)
    length = np.sqrt((wide**2).sum(1, keepdims=True))
    return np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)


def outputs_below(name: str, *, descendants: bool = True) -> list[int]:
    """Outputs that a tag stands for, by recursion over the ontology."""
    vocabulary = TagVocabulary.audioset()
    tag = vocabulary.resolve(name)
    below = vocabulary.descendants(tag) if descendants else ()
    return [one.index for one in (tag, *below) if one.index is not None]


def probability(tags: Array, name: str, *, descendants: bool = True) -> Array:
    """(n,) float16: the greatest over the outputs that a tag stands for."""
    return np.asarray(tags[:, outputs_below(name, descendants=descendants)].max(1))


def matches(tags: Array, wanted: TagFilter) -> Array:
    """(n,) bool, straight on the float16 tags."""

    def heard(name: str) -> Array:
        found = probability(tags, name, descendants=wanted.descendants)
        return np.asarray(found.astype(np.float32) >= np.float32(wanted.threshold))

    matching = np.ones(len(tags), bool)
    for name in wanted.all_of:
        matching &= heard(name)
    if wanted.any_of:
        matching &= np.any([heard(name) for name in wanted.any_of], axis=0)
    for name in wanted.none_of:
        matching &= ~heard(name)
    return matching


def relevance(tags: Array, wanted: TagFilter) -> Array:
    """(n,) float32: the least of what is wanted, and of one minus what is not."""

    def of(name: str) -> Array:
        return probability(tags, name, descendants=wanted.descendants).astype(np.float32)

    fits = [of(name) for name in wanted.all_of]
    if wanted.any_of:
        fits.append(np.max([of(name) for name in wanted.any_of], axis=0))
    fits += [np.float32(1) - of(name) for name in wanted.none_of]
    return np.asarray(np.min(fits, axis=0))


def scores(rows: Sequence[Row], query: Query) -> Array:
    """(n,) float32: the best cosine over the query's vectors, or how well the filter fits."""
    if query.vectors is None:
        assert query.filter is not None
        return relevance(np.array([row.tags for row in rows]), query.filter)
    stored = unit(np.array([row.scene for row in rows])).astype(np.float32).astype(np.float64)
    best = (stored @ query.vectors.astype(np.float64).T).max(1)
    return np.asarray(np.clip(best, -1, 1), np.float32)


def share_a_place(one: Row, other: Row) -> bool:
    """Whether two windows overlap by at least half of the shorter of them."""
    if one.recording_id != other.recording_id:
        return False
    overlap = min(one.end, other.end) - max(one.start, other.start)
    return overlap >= min(one.end - one.start, other.end - other.start) / 2


def answer(stores: Sequence[Synthetic], query: Query) -> list[tuple[float, int]]:
    """(score, window id) of every hit in order: all rows, filtered, sorted, one by one."""
    return [(score, window_id) for score, window_id, _ in answer_with_counts(stores, query)]


def answer_with_counts(stores: Sequence[Synthetic], query: Query) -> list[tuple[float, int, int]]:
    """The same, each with how many hits it stands for."""
    rows = live_rows(*stores)
    if not rows:
        return []
    matching = np.ones(len(rows), bool)
    if query.filter:
        matching = matches(np.array([row.tags for row in rows]), query.filter)
    ranked = sorted(
        (-float(score), row.window_id, at)
        for at, (score, row, may) in enumerate(
            zip(scores(rows, query), rows, matching, strict=True)
        )
        if may
        and (query.vectors is None or query.is_silent or not row.level_db < -80)
        and row.recording_id not in query.exclude
        and (query.min_score is None or score >= np.float32(query.min_score))
    )
    hits: list[tuple[float, int]] = []
    for negative_score, _, at in ranked:
        if not any(is_one_hit(rows[at], rows[other], query) for _, other in hits):
            hits.append((-negative_score, at))
    vectors = unit(np.array([row.scene for row in rows]))
    copies: dict[int, int] = {}  # the hits that are shown, and how many each stands for
    for _, at in hits:
        least = 2.0 if query.unique_at is None else query.unique_at - 1e-6
        first = next((one for one in copies if vectors[one] @ vectors[at] >= least), at)
        if first == at and len(copies) == query.k:
            break  # copies that come later are not counted
        copies[first] = copies.get(first, 0) + 1
    shown = {at: score for score, at in hits}
    return [(shown[at], rows[at].window_id, number) for at, number in copies.items()]


def is_one_hit(one: Row, better: Row, query: Query) -> bool:
    if query.group_by:
        return one.recording_id == better.recording_id
    if query.all_windows:
        return one.window_id == better.window_id
    return share_a_place(one, better)
