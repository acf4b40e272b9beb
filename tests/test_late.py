"""Videos whose sound begins late: every time is the one that a player shows.

What is known is the time of a click: it was written before the video was.
"""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import Interleaved, encode, error, noise, span, whole, write
from conftest import Run
from faults import fault
from listener import on_step
from test_extract import Counting, counting, new_store

from indexer.audio import ffmpeg
from indexer.audio.content import recording_digest
from indexer.audio.decode import open_source
from indexer.audio.stream import open_audio, read_span
from indexer.progress import Step
from indexer.run.config import ExtractConfig
from indexer.run.extract import extract
from indexer.run.recompute import recompute
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.sound_index import SoundIndex

__all__ = ["counting"]  # a fixture

DELAY_S = 1.968
#: Of the click in the sound, and where a player shows it in the video, in seconds.
CLICK_S = 1.0
SHOWN_S = DELAY_S + CLICK_S
#: Name, encoder, rate. Matroska counts milliseconds, and tells less of AAC's priming.
VIDEOS = [
    ("a.mp4", "aac", 44_100),
    ("a.mp4", "alac", 44_100),
    ("a.mp4", "libmp3lame", 44_100),
    ("a.mov", "pcm_s16le", 44_100),
    ("a.mkv", "libopus", 48_000),
    ("a.mkv", "flac", 44_100),
    ("a.mts", "aac", 48_000),
    ("a.mpg", "mp2", 48_000),
]


def click(rate: int, seconds: int = 3) -> Interleaved:
    samples = 0.001 * noise(seconds * rate)
    samples[round(CLICK_S * rate)] = 0.9
    return samples


def video(
    path: Path,
    codec: str = "flac",
    rate: int = 44_100,
    delay_s: float = DELAY_S,
    seconds: int = 4,
) -> Path:
    """Black pictures from 0 s on, and sound from later on."""
    gap = (-1.0, delay_s)  # the priming has times before 0
    return encode(path, click(rate, seconds), rate, codec, video=True, gap=gap)


def first_sample(path: Path) -> int:
    with closing(open_source(path, 1e6)) as source:
        return source.info.first_sample


@pytest.mark.parametrize(("name", "codec", "rate"), VIDEOS)
def test_sound_that_begins_late_has_the_times_of_the_player(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    path = video(tmp_path / name, codec, rate)
    samples, warnings = whole(path)
    with open_audio(path) as audio:
        first = audio.start_sample
        assert audio.first_sample == first == audio.info.first_sample
    assert first == pytest.approx(DELAY_S * SAMPLE_RATE_HZ, abs=0.03 * SAMPLE_RATE_HZ)
    heard_s = (first + int(np.argmax(np.abs(samples)))) / SAMPLE_RATE_HZ
    assert heard_s == pytest.approx(SHOWN_S, abs=0.002)
    assert warnings == ()  # no silence was made up
    assert len(samples) < 4.1 * SAMPLE_RATE_HZ
    noise_of_decoder = 6e-5 if codec == "mp2" else 0
    for start, length in ((first, 9_000), (140_000, 10**6), (0, first + 1_000)):
        wanted = samples[max(start - first, 0) : start - first + length]
        found = span(path, start, length)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=noise_of_decoder)
    assert len(span(path, 0, first)) == 0
    copied, found_rate = read_span(path, SHOWN_S - 0.5, 1.0)
    assert (len(copied), found_rate) == (rate, rate)
    assert np.argmax(np.abs(copied[:, 0])) / rate == pytest.approx(0.5, abs=0.002)
    assert len(read_span(path, 0.0, 1.0)[0]) == 0
    assert len(read_span(path, 0.0, 3.0)[0]) / rate == pytest.approx(3.0 - first / 32_000, abs=1e-4)


@pytest.mark.parametrize("delay_s", [0.02, 0.12])
@pytest.mark.parametrize(("name", "codec", "rate"), VIDEOS)
def test_sound_that_is_hardly_late_begins_with_the_pictures(
    tmp_path: Path, name: str, codec: str, rate: int, delay_s: float
) -> None:
    assert first_sample(video(tmp_path / name, codec, rate, delay_s, seconds=2)) == 0


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        *VIDEOS,
        ("a.m4a", "aac", 44_100),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.opus", "libopus", 48_000),
    ],
)
@pytest.mark.parametrize("delay_s", [0.0, DELAY_S])
def test_sound_without_pictures_begins_at_0(
    tmp_path: Path, name: str, codec: str, rate: int, delay_s: float
) -> None:
    gap = (-1.0, delay_s)
    path = encode(tmp_path / name, click(rate), rate, codec, gap=gap)
    plain = encode(tmp_path / f"plain{path.suffix}", click(rate), rate, codec)
    assert first_sample(path) == first_sample(plain) == 0
    if delay_s == 0:
        np.testing.assert_array_equal(whole(path)[0], whole(plain)[0])


