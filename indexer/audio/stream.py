"""Any audio file as a stream of mono samples at 32 kHz, whole or from the middle.

    with open_audio(path) as audio:
        for block in audio.blocks():  # (num_samples,) float32
            ...
    audio.num_samples, audio.warnings

Times are those that a player shows: where the sound of a video begins late, its first sample is at
`first_sample`, and nothing is made up for what comes before.

Decoding is streamed: memory does not depend on the duration. A span is, sample by sample, what the
decoded whole has there, but for the noise that AC-3 and some AAC decoders make up at random.
Whatever is wrong with a file is an `AudioError` that names the stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.audio.decode import open_source
from indexer.audio.resample import StreamingResampler, output_length, source_span
from indexer.audio.source import END, Channels, Source
from indexer.errors import AudioError
from indexer.windows import SAMPLE_RATE_HZ, Samples

#: Longest recording that is decoded unless told otherwise: a recorder's file of one day.
MAX_DURATION_S = 24 * 3600.0
#: Channels cancel if their mean holds less than this part of the power that it would hold if they
#: were unrelated: -20 dB.
CANCELLED_POWER = 0.01
#: Below this mean power, -80 dB of full scale, channels are silence and cancel nothing.
SILENT_POWER = 1e-8
#: The longest vectors that OpenBLAS multiplies without threads of its own: each reader has a core.
_DOT = 10_000


def open_audio(
    path: Path,
    *,
    start_sample: int = 0,
    num_samples: int | None = None,
    max_duration_s: float = MAX_DURATION_S,
    first_sample: int | None = None,
) -> AudioStream:
    """Open an audio file, or the audio of a video, and decode its beginning.

    Args:
        path: A regular file, or a link to one.
        start_sample: Where to begin on the file's time line, in samples at 32 kHz. A span that
            begins before the audio does gives it from where it begins.
        num_samples: Length of the span, in samples at 32 kHz; by default all. What reaches beyond
            the end is cut there.
        max_duration_s: Reaching further than this into the file is an error, in seconds.
        first_sample: Where the audio begins on the time line that the span is on, in samples at
            32 kHz, if that is another one than the file's.

    Returns:
        A stream, to be closed.

    Raises:
        AudioError: With stage "open" or "decode".
        ValueError: If the span is negative.
    """
    if start_sample < 0 or (num_samples is not None and num_samples < 0):
        raise ValueError(f"no such span: {num_samples} samples from {start_sample}")
    source = open_source(path, max_duration_s)
    first = source.info.first_sample if first_sample is None else first_sample
    return AudioStream(source, start_sample, num_samples, first)


class AudioStream:
    """An open audio file, as mono float32 at 32 kHz. Channels are averaged.

    Attributes:
        info: What the file holds.
        first_sample: Where its audio begins on the time line, in samples at 32 kHz.
        start_sample: Where on it lies the first sample that is given, if any is.
        num_samples: Samples at 32 kHz given so far; of a whole file, at the end, its length.
    """

    def __init__(
        self, source: Source, start_sample: int, num_samples: int | None, first_sample: int
    ) -> None:
        """Take over a source; `open_audio` is what opens one."""
        self.info = source.info
        self.first_sample = first_sample
        self.start_sample = max(start_sample, first_sample)
        self.num_samples = 0
        self._source = source
        self._start = self.start_sample - first_sample  # in the audio, not on the time line
        stop = END if num_samples is None else start_sample + num_samples - first_sample
        self._stop = max(stop, self._start)
        self._mixed = _Mixed()

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    @property
    def length_s(self) -> float:
        """About how much there is to give, in seconds; 0 if the file does not say: see `Source`."""
        ends = [self._source.length_s or END, self._stop / SAMPLE_RATE_HZ]
        return max(min(ends) - self._start / SAMPLE_RATE_HZ, 0.0) if min(ends) < END else 0.0

    def blocks(self) -> Iterator[Samples]:
        """Decode; may be called once.

        Yields:
            (num_samples,) float32, at most a few seconds each, none empty.

        Raises:
            AudioError: With stage "decode" if it cannot be decoded or the recording is too long,
                "samples" if some are not finite.
        """
        rate = self.info.sample_rate
        first, stop = source_span(self._start, self._stop, rate)
        resampler = StreamingResampler(rate, first)
        surplus = self._start - resampler.first_output
        for block in self._resampled(resampler, first, stop):
            skipped = min(surplus, len(block))
            surplus -= skipped
            wanted = block[skipped:][: self._stop - self._start - self.num_samples]
            if len(wanted):
                self.num_samples += len(wanted)
                yield wanted

    def source_blocks(self) -> Iterator[Samples]:
        """Decode all of the file at its own rate; otherwise like `blocks`, and instead of it."""
        num_source_samples = 0
        for mono in self._mono(0, END):
            num_source_samples += len(mono)
            self.num_samples = output_length(num_source_samples, self.info.sample_rate)
            yield mono

    def _resampled(self, resampler: StreamingResampler, first: int, stop: int) -> Iterator[Samples]:
        for mono in self._mono(first, stop):
            yield resampler.push(mono)
        yield resampler.flush()

    def _mono(self, first: int, stop: int) -> Iterator[Samples]:
        """Yield the mean of the channels, at the file's rate."""
        position = first
        for channels in self._source.read(first, stop):
            mono, is_finite = self._mixed.mean(channels)
            if not is_finite:
                at_s = (position + int(np.argmin(np.isfinite(mono)))) / self.info.sample_rate
                raise AudioError("samples", f"not finite (NaN or infinite) at {at_s:.2f} s")
            position += len(mono)
            yield mono

    def absence(self) -> str:
        """Say why a span has no audio in it."""
        if self._stop <= 0:
            return f"its audio begins at {self.first_sample / SAMPLE_RATE_HZ:.2f} s"
        return "it is shorter"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong and did not stop the decoding, in short sentences; known at the end."""
        cancelled = ("its channels cancel in the mean (anti-phase)",) if self._mixed.cancels else ()
        return (*self._source.warnings(), *cancelled)


def read_span(path: Path, start_s: float, duration_s: float) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a span at the file's own rate, with its own channels, as for copying it out.

    Args:
        path: A regular file, or a link to one.
        start_s: Where to begin on the file's time line, in seconds.
        duration_s: How much, in seconds; cut where the audio begins and ends.

    Returns:
        (num_samples, channels) float32 and the rate in Hz.

    Raises:
        AudioError: If the span cannot be decoded, or changes its number of channels.
        ValueError: If the span is negative.
    """
    if start_s < 0 or duration_s < 0:
        raise ValueError(f"no such span: {duration_s} s from {start_s} s")
    with closing(open_source(path, start_s + duration_s + MAX_DURATION_S)) as source:
        rate = source.info.sample_rate
        late = round(source.info.first_sample * rate / SAMPLE_RATE_HZ)
        ends_s = start_s, start_s + duration_s
        first, stop = (max(round(at_s * rate) - late, 0) for at_s in ends_s)
        chunks = list(source.read(first, stop)) if stop else []
        if len({len(chunk) for chunk in chunks}) > 1:
            raise AudioError("decode", "its number of channels changes")
    if not chunks:
        return np.zeros((0, source.info.channels), np.float32), rate
    return np.ascontiguousarray(np.concatenate(chunks, axis=1).T), rate


