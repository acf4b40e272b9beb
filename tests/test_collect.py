"""Copied spans against slices of the originals."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthetic import write_tone

from indexer.errors import OutputError
from search.asking.answers import Hit
from search.asking.collect import copy_spans


def hit(*paths: Path, start_s: float = 0.0, end_s: float = 10.0) -> Hit:
    return Hit(0.5, 1, b"x" * 16, paths, start_s, end_s, ())


def write_channels(path: Path, seconds: float, channels: int, rate: int) -> Path:
    samples = np.random.default_rng(channels).uniform(-0.9, 0.9, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 32_000), (2, 44_100), (6, 8_000), (1, 192_000)])
def test_copy_spans_equal_the_slice_of_the_original(
    tmp_path: Path, suffix: str, channels: int, rate: int
) -> None:
    source = write_channels(tmp_path / f"a.{suffix}", 3, channels, rate)
    spans = [(0.0, 1.0), (1.25, 2.5), (2.0, 3.0), (2.5, 12.5)]  # the last one ends with the file
    written, failures = copy_spans(
        [hit(source, start_s=start, end_s=end) for start, end in spans], tmp_path / "out"
    )
    assert failures == []
    original, _ = soundfile.read(source, always_2d=True, dtype="int16")
    for path, (start, end) in zip(written, spans, strict=True):
        samples, found_rate = soundfile.read(path, always_2d=True, dtype="int32")
        assert found_rate == rate
        assert soundfile.info(path).subtype == "PCM_24"
        expected = original[round(start * rate) : round(end * rate)].astype(np.int32) << 16
        assert samples.shape == expected.shape
        assert np.abs(samples - expected).max() <= 1 << 8  # a step of 24 bits


def test_copy_spans_are_named_by_rank_file_and_start(tmp_path: Path) -> None:
    sources = [write_tone(tmp_path / name, 0.5) for name in ("b.wav", "a b/ü & c.wav")]
    hits = [hit(source, start_s=start) for source in sources for start in (0.0, 0.25)]
    written, _ = copy_spans(hits, tmp_path / "out" / "deep")
    assert [path.name for path in written] == [
        "001_b_0.0s.wav",
        "002_b_0.2s.wav",
        "003_ü_c_0.0s.wav",
        "004_ü_c_0.2s.wav",
    ]
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == [
        path.name for path in written
    ]


def test_copy_spans_of_a_match_is_what_matched(tmp_path: Path) -> None:
    source = write_channels(tmp_path / "a.wav", 3, 2, 44_100)
    one = replace(hit(source, end_s=3.0), match_start_s=1.25, match_end_s=1.75)
    [path], failures = copy_spans([one], tmp_path / "out")
    assert (path.name, failures) == ("001_a_1.2s.wav", [])
    original, _ = soundfile.read(source, always_2d=True)
    samples, _ = soundfile.read(path, always_2d=True)
    expected = original[round(1.25 * 44_100) : round(1.75 * 44_100)]
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() < 1e-6


def test_copy_spans_match_beyond_the_end_is_reported(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "a.wav", 1.0)
    one = replace(hit(source), match_start_s=2.0, match_end_s=3.0)
    assert copy_spans([one], tmp_path / "out") == ([], [f"{source}: no audio at 2 s any more"])


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe.wav",
        b"new\nline\x1b[1m.wav",
        "rtl\u202e.wav".encode(),
        "𠀀".encode() * 60,
        b"-rf.wav",
    ],
)
def test_copy_spans_odd_names_become_plain_ones(tmp_path: Path, name: bytes) -> None:
    source = tmp_path / os.fsdecode(name)
    with source.open("wb") as file:
        soundfile.write(file, np.zeros(32_000), 32_000, format="WAV")
    [path], failures = copy_spans([hit(source)], tmp_path / "out")
    assert failures == []
    assert path.exists()
    assert path.name.isprintable()
    assert path.name.startswith("001_")
    assert len(os.fsencode(path.name)) <= 255


def test_copy_spans_vanished_source_is_reported_and_the_others_are_copied(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "here.wav", 0.5)
    gone = tmp_path / "go\nne.wav"
    text = tmp_path / "text.wav"
    text.write_text("not audio at all")
    hits = [hit(gone), hit(source), hit(), hit(text)]
    written, failures = copy_spans(hits, tmp_path / "out")
    assert [path.name for path in written] == ["002_here_0.0s.wav"]
    assert len(failures) == 3
    assert failures[0].startswith(f"{tmp_path}/go\\x0ane.wav: ")
    assert failures[1].startswith("a recording without a path")
    assert failures[2].startswith(str(text))


def test_copy_spans_first_path_gone_takes_another(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "copy.wav", 0.5)
    written, failures = copy_spans([hit(tmp_path / "gone.wav", source)], tmp_path / "out")
    assert [path.name for path in written] == ["001_copy_0.0s.wav"]
    assert failures == []


def test_copy_spans_file_that_became_shorter_is_reported(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "short.wav", 0.5)
    written, failures = copy_spans([hit(source, start_s=20, end_s=30)], tmp_path / "out")
    assert written == []
    assert "no audio at 20 s" in failures[0]
    assert list((tmp_path / "out").iterdir()) == []


def test_copy_spans_of_no_hits_makes_the_folder(tmp_path: Path) -> None:
    assert copy_spans([], tmp_path / "out") == ([], [])
    assert (tmp_path / "out").is_dir()


def test_copy_spans_to_a_file_is_an_error(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "a.wav", 0.5)
    with pytest.raises(OutputError, match="cannot make the folder"):
        copy_spans([hit(source)], source)


def test_copy_spans_to_a_folder_that_takes_no_files_is_an_error(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "a.wav", 0.5)
    with pytest.raises(OutputError, match=r"cannot write /proc/001_a_0\.0s\.wav: No such file"):
        copy_spans([hit(source)], Path("/proc"))
