"""What a user's file says of recordings, in the hits of every answer; and when these were made."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run
from synthetic import Synthetic, make_store, recording_id

import soundalike
from search.asking.answers import Hit
from search.upkeep.build import build
from soundalike.answer import Answer

AUDIOMOTH = "20240601_140505.WAV"
SHEET = """\
path,site,day,checked,depth,code,recorded_at,score,metadata_score,end
field/dawn.wav,"pond, ""north""\nbank",2024-05-01,true,1.5,007,2024-05-01T06:30:00+02:00,a,b,7
LIBRARY/field/dusk.wav,hill,2024-05-02,false,,12,2024-05-01T23:59:55-05:00,,d,8
gone.wav,none,2024-05-03,true,3,13,2024-05-01T23:59:55Z,e,f,9
"""


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    """A store of four recordings, and a sheet beside it that knows two of them."""
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "library")
    made.add({"dawn": 2, "dusk": 1}, path_prefix="field/")
    made.add({"x": 1})
    made.rename("x.wav", AUDIOMOTH)
    made.add({"bare": 1})
    build(made.store)
    (tmp_path / "sheet.csv").write_text(SHEET.replace("LIBRARY", str(tmp_path / "library")))
    return made


def asked(store: Synthetic, metadata: Path | None, **terms: Any) -> Answer:
    terms = {"tags": "Dog", "threshold": 0, "metadata": metadata, "k": 20, **terms}
    return soundalike.open(store.store.path).search(**terms)


def by_name(answer: Answer) -> dict[str, Hit]:
    return {hit.paths[0].name: hit for hit in answer}


def test_every_hit_has_the_row_of_its_recording(store: Synthetic, tmp_path: Path) -> None:
    hits = by_name(asked(store, tmp_path / "sheet.csv"))
    assert len(hits) == 4
    columns = SHEET.partition("\n")[0].split(",")[1:]
    assert {tuple(hit.metadata) for hit in hits.values()} == {tuple(columns)}
    assert list(hits["dawn.wav"].metadata.values()) == [
        *('pond, "north"\nbank', date(2024, 5, 1), True, 1.5, "007"),
        *("2024-05-01T06:30:00+02:00", "a", "b", 7),
    ]
    assert list(hits["dusk.wav"].metadata.values()) == [
        *("hill", date(2024, 5, 2), False, None, "12"),
        *("2024-05-01T23:59:55-05:00", None, "d", 8),
    ]
    assert set(hits["bare.wav"].metadata.values()) == {None}


def test_hits_without_metadata_say_nothing_and_are_alike(store: Synthetic, tmp_path: Path) -> None:
    plain, told = asked(store, None), asked(store, tmp_path / "sheet.csv")
    assert {len(hit.metadata) for hit in plain} == {0}
    assert [hit.window_id for hit in plain] == [hit.window_id for hit in told]
    assert plain.coverage is None
    assert told.coverage
    assert (told.coverage.num_unused_rows, told.coverage.num_bare_recordings) == (1, 2)
    assert len({*told, *told}) == len(told)  # they can still be members of sets


def test_many_questions_have_it_too(store: Synthetic, tmp_path: Path) -> None:
    sounds, sheet = soundalike.open(store.store.path), tmp_path / "sheet.csv"
    ids = [hit.window_id for hit in asked(store, None)]
    answers = sounds.search_many(ids, metadata=sheet, k=20)
    expected = {hit.recording_id: hit.metadata for hit in asked(store, sheet)}
    hits = [hit for answer in answers for hit in answer]
    assert len(hits) > len(ids)
    assert all(hit.metadata == expected[hit.recording_id] for hit in hits)


def test_first_copy_with_a_row_counts(store: Synthetic, tmp_path: Path) -> None:
    store.add_rows([store.row("copies/bare.wav", recording_id("bare"))])
    build(store.store)
    sheet = tmp_path / "copies.csv"
    sheet.write_text("path,site\ncopies/bare.wav,attic\n")
    assert by_name(asked(store, sheet))["bare.wav"].metadata == {"site": "attic"}
    sheet.write_text("path,site\ncopies/bare.wav,attic\nbare.wav,cellar\n")
    assert by_name(asked(store, sheet))["bare.wav"].metadata == {"site": "cellar"}


def test_first_of_several_stores_that_has_a_row_counts(store: Synthetic, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", frames="none", root=tmp_path / "elsewhere")
    other.add({"bare": 1}, path_prefix="there/")
    other.add({"new": 1})
    build(other.store)
    sheet = tmp_path / "both.csv"
    sheet.write_text("path,site\nthere/bare.wav,attic\nnew.wav,hall\nfield/dawn.wav,pond\n")
    both = soundalike.open(store.store.path, other.store.path)
    answer = both.search(tags="Dog", threshold=0, metadata=sheet, k=20)
    sites = {hit.recording_id: hit.metadata["site"] for hit in answer}
    assert sites == {
        recording_id("bare"): "attic",
        recording_id("new"): "hall",
        recording_id("dawn"): "pond",
        recording_id("dusk"): None,
        recording_id("x"): None,
    }


def test_parquet_says_itself_what_its_columns_hold(store: Synthetic, tmp_path: Path) -> None:
    zoned = pa.array([datetime(2024, 7, 1, 10, tzinfo=UTC)], pa.timestamp("ns", "Europe/Berlin"))
    sheet = tmp_path / "sheet.parquet"
    table = {
        "file": ["bare.wav"],
        "recorded_at": zoned,
        "number": pa.array([7], pa.int16()),
        "none": [math.nan],
        "lists": [[1, 2]],
        "day": [date(2024, 5, 1)],
        "when": pa.array([datetime(2024, 5, 1, 6)], pa.timestamp("s")),
        "empty": [""],
    }
    pq.write_table(pa.table(table), sheet)
    one = by_name(asked(store, sheet))["bare.wav"]
    assert one.metadata == {
        "recorded_at": datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        "number": 7,
        "none": None,
        "day": date(2024, 5, 1),
        "when": datetime(2024, 5, 1, 6),
        "empty": None,
    }
    assert one.clock
    assert one.clock.isoformat() == "2024-07-01T12:00:00+02:00"


def test_file_of_paths_alone_says_nothing_more(store: Synthetic, tmp_path: Path) -> None:
    sheet = tmp_path / "paths.csv"
    sheet.write_text("path\nbare.wav\n")
    answer = asked(store, sheet)
    assert [hit.metadata for hit in answer] == [{}] * len(answer)
    assert answer.coverage
    assert answer.coverage.num_bare_recordings == 3


def test_clock_is_of_the_metadata_or_else_of_the_name(store: Synthetic, tmp_path: Path) -> None:
    answer = asked(store, tmp_path / "sheet.csv", all_windows=True)
    zone = timezone(timedelta(hours=2))
    begun = datetime(2024, 5, 1, 6, 30, tzinfo=zone)
    of_dawn = {hit.start_s: hit.clock for hit in answer if hit.recording_id == recording_id("dawn")}
    assert of_dawn == {0: begun, 10: begun + timedelta(seconds=10)}
    assert {one.utcoffset() for one in of_dawn.values() if one} == {timedelta(hours=2)}
    hits = by_name(answer)
    assert hits[AUDIOMOTH].clock == datetime(2024, 6, 1, 14, 5, 5)
    assert hits["bare.wav"].clock is None
    assert by_name(asked(store, None))["dawn.wav"].clock is None


def test_json_has_the_metadata_and_the_clock(run: Run, store: Synthetic, tmp_path: Path) -> None:
    command = ["search", store.store.path, "--tag", "Dog", "--threshold", "0", "--format", "json"]
    rows = run(*command, "--metadata", tmp_path / "sheet.csv").data["hits"]
    told = {Path(row["paths"][0]).name: row for row in rows}
    assert told["dusk.wav"]["metadata"] == {
        "site": "hill",
        "day": "2024-05-02",
        "checked": False,
        "depth": None,
        "code": "12",
        "recorded_at": "2024-05-01T23:59:55-05:00",
        "score": None,
        "metadata_score": "d",
        "end": 8,
    }
    assert told["dusk.wav"]["clock"] == "2024-05-01T23:59:55.000-05:00"
    assert set(told["bare.wav"]["metadata"].values()) == {told["bare.wav"]["clock"]} == {None}
    assert {json.dumps(row["metadata"]) for row in run(*command).data["hits"]} == {"{}"}


def test_csv_and_pandas_have_columns_of_their_own(
    run: Run, store: Synthetic, tmp_path: Path
) -> None:
    command = ["search", store.store.path, "--tag", "Dog", "--threshold", "0", "--format", "csv"]
    text = run(*command, "--metadata", tmp_path / "sheet.csv").out
    header = text.partition("\n")[0].split(",")
    more = ["site", "day", "checked", "depth", "code", "recorded_at"]
    added = [*more, "metadata_score", "metadata_metadata_score", "end"]
    assert header[-10:] == ["clock", *added]
    assert len(header) == len(set(header))
    rows = {Path(row["path"]).name: row for row in csv.DictReader(io.StringIO(text))}
    assert [rows["dawn.wav"][name] for name in ("clock", *added)] == [
        *("2024-05-01T06:30:00.000+02:00", 'pond, "north"\\x0abank', "2024-05-01", "true"),
        *("1.5", "007", "2024-05-01T06:30:00+02:00", "a", "b", "7"),
    ]
    assert rows["bare.wav"]["site"] == rows["bare.wav"]["clock"] == ""
    assert len(text.strip().split("\n")) == 6  # one line each, whatever is in a cell
    table = asked(store, tmp_path / "sheet.csv").to_pandas()
    assert list(table.columns[-10:]) == ["clock", *added]
    of_dawn = table[table["path"].str.endswith("dawn.wav") & (table["start_s"] == 10)].iloc[0]
    assert (of_dawn["metadata_score"], of_dawn["depth"], of_dawn["end"]) == ("a", 1.5, 7)
    assert of_dawn["clock"] == datetime(2024, 5, 1, 6, 30, 10, tzinfo=timezone(timedelta(hours=2)))
    assert asked(store, tmp_path / "sheet.csv", threshold=1).to_pandas().shape == (0, 13)


def test_table_has_a_clock_if_asked_for_and_says_what_has_none(
    run: Run, store: Synthetic, tmp_path: Path
) -> None:
    command = ["search", store.store.path, "--tag", "Dog", "--threshold", "0"]
    assert "clock" not in run(*command).out.partition("\n")[0]
    told = run(*command, "--clock", "--metadata", tmp_path / "sheet.csv")
    header, *lines = told.out.splitlines()
    assert header.split() == ["rank", "score", "file", "time", "clock", "heard"]
    at = header.index("clock")
    shown = {line[at : at + 25].strip() for line in lines}
    assert shown >= {"2024-05-01 06:30:00+02:00", "2024-06-01 14:05:05"}
    assert "no time of day for 1 of 5 hits: " in told.err
    assert "time of day" not in run(*command, "--clock", "--quiet").err
    title = run(*command, "--clock", "--format", "m3u").out
    assert f"{AUDIOMOTH} 2024-06-01 14:05:05\n" in title


def test_time_that_is_none_is_told(run: Run, store: Synthetic, tmp_path: Path) -> None:
    sheet = tmp_path / "wrong.csv"
    sheet.write_text("path,recorded_at\nbare.wav,last tuesday\nfield/dawn.wav,2024-05-01T25:00\n")
    command = ["search", store.store.path, "--tag", "Dog", "--threshold", "0", "--clock"]
    told = run(*command, "--metadata", sheet)
    assert "no time of day for 4 of 5 hits: " in told.err
    assert re.search(r"not as '(last tuesday|2024-05-01T25:00)' there$", told.err, re.MULTILINE)
    assert "2024-05-01 " not in told.out
