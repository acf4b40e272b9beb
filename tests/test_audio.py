"""Mono blocks at 32 kHz: the same however they are asked for, and errors where they end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from audio_files import AAC, FOREVER_S, Make, append, encode, error, noise, span, whole, write

from indexer.audio.file import AUDIO_EXTENSIONS
from indexer.audio.source import AudioInfo
from indexer.audio.stream import open_audio, read_span
from indexer.errors import AudioError
from indexer.windows import SAMPLE_RATE_HZ


def test_audio_extensions_are_lower_case_suffixes() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in AUDIO_EXTENSIONS)
    assert {".wav", ".flac", ".mp3", ".m4a", ".opus", ".webm"} <= AUDIO_EXTENSIONS
    assert ".ts" not in AUDIO_EXTENSIONS


def test_open_audio_info_describes_the_file(tmp_path: Path) -> None:
    with open_audio(write(tmp_path / "a.flac", noise(1000, 2), 22_050)) as audio:
        info = audio.info
    assert (info.sample_rate, info.channels, info.codec, info.container) == (
        22_050,
        2,
        "flac",
        "flac",
    )
    assert info.decoder == f"pyav {av.__version__}"


def test_blocks_are_bounded_writable_and_mono(tmp_path: Path) -> None:
    for rate in (32_000, 44_100, 8000):
        path = write(tmp_path / f"{rate}.flac", noise(6 * rate + 5, 2), rate)
        with open_audio(path) as audio:
            blocks = list(audio.blocks())
        assert len(blocks) > 2
        for block in blocks:
            assert block.dtype == np.float32
            assert block.ndim == 1
            assert 0 < len(block) < 10 * SAMPLE_RATE_HZ
            assert block.flags.writeable


@pytest.mark.whole
def test_blocks_other_chunks_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [
        write(tmp_path / "a.wav", noise(200_000, 2), 44_100),
        write(tmp_path / "a.ogg", noise(200_000, 2), 44_100),
    ]
    expected = [whole(path)[0] for path in paths]
    for num_samples in (1, 2500, 10**8):
        monkeypatch.setattr(AudioInfo, "chunk_samples", num_samples)
        for path, samples in zip(paths, expected, strict=True):
            np.testing.assert_array_equal(whole(path)[0], samples)


@pytest.mark.parametrize("rate", [44_100, 32_000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_blocks_one_sample_gives_one(tmp_path: Path, suffix: str, rate: int) -> None:
    samples, warnings = whole(write(tmp_path / f"a.{suffix}", noise(1), rate))
    assert len(samples) == 1
    assert warnings == ()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_silence_gives_silence(tmp_path: Path, suffix: str) -> None:
    silence = np.zeros((50_000, 2), np.float32)
    samples, warnings = whole(write(tmp_path / f"a.{suffix}", silence, 44_100))
    assert not samples.any()
    assert warnings == ("it is silent",)


def test_blocks_odd_rate_has_the_right_length(tmp_path: Path) -> None:
    samples, _ = whole(write(tmp_path / "bat.wav", noise(244_140), 97_656))
    assert len(samples) == -(-244_140 * 32_000 // 97_656)


@pytest.mark.parametrize(
    ("left", "right", "cancels"),
    [
        (1, -1, True),
        (1, -0.99, True),
        (1, 1, False),
        (1, 0, False),
        (1, -0.5, False),
    ],
)
def test_warnings_anti_phase_is_flagged(
    tmp_path: Path, left: float, right: float, cancels: bool
) -> None:
    mono = noise(50_000)
    path = write(tmp_path / "a.wav", np.hstack([left * mono, right * mono]), 44_100)
    expected = ("its channels cancel in the mean (anti-phase)",) if cancels else ()
    assert whole(path)[1] == expected


@pytest.mark.whole
def test_blocks_hour_needs_no_more_memory_than_minutes(tmp_path: Path) -> None:
    minute = np.zeros(8000 * 60, np.float32)
    minute[::1000] = 1e-3
    for minutes in (10, 60):
        with soundfile.SoundFile(tmp_path / f"{minutes}.flac", "w", 8000, 1) as file:
            for _ in range(minutes):
                file.write(minute)
    code = """if True:
        import resource, sys
        from pathlib import Path
        from indexer.audio.stream import open_audio
        for path in sys.argv[1:]:
            with open_audio(Path(path)) as audio:
                for block in audio.blocks():
                    pass
            print(audio.num_samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    paths = [str(tmp_path / "10.flac"), str(tmp_path / "60.flac")]
    output = subprocess.run(
        [sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True
    ).stdout
    (short, short_kb), (long, long_kb) = [map(int, line.split()) for line in output.splitlines()]
    assert (short, long) == (600 * 32_000, 3600 * 32_000)
    assert long_kb - short_kb < 4000


LONG_S = 30
LONG_44 = noise(44_100 * LONG_S, 2, seed=3)
CLICKS_44 = noise(44_100 * LONG_S, 2, seed=3, clicks=True)
LONG_48 = noise(48_000 * LONG_S, 2, seed=3)
LONG: dict[str, Make] = {
    "a.wav": lambda path: write(path, LONG_44, 44_100),
    "a.flac": lambda path: write(path, LONG_44, 44_100),
    "a.ogg": lambda path: write(path, LONG_44, 44_100),
    "clicks.ogg": lambda path: write(path, CLICKS_44, 44_100),
    "a.opus": lambda path: encode(path, LONG_48, 48_000, "libopus", container="ogg"),
    "cbr.mp3": lambda path: encode(path, LONG_44, 44_100, "libmp3lame"),
    "vbr.mp3": lambda path: write(path, LONG_44, 44_100),
    "untagged.mp3": lambda path: encode(
        path, LONG_44, 44_100, "libmp3lame", container_options={"write_xing": "0"}
    ),
    "a.m4a": lambda path: encode(path, LONG_44, 44_100, "aac", options=AAC),
    "a.aac": lambda path: encode(path, LONG_44, 44_100, "aac", container="adts", options=AAC),
    "a.webm": lambda path: encode(path, LONG_48, 48_000, "libopus"),
    "gap.m4a": lambda path: encode(path, LONG_44, 44_100, "alac", gap=(20, 1.5)),
    "twice.mp3": lambda path: append(path, LONG["cbr.mp3"], LONG["vbr.mp3"]),
    "twice.ogg": lambda path: append(path, LONG["a.ogg"], LONG["a.ogg"]),
}


@pytest.mark.whole
@pytest.mark.parametrize("name", LONG)
def test_span_equals_slice_of_the_whole(tmp_path: Path, name: str) -> None:
    path = LONG[name](tmp_path / name)
    samples, _ = whole(path)
    end = len(samples)
    assert end > 0.99 * LONG_S * SAMPLE_RATE_HZ * (2 if name.startswith("twice") else 1)
    middle = [(31_999, 64_003), (500_003, 200_000), (800_007, 1), (end // 2 - 9000, 20_000)]
    for start, length in [
        (0, 100),
        *middle,
        (end - 20_001, 40_000),
        (end - 1, 5),
        (end + 10**6, 5),
    ]:
        part = span(path, start, length)
        np.testing.assert_array_equal(part, samples[start : start + length])


def test_span_to_the_end_equals_rest_of_the_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", LONG_44[:1_000_000], 44_100)
    with open_audio(path, start_sample=300_001) as audio:
        rest = np.concatenate(list(audio.blocks()))
    np.testing.assert_array_equal(rest, whole(path)[0][300_001:])
    assert audio.num_samples == len(rest)
    assert audio.warnings == ()


def test_span_of_nothing_gives_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(1000), 44_100)
    assert len(span(path, 10, 0)) == 0


def test_span_negative_is_value_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(1000), 44_100)
    with pytest.raises(ValueError, match="no such span"):
        open_audio(path, start_sample=-1)
    with pytest.raises(ValueError, match="no such span"):
        open_audio(path, num_samples=-1)
    with pytest.raises(ValueError, match="no such span"):
        read_span(path, -1.0, 2.0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_read_span_keeps_rate_and_channels(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", LONG_44[: 44_100 * 20], 44_100)
    expected = soundfile.read(path, dtype="float32")[0]
    for start_s, duration_s in [(0.0, 1.0), (12.3456, 2.5), (19.5, 10.0), (30.0, 1.0)]:
        samples, rate = read_span(path, start_s, duration_s)
        start = round(start_s * 44_100)
        stop = round((start_s + duration_s) * 44_100)
        assert rate == 44_100
        assert samples.flags.c_contiguous
        np.testing.assert_allclose(samples, expected[start:stop], rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_blocks_not_finite_costs_itself(tmp_path: Path, value: float) -> None:
    samples = noise(100_000, 2).astype(np.float64)
    samples[[44_100, 50_000, 50_001], 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="DOUBLE")
    found, warnings = whole(tmp_path / "a.wav")
    assert warnings == ("3 samples were not finite and are silence, the first at 1.00 s",)
    samples[[44_100, 50_000, 50_001], 1] = 0
    soundfile.write(tmp_path / "b.wav", samples, 44_100, subtype="DOUBLE")
    np.testing.assert_array_equal(found, whole(tmp_path / "b.wav")[0])


def test_blocks_one_sample_not_finite_is_said_so(tmp_path: Path) -> None:
    samples = noise(5000)
    samples[320] = np.nan
    path = write(tmp_path / "a.wav", samples, 32_000, "FLOAT")
    assert whole(path)[1] == ("1 sample was not finite and is silence, at 0.01 s",)


@pytest.mark.parametrize(("num_bad", "fails"), [(200, False), (201, True)])
@pytest.mark.parametrize("at", [0, 50_000], ids=["at the beginning", "in the middle"])
@pytest.mark.parametrize("num_samples", [2500, 100_000])
def test_blocks_more_than_a_thousandth_not_finite_fails_whatever_the_chunks(
    tmp_path: Path,
    num_bad: int,
    fails: bool,
    at: int,
    num_samples: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AudioInfo, "chunk_samples", num_samples)
    samples = noise(100_000, 2)
    samples[at : at + num_bad // 2] = np.nan  # of 200,000 values of both channels
    samples[at + num_bad // 2, 0] = np.nan if num_bad % 2 else 0
    path = write(tmp_path / "a.wav", samples, 32_000, "FLOAT")
    if fails:
        assert error(path) == (
            "samples",
            f"more than a thousandth of its samples are not finite (NaN or infinite), the first at "
            f"{at / 32_000:.2f} s",
        )
    else:
        assert "200 samples were not finite" in whole(path)[1][0]


def test_blocks_not_finite_ends_when_it_is_certain(tmp_path: Path) -> None:
    """Not after hours of silence."""
    samples = np.full((320_000, 1), np.nan, np.float32)
    path = write(tmp_path / "a.wav", samples, 32_000, "FLOAT")
    with open_audio(path, max_duration_s=1000.0) as audio, pytest.raises(AudioError):
        list(audio.blocks())
    assert audio.num_samples == SAMPLE_RATE_HZ  # a thousandth of 1,000 s are surpassed in the next


def test_blocks_spans_silence_what_is_not_finite_too(tmp_path: Path) -> None:
    samples = noise(441_000)
    samples[200_000] = np.inf
    path = write(tmp_path / "a.wav", samples, 44_100, "FLOAT")
    np.testing.assert_array_equal(span(path, 130_000, 50_000), whole(path)[0][130_000:180_000])


def test_blocks_longer_than_allowed_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(300_000), 44_100)
    assert error(path, max_duration_s=5.0) == ("decode", "longer than 5 s")
    assert error(path, max_duration_s=5.0, start_sample=100_000) == ("decode", "longer than 5 s")


@pytest.mark.timeout(20)
def test_blocks_gap_of_hours_is_an_error_at_once(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", noise(100_000), 44_100, "pcm_s16le", gap=(1.0, 25 * 3600.0))
    assert error(path) == ("decode", "longer than 24 h")


def test_close_in_the_middle_ends_decoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(500_000), 44_100)
    with open_audio(path) as audio:
        blocks = audio.blocks()
        next(blocks)
    assert audio.warnings == ()
    with pytest.raises(ValueError, match="closed"):
        list(blocks)


def test_blocks_channels_change_is_mixed_and_not_copied(tmp_path: Path) -> None:
    path = append(
        tmp_path / "a.mp3",
        lambda part: write(part, noise(100_000, 2), 44_100),
        lambda part: write(part, noise(100_000, 1), 44_100),
    )
    samples, _ = whole(path)
    assert len(samples) > 0.95 * 200_000 / 44_100 * SAMPLE_RATE_HZ
    with pytest.raises(AudioError, match="its number of channels changes"):
        read_span(path, 0, FOREVER_S)


@pytest.mark.parametrize(
    ("right", "cancels"), [(-1.0, True), (1.0, False)], ids=["anti-phase", "in phase"]
)
def test_blocks_huge_samples_cancel_like_others(
    tmp_path: Path, right: float, cancels: bool
) -> None:
    left = 1e20 * noise(64_000)
    path = write(tmp_path / "a.wav", np.hstack([left, right * left]), 32_000, "FLOAT")
    with open_audio(path) as audio:
        samples = np.concatenate(list(audio.blocks()))
    np.testing.assert_allclose(samples, 0 if cancels else left.ravel(), rtol=1e-6, atol=1e12)
    assert any("cancel" in one for one in audio.warnings) == cancels
    assert any("its samples reach" in one for one in audio.warnings)


def test_blocks_so_huge_that_their_sum_is_infinite_have_a_mean(tmp_path: Path) -> None:
    samples = np.full((1000, 2), 3e38, np.float32)
    path = write(tmp_path / "a.wav", samples, 32_000, "FLOAT")
    np.testing.assert_allclose(whole(path)[0], 3e38, rtol=1e-6)
