"""The blend of scenes and tags against NumPy over all rows: every plan, and damage."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sketched import sketching, with_little_effort
from synthetic import Synthetic, make_store
from test_plans import fill, unit32

from indexer.arrays import widened
from search.asking.find import Question, find, take_apart
from search.asking.left_out import LeftOut
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.nearest.blend import blended, parts_of, unit_roots
from search.upkeep.build import build

Array = np.ndarray[Any, Any]
#: float32 products of 1,295 numbers beside those in float64.
ROUNDING = 3e-6


class Made(dict[str, Any]):
    """How it is searched → a store, and its index."""

    def __repr__(self) -> str:  # failing tests would print megabytes
        return "Made()"


@pytest.fixture(scope="module")
def made(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store of 900 windows in three segments, searched exactly and by sketches."""
    found = Made()
    for kind, how in (("exact", nullcontext), ("sketched", sketching)):
        store = make_store(tmp_path_factory.mktemp(kind) / "store", frames="none")
        fill(store, {f"r{number}": 1 + number % 9 for number in range(180)}, seed=4)
        with how():
            build(store.store, max_segment_rows=400)
        found[kind] = (store, SoundIndex.open(store.store.path))
    return found


def cosines(stored: Array, asked: Array) -> Array:
    """(n, q) float64; 0 where one of them is all zeros."""
    lengths = np.linalg.norm(stored, axis=1)[:, None] * np.linalg.norm(asked, axis=1)
    return stored @ asked.T / np.where(lengths > 0, lengths, 1)


def told(store: Synthetic, scenes: Array, tags: Array, weight: float) -> tuple[Array, Array, Array]:
    """(n,) blend, and of the best vector the cosines of scenes and of roots; by the definition."""
    live = store.live()
    stored = np.array(store.scene)[live].astype(np.float64)
    roots = np.sqrt(np.array(store.tags)[live].astype(np.float64))
    scene = cosines(stored, scenes.astype(np.float64))
    heard = cosines(roots, np.sqrt(tags.astype(np.float64)))
    both = (1 - weight) * scene + weight * heard
    at = np.arange(len(both)), both.argmax(1)
    return both[at], scene[at], heard[at]


def ask(index: SoundIndex, question: Question, terms: Terms, others: int) -> tuple[Array, Array]:
    """Scores and window ids of what is found, alone or among others of one vector."""
    other = Question(np.eye(1, 768, dtype=np.float32), tags=np.full((1, 527), 0.5, np.float32))
    question = question._replace(is_silent=True)  # so that all windows may answer
    found = find(index, [question, *[other] * others], Scope.of(terms, index.opened))
    mine = found.asked == 0
    return found.scores[mine], found.window_ids[mine]


@settings(deadline=None, max_examples=60)
@given(
    weight=st.sampled_from([0.0, 0.1, 0.35, 0.5, 0.9]),
    k=st.sampled_from([1, 10, 100, 900, 2000]),
    num_vectors=st.integers(1, 3),
    least=st.sampled_from([None, -1.0, 0.2, 0.6, 0.95]),
    others=st.integers(0, 2),
    seed=st.integers(0, 50),
)
@example(weight=0.9, k=100, num_vectors=2, least=0.6, others=0, seed=0)  # one is just below
def test_exact_blend_is_that_of_all_rows(
    made: Made,
    weight: float,
    k: int,
    num_vectors: int,
    least: float | None,
    others: int,
    seed: int,
) -> None:
    store, index = made["exact"]
    rng = np.random.default_rng(seed)
    at = rng.choice(len(store.windows), num_vectors)
    scenes = np.array(store.scene)[at] + rng.normal(0, 0.5, (num_vectors, 768))
    scenes = np.concatenate([unit32(one) for one in scenes])
    tags = np.array(store.tags)[at].astype(np.float32)
    question = Question(scenes, tags=tags)
    scores, ids = ask(index, question, Terms(k=k, tag_weight=weight, min_score=least), others)
    both, scene, _ = told(store, scenes, tags, weight)
    ranked = (
        scene
        if least is None
        else np.where(
            np.any(
                cosines(np.array(store.scene)[store.live()].astype(float), scenes) >= least, axis=1
            ),
            np.inf,
            -np.inf,
        )
    )
    is_hit = np.ones(len(both), bool) if least is None else ranked > 0
    expected = np.sort(both[is_hit])[::-1][:k]
    if least is None or np.abs(scene - least).min() > ROUNDING:
        assert scores == pytest.approx(expected, abs=ROUNDING)
    by_id = dict(zip([store.windows[row].window_id for row in store.live()], both, strict=True))
    assert scores == pytest.approx([by_id[int(one)] for one in ids], abs=ROUNDING)
    assert len(set(ids.tolist())) == len(ids)
    order = np.lexsort((ids, -scores))
    assert (order == np.arange(len(ids))).all()


