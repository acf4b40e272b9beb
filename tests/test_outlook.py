"""How far a run is: seconds of audio, a total that is estimated, and the time left that follows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
from conftest import Run, on_screen
from faults import fault
from listener import Listener
from synthetic import identity, write_tone
from test_extract import Counting, counting, new_store
from test_extract import run as extract_into
from tqdm import tqdm

from indexer.audio.source import AudioInfo
from indexer.audio.stream import open_audio
from indexer.library.files import FileList, FoundFile
from indexer.progress import Step
from indexer.reading.batches import Batch
from indexer.reading.events import Done, Failure, WindowKey
from indexer.run.config import ExtractConfig
from indexer.run.extract import extract
from indexer.run.outlook import Outlook, told_of_frames
from indexer.store.schema import FramesMode
from indexer.windows import SAMPLE_RATE_HZ, Geometry
from soundalike.cli.bars import Bars

__all__ = ["counting"]  # a fixture

INFO = AudioInfo(44_100, 2, "mp3", "mp3", "none")
#: Bytes of a second: more and less than is taken for the ending before a file of it was opened.
BYTES_PER_S = {".mp3": 24_000, ".wav": 96_000, ".flac": 60_000, ".mp4": 400_000}


def batches(lengths_s: list[float]) -> Iterator[Batch]:
    """What a reader gives of files of some lengths, a window at a time."""
    for item, length_s in enumerate(lengths_s):
        num_samples, begun = round(length_s * SAMPLE_RATE_HZ), [(item, length_s)]
        planned = Geometry().plan(num_samples)
        for start, length in planned:
            key = WindowKey(item, bytes(16), start, length)
            done = (
                [Done(item, bytes(16), num_samples, INFO)] if (start, length) == planned[-1] else []
            )
            yield Batch(torch.empty(0, 0), SAMPLE_RATE_HZ, [key], done, begun=begun)
            begun = []


def files(lengths_s: list[float], endings: list[str]) -> FileList:
    pairs = zip(lengths_s, endings, strict=True)
    return FileList(
        FoundFile(f"{at:04d}{ending}", round(length_s * BYTES_PER_S[ending]), 1)
        for at, (length_s, ending) in enumerate(pairs)
    )


@pytest.mark.parametrize(
    "kind", ["one long file", "long and short", "sorted by ending", "all alike"]
)
def test_time_left_is_right_within_a_factor_of_two_after_half_a_minute(kind: str) -> None:
    """At 25 x real time; the oracle knows what there is."""
    rng = random.Random(0)
    lengths_s, endings = {
        "one long file": ([36_000.0], [".mp3"]),
        "long and short": (
            [rng.choice([3.0, 30.0, 5_000.0]) for _ in range(300)],
            [rng.choice([".mp3", ".flac"]) for _ in range(300)],
        ),
        "sorted by ending": (
            [rng.uniform(10, 600) for _ in range(300)],
            [ending for ending in BYTES_PER_S for _ in range(75)],
        ),
        "all alike": ([7.0] * 2_000, [".wav"] * 2_000),
    }[kind]
    total_s, speed = sum(lengths_s), 25.0
    outlook = Outlook()
    outlook.begin(files(lengths_s, endings))
    for batch in batches(lengths_s):
        outlook.note(batch)
        elapsed_s, left_s = outlook.audio_s / speed, (total_s - outlook.audio_s) / speed
        told_s = (outlook.total_s - outlook.audio_s) * elapsed_s / outlook.audio_s
        if elapsed_s > 30 and left_s > 5:
            assert left_s / 2 < told_s < left_s * 2
    assert outlook.audio_s == pytest.approx(total_s)
    assert outlook.total_s == pytest.approx(total_s)


def test_outlook_files_that_are_not_read_leave_the_total() -> None:
    items = files([100.0, 100.0, 100.0], [".wav", ".wav", ".wav"])
    outlook = Outlook()
    outlook.begin(items)
    events = [Done(0, bytes(16)), Failure(1, "open", "no audio")]
    outlook.note(Batch(torch.empty(0, 0), SAMPLE_RATE_HZ, [], events))
    assert (outlook.audio_s, outlook.total_s) == (
        0.0,
        pytest.approx(9_600 / 176.4),
    )  # as a CD would have
    for batch in itertools.islice(batches([100.0]), 2):
        moved = [key._replace(item=2) for key in batch.keys]
        begun = [(2, length_s) for _, length_s in batch.begun]
        outlook.note(batch._replace(keys=moved, begun=begun))
        outlook.note(batch._replace(keys=moved, begun=begun))  # a reader that began once more
    assert (outlook.audio_s, outlook.total_s) == (20.0, 100.0)
    assert outlook.name == "0002.wav"


def test_outlook_spans_have_the_length_that_was_asked_for() -> None:
    span = (SAMPLE_RATE_HZ * 60, SAMPLE_RATE_HZ * 30)
    outlook = Outlook()
    outlook.begin(
        FileList(FoundFile("a.wav", 10**9, 1, (span[0] + at, span[1])) for at in range(3))
    )
    assert outlook.total_s == 90.0
    key = WindowKey(1, bytes(16), span[0] + 1, SAMPLE_RATE_HZ * 10)
    outlook.note(Batch(torch.empty(0, 0), SAMPLE_RATE_HZ, [key], [], begun=[(1, 30.0)]))
    assert (outlook.audio_s, outlook.total_s) == (10.0, 90.0)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_audio_says_about_how_long_it_is(ending: str, tmp_path: Path) -> None:
    samples, rate = soundfile.read(write_tone(tmp_path / "tone.wav", 21.0))
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, samples, rate)
    with open_audio(path) as audio:
        assert audio.length_s == pytest.approx(21.0, abs=0.2)
    with open_audio(path, start_sample=SAMPLE_RATE_HZ, num_samples=2 * SAMPLE_RATE_HZ) as audio:
        assert audio.length_s == pytest.approx(2.0)
    with open_audio(path, start_sample=20 * SAMPLE_RATE_HZ) as audio:
        assert audio.length_s == pytest.approx(1.0, abs=0.2)


@pytest.mark.whole
def test_run_over_one_long_recording_says_how_far_it_is(tmp_path: Path, counting: Counting) -> None:
    write_tone(tmp_path / "library" / "long.wav", 205.0)
    heard = Listener()
    config = ExtractConfig(num_workers=0, batch_size=2)
    extract(tmp_path / "library", new_store(tmp_path / "s", counting), counting, config, heard)
    steps = [step for step in heard.steps if step.what == "embedding"]
    assert len(steps) >= 10
    assert steps[0].audio_s == 0
    assert all(step.name == "long.wav" for step in steps[1:])
    assert all(step.total_audio_s == pytest.approx(205.0) for step in steps[1:])
    times = [step.audio_s for step in steps]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(205.0)
    assert 0 < times[3] < 100


def test_bar_counts_audio_and_names_the_file(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("soundalike.cli.bars.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    step = Step("embedding", 0, 1, "file", total_audio_s=3600.0)
    name = "a very long name of a recording.flac"
    with Bars(quiet=False) as bars:
        bars(step)
        clock[0] = 60.0
        bars(step._replace(audio_s=1800.0, name=name, num_failed=2))
    (line,) = on_screen(capfd.readouterr().err)
    assert line.startswith("embedding a very…ng.flac:  50%|")
    assert "30.0 of 60.0 min, " in line
    assert line.endswith(", 30 x, 2 failed")
    assert len(line) <= 80


@pytest.mark.whole
def test_audio_that_windows_share_counts_once(
    tmp_path: Path, tiny_file: Path, counting: Counting, run: Run
) -> None:
    write_tone(tmp_path / "library" / "a.wav", 60.0, 300)
    write_tone(tmp_path / "library" / "b.wav", 12.3, 400)
    store = tmp_path / "s"
    words = ("index", tmp_path / "library", "--checkpoint", tiny_file, "--hop", 1)
    told = run(*words, "--store", store)
    fault("C8").require(told.code, told.out)
    report = run(*words, "--store", tmp_path / "again", "--format", "json").data
    assert report["audio_s"] == pytest.approx(72.0)  # the rest of b.wav, 0.3 s, is in no window
    assert "72.0 s of audio" in run("info", store).out
    geometry = Geometry(hop_samples=20 * SAMPLE_RATE_HZ)  # each second window is left out
    other = new_store(tmp_path / "other", counting, geometry)
    assert extract_into(tmp_path / "library", other, counting).audio_s == pytest.approx(40.0)


class EagerBar(tqdm):  # type: ignore[type-arg]
    """A bar that is drawn with all news."""

    def __init__(self, *words: Any, **how: Any) -> None:
        super().__init__(*words, **{**how, "mininterval": 0})


@pytest.mark.whole
def test_bar_of_a_run_over_one_long_recording_is_that_of_its_audio(
    tmp_path: Path, tiny_file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tone(tmp_path / "library" / "long.wav", 25.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    # A bar is drawn ten times a second, and where nothing else runs this takes a tenth of one.
    monkeypatch.setattr("soundalike.cli.bars.tqdm", EagerBar)
    words = ("index", tmp_path / "library", "--store", tmp_path / "s", "--checkpoint", tiny_file)
    told = run(*words, "--workers", 0, "--batch-size", 1)
    fault("F14").require(told.code, "\n".join(on_screen(told.err)))
    assert "embedding long.wav:  40%" in told.err or "embedding long.wav:  80%" in told.err


@pytest.mark.parametrize(
    ("frames", "kilobytes", "gigabytes"), [("pooled", 48, 10), ("full", 333, 72)]
)
def test_frames_are_told_of_before_they_take_gigabytes(
    frames: FramesMode, kilobytes: int, gigabytes: int
) -> None:
    """600 hours in windows of 10 s: 216,000 of them, of 31 frames each."""
    items = FileList(FoundFile(f"{at}.wav", 176_400 * 3600, 1) for at in range(600))
    told = told_of_frames(identity(frames), items)
    assert told is not None
    assert f"{kilobytes} kB a window, about {gigabytes} GB for about 600 hours" in told
    twice = told_of_frames(identity(frames, hop_samples=160_000), items)
    assert twice is not None
    bands = 7 if frames == "full" else 1
    assert f"about {round(216_000 * 2 * 31 * 768 * 2 * bands / 1e9)} GB" in twice


def test_frames_are_not_told_of_where_there_are_few_or_none() -> None:
    items = FileList(FoundFile(f"{at}.wav", 176_400 * 3600, 1) for at in range(600))
    assert told_of_frames(identity("none"), items) is None
    assert told_of_frames(identity("pooled"), FileList(items[at] for at in range(50))) is None