class _Mixed:
    """The mean of the channels, and how much of their power is left in it."""

    def __init__(self) -> None:
        self._num_samples = 0
        self._power_of_mean = 0.0
        self._power_if_unrelated = 0.0

    def mean(self, channels: Channels) -> tuple[Samples, bool]:
        """Return (num_samples,), and whether all of them are finite."""
        num_channels = len(channels)
        precision: type[np.floating] = np.float32
        power = sum(_power(channel) for channel in channels)
        if math.isfinite(power):  # so is all else: no sample is so large that a sum might not be
            mono = _mean(channels)
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                mono = _mean(channels)
            if not np.isfinite(mono).all():
                return mono, False
            precision = np.float64
            power = sum(_power(channel.astype(precision)) for channel in channels)
        if num_channels > 1:
            self._num_samples += len(mono)
            self._power_of_mean += _power(mono.astype(precision, copy=False))
            self._power_if_unrelated += power / num_channels**2
        return mono, True

    @property
    def cancels(self) -> bool:
        """Whether hardly anything is left of channels that are not silent."""
        return (
            self._power_if_unrelated > SILENT_POWER * self._num_samples
            and self._power_of_mean < CANCELLED_POWER * self._power_if_unrelated
        )


def _mean(channels: Channels) -> Samples:
    # NumPy's own is 50 times as slow where channels are interleaved, and its matrix product would
    # start threads in every reader.
    mono: Samples = channels[0] + channels[1] if len(channels) > 1 else channels[0].copy()
    for channel in channels[2:]:
        mono += channel
    mono *= np.float32(1 / len(channels))
    return mono


def _power(samples: npt.NDArray[np.floating]) -> float:
    """Return the sum of squares of (n,), in their own precision: infinite if they are huge."""
    pieces = (samples[first : first + _DOT] for first in range(0, len(samples), _DOT))
    return sum(float(np.vdot(piece, piece)) for piece in pieces)