@settings(deadline=None, max_examples=60)
@given(
    weight=st.sampled_from([0.0, 0.1, 0.35, 0.9]),
    k=st.sampled_from([1, 10, 20]),
    num_vectors=st.integers(1, 3),
    least=st.sampled_from([None, -1.0, 0.2, 0.6, 0.95]),
    others=st.integers(0, 2),
    num_scanned=st.sampled_from([10, 60, 450]),
    seed=st.integers(0, 50),
)
def test_sketched_blend_is_what_its_windows_have(
    made: Made,
    weight: float,
    k: int,
    num_vectors: int,
    least: float | None,
    others: int,
    num_scanned: int,
    seed: int,
) -> None:
    """However little is looked at: true scores, in order, of what is near enough by its scene."""
    store, index = made["sketched"]
    index = with_little_effort(index, num_scanned)
    rng = np.random.default_rng(seed)
    at = rng.choice(len(store.windows), num_vectors)
    scenes = np.concatenate([unit32(one) for one in np.array(store.scene)[at]])
    tags = np.array(store.tags)[at].astype(np.float32)
    terms = Terms(k=k, tag_weight=weight, min_score=least, all_windows=True)
    scores, ids = ask(index, Question(scenes, tags=tags), terms, others)
    both, *_ = told(store, scenes, tags, weight)
    near = cosines(np.array(store.scene)[store.live()].astype(float), scenes).max(1)
    rows = {store.windows[row].window_id: at for at, row in enumerate(store.live())}
    found = [rows[int(one)] for one in ids]
    assert len(set(found)) == len(found)
    assert scores == pytest.approx(both[found], abs=ROUNDING)
    assert (np.lexsort((ids, -scores)) == np.arange(len(ids))).all()
    if least is None:
        assert len(ids) == k
    else:
        assert len(ids) <= k
        assert (near[found] >= least - ROUNDING).all()


def test_sketches_propose_what_is_best_by_the_blend(made: Made) -> None:
    """What they find has its true score, and nearly all of the best is found."""
    store, index = made["sketched"]
    index = with_little_effort(SoundIndex.open(store.store.path), 450, 0.02)
    num_found = 0
    for row in range(0, 120, 3):
        scenes, tags = unit32(store.scene[row]), np.array(store.tags)[row : row + 1]
        question = Question(scenes, frozenset({LeftOut(store.windows[row].recording_id)}), tags)
        for others in (0, 2):
            scores, ids = ask(index, question, Terms(tag_weight=0.35), others)
            both, *_ = told(store, scenes, tags, 0.35)
            windows = [store.windows[at] for at in store.live()]
            is_other = [one.recording_id != store.windows[row].recording_id for one in windows]
            by_id = {one.window_id: score for one, score in zip(windows, both, strict=True)}
            assert scores == pytest.approx([by_id[int(one)] for one in ids], abs=ROUNDING)
            bound = np.sort(both[is_other])[-10] - ROUNDING
            num_found += int((scores >= bound).sum())
    assert num_found >= 0.95 * 10 * 80


