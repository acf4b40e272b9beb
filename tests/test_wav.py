"""Plain WAV files: FFmpeg's samples to the bit; and all others are left to FFmpeg."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from indexer.audio.decode import open_source
from indexer.audio.ffmpeg import FFmpegSource
from indexer.audio.file import open_regular
from indexer.audio.riff import _SYNC_WORDS
from indexer.audio.source import END, Channels, Source
from indexer.audio.wav import WavSource
from indexer.errors import AudioError

SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
RATE_HZ = 8_000
FOREVER_S = 1e6


def joined(source: Source, start: int = 0, stop: int = END) -> Channels:
    chunks = list(source.read(start, stop))
    source.close()
    return np.concatenate(chunks, axis=1) if chunks else np.zeros((0, 0), np.float32)


def write(path: Path, subtype: str, num_samples: int, channels: int, kind: str = "WAV") -> Path:
    random = np.random.default_rng(num_samples)
    samples = random.uniform(-1.2, 1.2, (num_samples, channels))  # some are cut off, or too large
    soundfile.write(path, samples, RATE_HZ, subtype, format=kind)
    return path


@settings(deadline=None)
@given(
    subtype=st.sampled_from(SUBTYPES),
    kind=st.sampled_from(["WAV", "WAVEX"]),
    channels=st.integers(1, 5),
    num_samples=st.integers(1, 3 * RATE_HZ),
    span=st.tuples(st.integers(0, 3 * RATE_HZ), st.integers(0, 3 * RATE_HZ)),
)
def test_plain_wav_gives_ffmpegs_samples_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    subtype: str,
    kind: str,
    channels: int,
    num_samples: int,
    span: tuple[int, int],
) -> None:
    path = tmp_path_factory.mktemp("wav") / "some.wav"
    write(path, subtype, num_samples, channels, kind)
    content = path.read_bytes()
    assume(not any(word in content for word in _SYNC_WORDS))  # noise may have one, too
    ours, theirs = open_source(path, FOREVER_S), FFmpegSource(open_regular(path), FOREVER_S)
    assert isinstance(ours, WavSource)
    for field in ("sample_rate", "channels", "codec", "container"):
        assert getattr(ours.info, field) == getattr(theirs.info, field)
    whole = joined(ours)
    assert whole.shape == (channels, num_samples)
    np.testing.assert_array_equal(whole, joined(theirs))
    assert ours.warnings() == theirs.warnings() == []
    start, stop = span
    part = joined(open_source(path, FOREVER_S), start, stop)
    if part.size:
        np.testing.assert_array_equal(part, whole[:, start:stop])
    else:
        assert whole[:, start:stop].size == 0


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


def fmt(tag: int = 1, channels: int = 1, bits: int = 16, rate: int = RATE_HZ) -> bytes:
    frame = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits))


TONE = (8000 * np.sin(np.arange(4000) / 5)).astype("<i2").tobytes()
DATA = chunk(b"data", TONE)


@pytest.mark.parametrize(
    "content",
    [
        riff(fmt(), DATA),
        riff(chunk(b"junk", b"odd"), fmt(), chunk(b"cue ", b""), DATA, chunk(b"id3 ", b"four")),
        riff(fmt(), DATA, chunk(b"junk", b"odd"), size=8047)[:-1],  # without its padding
        riff(fmt(), DATA, size=100),  # a header that was never brought up to date
    ],
    ids=["simple", "other chunks", "no padding at the end", "stale size"],
)
def test_wav_that_is_plain_is_read_as_it_lies(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.wav"
    path.write_bytes(content)
    source = open_source(path, FOREVER_S)
    assert isinstance(source, WavSource)
    expected = np.frombuffer(TONE, "<i2").astype(np.float32)[None] / 32768
    np.testing.assert_array_equal(joined(source), expected)
    np.testing.assert_array_equal(joined(FFmpegSource(open_regular(path), FOREVER_S)), expected)


@pytest.mark.parametrize(
    "content",
    [
        riff(fmt(), DATA)[:-100],
        riff(fmt(), DATA, size=10**6),
        riff(fmt(), b"data" + struct.pack("<I", 0) + TONE),
        riff(fmt(), b"data" + struct.pack("<I", 0xFFFFFFFF) + TONE),
        riff(fmt(), DATA, DATA),
        riff(fmt(), fmt(), DATA),
        riff(DATA, fmt()),
        riff(fmt(), DATA) + b"rubbish that is no chunk",
        riff(fmt(tag=6, bits=8), DATA),
        riff(fmt(bits=12), DATA),
        riff(fmt(channels=3), DATA),
        riff(fmt(channels=0), DATA),
        riff(fmt(tag=0xFFFE), DATA),
        riff(chunk(b"fmt ", fmt(bits=32)[8:] + struct.pack("<HH", 2, 1)), DATA),
        riff(chunk(b"fmt ", b"short"), DATA),
        riff(fmt(channels=2), chunk(b"data", TONE[:400] + b"\xff\x1f\x00\xe8" + TONE[404:])),
        riff(fmt(channels=2), chunk(b"data", b"\x72\xf8\x1f\x4e" + TONE[4:])),
        riff(*[chunk(f"x{number:03}".encode(), b"") for number in range(200)], fmt(), DATA),
        riff(fmt()),
        b"RIFF",
    ],
    ids=[
        *("truncated", "claims more", "size 0", "size of a pipe", "two of data", "two formats"),
        *("format behind", "rubbish", "A-law", "12 bits", "part of a sample", "no channels"),
        *(
            "extensible but short",
            "Cool Edit",
            "short format",
            "DTS",
            "S/PDIF",
            "200 chunks",
            "no data",
            "cut",
        ),
    ],
)
def test_wav_that_is_not_plain_is_left_to_others(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.wav"
    path.write_bytes(content)
    try:
        source = open_source(path, FOREVER_S)
    except AudioError:
        return  # that is the others' word
    assert not isinstance(source, WavSource)
    source.close()


def test_wav_longer_than_allowed_is_an_error(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "long.wav", "PCM_16", 3 * RATE_HZ, 1), 2.0)
    with closing(source), pytest.raises(AudioError, match=r"longer than 2 s"):
        list(source.read(0, END))


@pytest.mark.parametrize(("rate", "channels"), [(500, 1), (RATE_HZ, 129)])
def test_wav_out_of_bounds_is_an_error(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "some.wav"
    path.write_bytes(riff(fmt(channels=channels, rate=rate), chunk(b"data", bytes(258 * 4))))
    with pytest.raises(AudioError, match=r"sample rate 500 Hz|129 channels"):
        open_source(path, FOREVER_S)


@pytest.fixture
def shrinking(tmp_path: Path) -> Iterator[tuple[Path, Source]]:
    path = write(tmp_path / "some.wav", "PCM_16", 3 * RATE_HZ, 1)
    source = open_source(path, FOREVER_S)
    yield path, source
    source.close()


def test_wav_that_shrinks_while_it_is_read_is_an_error(shrinking: tuple[Path, Source]) -> None:
    path, source = shrinking
    chunks = source.read(0, END)
    next(chunks)
    os.truncate(path, 20_000)
    with pytest.raises(AudioError, match="can no longer be read"):
        list(chunks)


def test_wav_on_a_failing_disk_is_an_error(
    shrinking: tuple[Path, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = shrinking

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(AudioError, match="can no longer be read"):
        list(source.read(0, END))
    with pytest.raises(AudioError, match="cannot be read: input/output error"):
        open_source(shrinking[0], FOREVER_S)


def test_wav_is_let_go_of(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "some.wav", "PCM_16", 100, 1), FOREVER_S)
    assert isinstance(source, WavSource)
    assert sum(samples.shape[1] for samples in source.read(0, END)) == 100
    source.close()
    with pytest.raises(ValueError, match="closed file"):
        list(source.read(0, END))
