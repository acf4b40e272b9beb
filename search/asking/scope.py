"""Terms in the light of the stores that are asked: which of their rows may be hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Self

from indexer.arrays import Mask
from search.asking.opened import OpenedStore
from search.asking.terms import Terms
from search.filters.conditions import Where
from search.filters.metadata import Coverage, Metadata
from search.filters.tags import Condition, TagFilter


@dataclass(frozen=True, slots=True)
class Scope:
    """What terms mean for some stores, found out once for all questions.

    Attributes:
        terms: What was asked for.
        conditions: Of each store: which rows may be hits; None for all.
        allowed: Of each store: a (num_rows,) mask for each segment.
        coverage: How the metadata and the stores fit together; None without metadata.
        filter_ms: Milliseconds that it took.
    """

    terms: Terms
    conditions: tuple[Condition | None, ...]
    allowed: tuple[list[Mask], ...]
    coverage: Coverage | None
    filter_ms: float

    @classmethod
    def of(cls, terms: Terms, stores: Sequence[OpenedStore]) -> Self:
        """Resolve terms.

        Raises:
            UnknownTagError: If they name a tag that cannot be filtered by.
            ExpressionError: If the expression cannot be understood.
            QueryError: If the metadata cannot be read, or is about other recordings.
        """
        began = perf_counter()
        tags = filter_of(terms)
        resolved = tags.resolve()
        where = _where_of(terms)
        conditions = tuple(one.condition(resolved if tags else None, where) for one in stores)
        allowed = tuple(
            one.allowed(condition) for one, condition in zip(stores, conditions, strict=True)
        )
        coverage = None
        if where and where.metadata:
            coverage = where.metadata.coverage([one.places for one in stores])
        return cls(terms, conditions, allowed, coverage, (perf_counter() - began) * 1e3)

    @property
    def is_filtered(self) -> bool:
        """Whether the terms leave anything out, so that they can be asked for by themselves."""
        return any(condition is not None for condition in self.conditions)


def filter_of(terms: Terms) -> TagFilter:
    """Return the condition on tags."""
    return TagFilter(
        terms.tags,
        terms.any_tags,
        terms.not_tags,
        terms.threshold,
        descendants=terms.descendants,
    )


def _where_of(terms: Terms) -> Where | None:
    if terms.where is None:
        return None
    metadata = Metadata.read(terms.metadata) if terms.metadata else None
    return Where.parse(
        terms.where, metadata, threshold=terms.threshold, descendants=terms.descendants
    )
