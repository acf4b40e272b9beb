"""Times as people write them, and parts of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.audio.times import FileSpan, file_span, seconds_of, span_of
from indexer.errors import QueryError
from soundalike.show.words import clock


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("31:10", 1870),
        ("31:10.0", 1870),
        ("0:31:10.5", 1870.5),
        ("00:31:10.5", 1870.5),
        ("1:31:10", 5470),
        ("2:00:01", 7201),
        ("90:00", 5400),
        ("1870.5", 1870.5),
        ("90", 90),
        ("12.5", 12.5),
        (".5", 0.5),
        ("1e1", 10),
        (" 7 ", 7),
        (3, 3),
        (np.float32(0.5), 0.5),
        (0, 0),
    ],
)
def test_times_are_seconds_or_as_they_are_printed(text: Any, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("tenths", [0, 1, 599, 600, 35_999, 36_000, 18_700, 863_999])
def test_time_that_is_printed_can_be_typed(tenths: int) -> None:
    assert seconds_of(clock(tenths / 10)) == pytest.approx(tenths / 10)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "-1", "1:2:3:4", ":5", "5:", "nan", "1:-2", "31:75", "1:75:00", "1_0", "٣"),
        *(None, True, [1], -0.5, float("nan")),
    ],
)
def test_what_is_no_time_is_an_error(text: Any) -> None:
    with pytest.raises(QueryError, match="a time is in seconds from 0 on, or as in '31:10'"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["inf", "1e308", 1e308, float("inf"), 2e9, "999999999:00:00"])
def test_time_that_no_recording_has_is_an_error(text: Any) -> None:
    with pytest.raises(QueryError, match="no recording has a time of"):
        seconds_of(text)


def test_span_has_an_end_or_a_duration_or_neither() -> None:
    assert span_of((None, None, None)) == (0, None)
    assert span_of(("31:10", "31:13", None)) == (1870, 3)
    assert span_of((None, None, "0:03")) == (0, 3)
    for wrong, said in (
        ((0, 1, 1), "not both"),
        (("31:13", "31:10", None), "ends after its start"),
        ((3, 3, None), "ends after its start"),
        ((None, None, 0), "longer than 0 s"),
    ):
        with pytest.raises(QueryError, match=said):
            span_of(wrong)


def test_part_of_a_file_is_written_behind_its_name(tmp_path: Path) -> None:
    hour = tmp_path / "hour.wav"
    for there in (False, True):  # the file need not be there to be meant
        if there:
            hour.touch()
        assert file_span(Path(f"{hour}@31:10-31:13")) == (hour, 1870, 3)
        assert file_span(Path(f"{hour}@31:10")) == (hour, 1870, None)
        assert file_span(Path(f"{hour}@0")) == FileSpan(hour)
        assert file_span(hour, (1, None, 2)) == (hour, 1, 2)


def test_file_that_has_such_a_name_is_meant_itself(tmp_path: Path) -> None:
    for name in ("hour.wav", "hour.wav@31:10-31:13", "hour.wav@5"):
        (tmp_path / name).touch()
        assert file_span(tmp_path / name) == FileSpan(tmp_path / name)
    nested = tmp_path / "hour.wav@5@1-2"
    assert file_span(nested) == (tmp_path / "hour.wav@5", 1, 1)


@pytest.mark.parametrize("name", ["me@home.wav", "a@b@c", "take@3:", "@", "x@-5", "@2-1x"])
def test_at_sign_in_a_name_is_no_span(tmp_path: Path, name: str) -> None:
    assert file_span(tmp_path / name) == FileSpan(tmp_path / name)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ("31:13-31:10", "ends after its start, got 31:13 to 31:10"),
        ("3-3", "ends after its start"),
        ("-5", "a time is in seconds from 0 on"),
        ("31:75", "a time is in seconds from 0 on"),
        ("1e308", "no recording has a time of '1e308'"),
        ("x-y", "a time is in seconds from 0 on"),
    ],
)
def test_what_is_no_span_behind_a_file_that_is_there_is_an_error(
    tmp_path: Path, span: str, said: str
) -> None:
    (tmp_path / "hour.wav").touch()
    with pytest.raises(QueryError, match=rf"hour\.wav@{span}: .*{said}"):
        file_span(tmp_path / f"hour.wav@{span}")


def test_two_spans_of_one_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="has a span of its own"):
        file_span(tmp_path / "hour.wav@5-6", (1, None, None))
