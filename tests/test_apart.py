"""Decoding in a process of its own: the same samples, and a server that lives."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from synthetic import write_tone

from indexer.audio.stream import open_audio, read_span
from indexer.errors import AudioError
from indexer.reading.apart import Apart
from indexer.windows import Geometry

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    apart = Apart(timeout_s=60)
    yield apart
    apart.close()


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apart") / "stereo.flac"
    samples = np.random.default_rng(1).normal(0, 0.2, (44_100 * 23, 2)).clip(-1, 1)
    samples[1000], samples[-1000] = 0.97, -0.98
    soundfile.write(path, samples, 44_100, subtype="PCM_16")
    return path


@pytest.mark.parametrize(
    ("start", "length", "channel", "geometry"),
    [
        (0, None, None, Geometry()),
        (32_000, 64_000, 2, Geometry()),
        (0, None, None, Geometry(hop_samples=160_000, padding="repeat")),
    ],
)
def test_windows_are_those_of_this_process(
    apart: Apart,
    stereo: Path,
    start: int,
    length: int | None,
    channel: int | None,
    geometry: Geometry,
) -> None:
    span = {"start_sample": start, "num_samples": length, "channel": channel}
    with open_audio(stereo, **span) as here, apart.open_audio(stereo, **span) as there:  # type: ignore[arg-type]
        if length is None:
            here.identify()
            there.identify()
        for one, other in zip(here.windows(geometry), there.windows(geometry), strict=True):
            assert one[:2] == other[:2]
            assert (one.waveform == other.waveform).all()
        told = (here.start_sample, here.peak, here.audio_id, here.absence())
        assert told == (there.start_sample, there.peak, there.audio_id, there.absence())


def test_span_is_that_of_this_process(apart: Apart, stereo: Path) -> None:
    (here, rate), (there, other) = (
        read(stereo, 3.5, 2.25) for read in (read_span, apart.read_span)
    )
    assert (here == there).all()
    assert rate == other == 44_100


@pytest.mark.parametrize("num_peaks", [7, 1000, 100_000])
def test_survey_tells_length_and_extremes(apart: Apart, stereo: Path, num_peaks: int) -> None:
    found = apart.survey(stereo, num_peaks, 60)
    samples, rate = soundfile.read(stereo, dtype="float32")
    assert (found.duration_s, found.rate_hz, found.channels) == (len(samples) / rate, rate, 2)
    assert len(found.peaks) <= num_peaks
    mono, size = samples.mean(1), round(found.peaks_s * rate)
    expected = [
        (mono[at : at + size].min(), mono[at : at + size].max()) for at in range(0, len(mono), size)
    ]
    np.testing.assert_allclose(found.peaks, expected, atol=1e-7)
    assert found.warnings == ()


def test_what_cannot_be_decoded_is_said_and_the_process_lives(apart: Apart, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    apart.read_span(write_tone(tmp_path / "tone.wav", 1), 0, 1)
    process = apart._idle[-1].pid
    for path, said in ((text, "no decoder recognises it"), (tmp_path / "nix", "no such file")):
        with pytest.raises(AudioError, match=said):
            apart.survey(path, 10, 60)
    with pytest.raises(AudioError, match="longer than 10 s"):
        apart.survey(write_tone(tmp_path / "long.wav", 11), 10, 10)
    assert apart._idle[-1].pid == process


def test_a_process_that_dies_costs_its_request(tmp_path: Path) -> None:
    """The kernel kills it in the middle, as a decoder's crash would."""
    apart, tone = Apart(), write_tone(tmp_path / "tone.wav", 60)
    others = _decoders()
    with apart.open_audio(tone) as audio:
        windows = audio.windows(Geometry())
        next(windows)
        (process,) = _decoders() - others
        process.send_signal(signal.SIGSEGV)
        with pytest.raises(AudioError, match=r"died of it \(SIGSEGV\)"):
            list(windows)
    assert len(apart.read_span(tone, 0, 1)[0]) == 32_000
    with apart.open_audio(tone) as audio:  # and one that is not read to its end leaves nothing
        next(audio.windows(Geometry()))
    apart.close()
    assert _decoders() == others


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    apart = Apart(timeout_s=3)
    apart.read_span(write_tone(tmp_path / "tone.wav", 1), 0, 1)
    apart._idle[-1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(AudioError, match="longer than 3 s"):
        apart.read_span(tmp_path / "tone.wav", 0, 1)
    assert time.monotonic() - began < 20
    assert len(apart.read_span(tmp_path / "tone.wav", 0, 1)[0])
    apart.close()


def test_the_time_that_is_taken_with_windows_does_not_count(tmp_path: Path) -> None:
    """A network takes longer than a decoder: an hour of audio is no hang."""
    apart, tone = Apart(timeout_s=3), write_tone(tmp_path / "tone.wav", 300)  # 38 MB of samples
    with apart.open_audio(tone) as audio:
        num_windows = 0
        for number, _ in enumerate(audio.windows(Geometry())):
            time.sleep(4.0 if number == 1 else 0.0)
            num_windows += 1
    assert num_windows == 30
    apart.close()


def test_closing_ends_what_decodes(tmp_path: Path) -> None:
    apart, tone = Apart(), write_tone(tmp_path / "tone.wav", 1)
    apart.read_span(tone, 0, 1)
    others, (process,) = _decoders() - {psutil.Process(apart._idle[0].pid)}, apart._idle
    process.send_signal(signal.SIGSTOP)
    failures: list[str] = []

    def read() -> None:
        try:
            apart.read_span(tone, 0, 1)
        except AudioError as error:
            failures.append(error.reason)

    thread = threading.Thread(target=read)
    thread.start()
    while not apart._busy:
        time.sleep(0.01)
    apart.close()
    thread.join(10)
    assert failures == ["the process that decodes it died of it (SIGKILL)"]
    assert _decoders() == others


def test_few_processes_are_kept_for_later(tmp_path: Path) -> None:
    apart, tone, others = Apart(), write_tone(tmp_path / "tone.wav", 60), _decoders()
    several = [apart.open_audio(tone) for _ in range(4)]
    cuts = [one.__enter__().windows(Geometry()) for one in several]
    for one in cuts:
        next(one)
    assert len(_decoders() - others) == 4
    for one in cuts:
        assert len(list(one)) == 5
    assert len(_decoders() - others) == 2
    apart.close()


@pytest.mark.parametrize(
    "message",
    [
        b"{}",
        b"[1]",
        b"text",
        b'{"shapes": ["a"]}',
        b'{"shapes": [[-1]]}',
        b'{"shapes": [[1000000000000]]}',
        b'{"reason": "x", "shapes": []}',
    ],
)
def test_a_decoder_that_was_taken_over_costs_its_request(tmp_path: Path, message: bytes) -> None:
    told = f"import sys; sys.stdin.readline(); sys.stdout.buffer.write({message!r} + bytes([10]))"
    apart, pipe = Apart(), subprocess.PIPE
    apart._idle.append(subprocess.Popen([sys.executable, "-c", told], stdin=pipe, stdout=pipe))
    with pytest.raises(AudioError, match="died of it"):
        apart.read_span(tmp_path, 0, 1)
    assert not apart._idle


def test_a_file_that_takes_all_memory_is_an_error(apart: Apart, tmp_path: Path) -> None:
    """Ten minutes of 64 channels: a hole on disk, and 7 GB as samples."""
    path, num_bytes = tmp_path / "wide.wav", 64 * 48_000 * 600
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 64, 48_000, 64 * 48_000, 64, 8)
    head = struct.pack("<4sI4s", b"RIFF", num_bytes + 36, b"WAVE") + form
    path.write_bytes(head + struct.pack("<4sI", b"data", num_bytes))
    os.truncate(path, num_bytes + 44)
    with pytest.raises(AudioError, match="too much memory"):
        apart.read_span(path, 0, 600)
    assert len(apart.read_span(path, 0, 1)[0]) == 48_000


def test_threads_share_it(apart: Apart, stereo: Path) -> None:
    expected, _ = read_span(stereo, 1, 1)
    found: list[bool] = []

    def read() -> None:
        for _ in range(5):
            samples, _ = apart.read_span(stereo, 1, 1)
            found.append(bool((samples == expected).all()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [True] * 20


def _decoders() -> set[psutil.Process]:
    return {
        one
        for one in psutil.Process().children()
        if one.is_running() and "indexer.reading.decoder" in one.cmdline()
    }
