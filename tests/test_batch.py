"""Batches: every window's hits are those that a query would give, whatever asks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, Run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Query
from synthetic import Synthetic, make_store, recording_id, write_tone
from test_diversity import chosen_by_hand

import soundalike
from indexer.embedding.extractor import Extractor
from indexer.errors import (
    CheckpointError,
    IdentityError,
    LibraryError,
    OutputError,
    QueryError,
    StoreError,
    UnknownTagError,
)
from indexer.progress import Step
from indexer.run.extract import ExtractConfig, extract
from indexer.store.creation import create_store
from indexer.windows import Geometry
from search.asking.many import SCHEMA, ManyReport
from search.asking.sound_index import SoundIndex
from search.asking.tables import writing_table
from search.filters.tags import TagFilter
from search.nearest.index import VectorIndex
from search.upkeep.build import build

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    return list(table.to_pylist())


def write_batch(
    store: Synthetic | Path, queries: list[Path], output: Path, **options: Any
) -> ManyReport:
    path = store.store.path if isinstance(store, Synthetic) else store
    how = {
        name: options.pop(name) for name in ("checkpoint", "device", "listen") if name in options
    }
    return soundalike.open(path, **how).search_many(queries, output, **options)


def batch(
    store: Synthetic | Path, queries: list[Path], output: Path, **options: Any
) -> tuple[list[Row], ManyReport]:
    report = write_batch(store, queries, output, force=True, **options)
    rows = rows_of(output)
    assert report.num_hits == len(rows)
    assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []
    return rows, report


def filled(path: Path, recordings: dict[str, int], seed: int, kinds: int = 6) -> Synthetic:
    """A store whose windows lie around a few centres, some of them equal bit by bit."""
    store = make_store(path, frames="none", root=path.parent / f"library {path.name}")
    rng = np.random.default_rng(seed)
    num_rows = sum(recordings.values())
    centres = np.random.default_rng(5).normal(0, 1, (kinds, 768))
    noise = rng.choice([0.0, 0.3, 1.0], (num_rows, 1)) * rng.normal(0, 1, (num_rows, 768))
    scene = (centres[rng.integers(0, kinds, num_rows)] + noise).astype(np.float32)
    tags = np.where(rng.random((num_rows, 527)) < 0.2, 0.9, 0.01)
    store.add(recordings, scene=scene, tags=tags)
    build(store.store, max_segment_rows=40)
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Synthetic]:
    """Two stores; they share a recording, and the second has a long one."""
    folder = tmp_path_factory.mktemp("batch")
    return [
        filled(folder / "one", {"shared": 4, **{f"a{n}": 1 + n % 3 for n in range(25)}}, 1),
        filled(folder / "two", {"shared": 4, "day": 60, **{f"b{n}": 1 for n in range(12)}}, 2),
    ]


def asking(store: Synthetic, per: str) -> list[tuple[int | None, str, list[int]]]:
    """Who asks: the window, if it is one; the first path; and the positions of its windows."""
    windows = [(at, store.windows[at]) for at in store.live()]
    if per == "window":
        return [(one.window_id, path_of(store, one.recording_id), [at]) for at, one in windows]
    clips: dict[bytes, list[int]] = {}
    for at, one in windows:
        clips.setdefault(one.recording_id, []).append(at)
    return [(None, path_of(store, recording), rows) for recording, rows in clips.items()]


def path_of(store: Synthetic, recording: bytes) -> str:
    root = store.store.path.parent / f"library {store.store.path.name}"
    return min(str(root / path) for path, one in store.paths.items() if one == recording)


def expected(asked: list[Synthetic], who: Synthetic, per: str, terms: dict[str, Any]) -> list[Row]:
    """What the oracle says to each question, by its path and first window, rank by rank."""
    rows, index = [], SoundIndex.open(who.store.path)
    for window_id, path, at in asking(who, per):
        own = who.windows[at[0]].recording_id
        query = Query(
            vectors=index.windows_of(who.windows[one].window_id for one in at)[0],
            k=1000,
            filter=TagFilter(("Dog",), none_of=("Rain",)) if "tags" in terms else None,
            exclude=frozenset() if terms.get("include_self") else frozenset({own}),
            group_by=terms.get("group_by"),
            min_score=terms.get("min_score"),
        )
        best = oracle.answer(
            [without_long(one) if "where" in terms else one for one in asked], query
        )
        k = terms.get("k", 10)
        if terms.get("diverse"):
            best = choose_by_hand(asked, best[: max(10 * k, 100)], k, float(terms["diverse"]))
        start_s = min(who.windows[one].start_s for one in at)
        for rank, (score, found) in enumerate(best[:k], start=1):
            rows.append((window_id, path, start_s, rank, score, found))
    return rows


def without_long(store: Synthetic) -> Any:
    """A store less what `start < 20` leaves out."""
    live = [at for at in store.live() if store.windows[at].start_s < 20]
    return SimpleNamespace(
        windows=store.windows,
        scene=store.scene,
        tags=store.tags,
        levels_db=store.levels_db,
        live=lambda: live,
    )


def choose_by_hand(
    stores: list[Synthetic], best: list[tuple[float, int]], k: int, diversity: float
) -> list[tuple[float, int]]:
    index = SoundIndex.open(*(store.store.path for store in stores))
    vectors = index.windows_of(window_id for _, window_id in best)[0].astype(np.float64)
    scores = np.array([score for score, _ in best])
    return [best[at] for at in chosen_by_hand(vectors, scores, k, diversity)]


@pytest.mark.whole
@settings(max_examples=40, deadline=None)
@given(
    asked=st.sampled_from([(0,), (1,), (0, 1)]),
    who=st.integers(0, 1),
    per=st.sampled_from(["window", "window", "clip"]),
    terms=st.fixed_dictionaries(
        {"k": st.sampled_from([1, 3, 10, 200])},
        optional={
            "min_score": st.sampled_from([0.3, 0.999]),
            "include_self": st.sampled_from([True]),
            "tags": st.just("Dog"),
            "group_by": st.just("file"),
            "where": st.just("start < 20"),
        },
    ),
    block=st.sampled_from([7, 1024]),
)
def test_batch_of_a_store_equals_a_query_for_each_question(
    stores: list[Synthetic],
    tmp_path_factory: pytest.TempPathFactory,
    asked: tuple[int, ...],
    who: int,
    per: Any,
    terms: dict[str, Any],
    block: int,
) -> None:
    if "tags" in terms:
        terms["not_tags"] = "Rain"
    output = tmp_path_factory.mktemp("out") / "hits.parquet"
    sounds = soundalike.open(*(stores[number].store.path for number in asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.enough.BLOCK_VECTORS", block)
        report = sounds.search_many(stores[who].store.path, output, per=per, tag_weight=0, **terms)
    names = ("query_window_id", "query_path", "query_start_s", "rank", "score", "window_id")
    found = [tuple(row[name] for name in names) for row in rows_of(output)]
    wanted = expected([stores[number] for number in asked], stores[who], per, terms)
    assert sorted(found, key=str) == sorted(wanted, key=str)
    order = {one[:3]: at for at, one in enumerate(dict.fromkeys(row[:3] for row in found))}
    together = sorted(found, key=lambda one: (list(order).index(one[:3]), one[3]))
    assert found == together  # the hits of a question stand together, by rank
    assert report.num_queries == len(asking(stores[who], per))


@pytest.mark.whole
@pytest.mark.parametrize("per", ["window", "clip"])
def test_batch_with_all_terms_over_two_stores_equals_the_oracle(
    stores: list[Synthetic], tmp_path: Path, run: Run, per: Any
) -> None:
    terms: dict[str, Any] = {
        "k": 4,
        "where": "start < 20",
        "group_by": "file",
        "diverse": 0.5,
        "tags": "Dog",
        "not_tags": "Rain",
        "tag_weight": 0,
    }
    one, two = (store.store.path for store in stores)
    soundalike.open(one, two).search_many(two, tmp_path / "hits.parquet", per=per, **terms)
    words = ["--where", "start < 20", "--group-by", "file", "--diverse", "--tag", "Dog"]
    words += ["--not-tag", "Rain", "-k", "4", "--per", per, "--output", tmp_path / "by.parquet"]
    words += ["--tag-weight", "0"]
    run("batch", one, two, "--also", two, *words)
    assert rows_of(tmp_path / "by.parquet") == rows_of(tmp_path / "hits.parquet")
    names = ("query_window_id", "query_path", "query_start_s", "rank", "score", "window_id")
    found = [tuple(row[name] for name in names) for row in rows_of(tmp_path / "hits.parquet")]
    wanted = expected(stores, stores[1], per, terms)
    assert len(wanted) > 50
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_batch_grouped_looks_no_further_than_there_are_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four recordings are all there are: the other 396 rows need not be looked at for ten."""
    store = make_store(tmp_path / "store", frames="none")
    scene = np.random.default_rng(0).normal(0, 1, (400, 768)).astype(np.float32)
    store.add({f"r{number}": 100 for number in range(4)}, scene=scene)
    build(store.store)
    ks: list[int] = []
    search_many = VectorIndex.search_many

    def counting(self: VectorIndex, vectors: Any, k: int, *more: Any, **named: Any) -> Any:
        ks.append(k)
        return search_many(self, vectors, k, *more, **named)

    monkeypatch.setattr(VectorIndex, "search_many", counting)
    rows, _ = batch(store, [store.store.path], tmp_path / "x.parquet", group_by="file")
    assert len(rows) == 400 * 3  # every recording but one's own
    assert max(ks) < 400


