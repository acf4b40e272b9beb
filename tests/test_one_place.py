"""One hit for each place, and for near-copies: against a choice row by row, and as it is used."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import soundfile
from conftest import REPOSITORY, Run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array, Query, find_among_others, find_one, unit
from synthetic import Synthetic, make_store, recording_id, write_tone

import soundalike
from indexer.arrays import Float32
from indexer.audio.stream import open_audio
from indexer.errors import QueryError
from indexer.windows import SAMPLE_RATE_HZ, Window
from search.asking.answers import Hit
from search.asking.sound_index import SoundIndex
from search.asking.terms import MAX_DIVERSE, Terms
from search.filters.tags import TagFilter
from search.nearest.index import VectorIndex
from search.upkeep.build import build

Opened = tuple[list[Synthetic], SoundIndex]
#: The bark of the issue is asked with, and stands among these.
BARK = REPOSITORY / "data" / "samples" / "animals" / "dog.ogg"


def unit32(scene: Array) -> Float32:
    return np.asarray(unit(scene), np.float32)


# --- against the oracle --------------------------------------------------------------------------


def odd_windows(rng: np.random.Generator, name: str, count: int) -> list[Window]:
    """Spans of any length, many of them over, in or beside each other, or just half over."""
    found: dict[tuple[int, int], Window] = {}
    while len(found) < count:
        start = int(rng.integers(0, 25)) * SAMPLE_RATE_HZ
        length = int(rng.choice([1, 2, 4, 5, 10, 10, 10, 30])) * SAMPLE_RATE_HZ
        found[start, length] = Window(recording_id(name), start, length)
    return list(found.values())


def fill(store: Synthetic, names: dict[str, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows = [
        one
        for name, count in names.items()
        for one in odd_windows(np.random.default_rng([*name.encode()]), name, count)
    ]
    kinds = rng.integers(0, 9, len(windows))
    noise = rng.choice([0.0, 0.3, 1.0], len(windows))[:, None]
    centres = np.random.default_rng(0).normal(0, 1, (9, 768))
    scene = centres[kinds] + noise * rng.normal(0, 1, (len(windows), 768))
    tags = np.where(rng.random((len(windows), 527)) < 0.4, 0.9, 0.01)
    store.add(names, windows=windows, scene=scene.astype(np.float32), tags=tags)
    build(store.store, max_segment_rows=70)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Opened]:
    """A store, and two that share recordings with the same windows."""
    folder = tmp_path_factory.mktemp("places")
    one, two = (
        make_store(folder / name, frames="none", root=folder / f"library of {name}")
        for name in ("one", "two")
    )
    fill(
        one, {"long": 60, "shared": 20, **{f"a{number}": 1 + number % 7 for number in range(30)}}, 1
    )
    fill(two, {"shared": 20, "other": 50, "a5": 6}, 2)
    paths = one.store.path, two.store.path
    return [([one], SoundIndex.open(paths[0])), ([one, two], SoundIndex.open(*paths))]


@settings(max_examples=150, deadline=None)
@given(
    which=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
    k=st.one_of(st.integers(1, 30), st.just(300)),
    tagged=st.booleans(),
    by_tags=st.booleans(),
    hits=st.sampled_from(["places", "places", "all windows", "files"]),
    unique_at=st.sampled_from([None, 0.93, 0.5, 1.0]),
    min_score=st.sampled_from([None, None, 0.1, 0.6]),
    excluding=st.integers(0, 1),
    block=st.sampled_from([7, 4096]),
)
def test_hits_and_what_they_stand_for_are_those_of_a_choice_row_by_row(
    sets: list[Opened],
    which: int,
    seed: int,
    k: int,
    tagged: bool,
    by_tags: bool,
    hits: str,
    unique_at: float | None,
    min_score: float | None,
    excluding: int,
    block: int,
) -> None:
    rng = np.random.default_rng(seed)
    stores, index = sets[which]
    rows = oracle.live_rows(*stores)
    near = np.array(rows[rng.integers(len(rows))].scene) + rng.normal(0, 0.2, 768)
    query = Query(
        vectors=None if by_tags else unit32(near),
        k=k,
        filter=TagFilter(("Dog",)) if tagged or by_tags else None,
        exclude=frozenset(rows[rng.integers(len(rows))].recording_id for _ in range(excluding)),
        group_by="file" if hits == "files" else None,
        all_windows=True if hits == "all windows" else None,
        unique_at=unique_at,
        min_score=min_score,
    )
    wanted = oracle.answer_with_counts(stores, query)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.asking.copies._BLOCK_ROWS", block)
        answers = [find_one(index, query)]
        if not by_tags:
            answers.append(find_among_others(index, query))
    for found in answers:
        columns = found.scores.tolist(), found.window_ids.tolist(), found.stands_for.tolist()
        assert list(zip(*columns, strict=True)) == wanted


def test_what_overlaps_by_half_of_the_shorter_is_one_place(tmp_path: Path) -> None:
    """To the sample: 160,000 of 320,000 are half, and of a shorter window its own half counts."""
    spans = {"half": (160_000, 320_000), "less": (160_001, 320_000), "inner": (300_000, 40_000)}
    for name, (start, length) in spans.items():
        store = make_store(tmp_path / name, frames="none")
        windows = [Window(recording_id("a"), 0, 320_000), Window(recording_id("a"), start, length)]
        other = Window(recording_id("b"), start, length)  # of another recording
        scene = np.random.default_rng(0).normal(0, 1, (3, 768)).astype(np.float32)
        store.add({"a": 2, "b": 1}, windows=[*windows, other], scene=scene)
        build(store.store)
        hits = soundalike.open(store.store.path).search(scene[0])
        assert hits[0].window_id == windows[0].window_id
        assert len(hits) == {"half": 2, "less": 3, "inner": 2}[name], name


# --- a small hop ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def each_second(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Ten minutes in a window for every second, each like those beside it, in five recordings."""
    store = make_store(
        tmp_path_factory.mktemp("hop") / "store", frames="none", hop_samples=SAMPLE_RATE_HZ
    )
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 1, (610, 768))
    scene = np.array([steps[at : at + 10].sum(0) for at in range(600)]) + rng.normal(0, 2, 768)
    store.add({f"r{number}": 120 for number in range(5)}, scene=scene.astype(np.float32))
    build(store.store)
    return store


