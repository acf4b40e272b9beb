"""The choice of a plan: arithmetic, held against what it promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.generation.manifest import UNMEASURED, Effort, Measured
from search.nearest.plan import EXACT, MEASURED_K, Plan, choose_plan

EFFORT = Effort(
    target=0.99,
    num_rows=1_000_000,
    measured=(
        Measured(
            share=1.0,
            reach=0.6,
            num_scanned=9000,
            margin=0.003,
            num_scored=60,
            recall=0.999,
            ms=0.5,
        ),
        Measured(
            share=0.5,
            reach=0.5,
            num_scanned=8000,
            margin=0.002,
            num_scored=60,
            recall=0.998,
            ms=1.0,
        ),
        Measured(
            share=0.1,
            reach=0.7,
            num_scanned=7000,
            margin=0.001,
            num_scored=60,
            recall=0.996,
            ms=1.5,
        ),
    ),
)


@pytest.mark.parametrize(
    ("num_matching", "k", "expected"),
    [
        (1_000_000, 10, Plan("sketches", 9000, 60, 0, 0.999, 0.6, 10, 10, 0.003)),  # all windows
        (
            999_000,
            10,
            Plan("sketches", 9000, 60, 0, 0.999, 0.6, 10, 10, 0.003),
        ),  # all but the query's recording
        (950_000, 10, Plan("sketches", 9000, 60, 0, 0.999, 0.6, 10, 10, 0.003)),
        (
            700_000,
            10,
            Plan("sketches", 9000, 60, 0, 0.998, 0.6, 10, 10, 0.003),
        ),  # between two: the worse of both
        (500_000, 10, Plan("sketches", 8000, 60, 0, 0.998, 0.5, 10, 10, 0.002)),  # as one of them
        (100_000, 10, Plan("sketches", 7000, 60, 0, 0.996, 0.7, 10, 10, 0.001)),
        (
            1_000,
            10,
            Plan("sketches", 7000, 60, 0, 0.996, 0.7, 10, 10, 0.001),
        ),  # narrower than anything measured
        (121, 10, Plan("sketches", 7000, 60, 0, 0.996, 0.7, 10, 10, 0.001)),
        (120, 10, EXACT),  # they might as well all be scored
        (0, 10, EXACT),
        (1_000_000, 1, Plan("sketches", 9000, 60, 0, 0.999, 0.6, 10, 1, 0.003)),
        (
            1_000_000,
            1000,
            Plan("sketches", 284_605, 2040, 0, 0.999, 0.6, 317, 1000, 0.003),
        ),  # 9000, 10 * 100^0.75
        (4_080, 1000, EXACT),
    ],
)
def test_plan_follows_what_was_measured(num_matching: int, k: int, expected: Plan) -> None:
    plan = choose_plan(EFFORT, num_matching, 1_000_000, k)
    assert plan == expected
    assert plan.is_exact == (expected is EXACT)


def test_several_vectors_take_more_than_one_and_less_than_each_alone() -> None:
    plans = [
        choose_plan(EFFORT, 1_000_000, 1_000_000, 10, num_vectors=one) for one in (1, 2, 5, 64)
    ]
    assert [one.num_scanned for one in plans[:3]] == [9000, 13_642, 23_639]  # 9000 * n^0.6
    expected = [0.6, 0.6735, 0.7846, 1.2]  # 0.6 * n^(1/6)
    assert [one.reach for one in plans] == pytest.approx(expected, abs=1e-4)
    assert {one.num_nearer for one in plans} == {10}


@given(
    num_matching=st.integers(0, 1_000_000),
    k=st.integers(1, 10_000),
    num_scored=st.integers(MEASURED_K, 1000),
    num_scanned=st.integers(1, 300_000),
    exact=st.booleans(),
)
def test_plan_never_scores_too_few(
    num_matching: int, k: int, num_scored: int, num_scanned: int, exact: bool
) -> None:
    measured = tuple(
        one._replace(num_scanned=num_scanned, num_scored=num_scored) for one in EFFORT.measured
    )
    effort = Effort(0.99, 1_000_000, measured)
    plan = choose_plan(effort, num_matching, 1_000_000, k, exact=exact)
    if exact:
        assert plan.is_exact
    if plan.is_exact:
        assert plan == EXACT
    else:
        assert k <= plan.num_scored < num_matching
        assert plan.num_hits == k
        assert plan.margin in {one.margin for one in EFFORT.measured}
        assert num_scanned <= plan.num_scanned <= num_scanned * max(1, k / MEASURED_K) + 1
        assert plan.recall in {one.recall for one in EFFORT.measured}
        assert plan.reach in {one.reach for one in EFFORT.measured}


@given(st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_plan_never_promises_more_of_a_narrower_filter(one: int, other: int) -> None:
    few, many = sorted((one, other))
    narrow, wide = (choose_plan(EFFORT, number, 1_000_000, 10) for number in (few, many))
    assert narrow.is_exact or narrow.recall <= wide.recall


def test_plan_scores_as_many_as_the_harder_of_two_shares_needs() -> None:
    """Among all rows more are as near by their sketches as the true ten than among a tenth."""
    measured = tuple(
        one._replace(num_scored=number)
        for one, number in zip(EFFORT.measured, (960, 240, 60), strict=True)
    )
    effort = Effort(0.99, 1_000_000, measured)
    plans = [choose_plan(effort, number, 1_000_000, 10) for number in (990_000, 300_000, 50_000)]
    assert [one.num_scored for one in plans] == [960, 240, 60]
    assert [one.margin for one in plans] == [0.003, 0.002, 0.001]
    assert choose_plan(effort, 120, 1_000_000, 10) == EXACT
    assert choose_plan(effort, 121, 1_000_000, 10).num_scored == 60


def test_plan_without_sketches_is_exact() -> None:
    assert choose_plan(UNMEASURED, 100_000, 100_000, 10) is EXACT


@given(
    told=st.builds(
        Measured,
        share=st.floats(-1e12, 1e12),
        reach=st.floats(-1e12, 1e12),
        num_scanned=st.integers(0, 10**12),
        margin=st.floats(-1e12, 1e12),
        num_scored=st.integers(0, 10**12),
        recall=st.just(0.9),
        ms=st.just(1.0),
    ),
    num_matching=st.integers(1, 1000),
    num_rows=st.integers(0, 1000),
    k=st.integers(1, 300),
)
def test_plan_of_an_effort_that_nobody_measured_still_finds_k(
    told: Measured, num_matching: int, num_rows: int, k: int
) -> None:
    """Whoever forged a manifest: what is in it may make answers worse, and no fewer."""
    plan = choose_plan(Effort(0.9, 0, (told,)), num_matching, num_rows, k)
    assert plan.is_exact or plan.num_scored >= k
