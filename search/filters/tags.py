"""Conditions on tags: which rows match, and how well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from indexer.arrays import Float16, Float32, Integers, Mask
from indexer.errors import QueryError, UnknownTagError
from indexer.store.schema import NUM_TAGS
from indexer.tags import DEFAULT_THRESHOLD, TagVocabulary, Threshold, threshold_of
from search.generation.codes import CODE_SHIFT
from search.generation.segments import Segment

#: The least and the greatest probability of each code.
_LEAST, _GREATEST = (
    (np.arange(1 << 8, dtype=np.uint16) << CODE_SHIFT | rest).view(np.float16).astype(np.float32)
    for rest in (0, (1 << CODE_SHIFT) - 1)
)


class Probable(Protocol):
    """A tag of a filter, resolved: how probable it is in rows of a segment.

    It is a `Term` of AudioSet's, or one that was learned.
    """

    def probabilities(self, segment: Segment, rows: Integers) -> Float16:
        """Return (n,) float16 probabilities in some rows of a segment."""

    def exactly(self, segment: Segment, rows: Integers) -> Float32:
        """Return `probabilities` as float32."""

    def least(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) float32 the least that they may be, by what is known without reading them."""

    def greatest(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) float32 the greatest that they may be, likewise."""

    def reaches(self, segment: Segment, bound: np.float16) -> Mask:
        """Return (num_rows,) which rows have a probability at or above a bound, dead rows too."""


class Term(NamedTuple):
    """One tag of AudioSet's in a filter, resolved.

    Attributes:
        indices: Outputs of the model that it stands for; its probability is their maximum.
        column: Row of `Segment.codes` that holds the code of that maximum.
    """

    indices: tuple[int, ...]
    column: int

    def probabilities(self, segment: Segment, rows: Integers) -> Float16:
        """Return (n,) float16 probabilities in some rows of a segment."""
        return np.asarray(segment.tags[rows[:, None], self.indices].max(1))

    def exactly(self, segment: Segment, rows: Integers) -> Float32:
        """Return `probabilities` as float32."""
        return self.probabilities(segment, rows).astype(np.float32)

    def least(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) float32 the least that the probabilities may be, going by their codes."""
        return np.asarray(_LEAST[segment.codes[self.column, rows]])

    def greatest(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) float32 the greatest that the probabilities may be, going by their codes."""
        return np.asarray(_GREATEST[segment.codes[self.column, rows]])

    def reaches(self, segment: Segment, bound: np.float16) -> Mask:
        """Return (num_rows,) which rows have a probability at or above a bound, dead rows too."""
        bound_bits = int(bound.view(np.uint16))
        sure = -(-bound_bits >> CODE_SHIFT)  # the least code of which every probability reaches it
        codes = segment.codes[self.column]
        reaches: Mask = codes >= sure
        if sure << CODE_SHIFT != bound_bits:  # of the code below, some do: the float16 tells
            rows = np.flatnonzero(codes == sure - 1)
            reaches[rows] = self.probabilities(segment, rows) >= bound
        return reaches


#: Says of some rows of a segment how probable a term is: `exactly`, or a bound of it.
Probability = Callable[[Probable, Segment, Integers], Float32]


def exactly(term: Probable, segment: Segment, rows: Integers) -> Float32:
    """Return (n,) float32 probabilities of a term in some rows."""
    return term.exactly(segment, rows)


def at_least(term: Probable, segment: Segment, rows: Integers) -> Float32:
    """Return (n,) float32 the least that these may be."""
    return term.least(segment, rows)


def at_most(term: Probable, segment: Segment, rows: Integers) -> Float32:
    """Return (n,) float32 the greatest that these may be."""
    return term.greatest(segment, rows)


#: What stands before the names of tags that were learned.
LEARNED_PREFIX = "my."
#: What stands before the names of windows that were selected, see `search.filters.selected`.
SELECTED_PREFIX = "selected."
#: From this probability on a learned tag is heard: learning has cut it there.
LEARNED_THRESHOLD = 0.5
#: Tags that were learned and windows that were selected, by their names with the prefix.
Learned = Mapping[str, Probable]


class Condition(Protocol):
    """Which rows of a segment may be hits, and how well they fit."""

    def matches(self, segment: Segment) -> Mask:
        """Return (num_rows,) which rows of a segment match; dead rows never do."""

    def relevance(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) how well rows of a segment fit, from 0 to 1."""

    def relevance_bounds(self, segment: Segment, rows: Integers) -> tuple[Float32, Float32]:
        """Return the least and the greatest relevance that rows may have, going by their codes."""


@dataclass(frozen=True, slots=True)
class TagFilter:
    """A condition on what the model heard.

    A tag matches a window when its stored probability is at least the threshold. A tag of the
    ontology stands for everything below it as well: "Animal" matches a window with "Dog" in it.

    Attributes:
        all_of: Tags that must all match; names, mids or indices, as `TagVocabulary.resolve` takes.
        any_of: Tags of which one must match; no condition if empty.
        none_of: Tags that must not match.
        threshold: Probability from which on a tag matches; one for all, or (527,).
        descendants: Whether a tag stands for those below it in the ontology too.
        learned: Tags that were learned, which may be named as well; they have a threshold of their
            own.
    """

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    threshold: Threshold = DEFAULT_THRESHOLD
    descendants: bool = True
    learned: Learned = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.all_of or self.any_of or self.none_of)

    def resolve(self) -> ResolvedFilter:
        """Look the tags up.

        Raises:
            UnknownTagError: If AudioSet has no such tag, or the model no output at or below it.
            QueryError: If the threshold is not a probability.
        """
        require_probability(self.threshold)
        all_of, any_of, none_of = (
            tuple(self._asked(name) for name in names)
            for names in (self.all_of, self.any_of, self.none_of)
        )
        return ResolvedFilter(all_of, any_of, none_of)

    def _asked(self, name: str) -> Asked:
        if name.startswith((LEARNED_PREFIX, SELECTED_PREFIX)):
            bound = float16_at_least(LEARNED_THRESHOLD)
            return Asked(learned_term(name, self.learned), bound)
        term = tag_term(name, descendants=self.descendants)
        return Asked(term, float16_at_least(threshold_of_tag(self.threshold, name)))


