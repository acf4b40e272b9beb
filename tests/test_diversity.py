"""Diverse answers against a greedy choice written out, and what must hold beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array, Query, ask, unit
from synthetic import Synthetic, make_store

from indexer.errors import QueryError
from search.asking.diversity import choose_diverse
from search.asking.sound_index import SoundIndex
from search.asking.terms import DEFAULT_DIVERSITY
from search.filters.tags import TagFilter
from search.upkeep.build import build


def chosen_by_hand(vectors: Array, scores: Array, k: int, diversity: float) -> list[int]:
    """Greedy, one by one; of equal values the higher score, then the lower position."""
    left, chosen = list(range(len(scores))), []
    while left and len(chosen) < k:

        def worth(at: int) -> tuple[float, float, int]:
            score = float(scores[at])
            nearest = max([0.0, *(float(vectors[at] @ vectors[one]) for one in chosen)])
            return (score - diversity * abs(score) * nearest**16, score, -at)

        best = max(left, key=worth)
        left.remove(best)
        chosen.append(best)
    return chosen


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num=st.integers(0, 25),
    k=st.integers(1, 30),
    diversity=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
def test_choose_diverse_equals_a_greedy_choice_ties_included(
    seed: int, num: int, k: int, diversity: float
) -> None:
    """Products are multiples of 1/4 and scores of 1/8: every sum is exact, and many are equal."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((num, 768), np.float32)
    for vector in vectors:
        vector[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    scores = (rng.integers(-8, 9, num) / 8).astype(np.float32)
    chosen = choose_diverse(vectors, scores, k, diversity)
    assert chosen.tolist() == chosen_by_hand(vectors.astype(float), scores, k, diversity)


def test_choose_diverse_takes_one_of_each_kind_before_a_second() -> None:
    vectors = np.repeat(np.eye(3, 768, dtype=np.float32), 4, axis=0)
    scores = np.linspace(0.9, 0.8, 12, dtype=np.float32)
    assert choose_diverse(vectors, scores, 4, 0.3).tolist() == [0, 4, 8, 1]
    assert choose_diverse(vectors, scores, 4, 0.0).tolist() == [0, 1, 2, 3]


# --- in a query ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Synthetic]:
    """Two stores with 300 windows around eight centres, in recordings of up to five."""
    folder = tmp_path_factory.mktemp("diverse")
    made = []
    for number in range(2):
        store = make_store(folder / f"{number}", frames="none", root=folder / f"library{number}")
        rng = np.random.default_rng(number)
        recordings = {f"{number}-{name}": 1 + name % 5 for name in range(50)}
        centres = np.random.default_rng(9).normal(0, 1, (8, 768))
        kinds = rng.integers(0, 8, sum(recordings.values()))
        scene = (centres[kinds] + 0.3 * rng.normal(0, 1, (len(kinds), 768))).astype(np.float32)
        tags = np.where(rng.random((len(kinds), 527)) < 0.3, 0.9, 0.01)
        store.add(recordings, scene=scene, tags=tags)
        build(store.store)
        made.append(store)
    return made


def expected(stores: list[Synthetic], query: Query) -> list[int]:
    """Window ids: the plain answer of many, worked out, then chosen by hand."""
    plain = replace(query, k=query.terms.num_candidates, diversity=0.0)
    best = oracle.answer(stores, plain)
    scene = {row.window_id: row.scene for row in oracle.live_rows(*stores)}
    vectors = unit(np.array([scene[window_id] for _, window_id in best]).reshape(-1, 768))
    scores = np.array([score for score, _ in best])
    chosen = chosen_by_hand(vectors, scores, query.k, query.diversity)
    return [best[at][1] for at in chosen]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 15),
    diversity=st.sampled_from([0.1, DEFAULT_DIVERSITY, 0.5, 0.9]),
    tagged=st.booleans(),
    grouped=st.booleans(),
    unique_at=st.sampled_from([None, 0.93]),
    min_score=st.sampled_from([None, 0.0, 0.5]),
)
def test_diverse_query_equals_the_oracle(
    stores: list[Synthetic],
    seed: int,
    k: int,
    diversity: float,
    tagged: bool,
    grouped: bool,
    unique_at: float | None,
    min_score: float | None,
) -> None:
    rng = np.random.default_rng(seed)
    scene = stores[0].scene[int(rng.integers(len(stores[0].scene)))]
    query = Query(
        vectors=unit(scene + rng.normal(0, 0.5, 768)).astype(np.float32),
        k=k,
        filter=TagFilter(("Dog",)) if tagged else None,
        group_by="file" if grouped else None,
        unique_at=unique_at,
        min_score=min_score,
        diversity=diversity,
    )
    hits = ask(SoundIndex.open(*(store.store.path for store in stores)), query)
    assert [hit.window_id for hit in hits] == expected(stores, query)
    if min_score is not None:
        assert all(hit.score >= min_score for hit in hits)
    if grouped:
        assert len({hit.recording_id for hit in hits}) == len(hits)


