"""Numbers as people read them."""

from __future__ import annotations

import pytest

from indexer.progress import ExtractReport, FailedFile
from indexer.report import clock, count, hours, report_data, report_lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (5.04, "0:05.0"),
        (59.96, "1:00.0"),
        (61.25, "1:01.2"),
        (3599.99, "1:00:00.0"),
        (86_399.9, "23:59:59.9"),
    ],
)
def test_clock_position_is_minutes_and_tenths(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (600, "10.0 min"), (36_000, "10.0 h"), (4e7, "11,111.1 h")],
)
def test_hours_duration_has_the_unit_that_suits(seconds: float, text: str) -> None:
    assert hours(seconds) == text


def test_count_noun_follows_the_number() -> None:
    assert [count(number, "file") for number in (0, 1, 2, 1234)] == [
        "0 files",
        "1 file",
        "2 files",
        "1,234 files",
    ]


def test_report_failures_are_grouped_by_reason_with_an_example() -> None:
    report = ExtractReport(num_windows=4, audio_s=40, num_embedded=4)
    report.seconds["total"] = 2.0
    report.failures = [FailedFile(f"{n}.wav", "open", "not audio") for n in range(3)]
    report.failures.append(FailedFile("a\nb.wav", "decode", "broken"))
    lines = list(report_lines(report))
    assert "20 x real time" in lines[0]
    assert "4 failures, recorded in the store:" in lines
    assert "  open: not audio: 0.wav and 2 more" in lines
    assert r"  decode: broken: a\x0ab.wav" in lines
    assert report_data(report)["failures"][0] == {
        "path": "0.wav",
        "stage": "open",
        "reason": "not audio",
    }
