"""Which plan answers a question: all that match, or the lists near the query. Arithmetic only."""

from __future__ import annotations

from typing import Literal, NamedTuple

from search.generation.manifest import Calibration

#: Hits that recall is measured at, as is usual for nearest neighbours.
CALIBRATED_K = 10
#: An exact answer that takes no longer than this is preferred to a quicker one that may miss hits.
WORTH_WAITING_MS = 2.0

#: A filter that leaves this much less is taken for the same: most leave out the query's recording.
_AS_GOOD_AS = 1.1

PlanName = Literal["exact", "lists"]


class Plan(NamedTuple):
    """How a query is to be answered.

    Attributes:
        name: "exact" computes the score of every row that matches; "lists" looks at the rows of
            those lists only whose centres are near enough to the query.
        reach: Visited is each list whose centre scores higher than the k-th hit minus this.
        effort: Lists that this should take, and in the end, that were visited; 0 if exact.
        recall: Measured at the build for a filter as narrow as this one; 1 for an exact answer.
        expected_ms: What it should take.
    """

    name: PlanName
    reach: float
    effort: int
    recall: float
    expected_ms: float

    @property
    def is_exact(self) -> bool:
        """Whether its answer has no better one."""
        return self.name == "exact"


#: Everything was looked at.
EXACT = Plan("exact", 0.0, 0, 1.0, 0.0)


def choose(
    calibration: Calibration, num_matching: int, num_rows: int, k: int, *, exact: bool = False
) -> Plan:
    """Choose the plan for a query.

    Exact is chosen where it is not slower, or quick enough. Otherwise the reach is that of the
    next narrower filter which was measured. To find 100 hits is taken for as hard as to find 10
    among a tenth of the rows: the furthest of them is as far away.

    Args:
        calibration: Of the index.
        num_matching: Rows that the filter leaves.
        num_rows: Live rows.
        k: Hits asked for.
        exact: Whether only an exact answer will do.
    """
    whole = Plan("exact", 0.0, 0, 1.0, num_matching * calibration.exact_row_ms)
    if exact or whole.expected_ms <= WORTH_WAITING_MS or not num_matching:
        return whole
    share = num_matching / num_rows * min(1.0, CALIBRATED_K / k)
    near = [level for level in calibration.levels if level.share <= share * _AS_GOOD_AS]
    if not near:
        return whole
    level = max(near, key=lambda one: one.share)
    lists = Plan("lists", level.reach, level.effort, level.recall, level.ms)
    return min(whole, lists, key=lambda plan: plan.expected_ms)
