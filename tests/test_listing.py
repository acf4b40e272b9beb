"""What became of every file: listed, and held against what was put into library and store."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import Run
from faults import fault
from synthetic import Synthetic, make_store, recording_id, write_tone

import soundalike
from indexer.errors import QueryError
from search.upkeep.compact import compact
from search.upkeep.files import FileRow, list_files


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    """A store of which one file is as it was, and the others are not."""
    made = make_store(tmp_path / "s", frames="none")
    made.add({"ok": 2, "old": 1, "deleted": 1, "warned": 1})
    made.add_rows(
        [
            made.row("bad.wav", None, "failed", stage="open", reason="no audio"),
            made.row("warned.wav", recording_id("warned"), num_samples=48_000, warnings="odd"),
        ]
    )
    made.rename("old.wav", "new.wav")
    made.remove("deleted.wav")
    for name in ("ok.wav", "new.wav", "bad.wav", "warned.wav", "notes.txt", "later.wav"):
        touch(tmp_path / "library" / name)
    touch(tmp_path / "library" / ".x" / "song.mp3")
    return made


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def found(made: Synthetic, *kinds: str) -> dict[str, FileRow]:
    rows = list(list_files(made.store.path, kinds))  # type: ignore[arg-type]
    assert len({row.path for row in rows}) == len(rows)
    return {row.path: row for row in rows}


def test_files_have_one_row_each_with_the_last_word_on_it(made: Synthetic, tmp_path: Path) -> None:
    rows = found(made)
    assert {path: row.status for path, row in rows.items()} == {
        "ok.wav": "ok",
        "new.wav": "ok",
        "old.wav": "moved",
        "deleted.wav": "gone",
        "warned.wav": "ok",
        "bad.wav": "failed",
        "later.wav": "skipped",
        "notes.txt": "skipped",
        ".x/song.mp3": "skipped",
    }
    assert {row.library for row in rows.values()} == {str(tmp_path / "library")}
    assert rows["bad.wav"][7:9] == ("open", "no audio")
    assert (rows["warned.wav"].duration_s, rows["warned.wav"].warnings) == (1.5, "odd")
    reasons = [(rows[name].reason or "")[:12] for name in ("later.wav", "notes.txt", ".x/song.mp3")]
    assert reasons == ["left out by ", "no ending of", "hidden: a na"]


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["failed"], {"bad.wav"}),
        (["warnings"], {"warned.wav"}),
        (["gone"], {"old.wav", "deleted.wav"}),
        (["skipped"], {"later.wav", "notes.txt", ".x/song.mp3"}),
        (["failed", "gone"], {"bad.wav", "old.wav", "deleted.wav"}),
    ],
)
def test_files_of_some_kinds_are_those_and_no_others(
    kinds: list[str], names: set[str], made: Synthetic
) -> None:
    assert set(found(made, *kinds)) == names


def test_files_of_a_kind_that_is_none_are_an_error(made: Synthetic) -> None:
    with pytest.raises(QueryError, match=r"failed, gone, skipped, warnings, got 'fail'"):
        list_files(made.store.path, ["fail"])  # type: ignore[list-item]


def test_file_of_which_only_spans_were_asked_for_is_not_skipped(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", frames="none")
    span = {"span_start": 32_000, "span_samples": 64_000, "num_samples": 48_000}
    made.add_rows([made.row("a.wav", recording_id("a"), **span)])
    touch(tmp_path / "library" / "a.wav")
    (row,) = list_files(made.store.path)
    assert row[:7] == ("ok", str(tmp_path / "library"), made.library_id, "a.wav", 1.0, 2.5, 1.5)


def test_files_are_listed_to_the_end_though_the_store_is_compacted_meanwhile(
    made: Synthetic,
) -> None:
    before, rows = found(made), list_files(made.store.path)
    first = next(rows)
    for _ in range(2):  # the second time, what was replaced could be deleted
        compact(made.store.path)
    assert {row.path: row for row in (first, *rows)} == before


def test_files_become_a_table_of_pandas(made: Synthetic) -> None:
    table = pd.DataFrame(soundalike.open(made.store.path).files("failed", "gone"))
    assert list(table.columns) == list(FileRow._fields)
    assert sorted(table.path) == ["bad.wav", "deleted.wav", "old.wav"]


def test_command_prints_the_same_rows_in_every_format(made: Synthetic, run: Run) -> None:
    rows = [row._asdict() for row in list_files(made.store.path)]
    assert run("files", made.store.path, "--format", "json").data == rows
    table = csv.DictReader(io.StringIO(run("files", made.store.path, "--format", "csv").out))
    assert list(table) == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]
    text = run("files", made.store.path).out.splitlines()
    assert len(text) == 1 + len(rows)
    assert [line.split()[0] for line in text[1:]] == [row["status"] for row in rows]
    assert json.loads(run("files", made.store.path, "--warnings", "--format", "json").out)


def test_csv_of_files_holds_no_formula(made: Synthetic, tmp_path: Path, run: Run) -> None:
    touch(tmp_path / "library" / "=1+1.wav")
    told = run("files", made.store.path, "--skipped", "--format", "csv").out
    paths = [row["path"] for row in csv.DictReader(io.StringIO(told))]
    assert "./=1+1.wav" in paths
    assert not any(path.startswith(("=", "+", "-", "@")) for path in paths)


def test_library_that_is_not_there_is_named_and_the_rest_is_listed(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "library").rename(tmp_path / "elsewhere")
    told = run("files", made.store.path, "--skipped", "--failed", code=3)
    fault("D2b").require(told.code, told.out + told.err)
    assert "no audio" in told.out
    assert run("files", made.store.path, "--failed").code == 0


@pytest.mark.whole
def test_run_and_info_say_which_command_names_what_failed(
    tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    for number in range(3):
        (tmp_path / "library" / f"bad{number}.wav").write_text("no audio")
    store = tmp_path / "s t"
    words = ("index", tmp_path / "library", "--store", store, "--checkpoint", tiny_file)
    told = run(*words, code=3)
    fault("D2a").require(told.code, told.out)
    assert f"soundalike files '{store}' --failed" in run("info", store).out
    listed = run("files", store, "--failed", "--format", "json").data
    assert sorted(row["path"] for row in listed) == ["bad0.wav", "bad1.wav", "bad2.wav"]


def test_span_of_a_file_whose_sound_begins_late_is_listed_where_it_is(made: Synthetic) -> None:
    row = made.row("late.wav", recording_id("ok"), num_samples=96_000, first_sample=160_000)
    made.add_rows([replace(row, span_start=0, span_samples=256_000)])
    listed = found(made)["late.wav"]
    assert (listed.start_s, listed.end_s, listed.duration_s) == (5.0, 8.0, 3.0)