def test_parts_are_cosines_of_the_vector_that_is_best(made: Made) -> None:
    store, index = made["exact"]
    scenes = np.concatenate([unit32(store.scene[row]) for row in (5, 200)])
    tags = np.array(store.tags)[[5, 200]]
    both, scene, heard = told(store, scenes, tags, 0.35)
    ids = [store.windows[at].window_id for at in store.live()]
    rows = index.rows_of(ids)
    parts = parts_of(index, blended(scenes, tags, 0.35), rows)
    assert parts.scene == pytest.approx(scene, abs=ROUNDING)
    assert parts.heard == pytest.approx(heard, abs=ROUNDING)
    assert 0.65 * parts.scene + 0.35 * parts.heard == pytest.approx(both, abs=ROUNDING)
    alone = parts_of(index, scenes, rows)
    assert np.isnan(alone.heard).all()
    question = Question(scenes, tags=tags)
    for terms in (Terms(k=3), Terms(k=3, tag_weight=0)):
        found = find(index, [question], Scope.of(terms, index.opened))
        [hits] = index.hits(found, take_apart(index, [question], found, terms))
        for hit in hits:
            at = ids.index(hit.window_id)
            if terms.tag_weight:
                assert hit.scene_score == pytest.approx(scene[at], abs=ROUNDING)
                assert hit.tag_score == pytest.approx(heard[at], abs=ROUNDING)
            else:
                assert (hit.scene_score, hit.tag_score) == (pytest.approx(hit.score), None)


def test_roots_have_length_one_and_of_nothing_none() -> None:
    tags = np.array([[0.25, 1.0, 0.0], [0, 0, 0]], np.float16)
    assert unit_roots(tags) == pytest.approx(np.array([[0.2, 0.8, 0], [0, 0, 0]]) ** 0.5)
    assert unit_roots(tags).dtype == np.float32


def test_widened_numbers_are_those_that_numpy_makes() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(2, -1)
    found, true = widened(every), every.astype(np.float32)
    assert found.dtype == true.dtype
    assert found.view(np.uint32).tolist() == true.view(np.uint32).tolist()


def test_questions_of_vectors_have_no_tags(made: Made) -> None:
    """They are scored by scenes, whatever the weight."""
    store, index = made["exact"]
    scenes = unit32(store.scene[0])
    weighted = ask(index, Question(scenes), Terms(tag_weight=0.9), 0)
    plain = ask(index, Question(scenes), Terms(tag_weight=0), 0)
    assert [one.tolist() for one in weighted] == [one.tolist() for one in plain]


def test_damaged_tags_are_no_hits_and_no_crash(made: Made) -> None:
    store, index = made["exact"]
    [opened] = index.opened
    segment = opened.generation.segments[0]
    tags = np.array(segment.tags)
    tags[:50] = np.nan
    broken = replace(segment, arrays={**segment.arrays, "tags": tags}, scattered={})
    segments = (broken, *opened.generation.segments[1:])
    opened.index.generation = replace(opened.generation, segments=segments)
    try:
        scenes, asked = unit32(store.scene[3]), np.array(store.tags)[3:4]
        for others in (0, 2):
            scores, _ = ask(index, Question(scenes, tags=asked), Terms(k=2000), others)
            assert len(scores) == len(store.live()) - 50
            assert np.isfinite(scores).all()
    finally:
        opened.index.generation = opened.generation


def test_command_says_of_what_a_score_is_made(made: Made, run: Run) -> None:
    store, _ = made["exact"]
    window = str(store.windows[0].window_id)
    words = ("search", store.store.path, window, "-k", "3", "--format", "json")
    for hit in run(*words).hits:
        assert hit["score"] == pytest.approx(0.65 * hit["scene_score"] + 0.35 * hit["tag_score"])
    for hit in run(*words, "--tag-weight", "0").hits:
        assert (hit["score"], hit["tag_score"]) == (hit["scene_score"], None)
    told = run(*words, "--tag-weight", "1", code=2).err
    assert "--tag-weight" in told


def test_least_score_is_held_against_scenes(made: Made, tmp_path: Path) -> None:
    store, index = made["exact"]
    scenes, tags = unit32(store.scene[7]), np.array(store.tags)[7:8]
    _, scene, _ = told(store, scenes, tags, 0.35)
    least = float(np.sort(scene)[-20]) - 1e-4
    _, ids = ask(index, Question(scenes, tags=tags), Terms(k=500, min_score=least), 0)
    assert len(ids) == int((scene >= least).sum()) >= 20
