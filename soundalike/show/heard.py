"""What a page carries along of a sound: a picture of it, and a small file that browsers play."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from indexer.arrays import Float32
from indexer.audio.mixing.channels import CANCELLED_POWER
from indexer.errors import AudioError
from search.asking.collect import read_first
from soundalike.show.spectrogram import spectrogram_png

#: Size of a picture in pixels; it is shown at half of that on a fine screen.
WIDTH, HEIGHT = 640, 128
#: More of a sound is not played, in seconds: as long as the longest window of its own length.
MOST_S = 60.0
#: What a sound takes at most, in bytes: with their pictures, 21 of them are less than 5 MB in text.
_MOST_BYTES = 120_000
#: kbit/s of a sound of up to 17 s, sampled at 32 kHz at most: mono, and hardly heard as less.
_GOOD_KBPS = 56
_GOOD_RATE_HZ = 32_000
#: Those of longer ones, of which the first that fits is taken, sampled at 16 kHz at most.
_LESS_KBPS = (40, 32, 24, 16)
_LESS_RATE_HZ = 16_000
#: What MP3 may be sampled at. Nothing else is played by every browser and written by libsndfile.
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000)
#: kbit/s of MP3 that libsndfile's compression from 0 to 1 means, by the least rate: MPEG 1, 2, 2.5.
_KBPS = ((32_000, 320, 32), (16_000, 160, 8), (0, 64, 8))
#: What is written to a sound file at once: libsndfile does not like minutes of it.
_BLOCK_SAMPLES = 1 << 16


class Heard(NamedTuple):
    """A sound as a page shows and plays it.

    Attributes:
        picture: PNG of all that was asked for, or as much as is played.
        sound: MP3, mono.
        start_s: Where what is played begins in its file, in seconds.
        end_s: Where it ends, in seconds.
        is_whole: Whether that is all that there is to play, and not only its first minute.
    """

    picture: bytes
    sound: bytes
    start_s: float
    end_s: float
    is_whole: bool


def hear(
    paths: Sequence[Path], span: tuple[float, float], played: tuple[float, float] | None = None
) -> Heard:
    """Decode a span, draw all of it and make what is to be played of it small.

    Args:
        paths: Of one sound: the first that can be read is taken.
        span: What is drawn: from when to when, in seconds of the file.
        played: What is played, which the picture frames; None for all that is drawn.

    Raises:
        AudioError: If it cannot be decoded, or there is nothing.
    """
    begin_s, stop_s = span
    start_s, end_s = played or span
    if stop_s - begin_s > MOST_S:  # a picture of what is played, then
        begin_s = start_s
        stop_s = min(stop_s, begin_s + MOST_S)
    _, channels, rate_hz = read_first(paths, begin_s, stop_s)
    samples = _mono(channels)
    is_whole = end_s <= stop_s or len(samples) < (stop_s - begin_s) * rate_hz - 1
    mark = (start_s - begin_s, min(end_s, stop_s) - begin_s) if played else None
    picture = spectrogram_png(samples, rate_hz, mark, (WIDTH, HEIGHT))
    if mark:
        first, last = (round(at_s * rate_hz) for at_s in mark)
        samples = samples[first : max(last, first + 1)]
        if not len(samples):
            raise AudioError("decode", f"no audio at {start_s:g} s any more")
    ends_s = start_s + len(samples) / rate_hz
    return Heard(picture, as_mp3(samples, rate_hz), start_s, ends_s, is_whole)


def as_mp3(samples: Float32, rate_hz: int) -> bytes:
    """Return a sound as MP3 of 120 kB at most, if it is no longer than a minute.

    Args:
        samples: (num_samples,) float32, mono.
        rate_hz: Their rate; it is lowered to one that MP3 has, 32 kHz at most, or 16 kHz for a
            sound of more than 17 s.
    """
    seconds = len(samples) / rate_hz
    kbps, most_hz = _GOOD_KBPS, _GOOD_RATE_HZ
    if seconds * kbps * 125 > _MOST_BYTES:
        fitting = (one for one in _LESS_KBPS if seconds * one * 125 <= _MOST_BYTES)
        kbps, most_hz = next(fitting, _LESS_KBPS[-1]), _LESS_RATE_HZ
    rates = [one for one in _MP3_RATES_HZ if one <= min(rate_hz, most_hz)]
    rate = rates[-1] if rates else _MP3_RATES_HZ[0]
    samples = np.clip(_resampled(samples, rate_hz, rate), -1, 1)
    # At a constant 24 kbit/s or less a file has no room to say where its sound begins and ends, and
    # a player begins a tenth of a second before it; on average, noise may take more than it should.
    content = _encoded(samples, rate, kbps, "AVERAGE")
    return content if len(content) <= _MOST_BYTES else _encoded(samples, rate, kbps, "CONSTANT")


def _encoded(samples: Float32, rate_hz: int, kbps: int, mode: str) -> bytes:
    greatest, least = next(ends for lowest, *ends in _KBPS if rate_hz >= lowest)
    file = io.BytesIO()
    with soundfile.SoundFile(
        *(file, "w", rate_hz, 1),
        format="MP3",
        compression_level=max(0.0, (greatest - kbps) / (greatest - least)),
        bitrate_mode=mode,
    ) as out:
        for first in range(0, len(samples), _BLOCK_SAMPLES):
            out.write(samples[first : first + _BLOCK_SAMPLES])
    return file.getvalue()


def _mono(channels: Float32) -> Float32:
    """Return (n,) float32: the mean of the channels, or the loudest where they cancel."""
    channels = np.nan_to_num(channels, posinf=0, neginf=0)
    mean = channels.mean(1)
    powers = (channels**2).mean(0)
    if (mean**2).mean() < CANCELLED_POWER * powers.mean() / channels.shape[1]:
        return np.ascontiguousarray(channels[:, int(powers.argmax())])
    return np.asarray(mean, np.float32)


def _resampled(samples: Float32, rate_hz: int, wanted_hz: int) -> Float32:
    """Return a sound at another rate, by its whole spectrum: it is no longer than a minute."""
    if rate_hz == wanted_hz:
        return samples
    number = max(1, round(len(samples) * wanted_hz / rate_hz))
    spectrum = np.fft.rfft(samples)[: number // 2 + 1]
    resampled = np.fft.irfft(spectrum, number) * (number / len(samples))
    return np.asarray(resampled, np.float32)
