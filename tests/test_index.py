"""The vector index against exact products in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array, unit
from synthetic import make_store

from search.generation.allowed import Allowed
from search.generation.mapped import array_file
from search.generation.segments import Generation
from search.generation.writing import normalise
from search.nearest import exact
from search.nearest.blend import blended
from search.nearest.exact import keep_best, score_rows
from search.nearest.index import Neighbours
from search.nearest.structure import open_index
from search.upkeep.build import build

#: Two scores closer than this may come in either order: float32 rounding decides.
ROUNDING = 1e-6


def unit32(scene: Array) -> Array:
    return normalise(np.atleast_2d(scene).astype(np.float32))


def random_scenes(rng: np.random.Generator) -> Array:
    """Ordinary ones, crowds of equal ones, crowds of nearly equal ones, and silence."""
    centre = rng.normal(0, 1, 768)
    near = centre + rng.normal(0, 1, (80, 768)) * np.repeat([1e-7, 1e-5, 1e-3, 0.1], 20)[:, None]
    scenes = [rng.normal(0, 1, (90, 768)), near, np.tile(rng.normal(0, 1, 768), (180, 1))]
    scenes += [np.zeros((20, 768)), np.tile(centre, (30, 1)) * rng.uniform(0.1, 9, (30, 1))]
    return np.asarray(rng.permutation(np.concatenate(scenes)), np.float32)


@pytest.fixture(scope="module")
def generation(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    """400 rows in segments of 150, 10 of them dead."""
    store = make_store(tmp_path_factory.mktemp("vectors") / "store", frames="none")
    scene = random_scenes(np.random.default_rng(5))
    store.add({f"r{number}": 10 for number in range(40)}, scene=scene)
    build(store.store, max_segment_rows=150)
    store.remove("r4.wav")
    return build(store.store, max_segment_rows=150)


def all_rows(generation: Generation) -> Array:
    return np.arange(generation.starts[-1])


def exact_scores(generation: Generation, vectors: Array) -> Array:
    """(num_rows,) float64: the best product with any of the vectors."""
    stored = generation.vectors(all_rows(generation)).astype(np.float64)
    return np.asarray((stored @ vectors.astype(np.float64).T).max(1))


def assert_nearest(
    generation: Generation, found: Neighbours, vectors: Array, k: int, allowed: Array
) -> None:
    """The k best allowed rows in order; within rounding of the k-th, any of them."""
    exact = exact_scores(generation, vectors)
    candidates = np.flatnonzero(allowed)
    assert len(found.rows) == len(found.scores) == min(k, len(candidates))
    assert len(np.unique(found.rows)) == len(found.rows)
    assert np.isin(found.rows, candidates).all()
    assert np.abs(found.scores - exact[found.rows]).max(initial=0) < ROUNDING
    ids = generation.window_ids(found.rows)
    assert (np.lexsort((ids, -found.scores)) == np.arange(len(ids))).all()
    left_out = np.setdiff1d(candidates, found.rows)
    if len(left_out):
        assert exact[left_out].max() <= found.scores[-1] + ROUNDING
        # What is equal to the last hit, bit by bit, has no lower id: ties go by window id.
        last = generation.vectors(found.rows[-1:])
        equal = left_out[(generation.vectors(left_out) == last).all(1)]
        assert (generation.window_ids(equal) > ids[-1]).all()


def allowed_of(generation: Generation, mask: Array) -> Allowed:
    return Allowed.of(np.split(mask, generation.starts[1:-1]))


def alive(generation: Generation) -> Array:
    return np.concatenate([segment.alive for segment in generation.segments])


Draw = Callable[[np.random.Generator, Generation], Array]


def a_random_vector(rng: np.random.Generator, generation: Generation) -> Array:
    return unit32(rng.normal(0, 1, 768))


def a_stored_vector(rng: np.random.Generator, generation: Generation) -> Array:
    return generation.vectors(rng.integers(0, generation.starts[-1], 1))


def several_vectors(rng: np.random.Generator, generation: Generation) -> Array:
    stored = generation.vectors(rng.integers(0, generation.starts[-1], 3))
    return np.concatenate([stored, unit32(rng.normal(0, 1, (2, 768)))])


def zeros(rng: np.random.Generator, generation: Generation) -> Array:
    return np.zeros((1, 768), np.float32)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.one_of(st.integers(1, 60), st.sampled_from([389, 390, 391, 1000])),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]),
    draw=st.sampled_from([a_random_vector, a_stored_vector, several_vectors, zeros]),
)
def test_search_any_query_and_mask_equals_the_exact_answer(
    generation: Generation, seed: int, k: int, share: float, draw: Draw
) -> None:
    rng = np.random.default_rng(seed)
    vectors = draw(rng, generation)
    allowed = alive(generation) & (rng.random(generation.starts[-1]) < share)
    found = open_index(generation).search(vectors, k, allowed_of(generation, allowed))
    assert_nearest(generation, found, vectors, k, allowed)


def test_search_without_masks_gives_live_rows_only(generation: Generation) -> None:
    vectors = a_random_vector(np.random.default_rng(1), generation)
    found = open_index(generation).search(vectors, 1000)
    assert len(found.rows) == 390
    assert_nearest(generation, found, vectors, 1000, alive(generation))


def test_search_one_allowed_row_gives_it(generation: Generation) -> None:
    vectors = a_random_vector(np.random.default_rng(1), generation)
    for row in range(0, 400, 29):
        allowed = all_rows(generation) == row
        found = open_index(generation).search(vectors, 5, allowed_of(generation, allowed))
        assert found.rows.tolist() == [row]


def test_search_nothing_allowed_gives_nothing(generation: Generation) -> None:
    allowed = allowed_of(generation, np.zeros(400, bool))
    found = open_index(generation).search(np.eye(1, 768, dtype=np.float32), 5, allowed)
    assert found.rows.shape == found.scores.shape == (0,)


def test_search_empty_store_gives_nothing(tmp_path: Path) -> None:
    empty = build(make_store(tmp_path / "store").store)
    found = open_index(empty).search(np.eye(1, 768, dtype=np.float32), 5)
    assert found.rows.shape == (0,)


@pytest.mark.parametrize("k", [1, 5, 40, 150, 180, 200])
def test_search_equal_vectors_at_rank_k_come_by_window_id(generation: Generation, k: int) -> None:
    """180 rows have one vector, in two segments: in each more than are fetched beyond k."""
    stored = generation.vectors(all_rows(generation))
    _, kind, count = np.unique(stored, axis=0, return_inverse=True, return_counts=True)
    crowd = np.flatnonzero((kind == np.argmax(count)) & alive(generation))
    in_segments = np.bincount(np.searchsorted(generation.starts, crowd, "right") - 1)
    assert (in_segments > 5 + 16).sum() == 2
    found = open_index(generation).search(stored[crowd[:1]], k)
    ids = np.sort(generation.window_ids(crowd))[:k]
    assert generation.window_ids(found.rows[: len(ids)]).tolist() == ids.tolist()
    assert len(np.unique(found.scores[: len(ids)])) == 1


def test_search_zero_query_scores_all_rows_zero_and_sorts_by_id(generation: Generation) -> None:
    found = open_index(generation).search(np.zeros((1, 768), np.float32), 20)
    assert (found.scores == 0).all()
    live = np.flatnonzero(alive(generation))
    assert (generation.window_ids(found.rows) == np.sort(generation.window_ids(live))[:20]).all()


def test_search_score_does_not_depend_on_how_a_row_was_found(generation: Generation) -> None:
    """Any k, any mask, alone or with others: the same bits."""
    rng = np.random.default_rng(2)
    index = open_index(generation)
    vectors = several_vectors(rng, generation)
    everything = index.search(vectors, 1000)
    known = dict(zip(everything.rows.tolist(), everything.scores.tolist(), strict=True))
    for k in (1, 3, 10, 70):
        allowed = alive(generation) & (rng.random(400) < 0.5)
        found = index.search(vectors, k, allowed_of(generation, allowed))
        for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            assert known[row] == score
    for row in range(0, 400, 40):
        alone = index.score(vectors, np.array([row]))[0]
        among = index.score(vectors, np.arange(row, 400))[0]
        assert alone == among == index.score(vectors, np.full(5000, row))[4999]


def test_score_equals_float64_to_the_last_bit_of_float32(generation: Generation) -> None:
    vectors = several_vectors(np.random.default_rng(3), generation)
    found = open_index(generation).score(vectors, all_rows(generation))
    assert found.dtype == np.float32
    assert (found == exact_scores(generation, vectors).astype(np.float32)).all()


def test_score_is_a_cosine_from_minus_one_to_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    scene = np.random.default_rng(0).normal(0, 1, (50, 768)).astype(np.float32)
    store.add({"a": 100}, scene=np.concatenate([scene, -scene]))
    index = open_index(build(store.store))
    for row in range(50):
        scores = index.score(unit32(scene[row]), np.arange(100))
        assert scores.max() <= 1
        assert scores.min() >= -1
        assert abs(scores[row] - 1) < 2e-7
        assert abs(scores[50 + row] + 1) < 2e-7


def test_search_vectors_of_any_layout_give_the_same(generation: Generation) -> None:
    index = open_index(generation)
    vectors = several_vectors(np.random.default_rng(4), generation)
    strided = np.repeat(vectors, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    first, second = index.search(vectors, 10), index.search(strided, 10)
    assert (first.rows == second.rows).all()
    assert (first.scores == second.scores).all()


def test_search_shared_out_among_cores_misses_no_row(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are divided among the cores: any number of either has to come out even."""
    monkeypatch.setattr("search.nearest.exact._ROWS_WORTH_SHARING", 0)
    index = open_index(generation)
    vectors = a_random_vector(np.random.default_rng(1), generation)
    whole = index.search(vectors, 400).rows
    try:
        for num_cores in (2, 3, 7):
            faiss.omp_set_num_threads(num_cores)
            for num_rows in (1, 2, 5, 13, 100):
                allowed = np.isin(all_rows(generation), whole[-num_rows:])
                found = index.search(vectors, 400, allowed_of(generation, allowed))
                assert found.rows.tolist() == whole[-num_rows:].tolist()
    finally:
        faiss.omp_set_num_threads(1)