def test_delay_of_days_is_an_error(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", delay_s=25 * 3600.0)
    assert error(path) == ("decode", "longer than 24 h")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    video(folder / "late.mkv", seconds=25)
    write(folder / "other.wav", noise(32_000, seed=3), 32_000)
    return folder


@pytest.mark.whole
def test_hits_of_late_sound_are_where_a_player_shows_them(
    run: Run, library: Path, tmp_path: Path, tiny_file: Path
) -> None:
    store, late = tmp_path / "store", library / "late.mkv"
    run("index", library, "--store", store, "--checkpoint", tiny_file)
    rows = {row["path"]: row for row in Store.open(store).latest_files().to_pylist()}
    assert rows["late.mkv"]["first_sample"] == round(DELAY_S * SAMPLE_RATE_HZ)
    assert rows["late.mkv"]["num_samples"] == 25 * SAMPLE_RATE_HZ
    assert rows["other.wav"]["first_sample"] is None

    clip = ("--start", SHOWN_S - 1, "--duration", 10)  # the first window, to the sample
    hits = run("search", store, late, *clip, "--include-self", "--format", "json").hits
    assert (hits[0]["start_s"], hits[0]["end_s"]) == (DELAY_S, DELAY_S + 10)
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert [one["start_s"] for one in sorted(hits, key=lambda one: one["start_s"])][-1] > 21
    told = run("search", store, late, *clip, "--include-self", "--format", "m3u", "-k", 1)
    fault("C4").require(told.code, told.out)

    copies = tmp_path / "copies"
    run("search", store, late, *clip, "--include-self", "-k", 1, "--copy-to", copies)
    (copy,) = copies.iterdir()
    samples, rate = soundfile.read(copy)
    assert np.argmax(np.abs(samples)) / rate == pytest.approx(CLICK_S, abs=1e-3)

    known = SoundIndex.open(store).whole_recording(recording_digest(late))
    assert known
    assert [window.start_s for window in known[1]] == [DELAY_S + at for at in (0, 10, 20)]

    told = run("search", store, late, "--start", 0.5, "--duration", 1, code=1)
    assert f"no audio at 0.5 s; its audio begins at {DELAY_S:.2f} s" in told.err
    labels = tmp_path / "labels"
    run("export", "labels", store, "--output", labels, "--threshold", 0.001)
    (label_track,) = labels.rglob("late*")
    starts = [float(line.split("\t")[0]) for line in label_track.read_text().splitlines()]
    assert min(starts) == DELAY_S
    assert run("verify", store, "--deep", "--checkpoint", tiny_file).code == 0


@pytest.mark.whole
def test_span_of_late_sound_is_on_the_same_time_line(
    run: Run, library: Path, tmp_path: Path, tiny_file: Path
) -> None:
    wanted = tmp_path / "spans.csv"
    wanted.write_text("path,start,end\nlate.mkv,0,5\nlate.mkv,10,20\nlate.mkv,0,1\n")
    store = tmp_path / "store"
    index = ("index", library, "--files-from", wanted, "--store", store)
    told = run(*index, "--checkpoint", tiny_file, code=3)
    assert "no audio in the span that is asked for: its audio begins at 1.97 s" in told.out
    windows = Store.open(store).snapshot().windows
    found = sorted(zip(windows.start_sample.tolist(), windows.num_samples.tolist(), strict=True))
    first = round(DELAY_S * SAMPLE_RATE_HZ)
    assert found == [(first, 160_000 - first), (320_000, 320_000)]
    assert run("verify", store, "--deep", "--checkpoint", tiny_file).code == 0


@pytest.mark.whole
def test_store_that_was_made_before_keeps_its_times_and_is_whole(
    run: Run, library: Path, tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such stores have all sound at 0: so has one for whose run no delay was long enough."""
    store = tmp_path / "store"
    with monkeypatch.context() as before:
        before.setattr(ffmpeg, "UNNOTICED_DELAY_S", math.inf)
        run("index", library, "--store", store, "--checkpoint", tiny_file)
    (library / "late.mkv").rename(library / "moved.mkv")
    again = run("index", library, "--store", store, "--checkpoint", tiny_file)
    assert "embedded 0 files" in again.out
    assert run("verify", store, "--deep", "--checkpoint", tiny_file).code == 0
    hits = run("search", store, library / "moved.mkv", "--include-self", "--format", "json").hits
    assert {hit["start_s"] for hit in hits} == {0.0, 10.0, 20.0}


@pytest.mark.whole
def test_recording_that_was_begun_before_is_ended_on_its_first_time_line(
    library: Path, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of before was cut short in it: two time lines in one recording would be no times."""
    store = new_store(tmp_path / "store", counting)
    config = ExtractConfig(num_workers=0, batch_size=1, part_windows=1)

    def stop(step: Step) -> None:
        if step.audio_s:
            raise KeyboardInterrupt

    with monkeypatch.context() as before:
        before.setattr(ffmpeg, "UNNOTICED_DELAY_S", math.inf)
        with pytest.raises(KeyboardInterrupt):
            extract(library, store, counting, config, on_step(stop))
    stored = sum(part.num_windows for part in store.parts())
    assert stored in (1, 2)
    extract(library, store, counting, config)
    late = {row["path"]: row for row in store.latest_files().to_pylist()}["late.mkv"]
    windows = store.snapshot().windows
    of_late = windows.take(windows.recording_id == late["recording_id"])
    assert sorted(of_late.start_sample.tolist()) == [0, 320_000, 640_000]
    assert late["first_sample"] is None
    assert recompute(store, counting, num_windows=9).problems == []


@pytest.mark.parametrize("codec", ["wmav1", "wmav2"])
def test_sound_without_pictures_begins_at_0_whatever_a_codec_swallows(
    tmp_path: Path, codec: str
) -> None:
    path = encode(tmp_path / "a.wma", noise(24_000), 8_000, codec, bit_rate=48_000)
    assert first_sample(path) == 0
