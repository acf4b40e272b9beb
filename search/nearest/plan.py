"""How a question is answered: exactly, or by sketches; and how far these are looked through."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from search.generation.manifest import Effort

#: Hits that recall is measured at, as is usual for nearest neighbours.
MEASURED_K = 10
#: A filter that leaves this much less is taken for the same: most leave out the query's recording.
_AS_GOOD_AS = 1.1
#: Where no more match, all of them are scored: to ask sketches takes about as long.
MOST_SCORED_ALL = 128
#: The power of the number of vectors with which the reach grows. What is nearest to any of some
#: vectors is further from its centre than what is nearest to one: five unlike ones found 0.97 of
#: their true ten among 200,000 made-up windows with the reach of one, and so 0.997.
_MORE_REACH = 1 / 6
#: The same of both margins: any of the products of a row may err. Five windows found 0.975 of their
#: true ten among 30,000 made-up ones with the margins of one, and 0.990 with about such.
_MORE_MARGIN = 1 / 3
#: The power of how many times fewer match than of the narrowest filter that was measured, with
#: which both margins grow: fewer rows are within them, and some are far from what asks. Of 10^7
#: windows of which 1,852 matched, 0.982 of the true ten of blends were found with the margins of a
#: tenth, as 11 rows were scored, and 0.998 with five times these and 23 rows.
_NARROWER_MARGIN = 1 / 4
#: With which powers of the number of vectors and of hits the rows that are scanned grow, about.
_VECTORS_SCANNED, _HITS_SCANNED = 0.6, 0.75

PlanName = Literal["exact", "sketches"]


class Plan(NamedTuple):
    """How a question is answered.

    Attributes:
        name: "exact" computes the score of every row that matches; "sketches" those of the rows
            that are best by their sketches, of all that match or of the nearest lists.
        num_scanned: Rows that match whose sketches are expected to be looked at; in the end, how
            many were.
        num_scored: How many of them are expected to be scored, the best by their sketches; in the
            end, how many were.
        num_lists: Lists that were visited; 0 if all rows that match were looked at.
        recall: Measured at the build for filters about as narrow; 1 for an exact answer.
        reach: How much nearer than its middle the rows of a clump may be, see `Ranking.rank` of
            `search.nearest.ranking`; those of a list, than its centre, more: see `scan`.
        num_hits: Hits asked for, or as many as margins were measured with if these are more: the
            first alone would be overlooked twice as often as any of ten. Lists are
            visited until so many rows are nearer than any in those that are left may be.
        margin: How much less near than the last of these hits rows may be by their codes, and still
            be hits: their finer codes are looked at; if 0, of none.
        finer_margin: The same by their finer codes: these are scored.
    """

    name: PlanName
    num_scanned: int = 0
    num_scored: int = 0
    num_lists: int = 0
    recall: float = 1.0
    reach: float = 0.0
    num_hits: int = MEASURED_K
    margin: float = 0.0
    finer_margin: float = 0.0

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

    Where what matches is a share between two that were measured, lists are looked through as far
    as for either. Several vectors take a longer reach and wider margins, see `_MORE_REACH`. For
    more hits lists are visited until as many rows are nearer than any that are left: 500 hits of
    100,000 made-up windows had a recall of 0.9997 so, and of 0.990 with 188 rows, which takes a
    sixth less.

    Args:
        effort: What was measured at the build.
        num_matching: Rows that may be found.
        num_rows: Live rows.
        k: Hits asked for.
        num_vectors: That ask together.
        exact: Whether only an exact answer will do.
    """
    more = max(1.0, k / MEASURED_K)
    if exact or not effort.measured or num_matching <= max(MOST_SCORED_ALL, k):
        return EXACT
    share = num_matching / max(1, num_rows) * _AS_GOOD_AS
    wider = [one for one in effort.measured if one.share > share][-1:]
    narrower = [one for one in effort.measured if one.share <= share][:1]
    is_like_it = bool(narrower) and narrower[0].share * _AS_GOOD_AS**2 >= share
    near = narrower if is_like_it else wider + narrower
    more_scanned = more**_HITS_SCANNED * num_vectors**_VECTORS_SCANNED
    num_scanned = math.ceil(max(one.num_scanned for one in near) * more_scanned)
    reach = max(one.reach for one in near) * num_vectors**_MORE_REACH
    times_fewer = max(1.0, effort.measured[-1].share / max(share, 1e-12))
    wider_by = num_vectors**_MORE_MARGIN * times_fewer**_NARROWER_MARGIN
    return Plan(
        name="sketches",
        num_scanned=num_scanned,
        num_scored=math.ceil(max(one.num_scored for one in near) * more),
        recall=min(one.recall for one in near),
        reach=reach,
        num_hits=max(k, MEASURED_K),
        margin=max(0.0, *(one.margin for one in near)) * wider_by,  # forged, it may be less
        finer_margin=max(0.0, *(one.finer_margin for one in near)) * wider_by,
    )
