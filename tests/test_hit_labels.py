"""Hits as labels for Audacity and Raven, read back as these read them."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from synthetic import Synthetic, make_store

import soundalike
from indexer.errors import QueryError
from indexer.tags import HeardTag, Tag, TagVocabulary
from search.asking.answers import Hit
from search.export.label_files import export_labels
from search.upkeep.build import build
from soundalike.answer import Answer
from soundalike.show.labels import hits_labels, labels_lines

DOG = TagVocabulary.audioset().resolve("Dog")
COLUMNS = [
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)"),
    *("High Freq (Hz)", "Begin Path", "File Offset (s)", "Score", "Tag"),
]
ODD_NAMES = [
    b"tab\there.wav",
    b"new\nline.wav",
    b"return\r.wav",
    b'quote".wav',
    b"=1+1.wav",
    b"latin \xe9.wav",
    "rtl\u202e.wav".encode(),
    "line\u2028.wav".encode(),
    b"\\.wav",
]


def hit(name: bytes = b"a.wav", number: int = 1, start_s: float = 10.0, **more: Any) -> Hit:
    return Hit(
        score=1 - number / 100,
        window_id=number,
        recording_id=bytes([number]) * 16,
        paths=(Path("/field") / os.fsdecode(name),),
        start_s=start_s,
        end_s=start_s + 10,
        tags=(HeardTag(DOG, 0.9),),
        **more,
    )


def track(text: str) -> list[tuple[float, float, str]]:
    """Labels as Audacity reads them: a line each, the text is what follows the second tab."""
    rows = [re.fullmatch(r"(\d+\.\d+)\t(\d+\.\d+)\t(.*)", line) for line in text.splitlines()]
    return [(float(one[1]), float(one[2]), one[3]) for one in rows if one]


def selections(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_label_track_is_in_the_order_of_time_and_has_scores() -> None:
    same = [
        replace(hit(number=number, start_s=60.0 / number), recording_id=b"x")
        for number in (1, 2, 3)
    ]
    assert hits_labels(same, "audacity") == (
        "20.000\t30.000\t0.970\n30.000\t40.000\t0.980\n60.000\t70.000\t0.990\n"
    )
    assert labels_lines(same, "audacity") == []
    assert hits_labels([], "audacity") == ""


def test_labels_of_several_files_name_them_and_a_line_says_how_to_ask_one() -> None:
    some = [hit(b"a.wav", 1, 20), hit(b"b.wav", 2, 10), replace(hit(number=3, start_s=5), paths=())]
    assert track(hits_labels(some, "audacity")) == [
        (5, 15, "0.970 (no path)"),
        (10, 20, "0.980 b.wav"),
        (20, 30, "0.990 a.wav"),
    ]
    (line,) = labels_lines(some, "audacity")
    assert "of 3 files" in line
    assert "--where" in line


@pytest.mark.parametrize(("probability", "told"), [(0.6, "my.rattle"), (0.3, "Dog")])
def test_selection_table_names_the_learned_tag_if_it_is_heard(
    probability: float, told: str
) -> None:
    """Of what was asked for without it, hits tell how little it is heard: that is no tag of it."""
    learned = HeardTag(Tag("my.rattle", "my.rattle", None), probability)
    rows = selections(hits_labels([replace(hit(), tags=(learned, HeardTag(DOG, 0.9)))], "raven"))
    assert [row["Tag"] for row in rows] == [told]


@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_labels_are_where_the_match_is_to_a_millisecond(form: Any) -> None:
    one = hit(match_start_s=12.34567, match_end_s=13.0, match_score=0.5)
    text = hits_labels([one], form)
    if form == "audacity":
        assert track(text) == [(12.346, 13, "0.990")]
    else:
        (row,) = selections(text)
        assert [row["Begin Time (s)"], row["End Time (s)"]] == ["12.346", "13.000"]
        assert row["File Offset (s)"] == "12.346"


def test_selection_table_has_the_file_of_each_row_the_best_first() -> None:
    rows = selections(hits_labels([hit(b"a b.wav", 1, 20), hit(b"b.wav", 2)], "raven"))
    assert [list(row) for row in rows] == [COLUMNS] * 2
    assert list(rows[0].values()) == [
        *("1", "Spectrogram 1", "1", "20.000", "30.000", "0", "14000"),
        *("/field/a b.wav", "20.000", "0.9900", "Dog"),
    ]
    assert [row["Selection"] for row in rows] == ["1", "2"]
    assert hits_labels([], "raven") == "\t".join(COLUMNS) + "\n"


def test_what_has_no_path_is_not_in_a_selection_table_and_that_is_said() -> None:
    unknown = replace(hit(number=2), paths=(Path("(library 1)/a.wav"),))
    moved = replace(hit(number=3), paths=(Path("(library 1)/a.wav"), Path("/b.wav")))
    some = [unknown, moved, replace(hit(number=4), paths=())]
    rows = selections(hits_labels(some, "raven"))
    assert [(row["Selection"], row["Begin Path"]) for row in rows] == [("1", "/b.wav")]
    assert labels_lines(some, "raven") == [
        "2 hits left out of the table: no path is known on this machine"
    ]
    assert labels_lines([hit()], "raven") == []


@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_names_break_no_row(form: Any) -> None:
    some = [hit(name, number) for number, name in enumerate(ODD_NAMES, start=1)]
    text = hits_labels(some, form)
    assert len(text.splitlines()) == len(text.split("\n")) - 1 == len(some) + (form == "raven")
    assert {line.count("\t") for line in text.splitlines()} == {2 if form == "audacity" else 10}
    text.encode("utf-8")
    if form == "raven":  # no cell begins a formula
        cells = [cell for row in selections(text) for cell in row.values()]
        assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))]


@given(
    st.lists(
        st.binary(min_size=1, max_size=30).filter(lambda name: not {0, 47} & set(name)), max_size=5
    )
)
def test_any_names_are_as_many_labels_as_hits(names: list[bytes]) -> None:
    some = [hit(name, number) for number, name in enumerate(names, start=1)]
    assert (
        len(track(hits_labels(some, "audacity")))
        == len(selections(hits_labels(some, "raven")))
        == len(some)
    )


def test_labels_say_the_time_of_day_if_asked() -> None:
    some = [hit(b"20240601_140505.WAV", 1), hit(b"b.wav", 2, 50)]
    assert track(hits_labels(some, "audacity", with_clock=True)) == [
        (10, 20, "0.990 20240601_140505.WAV 2024-06-01 14:05:15"),
        (50, 60, "0.980 b.wav"),
    ]
    rows = selections(hits_labels(some, "raven", with_clock=True))
    begun = datetime.fromisoformat(rows[0]["Clock"]) - timedelta(seconds=10)
    assert begun == datetime(2024, 6, 1, 14, 5, 5)
    assert rows[1]["Clock"] == ""


def test_form_that_there_is_not_is_an_error() -> None:
    with pytest.raises(QueryError, match="labels are audacity or raven, got 'praat'"):
        Answer((hit(),)).labels("praat")  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    made = make_store(tmp_path / "store", frames="pooled", root=tmp_path / "library")
    made.add({"a": 2, "b": 1})
    build(made.store)
    return made


@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_command_prints_what_an_answer_returns(run: Run, store: Synthetic, form: Any) -> None:
    command = ["search", store.store.path, "--tag", "Dog", "--threshold", "0", "--format", form]
    told = run(*command)
    answer = soundalike.open(store.store.path).search(tags="Dog", threshold=0)
    assert told.out == answer.labels(form)
    assert ("these labels are of 2 files" in told.err) == (form == "audacity")
    one = run(*command, "--where", "path like '%a.wav'")
    assert "these labels are of" not in one.err
    assert run(*command, "--quiet").err == ""
    nothing = run(*command[:4], "--threshold", "1", "--format", form)
    assert len(nothing.out.splitlines()) == (form == "raven")
    assert "these labels" not in nothing.err


def test_labels_of_hits_are_written_as_those_of_tags_are(store: Synthetic, tmp_path: Path) -> None:
    """What opens the one opens the other: the same columns first."""
    written = export_labels(store.store, tmp_path / "labels", "raven", threshold=0.01)
    header = written.files[0].path.read_text().partition("\n")[0].split("\t")
    assert header[:7] == COLUMNS[:7]
