"""Metadata files: what is read from them, which recordings it belongs to, and what is refused."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import Run
from faults import fault
from synthetic import Synthetic, make_store, recording_id

import indexer.library.tables
from indexer.errors import QueryError
from indexer.store.creation import library_at
from search.asking.opened import OpenedStore
from search.filters.metadata import Coverage, Metadata
from search.generation.recordings import Places
from search.upkeep.build import build


def read(tmp_path: Path, content: str | bytes, name: str = "sheet.csv") -> Metadata:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Metadata.read(file)


def kinds(metadata: Metadata) -> dict[str, str]:
    return {column.name: column.kind for column in metadata.columns}


# --- columns -------------------------------------------------------------------------------------


def test_read_csv_tells_the_kind_of_each_column(tmp_path: Path) -> None:
    metadata = read(
        tmp_path,
        "path,n,x,ok,day,moment,zoned,clock,site,blank\n"
        "a.wav,1,1.5,true,2024-05-01,2024-05-01 10:00:00,2024-05-01T10:00:00+0200,10:00:00,pond,\n"
        "b.wav,,nan,false,,,,,,\n",
    )
    table = metadata.table.to_pydict()
    assert kinds(metadata) == {
        "n": "number",
        "x": "number",
        "ok": "truth",
        "day": "time",
        "moment": "time",
        "zoned": "time",
        "clock": "text",
        "site": "text",
        "blank": "empty",
    }
    assert table["n"] == [1, None]
    assert table["zoned"] == [datetime(2024, 5, 1, 8), None]
    assert table["x"] == [1.5, None]
    assert table["clock"] == ["10:00:00", None]
    assert table["site"] == ["pond", None]
    assert metadata.keys.to_pylist() == ["a.wav", "b.wav"]


def test_read_parquet_tells_the_kind_of_each_column(tmp_path: Path) -> None:
    file = tmp_path / "sheet"
    table = pa.table(
        {
            "Path": pa.array(["a.wav"]).dictionary_encode(),
            "u": pa.array([2**64 - 1], pa.uint64()),
            "money": pa.array([Decimal("1.50")]),
            "nan": [float("nan")],
            "zoned": pa.array([datetime(2024, 5, 1, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
            "day": [date(2024, 5, 1)],
            "clock": [time(10)],
            "large": pa.array(["x"], pa.large_string()),
            "nested": [[1, 2]],
            "bytes": [b"\xff"],
        }
    )
    pa.parquet.write_table(table, file)
    metadata = Metadata.read(file)
    assert kinds(metadata) == {
        "u": "number",
        "money": "number",
        "nan": "number",
        "zoned": "time",
        "day": "time",
        "clock": "text",
        "large": "text",
    }
    assert metadata.unusable == ("nested", "bytes")
    assert metadata.table.to_pylist() == [
        {
            "u": 2.0**64,
            "money": 1.5,
            "nan": None,
            "zoned": datetime(2024, 5, 1),
            "day": datetime(2024, 5, 1),
            "clock": "10:00:00.000000",
            "large": "x",
        }
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_read_csv_takes_what_spreadsheets_write(tmp_path: Path, delimiter: str) -> None:
    lines = ["path,site", '"a, b.wav","two\nlines; and, more"']
    text = (
        "\r\n".join(lines).replace('wav",', f'wav"{delimiter}').replace("path,", f"path{delimiter}")
    )
    metadata = read(tmp_path, "\ufeff" + text)
    assert metadata.keys.to_pylist() == ["a, b.wav"]
    assert metadata.table["site"].to_pylist() == ["two\nlines; and, more"]


def test_read_csv_kind_is_told_from_all_rows(tmp_path: Path) -> None:
    lines = [f"{n}.wav,{n}" for n in range(200_000)]
    metadata = read(tmp_path, "\n".join(["path,n", *lines, "last.wav,many"]))
    assert kinds(metadata) == {"n": "text"}


def test_read_column_with_a_built_in_name_is_hidden(tmp_path: Path) -> None:
    metadata = read(tmp_path, "file,path,duration\nx,a.wav,3\n")
    assert metadata.keys.to_pylist() == ["a.wav"]
    assert kinds(metadata) == {"file": "text"}
    assert metadata.hidden == ("duration",)


def test_read_csv_only_an_empty_cell_is_missing(tmp_path: Path) -> None:
    metadata = read(tmp_path, "path,n,site\na.wav,NA,null\nb.wav,1,\n")
    assert metadata.table.to_pydict() == {"n": ["NA", "1"], "site": ["null", None]}


@pytest.mark.parametrize(
    "names", [["1", "02"], ["2024-05-01", "2024-05-02"], ["true", "false"], ["NA", "nan"], ["1.0"]]
)
def test_read_csv_file_names_are_text_whatever_they_look_like(
    tmp_path: Path, names: list[str]
) -> None:
    metadata = read(tmp_path, "\n".join(["file,Path ", *(f"1,{name}" for name in names)]))
    assert metadata.keys.to_pylist() == names
    assert kinds(metadata) == {"file": "number"}


def test_read_csv_names_of_columns_are_stripped_and_those_without_at_the_end_left_out(
    tmp_path: Path,
) -> None:
    metadata = read(tmp_path, "\n path , recorded by ,,\na.wav,me,,\n")
    assert metadata.keys.to_pylist() == ["a.wav"]
    assert metadata.table.to_pydict() == {"recorded by": ["me"]}


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (["007", "12"], "text", ["007", "12"]),
        (["-01.5", "2"], "text", ["-01.5", "2"]),
        (["00", "1"], "text", ["00", "1"]),
        (["12345678901234567890", "1"], "text", ["12345678901234567890", "1"]),
        (["0", "0.5", "-0.25", "10", "1e05"], "number", [0, 0.5, -0.25, 10, 1e5]),
        (["9223372036854775807", "1"], "number", [2**63 - 1, 1]),
        (["0", "70"], "number", [0, 70]),
    ],
)
def test_read_csv_numbers_that_would_lose_digits_are_text(
    tmp_path: Path, values: list[str], kind: str, text: list[Any]
) -> None:
    rows = [f"{number}.wav,{value},x" for number, value in enumerate(values)]
    metadata = read(tmp_path, "\n".join(["path, id ,site", *rows, "last.wav,,x"]))
    assert kinds(metadata) == {"id": kind, "site": "text"}
    assert metadata.table["id"].to_pylist() == [*text, None]


def test_ids_of_metadata_are_compared_as_text(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 1, "b": 1, "c": 1})
    build(made.store)
    sheet = read(tmp_path, "path,id\na.wav,007\nb.wav,7\nc.wav,070\n").path
    words = ("batch", made.store.path, made.store.path, "--output", tmp_path / "x.jsonl")
    told = run(*words, "--metadata", sheet, "--where", "id = '007'", "--include-self")
    fault("F9").require(told.code, told.err)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert {Path(row["path"]).name for row in rows} == {"a.wav"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_read_csv_in_utf_16_with_its_mark(tmp_path: Path, encoding: str) -> None:
    text = "path;site\r\né.wav;Zürich\r\n"
    content = text.encode(encoding) if encoding == "utf-16" else f"\ufeff{text}".encode(encoding)
    metadata = read(tmp_path, content)
    assert metadata.keys.to_pylist() == ["é.wav"]
    assert metadata.table["site"].to_pylist() == ["Zürich"]


def test_read_csv_takes_memory_by_its_size(tmp_path: Path) -> None:
    pool = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(pool)
    pa.set_memory_pool(counted)
    try:
        read(tmp_path, "path,n\na.wav,1\n")
    finally:
        pa.set_memory_pool(pool)
    assert 0 < counted.max_memory() < 1 << 20


# --- which row belongs to which recording --------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    """Recordings a and b, b in two libraries, and one with odd bytes in its name."""
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "first")
    made.add({"a": 1, "b": 1, r"odd \x5c\xff": 1}, path_prefix="in/")
    second = Synthetic(made.store, library_at(made.store, tmp_path / "second"))
    second.add_rows([second.row("in/b.wav", recording_id("b"))])
    build(made.store)
    return made


def places_of(store: Synthetic) -> Places:
    return OpenedStore.at(store.store.path).places


def joined(store: Synthetic, metadata: Metadata) -> dict[tuple[str, str], int]:
    """(library, path) → row of the file."""
    places = places_of(store)
    rows = metadata.rows(places)
    assert rows.dtype == np.int64
    columns = places.columns
    names = zip(columns.libraries.to_pylist(), columns.paths.to_pylist(), strict=True)
    return {(Path(one).name, path): int(row) for (one, path), row in zip(names, rows, strict=True)}


def test_rows_relative_path_belongs_to_each_library(store: Synthetic, tmp_path: Path) -> None:
    metadata = read(tmp_path, "filename,n\nnone.wav,0\n./in/b.wav,1\n,2\n,3\n")
    assert joined(store, metadata) == {
        ("first", "in/a.wav"): -1,
        ("first", "in/b.wav"): 1,
        ("second", "in/b.wav"): 1,
        ("first", r"in/odd \x5c\xff.wav"): -1,
    }


def test_rows_absolute_path_belongs_to_one_library(store: Synthetic, tmp_path: Path) -> None:
    metadata = read(tmp_path, f"path,n\n{tmp_path}/second/in/b.wav,0\n{tmp_path}/first/in/a.wav,1")
    assert joined(store, metadata) == {
        ("first", "in/a.wav"): 1,
        ("first", "in/b.wav"): -1,
        ("second", "in/b.wav"): 0,
        ("first", r"in/odd \x5c\xff.wav"): -1,
    }
    assert metadata.values("n", metadata.rows(places_of(store))).to_pylist().count(None) == 2


@pytest.mark.parametrize("name", [r"odd \x5c\xff", r"odd \\xff"])
def test_rows_odd_name_is_known_as_stored_and_as_it_is(
    store: Synthetic, tmp_path: Path, name: str
) -> None:
    metadata = read(tmp_path, f"path,n\nin/{name}.wav,0\n")
    assert joined(store, metadata)["first", r"in/odd \x5c\xff.wav"] == 0


def test_rows_root_that_is_not_utf8_is_compared_as_stored(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    made = make_store(tmp_path / "store", frames="none", root=root)
    made.add({"a": 1})
    build(made.store)
    assert places_of(made).columns.libraries.to_pylist() == [f"{tmp_path}/\\xff"]
    metadata = read(tmp_path, f"path,n\n{tmp_path}/\\xff/a.wav,0\n")
    assert metadata.rows(places_of(made)).tolist() == [0]


def test_coverage_counts_what_has_no_counterpart(store: Synthetic, tmp_path: Path) -> None:
    metadata = read(tmp_path, f"path,end\n{tmp_path}/second/in/b.wav,1\nx.wav,2\ny.wav,3\n")
    empty = make_store(tmp_path / "empty", frames="none")
    build(empty.store)
    expected = Coverage(metadata.path, 2, 2, ("end",))
    assert metadata.coverage([places_of(store), places_of(empty)]) == expected


def test_coverage_of_an_empty_store_is_no_error(tmp_path: Path) -> None:
    empty = make_store(tmp_path / "empty", frames="none")
    build(empty.store)
    metadata = read(tmp_path, "path\na.wav\n")
    assert metadata.coverage([places_of(empty)]) == Coverage(metadata.path, 1, 0, ())


# --- the same letters in other bytes -------------------------------------------------------------

NFC, NFD = "caf\u00e9", "cafe\u0301"


def accented(tmp_path: Path, *names: str) -> Synthetic:
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "first")
    made.add(dict.fromkeys(names, 1))
    build(made.store)
    return made


@pytest.mark.parametrize(("disk", "sheet"), [(NFC, NFD), (NFD, NFC)])
def test_rows_accents_may_be_written_in_either_way(
    tmp_path: Path, run: Run, disk: str, sheet: str
) -> None:
    made = accented(tmp_path, disk, "plain")
    for name in (f"{sheet}.wav", f"{tmp_path}/first/{sheet}.wav"):
        metadata = read(tmp_path, f"path,n\nplain.wav,1\n{name},2\n")
        assert joined(made, metadata) == {("first", f"{disk}.wav"): 1, ("first", "plain.wav"): 0}
    words = ("batch", made.store.path, made.store.path, "--output", tmp_path / "x.jsonl")
    told = run(*words, "--metadata", metadata.path, "--where", "n > 1", "--include-self")
    fault("D6").require(told.code, told.err)
    assert "2 hits" in told.err


def test_rows_that_are_as_the_file_is_called_come_first(tmp_path: Path) -> None:
    made = accented(tmp_path, NFC, NFD)
    metadata = read(tmp_path, f"path,n\n{NFD}.wav,1\n{NFC}.wav,2\n")
    assert joined(made, metadata) == {("first", f"{NFC}.wav"): 1, ("first", f"{NFD}.wav"): 0}


def test_rows_that_differ_in_their_accents_alone_are_an_error(tmp_path: Path, run: Run) -> None:
    other = "\u1ebf"  # e with two accents: one, two or three characters
    half, apart = "\u00ea\u0301", "e\u0302\u0301"
    made = accented(tmp_path, other)
    metadata = read(tmp_path, f"path,n\n{half}.wav,1\n{apart}.wav,2\n")
    told = run("search", made.store.path, "--metadata", metadata.path, "--where", "n > 0", code=1)
    fault("D6b").require(told.code, told.err)


# --- refusals ------------------------------------------------------------------------------------


def test_coverage_nothing_in_common_shows_both_spellings(store: Synthetic, tmp_path: Path) -> None:
    metadata = read(tmp_path, "path\nIN/A.wav\n")
    with pytest.raises(QueryError, match=r"'IN/A.wav' where the store has 'in/.*relative"):
        metadata.coverage([places_of(store)])


def test_rows_relative_and_absolute_for_one_place_are_an_error(
    store: Synthetic, tmp_path: Path
) -> None:
    metadata = read(tmp_path, f"path\nin/a.wav\n{tmp_path}/first/in/a.wav\n")
    with pytest.raises(QueryError, match=r"two rows for in/a.wav"):
        metadata.rows(places_of(store))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,n\na.wav,1\n./a.wav,2\n", "more than one row for 'a.wav'"),
        ("name,n\na.wav,1\n", "no column 'path', 'file' or 'filename'.*'name', 'n'"),
        ("path,n,n\na.wav,1,2\n", "more than one column 'n'"),
        (b"path,n\n\xff.wav,1\n", "column 'path' is not UTF-8; save"),
        (b"path,site\na.wav,caf\xe9\n", "column 'site' is not UTF-8; save"),
        (b"path,n,caf\xe9\na.wav,1,2\n", "name of column 3 is not UTF-8; save"),
        (b"\xff\xfep\x00a", "cannot read metadata .*begins as UTF-16, and is not"),
        ('path,site\na.wav,"pond\nb.wav,hill\n', "quote before 'pond' is never closed"),
        ('path,site\na.wav,"pond\nb.wav,""hill""', "quote before 'pond' is never closed"),
        ('path,"site\na.wav,pond\n', "cannot read metadata .*Empty CSV"),
        (b"", "cannot read metadata .*: it is empty; "),
        ("path,n\na.wav,1,2,3\n", "cannot read metadata .*Expected 2 columns, got 4"),
        (b"PAR1 and no more", "cannot read metadata"),
    ],
)
def test_read_what_cannot_be_used_says_why(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(QueryError, match=says) as caught:
        read(tmp_path, content)
    assert "sheet.csv" in str(caught.value)


@pytest.mark.parametrize(("name", "says"), [("none.csv", "no such file"), ("", "not a file")])
def test_read_what_is_no_file_is_an_error(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        Metadata.read(tmp_path / name)


def test_read_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(QueryError, match="not a file"):
        Metadata.read(tmp_path / "pipe")


def test_read_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text("path\n")
    os.truncate(tmp_path / "sheet.csv", 2**30 + 5)  # a hole, which takes no room
    with pytest.raises(QueryError, match=r"1,073,741,829 bytes, at most 1,073,741,824"):
        Metadata.read(tmp_path / "sheet.csv")


def test_read_parquet_of_more_than_the_limit_is_counted_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.parquet"
    numbers: dict[str, Any] = {"path": ["a.wav"] * 50_000, "n": range(50_000)}
    pa.parquet.write_table(pa.table(numbers), packed, compression="zstd", row_group_size=5_000)
    monkeypatch.setattr(indexer.library.tables, "MAX_BYTES", packed.stat().st_size + 1)
    with pytest.raises(QueryError, match="bytes unpacked"):
        Metadata.read(packed)


@pytest.mark.parametrize("is_category", [False, True])
def test_read_parquet_that_repeats_a_long_value_is_counted_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_category: bool
) -> None:
    packed = tmp_path / "packed.parquet"
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, "i4"), ["x" * 10_000])
    names = [f"{n}.wav" for n in range(5000)]
    table = pa.table({"path": names, "note": long if is_category else long.cast(pa.string())})
    pa.parquet.write_table(table, packed, compression="zstd")
    assert packed.stat().st_size < 100_000
    monkeypatch.setattr(indexer.library.tables, "MAX_BYTES", 15_000_000)
    before = pa.total_allocated_bytes()
    with pytest.raises(QueryError, match="more than 15,000,000 bytes unpacked"):
        Metadata.read(packed)
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_read_parquet_without_rows_has_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "empty.parquet"
    kind = pa.dictionary(pa.int32(), pa.string())
    pa.parquet.write_table(pa.table({"path": pa.array([], kind), "n": pa.array([], "i4")}), file)
    assert kinds(Metadata.read(file)) == {"n": "number"}


def test_read_csv_closed_quotes_at_the_end_are_values(tmp_path: Path) -> None:
    for end in ('"two\nlines"', '"two ""\n""lines"""\n\n', '"two\r\nlines\r\n"\r\n', '5" high\n'):
        assert len(read(tmp_path, f"path,site\na.wav,1\nb.wav,{end}").keys) == 2


def test_read_time_out_of_range_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "sheet.parquet"
    times = pa.array([2**62], pa.timestamp("ms"))
    pa.parquet.write_table(pa.table({"path": ["a.wav"], "day": times}), file)
    with pytest.raises(QueryError, match=r"column 'day' cannot be read: .*out of bounds"):
        Metadata.read(file)
