"""The sample library: everything in it is listed, licensed, small, and can be heard."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from indexer.audio.stream import open_audio, read_span

DATA = Path(__file__).parent.parent / "data"
SAMPLES = sorted(path for path in (DATA / "samples").rglob("*") if path.is_file())
NAMES = [path.relative_to(DATA).as_posix() for path in SAMPLES]

MAX_LIBRARY_BYTES = 5_000_000
LICENCES = {"GPL-2+", "GPL", "CC0"}
#: Below a peak of 1 percent of full scale, about -40 dB, a file would pass for silence.
MIN_PEAK = 0.01

_ROW = re.compile(
    r"^\| `(?P<path>samples/[^`]+)` \| (?P<heard>[^|]+) \| (?P<length_s>[\d.]+) s "
    r"\| (?P<source>\w[\w-]*) `(?P<original>[^`]+)`[^|]* \| (?P<licence>[^|]+) \|$",
    re.MULTILINE,
)


def listed() -> list[dict[str, str]]:
    return [row.groupdict() for row in _ROW.finditer((DATA / "README.md").read_text("utf-8"))]


def test_readme_lists_every_sample_once() -> None:
    assert sorted(row["path"] for row in listed()) == NAMES


def test_readme_names_a_known_licence_for_every_sample() -> None:
    assert {row["licence"] for row in listed()} == LICENCES


def test_readme_describes_every_source() -> None:
    text = (DATA / "README.md").read_text("utf-8")
    for source in {row["source"] for row in listed()}:
        assert f"\n| {source} |" in text
        assert f"**{source}**" in (DATA / "LICENSES.md").read_text("utf-8")


def test_licence_text_is_the_gpl_version_2() -> None:
    text = (DATA / "COPYING-GPL-2").read_text("ascii")
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 2, June 1991" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_library_is_small_and_varied() -> None:
    assert 60 <= len(SAMPLES) <= 100
    assert sum(path.stat().st_size for path in SAMPLES) <= MAX_LIBRARY_BYTES
    assert {path.suffix for path in SAMPLES} == {".flac", ".mp3", ".ogg", ".opus", ".wav"}


def test_library_holds_no_file_twice() -> None:
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in SAMPLES}) == len(SAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_sample_decodes_to_its_listed_length_and_is_no_silence(name: str) -> None:
    samples, sample_rate = soundfile.read(DATA / name, dtype="float32", always_2d=True)
    (length_s,) = (float(row["length_s"]) for row in listed() if row["path"] == name)

    assert np.isfinite(samples).all()
    assert np.abs(samples.mean(axis=1)).max() > MIN_PEAK  # mono, as the indexer hears it
    assert len(samples) / sample_rate == pytest.approx(length_s, abs=0.051)


@pytest.mark.parametrize("path", SAMPLES, ids=NAMES)
def test_sample_decodes_without_warning_to_what_libsndfile_gives(path: Path) -> None:
    expected, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    found, found_rate_hz = read_span(path, 0.0, 60.0)
    with open_audio(path) as audio:
        for _ in audio.blocks():
            pass
    assert audio.warnings == ()
    assert found_rate_hz == rate_hz
    # At the ends of a Vorbis stream, FFmpeg and libsndfile disagree by less than one of its blocks.
    missing = len(expected) - len(found)
    assert abs(missing) < 300
    late = max(missing, 0)
    common = min(len(found), len(expected) - late)
    at_start = np.abs(found[:common] - expected[:common]).max()
    at_end = np.abs(found[:common] - expected[late : late + common]).max()
    assert min(at_start, at_end) < 2e-3
