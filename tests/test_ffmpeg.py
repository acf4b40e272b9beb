"""Every container against an independent decoder or the original, whole and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from audio_files import (
    AAC,
    FOREVER_S,
    append,
    at_32_khz,
    encode,
    error,
    lag,
    noise,
    snr_db,
    span,
    whole,
    write,
)

from indexer.audio.file import AUDIO_EXTENSIONS
from indexer.audio.stream import read_span
from indexer.windows import SAMPLE_RATE_HZ

PCM = [
    *[("wav", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")],
    *[("wav", subtype) for subtype in ("ULAW", "ALAW")],
    *[("aiff", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT")],
    *[("caf", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "ALAC_16")],
    *[("flac", subtype) for subtype in ("PCM_16", "PCM_24")],
    *[("au", "PCM_16"), ("w64", "PCM_16"), ("rf64", "PCM_16"), ("voc", "PCM_16")],
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("kind", "subtype"), PCM)
def test_open_audio_lossless_equals_libsndfile(
    tmp_path: Path, kind: str, subtype: str, channels: int
) -> None:
    path = write(tmp_path / f"a.{kind}", noise(70_001, channels), 44_100, subtype, kind.upper())
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0]
    samples, rate = read_span(path, 0, FOREVER_S)
    assert rate == 44_100
    np.testing.assert_array_equal(samples, expected)
    mono, warnings = whole(path)
    assert warnings == ()
    np.testing.assert_allclose(mono, at_32_khz(expected, 44_100), rtol=0, atol=1e-6)


@pytest.mark.parametrize("clicks", [False, True], ids=["", "clicks"])
@pytest.mark.parametrize(
    ("name", "rate", "subtype", "kind"),
    [
        ("a.ogg", 44_100, "VORBIS", "OGG"),
        ("a.opus", 48_000, "OPUS", "OGG"),
        ("a.mp3", 44_100, "MPEG_LAYER_III", "MP3"),
        ("a.mp3", 22_050, "MPEG_LAYER_III", "MP3"),
    ],
)
def test_open_audio_lossy_equals_libsndfile(
    tmp_path: Path, name: str, rate: int, subtype: str, kind: str, clicks: bool
) -> None:
    path = write(tmp_path / name, noise(3 * rate, 2, clicks=clicks), rate, subtype, kind)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0]
    samples, _ = read_span(path, 0, FOREVER_S)
    assert samples.shape == expected.shape
    tolerance = 1e-3 if subtype == "OPUS" else 1e-5  # FFmpeg's Opus is not the reference decoder
    np.testing.assert_allclose(samples, expected, rtol=0, atol=tolerance)
    mono, warnings = whole(path)
    assert warnings == ()
    np.testing.assert_allclose(mono, at_32_khz(expected, rate), rtol=0, atol=tolerance)


#: Name, rate, encoder, container, where the original begins, samples of a block, least SNR in dB.
#: Containers that do not state the encoder's delay begin that much later.
ENCODED = [
    ("a.m4a", 44_100, "aac", None, 0, 1024, 12),
    ("a.mp4", 48_000, "aac", None, 0, 1024, 12),
    ("a.mka", 44_100, "aac", None, 0, 1024, 12),
    ("a.aac", 44_100, "aac", "adts", 1024, 2048, 12),
    ("a.webm", 48_000, "libopus", None, 0, 960, 8),
    ("a.opus", 48_000, "libopus", "ogg", 0, 960, 8),
    ("a.wma", 44_100, "wmav2", None, -2048, 4096, 12),
    ("a.mp3", 44_100, "libmp3lame", None, 0, 1152, 15),
    ("a.mp2", 44_100, "mp2", None, 481, 1152, 15),
    ("a.ac3", 48_000, "ac3", None, 256, 1536, 15),
    ("a.mkv", 44_100, "flac", None, 0, 0, 60),
    ("a.mkv", 44_100, "pcm_s16le", None, 0, 0, 60),
    ("a.m4a", 44_100, "alac", None, 0, 0, 60),
    ("a.wv", 44_100, "wavpack", None, 0, 0, 25),
    ("a.tta", 44_100, "tta", None, 0, 0, 25),
    ("a.mts", 44_100, "aac", "mpegts", 1024, 2048, 12),
    ("a.flv", 44_100, "aac", None, 1024, 2048, 12),
    ("a.avi", 44_100, "libmp3lame", None, 1105, 2304, 15),
    ("a.mov", 44_100, "pcm_s24le", None, 0, 0, 60),
]


@pytest.mark.whole
@pytest.mark.parametrize(("name", "rate", "codec", "container", "begin", "block", "least"), ENCODED)
def test_open_audio_encoded_gives_the_original(
    tmp_path: Path,
    name: str,
    rate: int,
    codec: str,
    container: str | None,
    begin: int,
    block: int,
    least: float,
) -> None:
    original = noise(3 * rate, 2)
    bit_rate = None if block == 0 else 192_000
    path = encode(tmp_path / name, original, rate, codec, container=container, bit_rate=bit_rate)
    samples, found_rate = read_span(path, 0, FOREVER_S)
    assert found_rate == rate
    assert abs(len(samples) - len(original)) <= block
    assert lag(samples[:, 0], original[:, 0]) == begin
    heard = samples[max(begin, 0) :, 0]
    assert snr_db(heard, original[max(-begin, 0) :, 0]) > least
    assert Path(name).suffix in AUDIO_EXTENSIONS
    assert whole(path)[1] == ()


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_span_of_a_raw_stream_is_where_the_whole_has_it(tmp_path: Path, codec: str) -> None:
    """FFmpeg counts the timestamps of these itself, and at 44.1 kHz too slowly."""
    original = noise(5 * 44_100)
    path = encode(tmp_path / f"a.{codec}", original, 44_100, codec, bit_rate=192_000)
    start = 4 * 32_000
    assert lag(span(path, start, 16_000), whole(path)[0][start : start + 16_000]) == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_open_audio_video_gives_its_audio(tmp_path: Path, name: str) -> None:
    original = noise(48_000, 2)
    path = encode(
        tmp_path / name, original, 48_000, "pcm_s16le" if name != "a.mp4" else "aac", video=True
    )
    samples, rate = read_span(path, 0, FOREVER_S)
    assert rate == 48_000
    assert lag(samples[:, 1], original[:, 1]) == 0
    assert whole(path)[1] == ()


@pytest.mark.parametrize(
    ("name", "codec", "channels", "layout"),
    [
        ("a.wav", "pcm_s16le", 6, "5.1"),
        ("a.flac", "flac", 8, "7.1"),
        ("a.m4a", "aac", 8, "7.1"),
        ("a.wv", "wavpack", 8, "7.1"),
        ("a.wv", "wavpack", 12, "12 channels"),
    ],
)
def test_read_span_many_channels_keeps_each(
    tmp_path: Path, name: str, codec: str, channels: int, layout: str
) -> None:
    seconds = np.arange(48_000) / 48_000
    tones = [0.1 * np.sin(2 * np.pi * (300 + 100 * c) * seconds) for c in range(channels)]
    path = encode(
        tmp_path / name, np.stack(tones, 1).astype(np.float32), 48_000, codec, layout=layout
    )
    samples, _ = read_span(path, 0, 1)
    spectra = np.abs(np.fft.rfft(samples[4800:43_200], axis=0))  # steps of 1.25 Hz
    heard = [round(1.25 * int(peak)) for peak in spectra.argmax(axis=0)]
    expected = [300 + 100 * c for c in range(channels)]
    low = 3  # AAC cuts the channel for low frequencies at 120 Hz
    assert [f for c, f in enumerate(heard) if (codec, c) != ("aac", low)] == [
        f for c, f in enumerate(expected) if (codec, c) != ("aac", low)
    ]
    mono, _ = whole(path)
    assert len(mono) >= SAMPLE_RATE_HZ


def test_open_audio_video_without_audio_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        file.mux(stream.encode(None))
    assert error(path) == ("open", "no audio stream that can be decoded")


def test_blocks_truncated_mp3_gives_what_is_there(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", noise(441_000, 2), 44_100, "libmp3lame")
    full, _ = whole(path)
    path.write_bytes(path.read_bytes()[:60_000])
    samples, warnings = whole(path)
    seconds = len(samples) / SAMPLE_RATE_HZ
    assert 3 < seconds < 4
    assert warnings[-1] == f"ends at {seconds:.1f} s of the 10.0 s that its header declares"
    np.testing.assert_array_equal(samples[:90_000], full[:90_000])


def test_open_audio_mp3_cut_before_its_first_frame_is_an_error(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", noise(44_100), 44_100, "libmp3lame")
    path.write_bytes(path.read_bytes()[:100])
    assert error(path)[0] in ("open", "decode")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac"])
def test_blocks_truncated_lossless_gives_what_is_there(tmp_path: Path, suffix: str) -> None:
    original = noise(441_000)
    path = write(tmp_path / f"a.{suffix}", original, 44_100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    samples, warnings = whole(path)
    seconds = len(samples) / SAMPLE_RATE_HZ
    assert 2 < seconds < 4
    assert warnings[-1] == f"ends at {seconds:.1f} s of the 10.0 s that its header declares"
    expected = at_32_khz(original, 44_100)
    np.testing.assert_allclose(samples[:60_000], expected[:60_000], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F000])
def test_blocks_wav_of_unknown_size_gives_all(tmp_path: Path, size: int) -> None:
    """Programs that write to a pipe cannot know the size."""
    path = write(tmp_path / "a.wav", noise(100_000), 44_100)
    expected, _ = whole(path)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    samples, warnings = whole(path)
    np.testing.assert_array_equal(samples, expected)
    assert warnings == ()


def test_blocks_header_of_2_to_the_36_samples_gives_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(100_000), 44_100)
    expected, _ = whole(path)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # STREAMINFO: the number of samples, 36 bits
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    samples, warnings = whole(path)
    np.testing.assert_array_equal(samples, expected)
    assert warnings == ("ends at 2.3 s of the 1558264.8 s that its header declares",)


def test_blocks_damaged_packets_are_skipped_and_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", noise(441_000, 2), 44_100, "aac", options=AAC)
    full, _ = whole(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    samples, warnings = whole(path)
    assert len(samples) == len(full)
    assert any("damaged packet" in warning for warning in warnings)
    for part in (slice(0, 120_000), slice(200_000, None)):  # what lies around stays in its place
        np.testing.assert_allclose(samples[part], full[part], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["a.m4a", "a.mkv", "a.nut"])
def test_blocks_gap_in_timestamps_becomes_silence(tmp_path: Path, name: str) -> None:
    original = noise(441_000)
    codec = "alac" if name == "a.m4a" else "pcm_s16le"
    path = encode(tmp_path / name, original, 44_100, codec, gap=(5.0, 1.5))
    samples, _ = read_span(path, 0, FOREVER_S)
    assert abs(len(samples) - len(original) - 66_150) < 100
    silent = np.flatnonzero(np.abs(samples[:, 0]) > 0)
    longest = int(np.diff(silent).max())
    assert abs(longest - 66_150) < 100
    assert lag(samples[260_000:, 0], original[:, 0]) == pytest.approx(-260_000 + 66_150, abs=50)
    mono, warnings = whole(path)
    assert warnings == ("1.50 s are missing and became silence",)
    np.testing.assert_array_equal(span(path, 150_000, 100_000), mono[150_000:250_000])


def test_blocks_appended_mp3_gives_both(tmp_path: Path) -> None:
    first, second = noise(100_000, seed=1), noise(50_000, seed=2)
    path = append(
        tmp_path / "a.mp3",
        lambda part: encode(part, first, 44_100, "libmp3lame"),
        lambda part: encode(part, second, 44_100, "libmp3lame"),
    )
    samples, _ = read_span(path, 0, FOREVER_S)
    assert abs(len(samples) - 150_000) < 4 * 1152
    assert lag(samples[:, 0], first[:, 0]) == 0
    assert lag(samples[:, 0], second[:, 0]) == pytest.approx(100_000, abs=3 * 1152)


def test_blocks_chained_ogg_gives_both(tmp_path: Path) -> None:
    first, second = noise(100_000, seed=1), noise(50_000, seed=2)
    path = append(
        tmp_path / "a.ogg",
        lambda part: write(part, first, 44_100),
        lambda part: write(part, second, 44_100),
    )
    samples, _ = read_span(path, 0, FOREVER_S)
    assert abs(len(samples) - 150_000) < 2048
    assert lag(samples[:, 0], second[:, 0]) == pytest.approx(100_000, abs=2048)