@pytest.mark.parametrize("k", [1, 6, 7, 8, 20])
def test_search_damaged_vectors_are_no_hits_and_no_crash(tmp_path: Path, k: int) -> None:
    """Bulk arrays are not checked when opened: a flipped bit may leave NaN or infinity there."""
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 10})
    folder = build(store.store).segments[0].path
    vectors = np.fromfile(array_file(folder, "vectors"), np.float32).reshape(10, 768)
    vectors[[2, 5], 7] = np.nan
    vectors[8, 1:3] = np.inf, -np.inf
    vectors[9] = np.where(store.scene[0] > 0, 1e38, -1e38)
    vectors.tofile(array_file(folder, "vectors"))
    generation = Generation.current(store.store)
    query = unit32(store.scene[0])
    found = open_index(generation).search(query, k)
    good = np.setdiff1d(np.arange(10), [2, 5, 8])
    assert len(found.rows) == min(k, 7)
    assert np.isin(found.rows, good).all()
    assert set(found.rows[:2]) <= {0, 9}  # one is too loud by far, and still no more than alike
    assert found.scores.max() == 1
    assert np.isfinite(found.scores).all()


def test_search_many_equal_rows_in_several_blocks_are_all_seen(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    is_right = np.random.default_rng(0).random(5000) < 0.9
    scene = np.where(is_right[:, None], *np.eye(2, 768, dtype=np.float32))
    store.add({"a": 5000}, scene=scene)
    generation = build(store.store, max_segment_rows=4800)
    found = open_index(generation).search(np.eye(1, 768, dtype=np.float32), 400)
    ids = np.sort([store.windows[at].window_id for at in np.flatnonzero(is_right)])
    assert generation.window_ids(found.rows).tolist() == ids[:400].tolist()
    assert unit(scene[is_right][0])[0, 0] == found.scores[0] == found.scores[-1] == 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 60),
    number=st.integers(0, 400),
    is_blend=st.booleans(),
)
def test_rows_that_are_kept_hold_all_that_may_be_the_nearest(
    generation: Generation, seed: int, k: int, number: int, is_blend: bool
) -> None:
    """Of any rows, crowds among them; and where scores differ, hardly another."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(all_rows(generation), min(number, 400), replace=False))
    asking = rng.choice(all_rows(generation), 2)
    vectors = generation.vectors(asking)
    if is_blend:
        vectors = blended(vectors, generation.tags(asking), 0.35)
    kept = keep_best(generation, vectors, k, rows)
    assert np.isin(kept, rows).all()
    scores = score_rows(generation, vectors, rows)
    last = np.sort(scores)[-k:][:1] if len(rows) else scores
    if len(rows) > k:
        assert np.isin(rows[scores >= last], kept).all()
        assert score_rows(generation, vectors, kept).min() >= last - 4 * exact.ROUNDING
    else:
        assert kept.tolist() == rows.tolist()
