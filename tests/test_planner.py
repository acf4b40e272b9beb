"""The planner: arithmetic, held against what it promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.generation.manifest import Calibration, Level
from search.nearest.planner import WORTH_WAITING_MS, choose

CALIBRATION = Calibration(
    target=0.95,
    num_rows=1_000_000,
    exact_row_ms=1e-4,
    levels=(
        Level(share=1.0, reach=0.1, effort=16, recall=0.98, ms=0.5),
        Level(share=0.1, reach=0.2, effort=64, recall=0.97, ms=1.5),
        Level(share=0.05, reach=0.3, effort=256, recall=0.96, ms=4.5),
    ),
)


@pytest.mark.parametrize(
    ("num_matching", "k", "name", "effort"),
    [
        (1_000_000, 10, "lists", 16),  # all windows
        (999_000, 10, "lists", 16),  # all but the query's recording
        (500_000, 10, "lists", 64),  # between two levels: the narrower one's effort
        (100_000, 10, "lists", 64),
        (60_000, 10, "lists", 256),
        (40_000, 10, "exact", 0),  # narrower than anything that was measured
        (20_000, 10, "exact", 0),  # 2 ms: quick enough
        (0, 10, "exact", 0),
        (1_000_000, 1, "lists", 16),
        (1_000_000, 100, "lists", 64),  # as hard as 10 among a tenth
        (1_000_000, 10_000, "exact", 0),
    ],
)
def test_choose_follows_what_was_measured(
    num_matching: int, k: int, name: str, effort: int
) -> None:
    plan = choose(CALIBRATION, num_matching, 1_000_000, k)
    assert (plan.name, plan.effort) == (name, effort)
    assert plan.is_exact == (name == "exact")


@given(num_matching=st.integers(0, 1_000_000), k=st.integers(1, 1000), exact=st.booleans())
def test_choose_promises_no_more_than_was_measured(num_matching: int, k: int, exact: bool) -> None:
    plan = choose(CALIBRATION, num_matching, 1_000_000, k, exact=exact)
    whole_ms = num_matching * CALIBRATION.exact_row_ms
    if exact or whole_ms <= WORTH_WAITING_MS:
        assert plan.is_exact
    if plan.is_exact:
        assert (plan.recall, plan.expected_ms) == (1, whole_ms)
    else:
        assert plan.expected_ms <= whole_ms
        assert plan.reach in {level.reach for level in CALIBRATION.levels}


@given(st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_choose_never_reaches_less_far_for_a_narrower_filter(one: int, other: int) -> None:
    few, many = sorted((one, other))
    narrow, wide = (choose(CALIBRATION, number, 1_000_000, 10) for number in (few, many))
    assert narrow.is_exact or narrow.reach >= wide.reach


def test_choose_without_lists_is_exact() -> None:
    assert choose(Calibration(0.95, 100, 1.0), 100, 100, 10).is_exact