class Asked(NamedTuple):
    """A term, and the least float16 that reaches its threshold."""

    term: Probable
    bound: np.float16

    def reaches(self, segment: Segment) -> Mask:
        """Return (num_rows,) in which rows it is heard, dead rows too."""
        return self.term.reaches(segment, self.bound)


class ResolvedFilter(NamedTuple):
    """A filter in terms of a segment's columns.

    Attributes:
        all_of: Terms that must all match.
        any_of: Terms of which one must match.
        none_of: Terms that must not match.
    """

    all_of: tuple[Asked, ...]
    any_of: tuple[Asked, ...]
    none_of: tuple[Asked, ...]

    def matches(self, segment: Segment) -> Mask:
        """Return (num_rows,) which rows of a segment match; dead rows never do."""
        masks = [one.reaches(segment) for one in self.all_of]
        if self.any_of:
            masks.append(_reduce(np.logical_or, [one.reaches(segment) for one in self.any_of]))
        if self.none_of:
            heard = _reduce(np.logical_or, [one.reaches(segment) for one in self.none_of])
            masks.append(np.logical_not(heard, out=heard))
        return _reduce(np.logical_and, [*masks, segment.alive])

    def relevance(self, segment: Segment, rows: Integers) -> Float32:
        """Return how well rows of a segment fit, from 0 to 1: what browsing by tag orders by.

        It is the least of: the probability of each tag in `all_of`, the greatest probability in
        `any_of`, and one minus the probability of each tag in `none_of`.
        """
        return self._fit(segment, rows, exactly, exactly)

    def relevance_bounds(self, segment: Segment, rows: Integers) -> tuple[Float32, Float32]:
        """Return the least and the greatest relevance that rows may have, going by their codes."""
        return (
            self._fit(segment, rows, at_least, at_most),
            self._fit(segment, rows, at_most, at_least),
        )

    def _fit(
        self, segment: Segment, rows: Integers, wanted: Probability, unwanted: Probability
    ) -> Float32:
        fits: list[Float32] = [np.ones(len(rows), np.float32)]
        fits += [wanted(one.term, segment, rows) for one in self.all_of]
        if self.any_of:
            fits.append(np.stack([wanted(one.term, segment, rows) for one in self.any_of]).max(0))
        fits += [1 - unwanted(one.term, segment, rows) for one in self.none_of]
        return np.asarray(np.min(fits, axis=0))


def _reduce(combine: np.ufunc, masks: Sequence[Mask]) -> Mask:
    """Return what some masks are together, in the place of the first: a million rows take 1 MB."""
    for mask in masks[1:]:
        combine(masks[0], mask, out=masks[0])
    return masks[0]


def require_probability(threshold: Threshold) -> None:
    """Raise a QueryError unless a threshold is one, or all are."""
    if not np.all((np.asarray(threshold) >= 0) & (np.asarray(threshold) <= 1)):
        raise QueryError(f"the threshold is a probability from 0 to 1, got {threshold}")


def threshold_of_tag(threshold: Threshold, name: str) -> float:
    """Return from which probability on a tag is heard: one without an output has the usual."""
    if not np.ndim(threshold):
        return float(threshold)
    index = TagVocabulary.audioset().resolve(name).index
    return DEFAULT_THRESHOLD if index is None else float(threshold_of(threshold, index))


@lru_cache
def float16_at_least(threshold: float) -> np.float16:
    """Return the least float16 that is not below float32(threshold)."""
    wanted = np.float32(threshold) + np.float32(0)  # -0.0 has other bits than 0.0
    nearest = np.float16(wanted)
    if np.float32(nearest) >= wanted:
        return nearest
    return np.float16(np.nextafter(nearest, np.float16(2)))


def float16_above(threshold: float) -> np.float16:
    """Return the least float16 that is above float32(threshold)."""
    bound = float16_at_least(threshold)
    if np.float32(bound) > np.float32(threshold):
        return bound
    return np.float16(np.nextafter(bound, np.float16(2)))


@cache
def _columns() -> dict[tuple[int, ...], int]:
    """Return outputs → the column of a segment's codes that holds their maximum."""
    groups = TagVocabulary.audioset().groups
    columns: dict[tuple[int, ...], int] = {(index,): index for index in range(NUM_TAGS)}
    columns.update({indices: NUM_TAGS + number for number, (_, indices) in enumerate(groups)})
    return columns


def learned_term(name: str, learned: Learned) -> Probable:
    """Look up a tag that was learned.

    Raises:
        UnknownTagError: If there is none of that name.
    """
    if name not in learned:
        there = f"there are {', '.join(sorted(learned))}" if learned else "there is none yet"
        raise UnknownTagError(
            f"unknown learned tag {name!r}; {there}",
            about="learn",
            value=("STORE", name.removeprefix(LEARNED_PREFIX)),
        )
    return learned[name]


@lru_cache
def tag_term(name: str, *, descendants: bool) -> Term:
    """Look a tag up.

    Raises:
        UnknownTagError: If AudioSet has no such tag, or the model no output at or below it.
    """
    vocabulary = TagVocabulary.audioset()
    indices = vocabulary.outputs(vocabulary.resolve(name), descendants=descendants)
    return Term(indices, _columns()[indices])
