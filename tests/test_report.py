"""Numbers as people read them."""

from __future__ import annotations

import pytest

from indexer.run.report import ExtractReport, FailedFile
from soundalike.show.runs import bound, report_data, report_lines
from soundalike.show.words import clock, count, hours, size


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


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0.0 kB"), (21_470, "21.5 kB"), (100_000, "0.1 MB"), (5_600_000, "5.6 MB")],
)
def test_size_of_a_small_file_is_not_nothing(num_bytes: int, text: str) -> None:
    assert size(num_bytes) == text


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


@pytest.mark.parametrize(
    ("device", "num_workers", "seconds", "sentence"),
    [
        (
            "cpu",
            1,
            {"decode": 4.0, "network": 19.0, "write": 1.0},
            "bound by the model: 8 cores can give 10.5 windows/s at fp32",
        ),
        (
            "NVIDIA H100",
            2,
            {"decode": 18.0, "network": 2.0, "write": 1.0},
            "bound by decoding: 2 readers can give 11.1 windows/s; more would help (--workers 4)",
        ),
        (
            "NVIDIA H100",
            8,
            {"decode": 72.0, "network": 2.0},
            "bound by decoding: 8 readers can give 11.1 windows/s; all cores are in use",
        ),
        (
            "NVIDIA H100",
            8,
            {"decode": 40.0, "network": 2.0, "to_host": 17.0},
            "bound by copying to and from the GPU: 10.5 windows/s",
        ),
        (
            "NVIDIA H100",
            8,
            {"decode": 40.0, "network": 19.0, "to_host": 0.5},
            "bound by the model: NVIDIA H100 can give 10.3 windows/s at fp32",
        ),
        (
            "NVIDIA H100",
            8,
            {"decode": 40.0, "network": 10.0, "write": 9.0},
            "bound by writing: the disk took 11 MB/s, 11.1 windows/s",
        ),
        ("cpu", 1, {"network": 8.0}, "bound by no stage: the run was too short, or waited"),
    ],
)
def test_bound_names_the_stage_that_was_busy_for_longest(
    device: str, num_workers: int, seconds: dict[str, float], sentence: str
) -> None:
    report = ExtractReport(num_windows=100, bytes_written=100_000_000, device=device)
    report.num_workers, report.num_lanes, report.num_cores = num_workers, 2, 8
    report.seconds |= seconds | {"embed": 10.0}
    assert bound(report).startswith(sentence)
    assert report_data(report)["bound"] == bound(report)


def test_report_says_how_many_devices_and_that_memory_was_short() -> None:
    report = ExtractReport(num_windows=4, audio_s=40, num_embedded=4, device="GPU of a kind")
    report.seconds |= {"embed": 1.0, "total": 2.0, "network": 1.0}
    assert not any("memory" in line for line in report_lines(report))
    report.num_devices, report.batch_size, report.most_windows = 2, 64, 16
    lines = list(report_lines(report))
    assert "on 2 x GPU of a kind (fp32, padding zero)" in lines[0]
    assert lines[-1] == (
        "there was no memory for batches of 64: 16 windows at a time were embedded"
    )


def test_report_of_a_cluster_says_how_many_workers_and_what_they_published() -> None:
    report = ExtractReport(num_windows=100, audio_s=1000, num_embedded=4, num_remote=2)
    report.num_devices, report.num_workers, report.num_lanes, report.num_cores = 2, 2, 8, 8
    report.seconds |= {"embed": 10.0, "total": 12.0, "decode": 19.0, "write": 12.0, "publish": 0.5}
    lines = list(report_lines(report))
    assert "in 12.0 s on 2 x cpu of 2 workers (fp32" in lines[0]
    assert "writing 12.0 s, publishing 0.5 s, side by side in 10.0 s" in lines[1]
    assert lines[2] == (
        "bound by decoding: 2 readers can give 10.5 windows/s; more would help (--workers 2)"
    )
    report.seconds["publish"] = 9.6
    told = "bound by publishing: what the workers wrote came into the store at 10.4 windows/s"
    assert bound(report) == told
