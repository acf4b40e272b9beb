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
            finer_margin=0.0015,
            num_scored=60,
            recall=0.999,
            ms=0.5,
        ),
        Measured(
            share=0.5,
            reach=0.5,
            num_scanned=8000,
            margin=0.002,
            finer_margin=0.001,
            num_scored=30,
            recall=0.998,
            ms=1.0,
        ),
        Measured(
            share=0.1,
            reach=0.7,
            num_scanned=7000,
            margin=0.001,
            finer_margin=0.0005,
            num_scored=20,
            recall=0.996,
            ms=1.5,
        ),
    ),
)


ALL = Plan("sketches", 9000, 60, 0, 0.999, 0.6, 10, 0.003, 0.0015)
HALF = Plan("sketches", 8000, 30, 0, 0.998, 0.5, 10, 0.002, 0.001)
TENTH = Plan("sketches", 7000, 20, 0, 0.996, 0.7, 10, 0.001, 0.0005)


@pytest.mark.parametrize(
    ("num_matching", "k", "expected"),
    [
        (1_000_000, 10, ALL),
        (999_000, 10, ALL),  # all but the query's recording
        (950_000, 10, ALL),
        (700_000, 10, ALL._replace(recall=0.998)),  # between two: the worse of both
        (500_000, 10, HALF),  # as one of them
        (100_000, 10, TENTH),
        (128, 10, EXACT),  # they might as well all be scored
        (0, 10, EXACT),
        (1_000_000, 1, ALL),  # with margins as they were measured, from the tenth
        (
            1_000_000,
            1000,
            ALL._replace(num_scanned=284_605, num_scored=6000, num_hits=1000),
        ),  # 9000 * 100^0.75
        (1_000, 1000, EXACT),
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
    wider = [1.0, 1.26, 1.71, 4.0]  # n^(1/3)
    of_all = EFFORT.measured[0]
    assert [one.margin / of_all.margin for one in plans] == pytest.approx(wider, abs=1e-3)
    finer = [one.finer_margin / of_all.finer_margin for one in plans]
    assert finer == pytest.approx(wider, abs=1e-3)
    assert {one.num_hits for one in plans} == {10}


@pytest.mark.parametrize(
    ("num_matching", "times"),
    [(100_000, 1.0), (91_000, 1.0), (10_000, 1.736), (1_000, 3.088), (129, 5.152)],
)  # (0.1 / 1.1 / the share that matches)^(1/4)
def test_margins_are_wider_where_fewer_match_than_was_measured(
    num_matching: int, times: float
) -> None:
    plan = choose_plan(EFFORT, num_matching, 1_000_000, 10)
    assert plan.margin == pytest.approx(times * TENTH.margin, rel=1e-3)
    assert plan.finer_margin == pytest.approx(times * TENTH.finer_margin, rel=1e-3)
    assert plan._replace(margin=TENTH.margin, finer_margin=TENTH.finer_margin) == TENTH


@given(
    num_matching=st.integers(0, 1_000_000),
    k=st.integers(1, 10_000),
    num_scanned=st.integers(1, 300_000),
    exact=st.booleans(),
)
def test_plan_never_finds_too_few(num_matching: int, k: int, num_scanned: int, exact: bool) -> None:
    measured = tuple(one._replace(num_scanned=num_scanned) for one in EFFORT.measured)
    effort = Effort(0.99, 1_000_000, measured)
    plan = choose_plan(effort, num_matching, 1_000_000, k, exact=exact)
    if exact:
        assert plan.is_exact
    if plan.is_exact:
        assert plan == EXACT
    else:
        assert plan.num_hits == max(k, MEASURED_K) < num_matching
        assert plan.finer_margin == pytest.approx(plan.margin / 2)
        if num_matching >= 100_000:
            assert plan.margin in {one.margin for one in EFFORT.measured}
        else:
            assert plan.margin >= TENTH.margin
        assert num_scanned <= plan.num_scanned <= num_scanned * max(1, k / MEASURED_K) + 1
        assert plan.recall in {one.recall for one in EFFORT.measured}
        assert plan.reach in {one.reach for one in EFFORT.measured}


@given(st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_plan_never_promises_more_of_a_narrower_filter(one: int, other: int) -> None:
    few, many = sorted((one, other))
    narrow, wide = (choose_plan(EFFORT, number, 1_000_000, 10) for number in (few, many))
    assert narrow.is_exact or narrow.recall <= wide.recall


def test_margins_are_those_of_the_harder_of_two_shares() -> None:
    """Whichever of the two it is."""
    first, *others = EFFORT.measured
    effort = Effort(0.99, 1_000_000, (first._replace(margin=0.0, finer_margin=0.0), *others))
    plans = [choose_plan(effort, number, 1_000_000, 10) for number in (990_000, 700_000, 300_000)]
    assert [one.margin for one in plans] == [0.0, 0.002, 0.002]
    assert [one.finer_margin for one in plans] == [0.0, 0.001, 0.001]


def test_plan_without_sketches_is_exact() -> None:
    assert choose_plan(UNMEASURED, 100_000, 100_000, 10) is EXACT


@given(
    told=st.builds(
        Measured,
        share=st.floats(-1e12, 1e12),
        reach=st.floats(-1e12, 1e12),
        num_scanned=st.integers(0, 10**12),
        margin=st.floats(-1e12, 1e12),
        finer_margin=st.floats(-1e12, 1e12),
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
    assert plan.is_exact or (plan.num_hits >= k and min(plan.margin, plan.finer_margin) >= 0)
