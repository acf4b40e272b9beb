"""Batches: every window's hits are those that a query would give, whatever asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import Synthetic, make_store, recording_id, write_tone

from indexer.embedding.extractor import Extractor
from indexer.errors import (
    CheckpointError,
    IdentityError,
    LibraryError,
    QueryError,
    StoreError,
    UnknownTagError,
)
from indexer.model.checkpoint import Checkpoint
from indexer.run.extract import ExtractConfig, extract
from indexer.store.creation import create_store
from indexer.windows import Geometry
from search.asking.ask import Question, ask
from search.asking.batch import SCHEMA, BatchOptions, BatchReport, _answer, run_batch
from search.asking.query import Query, SoundIndex
from search.asking.sources import Queries
from search.asking.tables import writing_table
from search.filters.tags import TagFilter
from search.nearest.index import VectorIndex
from search.upkeep.build import build
from soundalike.__main__ import main

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    return list(table.to_pylist())


def batch(
    store: Synthetic | Path, queries: list[Path], output: Path, **options: Any
) -> tuple[list[Row], BatchReport]:
    path = store.store.path if isinstance(store, Synthetic) else store
    report = run_batch(path, queries, output, BatchOptions(**options))
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


def expected(asked: Synthetic, asking: Synthetic, options: BatchOptions) -> list[Row]:
    """What `SoundIndex` would say to each window, by the oracle; the order is that of the index."""
    index = SoundIndex.open(asking.store.path)
    rows = []
    for at in asking.live():
        window = asking.windows[at]
        vectors, _ = index.windows([window.window_id])
        own = frozenset() if options.include_self else frozenset({window.recording_id})
        query = Query(vectors, options.k, options.filter, own, min_score=options.min_score)
        for rank, (score, window_id) in enumerate(oracle.answer([asked], query), start=1):
            rows.append((window.window_id, rank, score, window_id))
    return rows


@settings(max_examples=15, deadline=None)
@given(
    asked=st.integers(0, 1),
    asking=st.integers(0, 1),
    k=st.sampled_from([1, 3, 10, 200]),
    min_score=st.sampled_from([None, 0.3, 0.999]),
    include_self=st.booleans(),
    tagged=st.booleans(),
    block=st.sampled_from([7, 1024]),
)
def test_batch_of_a_store_equals_a_query_for_each_window(
    stores: list[Synthetic],
    tmp_path_factory: pytest.TempPathFactory,
    asked: int,
    asking: int,
    k: int,
    min_score: float | None,
    include_self: bool,
    tagged: bool,
    block: int,
) -> None:
    output = tmp_path_factory.mktemp("out") / "hits.parquet"
    options = BatchOptions(
        k=k,
        min_score=min_score,
        include_self=include_self,
        filter=TagFilter(("Dog",), none_of=("Rain",)) if tagged else TagFilter(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.bulk.BLOCK_VECTORS", block)
        report = run_batch(stores[asked].store.path, [stores[asking].store.path], output, options)
    found = [
        (row["query_window_id"], row["rank"], row["score"], row["window_id"])
        for row in rows_of(output)
    ]
    assert sorted(found) == sorted(expected(stores[asked], stores[asking], options))
    queries = list(dict.fromkeys(one[0] for one in found))
    order = {window_id: at for at, window_id in enumerate(queries)}
    assert found == sorted(found, key=lambda one: (order[one[0]], one[1]))  # together, by rank
    assert report.num_queries == len(stores[asking].live())


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
        nothing = TagFilter(("Dog",), threshold=1.0)
        assert batch(stores[0], [stores[0].store.path], output, filter=nothing)[0] == []


def test_batch_says_how_far_it_is(stores: list[Synthetic], tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    paths = [store.store.path for store in stores]
    run_batch(paths[0], paths, tmp_path / "x.parquet", progress=lambda *step: told.append(step))
    total = sum(len(store.live()) for store in stores)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# --- audio ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor) -> Path:
    """A library that was embedded by the tiny network, and its store."""
    folder = tmp_path_factory.mktemp("heard")
    for name, (seconds, hz) in {"low": (4, 200), "high": (3, 3000), "long": (25, 900)}.items():
        write_tone(folder / "library" / f"{name}.wav", seconds, hz)
    identity = tiny_extractor.identity(Geometry())
    store = create_store(
        folder / "store", identity, tiny_extractor.head(), checkpoint="tiny", written_by="tests"
    )
    extract(folder / "library", store, tiny_extractor, ExtractConfig(num_workers=0))
    build(store)
    return folder


@pytest.fixture
def is_tiny(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Checkpoint) -> None:
    """Every checkpoint is the tiny one."""
    monkeypatch.setattr("search.asking.embed.load_checkpoint", lambda *_, **__: tiny_checkpoint)


@pytest.mark.usefixtures("is_tiny")
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
        hits = ask([heard / "store"], Question((str(file),)), device="cpu").hits
        mine = [row for row in rows if row["query_path"] == str(file)]
        assert [row["window_id"] for row in mine] == [hit.window_id for hit in hits]
        assert [row["score"] for row in mine] == pytest.approx([hit.score for hit in hits])
        assert {row["query_window_id"] for row in mine} == {None}
    assert not any(
        row["path"].endswith("low.wav") for row in rows if row["query_path"] == str(files[0])
    )


@pytest.mark.usefixtures("is_tiny")
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


@pytest.mark.usefixtures("is_tiny")
def test_batch_asks_with_the_windows_of_a_file_in_blocks(
    heard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def answer(queries: Queries, *rest: Any) -> None:
        lengths.append(len(queries.vectors))
        _answer(queries, *rest)

    monkeypatch.setattr("search.asking.batch._answer", answer)
    asked = (heard / "store", [heard / "library" / "long.wav"], tmp_path / "x.jsonl")
    whole, _ = batch(*asked, k=9, device="cpu")
    monkeypatch.setattr("search.asking.batch.block_size", lambda _: 2)
    in_blocks, _ = batch(*asked, k=9, device="cpu")
    assert lengths == [3, 2, 1]
    assert in_blocks == whole


@pytest.mark.usefixtures("is_tiny")
def test_batch_where_no_file_can_be_read_is_an_empty_table(heard: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no")
    (tmp_path / "b.wav").touch()
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    rows, report = batch(heard / "store", files, tmp_path / "x.parquet", device="cpu")
    assert rows == []
    assert len(report.failures) == 2


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
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(QueryError, match=message):
        run_batch(tmp_path / "no store", [tmp_path], tmp_path / name)


def test_batch_output_may_have_the_longest_name(stores: list[Synthetic], tmp_path: Path) -> None:
    path = stores[0].store.path
    for suffix in (".parquet", ".jsonl"):
        assert batch(path, [path], tmp_path / f"{'x' * (255 - len(suffix))}{suffix}", k=1)[0]


def test_writing_json_lines_makes_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.asking.tables._JSON_ROWS", 3)
    rows = pa.RecordBatch.from_pydict({"n": list(range(10))})
    with writing_table(tmp_path / "x.jsonl", rows.schema) as write:
        write(rows)
        write(rows.slice(0, 0))
    assert rows_of(tmp_path / "x.jsonl") == rows.to_pylist()


def test_writing_table_says_what_went_wrong_and_not_what_cleaning_up_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "may not")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(KeyError, match="cause"), writing_table(tmp_path / "x.jsonl", pa.schema([])):
        raise KeyError("cause")


def test_batch_that_fails_leaves_what_was_there(
    heard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise CheckpointError("no such checkpoint")

    monkeypatch.setattr("search.asking.embed.load_checkpoint", fail)
    output = tmp_path / "hits.parquet"
    output.write_text("old")
    queries = [heard / "store", heard / "library"]  # the store's hits are written by then
    with pytest.raises(CheckpointError):
        run_batch(heard / "store", queries, output)
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_batch_to_a_full_disk_is_an_error_that_names_the_file(
    stores: list[Synthetic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("search.asking.tables.sync_file", full)
    path = stores[0].store.path
    with pytest.raises(QueryError, match=r"cannot write .*hits\.jsonl: No space left"):
        run_batch(path, [path], tmp_path / "hits.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_batch_of_what_is_not_there_or_not_alike_is_an_error(
    stores: list[Synthetic], tmp_path: Path
) -> None:
    path, output = stores[0].store.path, tmp_path / "hits.parquet"
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    with pytest.raises(StoreError, match="soundalike build"):
        run_batch(path, [other.store.path], output)
    build(other.store)
    with pytest.raises(IdentityError, match="weights"):
        run_batch(path, [other.store.path], output)
    with pytest.raises(QueryError, match=r"nothing at .*absent\.wav"):
        run_batch(path, [tmp_path / "absent.wav"], output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="no audio"):
        run_batch(path, [tmp_path / "empty"], output)
    with pytest.raises(StoreError, match="no store"):
        run_batch(tmp_path / "empty", [path], output)
    with pytest.raises(UnknownTagError, match="did you mean 'Dog'"):
        run_batch(path, [path], output, BatchOptions(filter=TagFilter(("Dogg",))))
    assert not output.exists()


@pytest.mark.parametrize("fields", [{"k": 0}, {"min_score": float("nan")}])
def test_batch_options_that_cannot_be_are_errors(fields: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        BatchOptions(**fields)


# --- the command ---------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["soundalike", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.usefixtures("is_tiny")
def test_batch_command_names_bad_files_and_exits_with_3(
    heard: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.wav").write_text("no")
    output = tmp_path / "hits.jsonl"
    clips = (heard / "library", tmp_path / "bad.wav")
    words = ("batch", heard / "store", *clips, "--output", output, "-k", 2, "--device", "cpu")
    assert command(monkeypatch, *words) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    asked, failure = printed.err.splitlines()
    assert asked == f"asked about 5 windows; 10 hits in {output}"
    assert failure.startswith(f"cannot listen to {tmp_path / 'bad.wav'}: ")
    assert command(monkeypatch, *words, "--quiet", "--not-tag", "Speech", "--threshold", 0) == 3
    assert output.read_text() == ""
    assert command(monkeypatch, "batch", heard / "store", heard / "store") == 2  # no --output


def test_batch_of_stores_imports_no_torch(stores: list[Synthetic], tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from search.asking.batch import run_batch
from search.asking.duplicates import find_duplicates
one, two = (Path(path) for path in {[str(store.store.path) for store in stores]!r})
report = run_batch(one, [one, two], Path({str(tmp_path / "hits.parquet")!r}))
groups = find_duplicates(one, two).groups
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
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
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