@pytest.mark.parametrize("per", ["file", "windows"])
def test_batch_per_something_else_is_an_error(
    stores: list[Synthetic], tmp_path: Path, per: Any
) -> None:
    path = stores[0].store.path
    with pytest.raises(QueryError, match=f"per window or clip, got {per!r}"):
        write_batch(path, [path], tmp_path / "x.parquet", per=per)


def test_batch_asks_for_more_where_a_long_recording_fills_the_answer(
    stores: list[Synthetic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 60 windows of "day" are each other's neighbours: 5 hits lie far behind them."""
    store = make_store(tmp_path / "store", frames="none")
    rng = np.random.default_rng(1)
    day = rng.normal(0, 1, 768) + 0.01 * rng.normal(0, 1, (60, 768))
    scene = np.concatenate([day, rng.normal(0, 1, (30, 768))]).astype(np.float32)
    store.add({"day": 60, **{f"o{number}": 1 for number in range(30)}}, scene=scene)
    build(store.store)
    asked: list[tuple[int, int]] = []
    search_many = VectorIndex.search_many

    def counting(self: VectorIndex, vectors: Any, k: int, *more: Any, **named: Any) -> Any:
        asked.append((len(vectors), k))
        return search_many(self, vectors, k, *more, **named)

    monkeypatch.setattr(VectorIndex, "search_many", counting)
    rows, _ = batch(store, [store.store.path], tmp_path / "hits.parquet", k=5)
    assert len(rows) == 90 * 5
    assert not any(
        row["recording_id"] == recording_id("day").hex()
        for row in rows
        if row["rank"] <= 5 and row["query_path"].endswith("day.wav")
    )
    assert [number for number, _ in asked] == [90, 60, 60]  # only those that came out short
    assert asked[-1][1] == 91


def test_batch_with_min_score_does_not_look_beyond_it(
    stores: list[Synthetic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ks: list[int] = []
    search_many = VectorIndex.search_many

    def counting(self: VectorIndex, vectors: Any, k: int, *more: Any, **named: Any) -> Any:
        ks.append(k)
        return search_many(self, vectors, k, *more, **named)

    monkeypatch.setattr(VectorIndex, "search_many", counting)
    batch(stores[0], [stores[0].store.path], tmp_path / "x.parquet", k=30, min_score=0.9999)
    assert ks == [38]


def test_batch_row_says_who_asked_and_what_was_found(
    stores: list[Synthetic], tmp_path: Path
) -> None:
    store = stores[0]
    rows, report = batch(store, [store.store.path], tmp_path / "hits.jsonl", k=2)
    assert report.failures == []
    windows = {window.window_id: window for window in store.windows}
    names = {recording: path for path, recording in store.paths.items()}
    root = store.store.path.parent / "library one"
    for row in rows:
        for prefix, path in (("query_", "query_path"), ("", "path")):
            window = windows[row[f"{prefix}window_id"]]
            assert row[path] == str(root / names[window.recording_id])
            assert (row[f"{prefix}start_s"], row[f"{prefix}end_s"]) == (
                window.start_s,
                window.end_s,
            )
        assert row["recording_id"] == windows[row["window_id"]].recording_id.hex()
    assert list(rows[0]) == SCHEMA.names
    parquet, _ = batch(store, [store.store.path], tmp_path / "hits.parquet", k=2)
    assert parquet == rows


def test_batch_path_with_odd_bytes_is_text(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", {"a": 1, "b": 1}, 3)
    store.rename("a.wav", r"caf\xe9\x5c.wav")  # as stored: a Latin-1 byte and a backslash
    build(store.store)
    rows, _ = batch(store, [store.store.path], tmp_path / "hits.parquet")
    assert {Path(row["path"]).name for row in rows} == {r"caf\xe9\x5c.wav", "b.wav"}


def test_batch_of_a_library_that_is_not_known_here_names_it(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", {"a": 1, "b": 1}, 3)
    (store.store.path / "libraries.json").unlink()
    rows, _ = batch(store, [store.store.path], tmp_path / "hits.parquet")
    assert rows[0]["path"] == f"(library {store.library_id})/b.wav"


def test_batch_without_hits_is_a_table_without_rows(
    stores: list[Synthetic], tmp_path: Path
) -> None:
    empty = make_store(tmp_path / "empty", frames="none")
    build(empty.store)
    for suffix in (".parquet", ".jsonl"):
        output = tmp_path / f"hits{suffix}"
        assert batch(empty, [stores[0].store.path], output)[0] == []
        assert batch(empty, [empty.store.path], output)[0] == []
        queries = [stores[0].store.path]
        assert batch(stores[0], queries, output, tags="Dog", threshold=1.0)[0] == []


def test_batch_says_how_far_it_is(stores: list[Synthetic], tmp_path: Path) -> None:
    told: list[Any] = []
    paths = [store.store.path for store in stores]
    write_batch(stores[0], paths, tmp_path / "x.parquet", listen=told.append)
    total = sum(len(store.live()) for store in stores)
    assert told[-1] == Step("asking", total, total, "query")
    assert [step.done for step in told] == sorted(step.done for step in told)


# --- audio ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(
    whole: None,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_extractor: Extractor,
    tiny_file: Path,
) -> Path:
    """A library that was embedded by the tiny network, and its store, which names its file."""
    folder = tmp_path_factory.mktemp("heard")
    for name, (seconds, hz) in {"low": (4, 200), "high": (3, 3000), "long": (25, 900)}.items():
        write_tone(folder / "library" / f"{name}.wav", seconds, hz)
    identity = tiny_extractor.identity(Geometry())
    store = create_store(
        folder / "store",
        identity,
        tiny_extractor.head(),
        checkpoint=str(tiny_file),
        written_by="tests",
    )
    extract(folder / "library", store, tiny_extractor, ExtractConfig(num_workers=0))
    build(store)
    return folder


def test_batch_of_audio_equals_asking_file_by_file(heard: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    for hz in (250, 2500):
        write_tone(clips / "deep" / f"{hz}.wav", 2.5, hz)
    shutil.copy(heard / "library" / "low.wav", clips / "a copy.wav")
    (clips / "broken.wav").write_text("not audio")
    alone = write_tone(tmp_path / "alone.wav", 1.0, 1000)
    rows, report = batch(heard / "store", [clips, alone], tmp_path / "x.parquet", device="cpu")
    assert [failure.partition(":")[0] for failure in report.failures] == [
        f"cannot listen to {clips / 'broken.wav'}"
    ]
    files = [clips / "a copy.wav", clips / "deep/250.wav", clips / "deep/2500.wav", alone]
    assert report.num_queries == len(files)
    for file in files:
        hits = soundalike.open(heard / "store", device="cpu").search(file)
        mine = [row for row in rows if row["query_path"] == str(file)]
        assert [row["window_id"] for row in mine] == [hit.window_id for hit in hits]
        assert [row["score"] for row in mine] == pytest.approx([hit.score for hit in hits])
        assert {row["query_window_id"] for row in mine} == {None}
    assert not any(
        row["path"].endswith("low.wav") for row in rows if row["query_path"] == str(files[0])
    )


def test_batch_asks_with_each_window_of_a_file(heard: Path, tmp_path: Path) -> None:
    file = heard / "library" / "long.wav"
    rows, report = batch(
        heard / "store", [file], tmp_path / "x.jsonl", k=1, include_self=True, device="cpu"
    )
    assert report.num_queries == 3
    for number, row in enumerate(rows):  # each finds itself
        assert row["score"] == pytest.approx(1, abs=1e-5)
        assert (row["query_start_s"], row["query_end_s"]) == (row["start_s"], row["end_s"])
        assert row["start_s"] == 10.0 * number
    others, _ = batch(heard / "store", [file], tmp_path / "x.jsonl", k=9, device="cpu")
    assert len(others) == 3 * 2
    assert not any("long" in row["path"] for row in others)


def test_batch_asks_with_the_windows_of_a_file_in_blocks(
    heard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (heard / "store", [heard / "library" / "long.wav"], tmp_path / "x.jsonl")
    whole, _ = batch(*asked, k=9, device="cpu")
    monkeypatch.setattr("search.nearest.enough.BLOCK_VECTORS", 2)
    in_blocks, _ = batch(*asked, k=9, device="cpu")
    assert in_blocks == whole


def test_batch_where_no_file_can_be_read_is_an_error_and_no_table(
    heard: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_text("no")
    (tmp_path / "b.wav").touch()
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    with pytest.raises(QueryError, match=r"none of 2 that ask can be read: .*a\.wav.*; .*b\.wav"):
        batch(heard / "store", files, tmp_path / "x.parquet", device="cpu")
    assert not (tmp_path / "x.parquet").exists()


# --- what cannot be done -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hits.csv", r"hits\.csv says no format; call it something\.parquet"),
        ("hits", "says no format"),
        ("nowhere/hits.parquet", "there is no folder .*nowhere"),
        ("folder.parquet", "a folder has that name"),
    ],
)
def test_batch_output_that_cannot_be_is_an_error_before_work_begins(
    stores: list[Synthetic], tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(OutputError, match=message):
        write_batch(stores[0], [stores[0].store.path], tmp_path / name)


def test_batch_output_may_have_the_longest_name(stores: list[Synthetic], tmp_path: Path) -> None:
    path = stores[0].store.path
    for suffix in (".parquet", ".jsonl"):
        assert batch(path, [path], tmp_path / f"{'x' * (255 - len(suffix))}{suffix}", k=1)[0]


def test_writing_json_lines_of_more_rows_than_are_made_at_a_time(tmp_path: Path) -> None:
    rows = pa.RecordBatch.from_pydict({"n": range(25_000)})
    with writing_table(tmp_path / "x.jsonl", rows.schema) as write:
        write(rows)
        write(rows.slice(0, 0))
    assert rows_of(tmp_path / "x.jsonl") == rows.to_pylist()


def test_writing_table_says_what_went_wrong_and_not_what_cleaning_up_did(tmp_path: Path) -> None:
    def write() -> None:
        with writing_table(tmp_path / "x.jsonl", pa.schema([])):
            (temporary,) = tmp_path.iterdir()
            temporary.unlink()
            temporary.mkdir()  # which cannot be removed as a file is
            raise KeyError("cause")

    with pytest.raises(KeyError, match="cause"):
        write()


def test_batch_that_fails_leaves_what_was_there(heard: Path, tmp_path: Path) -> None:
    output = tmp_path / "hits.parquet"
    output.write_text("old")
    queries = [heard / "store", heard / "library"]  # the store's hits are written by then
    with pytest.raises(CheckpointError, match="does not exist"):
        write_batch(heard / "store", queries, output, checkpoint="no such file.pth", force=True)
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_batch_to_a_full_disk_is_an_error_that_names_the_file(
    stores: list[Synthetic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = stores[0].store.path
    with pytest.raises(OutputError, match=r"cannot write .*hits\.jsonl: No space left"):
        write_batch(path, [path], tmp_path / "hits.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_batch_of_what_is_not_there_or_not_alike_is_an_error(
    stores: list[Synthetic], tmp_path: Path
) -> None:
    path, output = stores[0].store.path, tmp_path / "hits.parquet"
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    with pytest.raises(StoreError, match="has no index yet"):
        write_batch(path, [other.store.path], output)
    build(other.store)
    with pytest.raises(IdentityError, match="weights"):
        write_batch(path, [other.store.path], output)
    with pytest.raises(QueryError, match=r"nothing at .*absent\.wav"):
        write_batch(path, [tmp_path / "absent.wav"], output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="no audio"):
        write_batch(path, [tmp_path / "empty"], output)
    with pytest.raises(StoreError, match="no store"):
        write_batch(tmp_path / "empty", [path], output)
    with pytest.raises(UnknownTagError, match="did you mean 'Dog'"):
        write_batch(path, [path], output, tags="Dogg")
    assert not output.exists()


# --- the command ---------------------------------------------------------------------------------


def test_batch_command_names_bad_files_and_exits_with_3(
    heard: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "bad.wav").write_text("no")
    output = tmp_path / "hits.jsonl"
    clips = (heard / "library", tmp_path / "bad.wav")
    words = ("batch", heard / "store", *clips, "--output", output, "-k", 2, "--device", "cpu")
    printed = run(*words, code=3)
    assert printed.out == ""
    asked, left_out, failure = printed.err.splitlines()
    assert left_out.endswith(" were left out, over all questions; --include-self takes them in")
    assert asked == f"asked about 5 windows; 10 hits in {output}"
    assert failure.startswith(f"cannot listen to {tmp_path / 'bad.wav'}: ")
    run(*words, "--quiet", "--not-tag", "Speech", "--threshold", 0, "--force", code=3)
    assert output.read_text() == ""
    run("batch", heard / "store", heard / "store", code=2)  # no --output


@pytest.mark.whole
def test_batch_of_stores_imports_no_torch(stores: list[Synthetic], tmp_path: Path) -> None:
    code = f"""
import sys
import soundalike
one, two = {[str(store.store.path) for store in stores]!r}
report = soundalike.open(one).search_many([one, two], {str(tmp_path / "hits.parquet")!r})
groups = soundalike.open(one).duplicates(two).groups
print(report.num_hits > 0, len(groups) > 0, "torch" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert result.stdout.split() == ["True", "True", "False"], result.stderr


# --- the document --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(whole: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the commands of docs/batch.md print, one after the other, and then its Python."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "data").symlink_to(REPOSITORY / "data")
    text = (REPOSITORY / "docs" / "batch.md").read_text()
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    python = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    (folder / "lines.py").write_text(python)
    scripts = Path(sys.executable).parent
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"PATH={scripts}:$PATH\n{shell}\npython lines.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_document_commands_succeed_and_find_the_copy(printed: str) -> None:
    assert "hits in near.parquet" in printed
    assert "hits in clips.jsonl" in printed
    assert "group 1\n  1.000  workshop/a copy of saw.ogg" in printed
    assert "       = workshop/saw.ogg" in printed
    assert "group 2" not in printed
    lines = re.findall(
        r"^/.*/workshop/[\w ]+\.\w+ [1-5]: [01]\.\d{3} /.*/workshop/", printed, re.MULTILINE
    )
    assert len(lines) == 5


def test_document_names_every_column_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "batch.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == SCHEMA.names


def test_schema_has_one_type_for_all_ids() -> None:
    assert {SCHEMA.field(name).type for name in ("query_window_id", "window_id")} == {pa.int64()}
