"""What is doubtful about a recording although it can be embedded, and what a command says of it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from audio_files import Interleaved, whole, write
from conftest import REPOSITORY, SHARED_AUDIO, Run
from faults import fault

from indexer.audio.file import AUDIO_EXTENSIONS
from indexer.audio.stream import open_audio
from indexer.errors import QueryError
from indexer.hear import get_scene_embeddings, load_model
from indexer.windows import Geometry
from soundalike.opening import open as open_sounds


def tone(seconds: float, rate: int, frequency_hz: float = 440.0) -> Interleaved:
    """(num_samples, 1) of a sine."""
    times_s = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency_hz * times_s)[:, None]).astype(np.float32)


def two_streams(path: Path, second: Interleaved, num_more: int = 0) -> Path:
    """A film whose first audio stream is silent."""
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("pcm_s16le", 32_000) for _ in range(2 + num_more)]
        for stream in streams:
            stream.layout = "mono"
        for stream, samples in zip(
            streams, [0 * second, second, *[second] * num_more], strict=True
        ):
            packed = np.round(samples.T * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(packed, "s16", "mono")
            frame.rate = 32_000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                file.mux(packet)
    return path


# --- warnings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_float_samples_in_units_of_integers_are_said_to_be_over_full_scale(
    tmp_path: Path, channels: int
) -> None:
    samples = np.round(32_768 * tone(1, 32_000)) * np.ones((1, channels), np.float32)
    samples[5000, 0] = -20_038
    path = write(tmp_path / "a.wav", samples, 32_000, "FLOAT")
    assert whole(path)[1] == ("its samples reach 20,038, and full scale is 1",)


@pytest.mark.parametrize("gain", [3.0, 1.5])
def test_peaks_of_loud_masters_are_no_cause_for_a_warning(tmp_path: Path, gain: float) -> None:
    """Lossy codecs overshoot, and mixes in float may: the mean power stays within full scale."""
    assert whole(write(tmp_path / "a.wav", gain * tone(1, 32_000), 32_000, "FLOAT"))[1] == ()


def test_nearly_silent_recording_is_said_to_be(tmp_path: Path) -> None:
    samples = tone(2, 32_000) * np.float32(1e-4 / 0.3 * np.sqrt(2))  # -80 dB
    assert whole(write(tmp_path / "a.wav", 1.01 * samples, 32_000, "FLOAT"))[1] == ()
    assert whole(write(tmp_path / "b.wav", 0.5 * samples, 32_000, "FLOAT"))[1] == (
        "it is nearly silent: -86 dB of full scale in its loudest second",
    )


def test_one_sound_in_long_silence_is_no_cause_for_a_warning(tmp_path: Path) -> None:
    samples = np.zeros((20 * 32_000, 1), np.float32)
    samples[300_000:303_200] = 0.01 * tone(0.1, 32_000)
    assert whole(write(tmp_path / "a.wav", samples, 32_000))[1] == ()


def test_silent_audio_stream_beside_others_is_said_to_be(tmp_path: Path) -> None:
    assert whole(two_streams(tmp_path / "a.mkv", tone(1, 32_000)))[1] == (
        "it is silent",
        "there is another audio stream, which was not read",
    )
    assert whole(two_streams(tmp_path / "b.mkv", tone(1, 32_000), 1))[1] == (
        "it is silent",
        "there are 2 other audio streams, which were not read",
    )
    loud = two_streams(tmp_path / "c.mkv", 0 * tone(1, 32_000))
    assert whole(loud)[1][0] == "it is silent"


@pytest.mark.parametrize("rate", [96_000, 256_000, 384_000])
def test_recording_of_bats_is_said_to_be_above_what_is_heard(tmp_path: Path, rate: int) -> None:
    hiss = 1e-3 * np.random.default_rng(0).standard_normal((rate, 1)).astype(np.float32)
    bat = write(tmp_path / "a.wav", tone(1, rate, 45_000) + hiss, rate)
    assert whole(bat)[1] == ("hardly any of its power is below 16 kHz, and nothing else is heard",)
    for name, samples in (("hiss", 100 * hiss), ("tone", tone(1, rate, 12_000) + hiss)):
        assert whole(write(tmp_path / f"{name}.wav", samples, rate))[1] == ()


@pytest.mark.whole
@pytest.mark.parametrize("folder", [REPOSITORY / "data" / "samples", SHARED_AUDIO])
def test_real_recordings_are_no_cause_for_a_warning(folder: Path) -> None:
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    files = [one for one in folder.rglob("*") if one.suffix.lower() in AUDIO_EXTENSIONS]
    for file in files[:: max(len(files) // 50, 1)]:
        with open_audio(file) as audio:
            for _ in audio.windows(Geometry()):
                pass
        assert audio.warnings == (), file


# --- what a command says -------------------------------------------------------------------------


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """A library of all kinds of doubt, and of what is worse."""
    root = tmp_path / "library"
    root.mkdir()
    holes = np.repeat(tone(30, 32_000), 2, axis=1)
    holes[[3200, 3300, 3400], 0] = np.nan
    holes[640_000:, 1] *= -1
    write(root / "holes.wav", holes, 32_000, "FLOAT")
    broken = tone(3, 32_000)
    broken[3200:6400] = np.inf
    write(root / "broken.wav", broken, 32_000, "FLOAT")
    write(root / "huge.wav", 1e30 / 0.3 * tone(3, 32_000), 32_000, "FLOAT")
    write(root / "units.wav", 32_768 / 0.3 * tone(1, 32_000), 32_000, "FLOAT")
    write(root / "quiet.wav", 1e-4 * tone(1, 32_000), 32_000, "FLOAT")
    write(root / "bat.wav", tone(1, 384_000, 45_000), 384_000)
    two_streams(root / "film.mkv", tone(1, 32_000))
    return root


@pytest.mark.whole
def test_index_stores_what_is_doubtful_and_says_so(
    run: Run, doubtful: Path, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    made = run("index", doubtful, "--store", path, "--checkpoint", "demo", code=None)
    fault("B6b").require(made.code, made.out + made.err)
    fault("B6c").require(made.code, made.out + made.err)
    fault("C6e").require(made.code, made.out + made.err)
    told = run("info", path)
    fault("B6a").require(told.code, told.out)
    fault("C5a").require(told.code, told.out)
    fault("C6a").require(told.code, told.out)
    fault("C6b").require(told.code, told.out)
    fault("C6c").require(told.code, told.out)
    fault("C6d").require(told.code, told.out)
    checked = run("verify", path, "--deep", "--sample", 99)
    assert "7 windows embedded again" in checked.out


@pytest.mark.whole
def test_whoever_listens_to_samples_that_are_too_large_hears_of_it(
    run: Run, doubtful: Path, tmp_path: Path
) -> None:
    huge, path = doubtful / "huge.wav", tmp_path / "store"
    told = run("tag", huge, doubtful / "units.wav", "--checkpoint", "demo", code=None)
    fault("C7").require(told.code, told.out + told.err)
    assert "units.wav" in told.out  # the others are listened to
    words = ("--checkpoint", "demo", "--include", "quiet.wav")
    run("index", doubtful, "--store", path, *words)
    sounds = open_sounds(path)
    for listen in (sounds.search, sounds.embed, sounds.tag):
        with pytest.raises(QueryError, match="its samples reach 1e\\+30"):
            listen(huge)
    output = tmp_path / "hits.jsonl"
    report = sounds.search_many([huge, doubtful / "quiet.wav"], output)
    assert ["its samples reach 1e+30" in one for one in report.failures] == [True]


def test_hear_refuses_samples_that_are_too_large() -> None:
    with pytest.raises(ValueError, match="not finite"):
        get_scene_embeddings(1e30 * torch.ones(1, 48_000), load_model("demo"))
