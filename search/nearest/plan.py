"""How a question is answered: exactly, or by sketches; and how far these are looked through."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from search.generation.manifest import Effort

#: Hits that recall is measured at, as is usual for nearest neighbours.
MEASURED_K = 10
#: A filter that leaves this much less is taken for the same: most leave out the query's recording.
_AS_GOOD_AS = 1.1
#: Where no more than so many times the rows that would be scored match, all of them are.
_EXACT = 2
#: The power of the number of vectors with which rows to scan grow. Five unlike ones that share what
#: one takes found 0.92 of their true ten among 200,000 made-up windows, and so 0.99.
_MORE_VECTORS = 0.6
#: The power of the number of hits with which rows to scan grow: with a half, 100 hits of 200,000
#: made-up windows had a recall of 0.975 where 10 had 0.999.
_MORE_SCANNED = 0.75

PlanName = Literal["exact", "sketches"]


class Plan(NamedTuple):
    """How a question is answered.

    Attributes:
        name: "exact" computes the score of every row that matches; "sketches" those of the rows
            that are best by their sketches.
        num_scanned: Rows that match whose sketches are expected to be looked at; in the end, how
            many were.
        num_scored: How many of them are scored, the best by their sketches.
        num_lists: Lists that were visited; 0 if all rows that match were looked at.
        recall: Measured at the build for filters about as narrow; 1 for an exact answer.
        reach: How far lists are looked through, see `scan`.
    """

    name: PlanName
    num_scanned: int = 0
    num_scored: int = 0
    num_lists: int = 0
    recall: float = 1.0
    reach: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether its answer has no better one."""
        return self.name == "exact"


#: Everything was looked at.
EXACT = Plan("exact")


def choose_plan(
    effort: Effort,
    num_matching: int,
    num_rows: int,
    k: int,
    *,
    num_vectors: int = 1,
    exact: bool = False,
) -> Plan:
    """Choose how k of some rows are to be found.

    Where what matches is a share between two that were measured, as much is scanned as for either.
    More hits take more: a third of what is scored for ten for each ten, and `_MORE_SCANNED`; so do
    several vectors, whose nearest lists are others.

    Args:
        effort: What was measured at the build.
        num_matching: Rows that may be found.
        num_rows: Live rows.
        k: Hits asked for.
        num_vectors: That ask together.
        exact: Whether only an exact answer will do.
    """
    more = max(1.0, k / MEASURED_K)
    num_scored = max(math.ceil(effort.num_scored * (2 + more) / 3), k)
    if exact or not effort.measured or num_matching <= _EXACT * num_scored:
        return EXACT
    share = num_matching / max(1, num_rows) * _AS_GOOD_AS
    wider = [one for one in effort.measured if one.share > share][-1:]
    narrower = [one for one in effort.measured if one.share <= share][:1]
    is_like_it = bool(narrower) and narrower[0].share * _AS_GOOD_AS**2 >= share
    near = narrower if is_like_it else wider + narrower
    more_scanned = more**_MORE_SCANNED * num_vectors**_MORE_VECTORS
    num_scanned = max(one.num_scanned for one in near) * more_scanned
    recall, reach = min(one.recall for one in near), max(one.reach for one in near)
    return Plan("sketches", math.ceil(num_scanned), num_scored, 0, recall, reach)