def places_of(hits: list[Hit]) -> int:
    """How many of some hits are left if each must lie apart from the better ones."""
    apart: list[Hit] = []
    for hit in hits:
        if not any(overlap_s(hit, one) >= 5 for one in apart):
            apart.append(hit)
    return len(apart)


def overlap_s(one: Hit, other: Hit) -> float:
    if one.recording_id != other.recording_id:
        return 0
    return min(one.end_s, other.end_s) - max(one.start_s, other.start_s)


def test_twenty_hits_at_a_hop_of_one_second_are_twenty_places(each_second: Synthetic) -> None:
    sounds = soundalike.open(each_second.store.path)
    for at in (30, 333, 571):
        query = each_second.windows[at].window_id
        hits = list(sounds.search(query, k=20))
        assert len(hits) == places_of(hits) == 20
        every = list(sounds.search(query, k=600, all_windows=True))
        assert len(every) > 500  # all but what overlaps the question
        assert places_of(every[:20]) < 15
        assert hits[0] == every[0]
        best = [one for one in every if not any(overlap_s(one, hit) >= 5 for hit in hits)]
        assert not best or best[0].score <= hits[-1].score


def test_question_is_asked_once_however_small_the_hop(
    each_second: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a place has as many windows as it may, four times as many are asked for, once."""
    asked: list[int] = []
    search = VectorIndex.search

    def counting(self: VectorIndex, vectors: Any, k: int, *more: Any, **named: Any) -> Any:
        asked.append(k)
        return search(self, vectors, k, *more, **named)

    monkeypatch.setattr(VectorIndex, "search", counting)
    sounds = soundalike.open(each_second.store.path)
    sounds.search(each_second.windows[30].window_id, k=10)
    assert asked == [60]
    asked.clear()
    sounds.search(each_second.windows[30].window_id, k=10, all_windows=True)
    assert asked == [10]


@pytest.mark.whole
def test_index_and_search_at_a_hop_of_one_second(run: Run, tmp_path: Path, tiny_file: Path) -> None:
    library, store = tmp_path / "library", tmp_path / "store"
    for number, hz in enumerate((300, 500)):
        write_tone(library / f"{number}.wav", 60, hz)
    how = ("--store", store, "--checkpoint", tiny_file, "--hop", "1", "--workers", "0", "-q")
    run("index", library, *how)
    words = ("search", store, library / "0.wav", "--include-self", "--format", "json")
    places = run(*words).hits
    assert len(places) == 10
    for one, other in combinations(places, 2):
        if one["recording_id"] == other["recording_id"]:
            assert abs(one["start_s"] - other["start_s"]) > 5
    assert run(*words, "--places").hits == places
    every = run(*words, "--all-windows").hits
    assert len(every) == 10
    assert every != places


# --- many questions ------------------------------------------------------------------------------


def test_table_of_many_questions_has_all_windows_unless_places_are_asked_for(
    each_second: Synthetic, tmp_path: Path
) -> None:
    sounds = soundalike.open(each_second.store.path)
    output = tmp_path / "hits.jsonl"
    for together, alone in (
        ({}, {"all_windows": True}),
        ({"all_windows": True}, {"all_windows": True}),
        ({"all_windows": False}, {}),
        ({"group_by": "file"}, {"group_by": "file"}),
        (
            {"all_windows": False, "unique": True, "unique_at": 0.7},
            {"unique": True, "unique_at": 0.7},
        ),
    ):
        how = {"k": 8, "include_self": True}
        sounds.search_many(each_second.store.path, output, force=True, **together, **how)
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        for window in each_second.windows[::97]:
            hits = sounds.search(window.window_id, **alone, **how)
            mine = [row for row in rows if row["query_window_id"] == window.window_id]
            assert [(row["window_id"], row["stands_for"]) for row in mine] == [
                (hit.window_id, hit.stands_for) for hit in hits
            ]


@pytest.mark.whole
def test_batch_takes_places_and_unique(run: Run, each_second: Synthetic, tmp_path: Path) -> None:
    store, sounds = each_second.store.path, soundalike.open(each_second.store.path)
    terms = {"all_windows": False, "unique": True, "unique_at": 0.8}
    sounds.search_many(store, tmp_path / "a.jsonl", k=3, **terms)
    words = (
        "--places",
        "--unique",
        "--unique-at",
        "0.8",
        "-k",
        "3",
        "--output",
        tmp_path / "b.jsonl",
    )
    run("batch", store, store, *words)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


# --- near-copies ---------------------------------------------------------------------------------


def variants(audio: Float32) -> dict[str, Array]:
    """One sound nine times: as it is, quieter, a little earlier and later, with noise."""
    rng = np.random.default_rng(0)
    noise = np.sqrt(np.mean(audio**2)) * rng.normal(0, 1, len(audio))
    later = {ms: np.concatenate([np.zeros(32 * ms, np.float32), audio]) for ms in (5, 10)}
    return {
        "as it is": audio,
        "-6 dB": audio / 2,
        "-3 dB": audio / 2**0.5,
        "-1 dB": audio / 2 ** (1 / 6),
        "5 ms later": later[5],
        "10 ms later": later[10],
        "5 ms earlier": audio[160:],
        "noise at -40 dB": audio + noise / 100,
        "noise at -30 dB": audio + noise / 1000**0.5,
    }


@pytest.mark.whole
def test_nine_variants_of_a_bark_are_one_unique_hit(run: Run, tmp_path: Path) -> None:
    """And with --diverse they are not the first nine of ten."""
    with open_audio(BARK) as opened:
        audio = np.concatenate(list(opened.blocks()))
    library = tmp_path / "library"
    library.mkdir()
    for name, samples in variants(audio / np.abs(audio).max()).items():
        soundfile.write(library / f"bark, {name}.wav", samples, SAMPLE_RATE_HZ, "PCM_16")
    others = sorted(path for path in (BARK.parent).iterdir() if path != BARK)
    others += sorted((BARK.parent.parent / "birds").iterdir())
    for path in others:
        (library / path.name).symlink_to(path)
    store = tmp_path / "store"
    run("index", library, "--store", store, "--checkpoint", "demo", "--workers", "0", "-q")
    words = ("search", store, BARK, "--format", "json")

    def barks(*more: str) -> list[dict[str, Any]]:
        hits = run(*words, *more).hits
        assert len(hits) == 10
        return [hit for hit in hits if "bark, " in hit["paths"][0]]

    assert len(barks()) >= 8
    (bark,) = barks("--unique")
    assert (bark["rank"], bark["stands_for"]) == (1, 9)
    assert len(barks("--diverse")) <= 6
    assert len(barks("--unique", "--unique-at", "1")) >= 8
    table = run("search", store, BARK, "--unique").out.splitlines()
    assert table[2].strip() == "and 8 hits like it"


def test_copies_are_counted_up_to_the_hit_that_would_come_next(tmp_path: Path) -> None:
    """Three are alike, one of them behind the second hit: k = 1 counts two, k = 2 all three."""
    store = make_store(tmp_path / "store", frames="none")
    first, second, third = np.eye(3, 768)
    at = [first, first + 0.1 * second, second + 0.7 * first, first - 0.27 * third, third]
    store.add({f"r{n}": 1 for n in range(5)}, scene=np.array(at, np.float32))
    build(store.store)
    sounds = soundalike.open(store.store.path)
    aim = first + 0.5 * second
    assert [hit.stands_for for hit in sounds.search(aim, k=1, unique=True)] == [2]
    assert [hit.stands_for for hit in sounds.search(aim, k=2, unique=True)] == [3, 1]
    assert [hit.stands_for for hit in sounds.search(aim, k=9, unique=True)] == [3, 1, 1]
    assert [hit.stands_for for hit in sounds.search(aim, k=9)] == [1] * 5
    assert sounds.search(aim, k=9, unique=True).to_pandas()["stands_for"].tolist() == [3, 1, 1]


# --- what cannot be asked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"all_windows": True, "group_by": "file"}, "a recording has one hit: all of its windows"),
        ({"unique": True, "k": MAX_DIVERSE + 1}, "at most 1,000 unique hits, got k = 1001"),
        ({"unique_at": 1.1}, "unique_at must be at most 1, got 1.1"),
        ({"all_windows": "no"}, "all_windows is True or False, got 'no'"),
    ],
)
def test_terms_that_cannot_be_are_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        Terms(**fields)


def test_unique_at_without_unique_is_refused(
    run: Run, each_second: Synthetic, tmp_path: Path
) -> None:
    store = each_second.store.path
    for words in (
        ("search", store, "1"),
        ("batch", store, store, "--output", tmp_path / "x.jsonl"),
    ):
        assert "--unique-at goes with --unique" in run(*words, "--unique-at", "0.9", code=2).err