def test_diverse_answer_has_more_kinds_and_every_hit_its_own_score(
    stores: list[Synthetic],
) -> None:
    index = SoundIndex.open(stores[0].store.path)
    vectors = unit(stores[0].scene[0] + stores[0].scene[7]).astype(np.float32)

    def likeness(diversity: float) -> float:
        hits = ask(index, Query(vectors, k=8, diversity=diversity))
        plain = {hit.window_id: hit.score for hit in ask(index, Query(vectors, k=200))}
        assert [hit.score for hit in hits] == [plain[hit.window_id] for hit in hits]
        found, *_ = index.windows_of(hit.window_id for hit in hits)
        return float((found @ found.T).mean())

    assert likeness(0.9) < likeness(0.3) < likeness(0.0)


def test_diversity_of_none_or_nothing_is_the_plain_answer(stores: list[Synthetic]) -> None:
    index = SoundIndex.open(*(store.store.path for store in stores))
    vectors = unit(stores[0].scene[3]).astype(np.float32)
    plain = ask(index, Query(vectors, k=20))
    assert ask(index, Query(vectors, k=20, diversity=0.0)) == plain
    assert ask(index, Query(vectors, k=1, diversity=0.9)) == plain[:1]


def test_diverse_query_by_tag_alone_begins_with_the_best(stores: list[Synthetic]) -> None:
    index = SoundIndex.open(stores[0].store.path)
    wanted = TagFilter(("Dog",), threshold=0.5)
    plain = ask(index, Query(filter=wanted, k=100))
    spread_out = ask(index, Query(filter=wanted, k=10, diversity=0.5))
    assert spread_out[0] == plain[0]
    assert len(spread_out) == 10
    assert {hit.window_id for hit in spread_out} <= {hit.window_id for hit in plain}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"diversity": -0.1}, "from 0 to 1, got -0.1"),
        ({"diversity": 1.5}, "from 0 to 1, got 1.5"),
        ({"diversity": float("nan")}, "or a number, got nan"),
        ({"diversity": 0.3, "k": 1001}, "at most 1,000 hits, got k = 1001"),
    ],
)
def test_diversity_that_cannot_be_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        _ = Query(np.eye(1, 768, dtype=np.float32), **fields).terms


def test_search_diverse_is_the_default_strength(stores: list[Synthetic], run: Run) -> None:
    store = stores[0]
    window = store.windows[0]
    words = ("search", store.store.path, window.window_id, "--format", "json", "--diverse")
    words += ("--tag-weight", 0)  # as vectors ask
    printed = [hit["window_id"] for hit in run(*words).hits]
    index = SoundIndex.open(Path(store.store.path))
    vectors, *_ = index.windows_of([window.window_id])
    exclude = frozenset({window.recording_id})
    hits = ask(index, Query(vectors, exclude=exclude, diversity=DEFAULT_DIVERSITY))
    assert printed == [hit.window_id for hit in hits]
