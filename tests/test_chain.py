"""Files that go on with other channels, another rate or another codec: nothing of them is lost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from audio_files import (
    AAC,
    FOREVER_S,
    Interleaved,
    Make,
    append,
    encode,
    error,
    noise,
    snr_db,
    span,
    whole,
    write,
)
from conftest import Run
from faults import fault

from indexer.audio.decode import open_source
from indexer.audio.source import END
from indexer.audio.stream import open_audio
from indexer.windows import SAMPLE_RATE_HZ, Samples


def opus(path: Path, channels: int, seed: int, seconds: int = 4) -> Path:
    return write(path, noise(seconds * 48_000, channels, seed), 48_000, "OPUS", "OGG")


def flac(path: Path, samples: Interleaved, rate: int) -> Path:
    return encode(path, samples, rate, "flac", container="ogg")


def mixed(path: Path) -> Samples:
    """The mean of the channels at the file's own rate."""
    with closing(open_source(path, FOREVER_S)) as source:
        return np.concatenate([np.mean(list(one), axis=0) for one in source.read(0, END)])


def chained(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("channels", [(1, 2), (2, 1), (1, 1), (2, 1, 6)], ids=str)
def test_chained_opus_is_its_links_one_after_the_other(
    tmp_path: Path, channels: tuple[int, ...]
) -> None:
    parts = [opus(tmp_path / f"{at}.opus", one, at) for at, one in enumerate(channels)]
    path = chained(tmp_path / "a.opus", *parts)
    expected = np.concatenate([mixed(part) for part in parts])
    assert len(expected) == len(channels) * 4 * 48_000
    np.testing.assert_array_equal(mixed(path), expected)
    samples, warnings = whole(path)
    assert (len(samples), warnings) == (len(channels) * 4 * SAMPLE_RATE_HZ, ())
    for start, length in ((0, 1_000), (100_000, 60_000), (130_000, 50_000), (200_000, 10**6)):
        wanted = samples[start : start + length]
        np.testing.assert_array_equal(span(path, start, length), wanted)


def test_chained_vorbis_of_other_rates_is_at_the_rate_of_the_first(tmp_path: Path) -> None:
    rates = (44_100, 22_050, 48_000)
    parts = [
        write(tmp_path / f"{at}.ogg", noise(2 * rate, 1 + at % 2, at), rate)
        for at, rate in enumerate(rates)
    ]
    path = chained(tmp_path / "a.ogg", *parts)
    samples, warnings = whole(path)
    assert abs(len(samples) - 6 * SAMPLE_RATE_HZ) <= 3
    assert warnings == tuple(
        f"part {part} of 3: its sample rate changes; all of it was brought to 44100 Hz"
        for part in (2, 3)
    )
    np.testing.assert_array_equal(span(path, 100_000, 60_000), samples[100_000:160_000])


def test_chained_flac_of_another_rate_is_resampled(tmp_path: Path) -> None:
    first, second = noise(88_200, 1), noise(96_000, 2, seed=1)
    path = append(
        tmp_path / "a.oga",
        lambda part: flac(part, first, 44_100),
        lambda part: flac(part, second, 48_000),
    )
    found = mixed(path)
    assert len(found) == 4 * 44_100
    np.testing.assert_allclose(found[:88_200], first[:, 0], rtol=0, atol=2**-15)
    wanted = torchaudio.functional.resample(
        torch.from_numpy(second.mean(axis=1)), 48_000, 44_100
    ).numpy()
    assert snr_db(found[88_200 + 500 : -500], wanted[500:-500]) > 60


def test_chained_link_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    parts = [opus(tmp_path / f"{at}.opus", 1, at) for at in range(3)]
    content = bytearray(parts[1].read_bytes())
    at = content.index(b"OpusHead")
    content[at : at + 8] = b"NoOpus!!"
    parts[1].write_bytes(content)
    samples, warnings = whole(chained(tmp_path / "a.opus", *parts))
    assert len(samples) == 8 * SAMPLE_RATE_HZ
    assert warnings == ("part 2 of 3 cannot be decoded and is lost",)
    samples, warnings = whole(chained(tmp_path / "b.opus", parts[1], parts[0]))
    assert len(samples) == 4 * SAMPLE_RATE_HZ
    assert warnings == ("part 1 of 2 cannot be decoded and is lost",)
    assert error(chained(tmp_path / "c.opus", parts[1], parts[1]))[0] in ("open", "decode")


def test_chained_link_is_longer_than_allowed(tmp_path: Path) -> None:
    path = chained(tmp_path / "a.opus", *[opus(tmp_path / "1.opus", 1, 0)] * 3)
    assert error(path, max_duration_s=10.0) == ("decode", "longer than 10 s")


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [("a.mp3", "libmp3lame", None), ("a.aac", "aac", "adts"), ("a.ac3", "ac3", None)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_stream_that_changes_its_rate_is_heard_to_its_end(
    tmp_path: Path, name: str, codec: str, container: str | None, channels: int
) -> None:
    options = AAC if codec == "aac" else None

    def part(samples: Interleaved, rate: int) -> Make:
        return lambda path: encode(path, samples, rate, codec, container=container, options=options)

    path = append(
        tmp_path / name, part(noise(88_200), 44_100), part(noise(96_000, channels), 48_000)
    )
    samples, warnings = whole(path)
    assert 3.95 < len(samples) / SAMPLE_RATE_HZ < 4.2
    assert "its sample rate changes; all of it was brought to 44100 Hz" in warnings
    np.testing.assert_array_equal(span(path, 90_000, 30_000), samples[90_000:120_000])


def test_flac_that_changes_its_rate_is_an_error(tmp_path: Path) -> None:
    """FFmpeg takes some of its frames twice."""
    path = append(
        tmp_path / "a.flac",
        lambda part: encode(part, noise(88_200), 44_100, "flac"),
        lambda part: encode(part, noise(96_000), 48_000, "flac"),
    )
    assert error(path) == ("decode", "its sample rate changes, which is not read in FLAC")


@pytest.mark.whole
def test_index_hears_all_of_a_chain(run: Run, tmp_path: Path, tiny_file: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    parts = [opus(tmp_path / f"{channels}.opus", channels, channels) for channels in (1, 2)]
    chained(library / "a.opus", *parts)
    told = run("index", library, "--store", tmp_path / "store", "--checkpoint", tiny_file)
    fault("C3").require(told.code, told.out + told.err)


def test_long_ogg_file_gives_signs_of_life_while_it_is_opened(tmp_path: Path) -> None:
    """All of it is read for its links; a slow disk must not look like a reader that hangs."""
    path = flac(tmp_path / "a.oga", noise(44_100 * 80, 1), 44_100)
    num_bytes, beats = path.stat().st_size, list[None]()
    assert num_bytes > 2 * 2**20
    with open_audio(path, beat=lambda: beats.append(None)):
        assert len(beats) >= num_bytes // 2**20
