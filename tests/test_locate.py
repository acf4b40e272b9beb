"""Where in a window what asks is, against every span scored one by one in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import unit
from synthetic import Synthetic, head, make_store

import soundalike
from indexer.audio.stream import open_audio
from indexer.errors import DamagedStoreError, QueryError
from indexer.model.checkpoint import load_checkpoint
from indexer.store.compaction import compact
from indexer.store.head import Head
from indexer.windows import FRAME_S, SAMPLE_RATE_HZ, WINDOW_SAMPLES, Geometry, Window, num_frames
from search.asking.find import Question, find
from search.asking.locate import Pattern, best_spans, stored_patterns
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import LOOKED_INTO, Terms
from search.upkeep.build import build, tidy

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
#: A final LayerNorm that is not the neutral one.
HEAD = Head(
    np.zeros((527, 768), np.float32),
    np.zeros(527, np.float32),
    RNG.uniform(0.5, 2, 768).astype(np.float32),
    RNG.normal(0, 1, 768).astype(np.float32),
)


def layer_norm(row: Array) -> Array:
    return np.asarray((row - row.mean()) / np.sqrt(row.var() + 1e-6))


def cosine(one: Array, other: Array) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths else 0.0


def scene(frames: Array, head: Head) -> Array:
    """What the network makes of frames: `ConvNeXt.pool`."""
    return layer_norm(frames.max(0) + frames.mean(0)) * head.norm_weight + head.norm_bias


def span_scores(frames: Array, wanted: Array, head: Head) -> list[float]:
    """Of every span of one window, as the module says in words."""
    frames, wanted = frames.astype(np.float64), wanted.astype(np.float64)
    length = min(len(wanted), len(frames))
    normed = [layer_norm(one) for one in frames]
    rest = np.mean(normed, 0) * (1 - length / len(frames))
    asked = [layer_norm(one) - rest for one in wanted]
    found = []
    for first in range(len(frames) - length + 1):
        span = [one - rest for one in normed[first : first + length]]
        in_order = max(
            np.mean([cosine(one, asked[at + step]) for step, one in enumerate(span)])
            for at in range(len(wanted) - length + 1)
        )
        summed = cosine(scene(frames[first : first + length], head), scene(wanted, head))
        found.append((summed + in_order) / 2)
    return found


@pytest.mark.parametrize(("height", "length"), [(31, 6), (31, 1), (12, 12), (5, 9), (1, 1), (1, 4)])
def test_best_span_is_the_best_of_all(height: int, length: int) -> None:
    frames = RNG.normal(0, 1, (4, height, 768)).astype(np.float32)
    wanted = RNG.normal(0.3, 1, (length, 768)).astype(np.float32)
    first, scores = best_spans(frames, wanted, HEAD)
    each = [span_scores(one, wanted, HEAD) for one in frames]
    assert first.tolist() == [int(np.argmax(one)) for one in each]
    assert scores == pytest.approx([max(one) for one in each], abs=2e-6)


@given(st.integers(1, 31), st.data())
@settings(deadline=None, max_examples=30)
def test_what_is_in_a_window_is_found_where_it_is(length: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 31 - length))
    frames = np.random.default_rng(length).normal(0, 1, (1, 31, 768)).astype(np.float32)
    found, scores = best_spans(frames, frames[0, first : first + length], HEAD)
    assert found.tolist() == [first]
    assert scores == pytest.approx([1], abs=1e-5)


def test_frames_of_silence_are_like_nothing_and_no_error() -> None:
    _, scores = best_spans(np.zeros((1, 31, 768), np.float32), np.zeros((6, 768), np.float32), HEAD)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "num_samples", [1, 8000, 8001, 20479, 20480, 64000, 159999, 160000, 320000, 480001]
)
def test_number_of_frames_is_that_of_the_network(num_samples: int) -> None:
    with torch.inference_mode():
        frames = load_checkpoint("demo").model(torch.zeros(1, num_samples)).frames
    assert frames.shape[2] == num_frames(num_samples)


# --- through an index ----------------------------------------------------------------------------

SHORT = 2 * SAMPLE_RATE_HZ


def store_with_short(folder: Path, frames: Any = "pooled", num_windows: int = 40) -> Synthetic:
    """A store in several parts: a recording of 2 s, some of 5 s, and long ones."""
    made = make_store(folder, frames=frames)
    made.add({"asks": 1}, seed=1, last_samples=SHORT)
    made.add({f"five {at}": 1 for at in range(5)}, seed=2, last_samples=WINDOW_SAMPLES // 2)
    made.add({"gone": 3}, seed=3)
    made.add({f"long {at}": 4 for at in range(num_windows // 4)}, seed=4)
    made.remove("gone.wav")
    return made


def pooled_frames(store: Synthetic, at: int) -> Array:
    """The frames of a window without those of its padding, in float32."""
    frames = store.frames[at].astype(np.float32)
    frames = frames.mean(1) if frames.ndim == 3 else frames
    return frames[: num_frames(store.windows[at].num_samples)]


def question_of(index: SoundIndex, window: Window) -> Question:
    rows = index.rows_of([window.window_id])
    return Question(index.vectors(rows), patterns=stored_patterns(index, rows))


def expected(store: Synthetic, asks: int, at: int) -> tuple[float, float, float]:
    """Start, end and score of the match in a window."""
    scores = span_scores(pooled_frames(store, at), pooled_frames(store, asks), head())
    window, first = store.windows[at], int(np.argmax(scores))
    start = min(window.start_s + first * FRAME_S, window.end_s)
    end = min(start + store.windows[asks].num_samples / SAMPLE_RATE_HZ, window.end_s)
    return start, end, scores[first]


@pytest.mark.parametrize("frames", ["pooled", "full"])
def test_hits_say_where_and_padding_is_not_searched(tmp_path: Path, frames: Any) -> None:
    store = store_with_short(tmp_path / "store", frames)
    build(store.store)
    index = SoundIndex.open(store.store.path)
    found = find(
        index,
        [question_of(index, store.windows[0])],
        Scope.of(Terms(k=50, locate=True), index.opened),
    )
    assert found.match is not None
    at = {window.window_id: number for number, window in enumerate(store.windows)}
    assert len(found.rows) == 46  # without those of the recording that is gone
    for row, window_id in enumerate(found.window_ids.tolist()):
        start, end, score = expected(store, 0, at[window_id])
        assert found.match.start_s[row] == pytest.approx(start)
        assert found.match.end_s[row] == pytest.approx(end)
        assert found.match.scores[row] == pytest.approx(
            score, abs=1e-3 if frames == "full" else 5e-6
        )


def test_frames_stay_those_of_their_windows_whatever_becomes_of_the_parts(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    build(store.store)
    before = SoundIndex.open(store.store.path)
    compact(store.store)
    generation = build(store.store)
    assert generation.segments[0].name == before.segments[0].name  # the rows stay where they are
    store.add({"later": 2}, seed=5)
    build(store.store)
    index = SoundIndex.open(store.store.path)
    live = store.live()
    rows = index.rows_of([store.windows[at].window_id for at in live])
    for frames, at in zip(index.frames(rows), live, strict=True):
        assert np.array_equal(frames, store.frames[at].astype(np.float32))


def test_several_stores_are_located_in_and_asked_with(tmp_path: Path) -> None:
    one, other = store_with_short(tmp_path / "one"), make_store(tmp_path / "other")
    other.add({"brief": 1, "elsewhere": 3}, seed=9, last_samples=SHORT)
    for made in (one, other):
        build(made.store)
    index = SoundIndex.open(one.store.path, other.store.path)
    question = question_of(index, other.windows[0])
    found = find(index, [question], Scope.of(Terms(k=60, locate=True), index.opened))
    assert found.match is not None
    assert np.isfinite(found.match.scores).all()
    row = found.window_ids.tolist().index(other.windows[0].window_id)
    assert found.match.scores[row] == pytest.approx(1, abs=1e-5)


def test_a_window_as_long_as_any_is_looked_for_in_none(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    build(store.store)
    sounds = soundalike.open(store.store.path)
    answer = sounds.search(store.windows[-1].window_id)
    assert {hit.match_start_s for hit in answer} == {None}
    answer = sounds.search(store.windows[-1].window_id, by="place")
    assert answer.notes == ("ranked by whole windows: nothing that asks is shorter than a window",)
    assert [hit.score for hit in answer] == sorted((hit.score for hit in answer), reverse=True)


def matched(scenes: Array, asks: int) -> Array:
    """All rows in the order of the matched filter, by its definition and an inverse."""
    covariance = np.cov(scenes.T)
    inverse = np.linalg.inv(covariance + 0.03 * np.diag(covariance).mean() * np.eye(768))
    return np.argsort(-scenes @ inverse @ (scenes[asks] - scenes.mean(0)), kind="stable")


@pytest.mark.parametrize("exact", [False, True])
def test_ranked_by_place_is_the_order_of_the_best_spans(tmp_path: Path, *, exact: bool) -> None:
    """Of those 200 that the matched filter finds; exactly, of all."""
    store = make_store(tmp_path / "store")
    store.add({"asks": 1}, seed=1, last_samples=SHORT)
    store.add({f"some {at}": 5 for at in range(48)}, seed=2)
    build(store.store)
    sounds = soundalike.open(store.store.path)
    asks = store.windows[0].window_id
    terms: dict[str, Any] = {"tag_weight": 0, "include_self": True, "all_windows": True}
    at = {window.window_id: number for number, window in enumerate(store.windows)}
    candidates = matched(unit(np.array(store.scene)), 0)[: None if exact else LOOKED_INTO].tolist()
    assert len(candidates) == (241 if exact else 200)
    scores = {number: expected(store, 0, number)[2] for number in candidates}
    wanted = sorted(candidates, key=lambda number: -scores[number])[:20]
    answer = sounds.search(asks, k=20, by="place", exact=exact, **terms)
    assert [at[hit.window_id] for hit in answer] == wanted
    assert [hit.score for hit in answer] == pytest.approx([scores[one] for one in wanted], abs=5e-6)
    assert all(hit.score == hit.match_score for hit in answer)
    assert answer.background is None


def ranked_by_hand(store: Synthetic, asks: list[int]) -> list[tuple[float, float, float, int]]:
    """(score, start, end, at) of the best span in every window but those that ask, best first."""
    found = []
    for at in store.live():
        if at not in asks:
            start, end, score = max((expected(store, one, at) for one in asks), key=lambda x: x[2])
            found.append((score, start, end, at))
    return sorted(found, reverse=True)


def one_for_each_span(
    store: Synthetic, ranked: list[tuple[float, float, float, int]]
) -> list[tuple[float, float, float, int]]:
    """From the best on, without those that share half of their span with one of the same file."""
    kept: list[tuple[float, float, float, int]] = []
    for one in ranked:
        shares = [
            2 * (min(one[2], other[2]) - max(one[1], other[1]))
            >= min(one[2] - one[1], other[2] - other[1])
            for other in kept
            if store.windows[one[3]].recording_id == store.windows[other[3]].recording_id
        ]
        if not any(shares):
            kept.append(one)
    return kept


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Five recordings with a window at every second, and two sounds of 2 s and 1 s that ask."""
    store = make_store(tmp_path_factory.mktemp("hours") / "store", hop_samples=SAMPLE_RATE_HZ)
    store.add({"asks": 1}, seed=1, last_samples=SHORT)
    store.add({"also": 1}, seed=7, last_samples=SHORT // 2)
    store.add({f"hour {at}": 30 for at in range(5)}, seed=2)
    build(store.store)
    return store


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("asks", [[0], [0, 1]])
def test_ranked_by_place_one_hit_stands_for_a_span(
    hours: Synthetic, asks: list[int], *, exact: bool
) -> None:
    """All of these 150 windows are looked into: 1,200 would be, with such a hop."""
    sounds = soundalike.open(hours.store.path)
    ids = [hours.windows[at].window_id for at in asks]
    each = ranked_by_hand(hours, asks)
    answer = sounds.search(*ids, k=40, by="place", exact=exact)
    wanted = one_for_each_span(hours, each)[:40]
    assert [hit.window_id for hit in answer] == [hours.windows[one[3]].window_id for one in wanted]
    assert [hit.score for hit in answer] == pytest.approx([one[0] for one in wanted], abs=5e-6)
    spans = [(hit.match_start_s, hit.match_end_s) for hit in answer]
    assert np.allclose(np.array(spans, float), [one[1:3] for one in wanted])
    grouped = sounds.search(*ids, k=40, by="place", exact=exact, group_by="file")
    best: dict[bytes, float] = {}
    for score, _, _, at in each:
        best.setdefault(hours.windows[at].recording_id, score)
    assert {hit.recording_id: hit.score for hit in grouped} == pytest.approx(best, abs=5e-6)
    everything = sounds.search(*ids, k=200, by="place", exact=exact, all_windows=True)
    assert [hit.window_id for hit in everything] == [
        hours.windows[one[3]].window_id for one in each
    ]


def test_ranked_by_place_least_score_is_of_scenes_and_never_too_few(hours: Synthetic) -> None:
    sounds, asks = soundalike.open(hours.store.path), hours.windows[0].window_id
    scenes = unit(np.array(hours.scene))
    least = float(np.sort(scenes @ scenes[0])[-41:-39].mean())
    alike = {at for at in range(1, len(scenes)) if scenes[at] @ scenes[0] >= least}
    wanted = [one for one in ranked_by_hand(hours, [0]) if one[3] in alike]
    for exact in (False, True):
        answer = sounds.search(
            asks, k=100, by="place", min_score=least, exact=exact, all_windows=True
        )
        found = [hit.window_id for hit in answer]
        assert found == [hours.windows[at].window_id for *_, at in wanted]


def test_more_windows_are_looked_into_where_those_are_too_few_hits(tmp_path: Path) -> None:
    """900 windows, and what asks for 300 of them, or for those of three recordings."""
    store = make_store(tmp_path / "store")
    store.add({"asks": 1}, seed=1, last_samples=SHORT)
    store.add({f"r{at}": 300 for at in range(3)}, seed=2)
    build(store.store)
    sounds, asks = soundalike.open(store.store.path), store.windows[0].window_id
    (note,) = sounds.search(asks, by="place").notes
    assert note == "700 windows that might be hits were not looked into; if exact, all are"
    assert sounds.search(asks, by="place", exact=True).notes == ()
    assert len(sounds.search(asks, k=300, by="place")) == 300
    assert len(sounds.search(asks, k=1000, by="place")) == 900
    assert len(sounds.search(asks, k=3, by="place", group_by="file")) == 3
    several = sounds.search(asks, k=50, by="place", group_by="file", include_self=True)
    assert len(several) == 4
    (note,) = several.notes
    assert note.startswith("701 windows that might be hits were not looked into")
    near_copies = sounds.search(asks, k=20, by="place", exact=True, unique=True, unique_at=0.0)
    assert sum(hit.stands_for for hit in near_copies) > 400


def test_a_hit_that_is_nearest_to_a_whole_window_has_no_place(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    build(store.store)
    sounds = soundalike.open(store.store.path)
    ids = [store.windows[0].window_id, store.windows[-1].window_id]
    answer = sounds.search(*ids, k=60, include_self=True, tag_weight=0)
    own = next(hit for hit in answer if hit.window_id == ids[1])
    assert own.score == pytest.approx(1)
    assert own.match_start_s is None
    assert sum(hit.match_start_s is not None for hit in answer) > 5
    by_place = sounds.search(*ids, by="place")
    assert by_place.notes == (
        "ranked by what asks and is shorter than a window, and by nothing else",
    )


def test_what_is_found_is_told_though_frames_are_gone(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    build(store.store)
    sounds, asks = soundalike.open(store.store.path), store.windows[0].window_id
    before = sounds.search(asks)
    for part in store.store.parts():
        (part.path / "frames.parquet").unlink(missing_ok=True)
    answer = sounds.search(asks)
    assert [hit.window_id for hit in answer] == [hit.window_id for hit in before]
    assert {hit.match_start_s for hit in answer} == {None}
    (note,) = answer.notes
    assert note.startswith("where in a hit it is cannot be said: ")
    assert "frames.parquet is missing" in note
    with pytest.raises(DamagedStoreError, match="is missing"):
        sounds.search(asks, by="place")


def test_parts_that_are_replaced_meanwhile_stay_until_the_answer_is_there(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    build(store.store)
    kept = soundalike.open(store.store.path)._kept
    with kept.holding() as index:
        rows = index.rows_of([store.windows[at].window_id for at in store.live()])
        compact(store.store)
        build(store.store)
        for frames, at in zip(index.frames(rows), store.live(), strict=True):
            assert np.array_equal(frames, store.frames[at].astype(np.float32))
    before = len(list((store.store.path / "parts").iterdir()))
    tidy(store.store)
    assert len(list((store.store.path / "parts").iterdir())) < before


def test_unique_and_diverse_go_with_places(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    twin = store.scene[-1]
    store.add({"twin": 1}, scene=twin[None].copy())
    build(store.store)
    sounds, asks = soundalike.open(store.store.path), store.windows[0].window_id
    for exact in (False, True):
        answer = sounds.search(asks, k=60, by="place", unique=True, exact=exact)
        assert sum(hit.stands_for for hit in answer) == 46
        assert sorted(hit.stands_for for hit in answer)[-2:] == [1, 2]
        assert len(sounds.search(asks, k=7, by="place", diverse=True, exact=exact)) == 7


def test_store_without_frames_says_so(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store", frames="none")
    build(store.store)
    sounds, asks = soundalike.open(store.store.path), store.windows[0].window_id
    answer = sounds.search(asks)
    assert {hit.match_score for hit in answer} == {None}
    assert answer.notes == (
        "where in a hit it is cannot be said: the store keeps no frame embeddings",
    )
    assert sounds.search(asks, locate=False).notes == ()
    assert sounds.search(store.windows[-1].window_id).notes == ()
    with pytest.raises(QueryError, match="keeps no frame embeddings"):
        sounds.search(asks, by="place")
    with pytest.raises(QueryError, match="and locate is False"):
        sounds.search(asks, by="place", locate=False)


def test_forged_places_are_told_and_never_others_frames(tmp_path: Path) -> None:
    """Whoever can forge a digest as well; what merely broke is told when the index is opened."""
    store = store_with_short(tmp_path / "store")
    generation = build(store.store)
    [file] = generation.path.glob("frames-*.raw")
    places = np.frombuffer(file.read_bytes(), "<i4").reshape(-1, 2).copy()
    for column, value in ((0, 77), (0, -1), (1, 10_000), (1, -5), (1, 2)):
        index = SoundIndex.open(store.store.path)
        wrong = places.copy()
        wrong[:, column] = value
        file.write_bytes(wrong.tobytes())
        with pytest.raises(DamagedStoreError):
            index.frames(index.rows_of([store.windows[0].window_id, store.windows[-1].window_id]))
        file.write_bytes(places.tobytes())
    file.write_bytes(wrong.tobytes())
    with pytest.raises(DamagedStoreError, match="SHA-256"):
        SoundIndex.open(store.store.path)
    problems = soundalike.open(store.store.path).verify().problems
    assert [one.path for one in problems] == [file]


def test_a_part_that_is_gone_is_named(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    build(store.store)
    index = SoundIndex.open(store.store.path)
    rows = index.rows_of([store.windows[0].window_id])
    [part] = [one for one in store.store.parts() if one.sequence == 1]
    (part.path / "frames.parquet").unlink()
    with pytest.raises(DamagedStoreError, match=r"frames\.parquet is missing"):
        index.frames(rows)


def test_only_what_asked_and_is_nearest_is_looked_for(tmp_path: Path) -> None:
    """With several clips each hit is looked into for the one that it is nearest to."""
    store = store_with_short(tmp_path / "store")
    store.add({"brief": 1}, seed=8, last_samples=SHORT // 2)
    build(store.store)
    index = SoundIndex.open(store.store.path)
    short = [0, len(store.windows) - 1]
    rows = index.rows_of([store.windows[at].window_id for at in short])
    question = Question(index.vectors(rows), patterns=stored_patterns(index, rows))
    found = find(index, [question], Scope.of(Terms(k=60, locate=True), index.opened))
    assert found.match is not None
    at = {window.window_id: number for number, window in enumerate(store.windows)}
    asked = {0: 0, 1: 0}
    for row, window_id in enumerate(found.window_ids.tolist()):
        nearest = int((index.vectors(found.rows[row : row + 1]) @ question.vectors.T).argmax())  # type: ignore[union-attr]
        asked[nearest] += 1
        assert found.match.scores[row] == pytest.approx(
            expected(store, short[nearest], at[window_id])[2], abs=5e-6
        )
    assert min(asked.values()) > 5


def test_padding_of_what_asks_is_not_looked_for() -> None:
    frames = RNG.normal(0, 1, (31, 768)).astype(np.float32)
    assert np.array_equal(Pattern(SHORT, frames).read(), frames[:6])


def test_a_span_is_a_frame_at_least_and_short_ones_by_place_are_warned_of(tmp_path: Path) -> None:
    store = store_with_short(tmp_path / "store")
    store.add({"click": 1}, seed=8, last_samples=1)
    build(store.store)
    sounds, click = soundalike.open(store.store.path), store.windows[-1].window_id
    for hit in sounds.search(click, k=50):
        assert hit.match_start_s is not None
        assert hit.match_end_s == pytest.approx(min(hit.match_start_s + FRAME_S, hit.end_s))
    (note,) = sounds.search(click, by="place").notes
    assert note.startswith("ranked by places of less than 1 s: ")
    assert sounds.search(store.windows[0].window_id, by="place").notes == ()


def test_tables_say_where_if_they_are_asked_to(tmp_path: Path) -> None:
    store, none = store_with_short(tmp_path / "store"), store_with_short(tmp_path / "none", "none")
    table = tmp_path / "many.parquet"
    for made in (store, none):
        build(made.store)
    sounds = soundalike.open(store.store.path)
    for terms in ({}, {"locate": True}, {"by": "place"}):
        sounds.search_many([store.store.path], table, k=3, force=True, **terms)
        rows = pq.read_table(table).to_pylist()
        at = {window.window_id: number for number, window in enumerate(store.windows)}
        for row in rows:
            asks, hit = at[row["query_window_id"]], at[row["window_id"]]
            is_short = store.windows[asks].num_samples < WINDOW_SAMPLES
            if not terms or not is_short:
                assert row["match_start_s"] is row["match_end_s"] is row["match_score"] is None
                continue
            match = row["match_start_s"], row["match_end_s"], row["match_score"]
            assert match == pytest.approx(expected(store, asks, hit), abs=5e-6)
            assert "by" not in terms or row["score"] == row["match_score"]
    for terms in ({"locate": True}, {"by": "place"}):
        with pytest.raises(QueryError, match="keeps no frame embeddings"):
            soundalike.open(none.store.path).search_many(
                [none.store.path], table, force=True, **terms
            )


# --- through the network --------------------------------------------------------------------------


@pytest.mark.whole
def test_a_bark_beside_a_fire_is_found_where_it_is(tmp_path: Path) -> None:
    """By its own sound, and by another dog's; with its window the first of all by place."""
    samples = REPOSITORY / "data" / "samples"
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    bark = heard(samples / "animals" / "dog.ogg")[: 2 * SAMPLE_RATE_HZ]
    fire = heard(samples / "nature" / "campfire.wav")
    for name, at_s in (("early", 1.0), ("late", 6.5), ("never", None)):
        mixed = np.resize(fire, WINDOW_SAMPLES) * 0.1 * rms(bark) / rms(fire)
        if at_s is not None:
            start = int(at_s * SAMPLE_RATE_HZ)
            mixed[start : start + len(bark)] += bark
        soundfile.write(sounds / f"{name}.wav", mixed / 2, SAMPLE_RATE_HZ)
    store = soundalike.open(tmp_path / "store", checkpoint="demo")
    store.index(sounds)
    soundfile.write(tmp_path / "bark.wav", bark, SAMPLE_RATE_HZ)
    for asks in (tmp_path / "bark.wav", samples / "animals" / "barking_dog.wav"):
        answer = store.search(asks, by="place", duration=2)
        match = {hit.path.stem: (hit.match_start_s, hit.match_score) for hit in answer if hit.path}
        assert match["early"][0] == pytest.approx(1.0, abs=0.7)
        assert match["late"][0] == pytest.approx(6.5, abs=0.7)
        assert [hit.path.stem for hit in answer if hit.path][2] == "never"


def heard(file: Path) -> Array:
    """A file at 32 kHz, mono, as the network hears it."""
    with open_audio(file) as audio:
        return np.concatenate(
            [cut.waveform[: cut.num_samples] for cut in audio.windows(Geometry())]
        )


def rms(samples: Array) -> float:
    return float(np.sqrt((samples**2).mean()))
