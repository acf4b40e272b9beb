"""Terms in the light of the stores that are asked: which of their rows may be hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from types import MappingProxyType
from typing import NamedTuple, Self

import numpy as np

from indexer.arrays import ID_DTYPE, Float32, Ids, Integers, contains
from indexer.errors import QueryError
from indexer.tags import DEFAULT_THRESHOLD, Threshold
from search.asking.left_out import AllLeftOut
from search.asking.matching import Matching
from search.asking.opened import OpenedStore
from search.asking.terms import Terms
from search.filters.computed import ComputedTerm
from search.filters.conditions import Where
from search.filters.metadata import Coverage, Metadata
from search.filters.tags import Condition, Learned, ResolvedFilter, TagFilter
from search.learned.tags import LearnedTag

#: More recordings than any question may find.
_NO_LIMIT = np.iinfo(np.int64).max


class Resolved(NamedTuple):
    """Terms whose tags and expression are understood, whatever stores will be asked.

    Attributes:
        terms: What was asked for.
        tags: The condition on tags; None if there is none.
        where: The expression, with the metadata that it may name; None if there is none.
        metadata: What is known of recordings beside the stores; None if nothing is.
        threshold: From which probability on a tag is heard.
        learned: Tags that were learned, by their names.
    """

    terms: Terms
    tags: ResolvedFilter | None
    where: Where | None
    metadata: Metadata | None
    threshold: Threshold = DEFAULT_THRESHOLD
    learned: Learned = MappingProxyType({})

    @property
    def shown(self) -> dict[str, LearnedTag]:
        """The learned tags that the terms name, which hits show: names → tags."""
        return {
            name: term.of
            for name, term in self.learned.items()
            if self.terms.names(name)
            and isinstance(term, ComputedTerm)
            and isinstance(term.of, LearnedTag)
        }


def resolve(
    terms: Terms, measured: Float32 | None = None, learned: Learned | None = None
) -> Resolved:
    """Understand terms: what is misspelt in them is found before anything is opened.

    Args:
        terms: What was asked for.
        measured: (527,) from which probability on each tag is heard, if the terms leave it to what
            was measured.
        learned: Tags that were learned, which the terms may name.

    Raises:
        UnknownTagError: If they name a tag that cannot be filtered by.
        ExpressionError: If the expression cannot be understood.
        QueryError: If the metadata cannot be read.
    """
    threshold = _threshold(terms, measured)
    tags = TagFilter(
        terms.tags,
        terms.any_tags,
        terms.not_tags,
        threshold,
        descendants=terms.descendants,
        learned=learned or {},
    )
    metadata = Metadata.read(terms.metadata) if terms.metadata else None
    where = None
    if terms.where is not None:
        where = Where.parse(
            terms.where,
            metadata,
            threshold=threshold,
            descendants=terms.descendants,
            learned=learned or {},
        )
    condition = tags.resolve() if tags else None
    return Resolved(terms, condition, where, metadata, threshold, learned or {})


def _recordings(matching: Sequence[Matching]) -> Ids:
    """Return the sorted ids of the recordings of some rows."""
    return np.unique(np.concatenate([one.recordings() for one in matching]))


def _threshold(terms: Terms, measured: Float32 | None) -> Threshold:
    if not isinstance(terms.threshold, str):
        return terms.threshold
    if measured is None:
        raise QueryError(f"threshold is {terms.threshold!r}, and no measured ones are given")
    return measured


@dataclass(frozen=True, slots=True)
class Scope:
    """What terms mean for some stores, found out once for all questions.

    Attributes:
        terms: What was asked for.
        conditions: Of each store: which rows may be hits; None for all.
        matching: Of each store: the rows that may be hits.
        coverage: How the metadata and the stores fit together; None without metadata.
        recordings: Sorted ids of the recordings with such rows; None unless these are grouped.
        filter_ms: Milliseconds that it took.
        resolved: The terms, understood.
    """

    terms: Terms
    conditions: tuple[Condition | None, ...]
    matching: tuple[Matching, ...]
    coverage: Coverage | None
    recordings: Ids | None
    filter_ms: float
    resolved: Resolved

    @classmethod
    def of(cls, terms: Terms, stores: Sequence[OpenedStore]) -> Self:
        """Resolve terms, for some stores.

        Raises:
            What `resolve` and `over` do.
        """
        return cls.over(resolve(terms), stores)

    @classmethod
    def over(cls, resolved: Resolved, stores: Sequence[OpenedStore]) -> Self:
        """Find the rows of some stores that may be hits.

        Raises:
            QueryError: If the metadata is about other recordings.
        """
        began = perf_counter()
        terms, tags, where, metadata = resolved[:4]
        conditions = tuple(one.condition(tags, where) for one in stores)
        matching = tuple(
            one.matching(condition) for one, condition in zip(stores, conditions, strict=True)
        )
        coverage = None
        if metadata:
            coverage = metadata.coverage([one.places for one in stores])
        recordings = _recordings(matching) if terms.group_by else None
        filter_ms = (perf_counter() - began) * 1e3
        return cls(terms, conditions, matching, coverage, recordings, filter_ms, resolved)

    def without_silence(self) -> Scope:
        """Return it without the rows in which nothing is heard; itself if there are none."""
        matching = tuple(one.heard() for one in self.matching)
        if all(one is other for one, other in zip(matching, self.matching, strict=True)):
            return self
        recordings = None if self.recordings is None else _recordings(matching)
        return replace(self, matching=matching, recordings=recordings)

    @property
    def num_allowed(self) -> int:
        """How many rows may be hits, in all stores."""
        return sum(one.num_rows for one in self.matching)

    @property
    def missing(self) -> tuple[str, ...]:
        """What of the stores could not be asked, in sentences; nothing, nearly always."""
        return tuple(line for one in self.matching for line in one.missing)

    def count_recordings(self, own: Sequence[AllLeftOut]) -> Integers:
        """Return (n,) how many recordings questions may find at most, if these are grouped.

        Args:
            own: What each question leaves out. Only spans may be left out of a recording; it counts
                then, though there may be nothing else of it.
        """
        if self.recordings is None:
            return np.full(len(own), _NO_LIMIT)
        whole = [{one.recording_id for one in spans if one.is_whole} for spans in own]
        left_out = [
            int(contains(self.recordings, np.array(sorted(ids), ID_DTYPE)).sum()) for ids in whole
        ]
        return len(self.recordings) - np.array(left_out, np.int64)

    @property
    def is_filtered(self) -> bool:
        """Whether the terms leave anything out, so that they can be asked for by themselves."""
        return any(condition is not None for condition in self.conditions)
