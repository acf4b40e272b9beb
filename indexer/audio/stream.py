"""Any audio file as a stream of mono samples at 32 kHz, whole or from the middle.

    with open_audio(path) as audio:
        for cut in audio.windows(geometry):  # or block in audio.blocks(): (num_samples,) float32
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
from collections.abc import Callable, Iterator
from contextlib import closing
from numbers import Integral
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.audio.decode import open_source
from indexer.audio.mixing.channels import Mixer
from indexer.audio.mixing.digest import SampleDigest
from indexer.audio.mixing.level import Level
from indexer.audio.resample import StreamingResampler, output_length, source_span
from indexer.audio.source import END, Source
from indexer.errors import AudioError, QueryError
from indexer.windows import SAMPLE_RATE_HZ, Cut, Geometry, Samples

#: Longest recording that is decoded unless told otherwise: a recorder's file of one day.
MAX_DURATION_S = 24 * 3600.0


def open_audio(  # noqa: PLR0913 - each is a choice of its own
    path: Path,
    *,
    start_sample: int = 0,
    num_samples: int | None = None,
    max_duration_s: float = MAX_DURATION_S,
    channel: int | None = None,
    spares_bad: bool = False,
    first_sample: int | None = None,
    beat: Callable[[], None] | None = None,
) -> AudioStream:
    """Open an audio file, or the audio of a video, and decode its beginning.

    Args:
        path: A regular file, or a link to one.
        start_sample: Where to begin on the file's time line, in samples at 32 kHz. A span that
            begins before the audio does gives it from where it begins.
        num_samples: Length of the span, in samples at 32 kHz; by default all. What reaches beyond
            the end is cut there.
        max_duration_s: Reaching further than this into the file is an error, in seconds.
        channel: Which channel to take, counted from 1; by default the mean of all.
        spares_bad: Give what is not finite as silence, however much it is: for a span of what was
            found to be good as a whole.
        first_sample: Where the audio begins on the time line that the span is on, in samples at
            32 kHz, if that is another one than the file's.
        beat: Called as a sign of life while it is opened.

    Returns:
        A stream, to be closed.

    Raises:
        AudioError: With stage "open" or "decode".
        ValueError: If the span is negative.
    """
    if start_sample < 0 or (num_samples is not None and num_samples < 0):
        raise ValueError(f"no such span: {num_samples} samples from {start_sample}")
    source = open_source(path, max_duration_s, beat)
    first = source.info.first_sample if first_sample is None else first_sample
    most_samples = math.inf if spares_bad else max_duration_s * source.info.sample_rate
    try:
        return AudioStream(source, start_sample, num_samples, first, channel, most_samples)
    except BaseException:
        source.close()
        raise


def audio_digest(
    path: Path, max_duration_s: float, beat: Callable[[], None] | None = None
) -> bytes:
    """Return the digest of a file's samples as they are decoded; see `SampleDigest`.

    Args:
        path: A regular file, or a link to one.
        max_duration_s: Reaching further than this into the file is an error, in seconds.
        beat: Called while it is opened, and for every block that was decoded, as a sign of life.

    Raises:
        AudioError: With stage "open" or "decode".
    """
    with closing(open_source(path, max_duration_s, beat)) as source:
        digest = SampleDigest(source.info)
        for channels in source.read(0, END):
            digest.add(channels)
            if beat:
                beat()
        return digest.digest()


def as_channel(given: object) -> int | None:
    """Return what a user gave for a channel, if it can be one.

    Raises:
        QueryError: If it is no whole number from 1 on.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise QueryError(f"channels are counted from 1, got {given!r}")
    return int(given)


class AudioStream:
    """An open audio file, as mono float32 at 32 kHz: the mean of its channels, or one of them.

    Attributes:
        info: What the file holds.
        first_sample: Where its audio begins on the time line, in samples at 32 kHz.
        start_sample: Where on it lies the first sample that is given, if any is.
        num_samples: Samples at 32 kHz given so far; of a whole file, at the end, its length.
    """

    def __init__(
        self,
        source: Source,
        start_sample: int,
        num_samples: int | None,
        first_sample: int,
        channel: int | None,
        most_samples: float,
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
        self._first, self._last = source_span(self._start, self._stop, self.info.sample_rate)
        self._most_samples = most_samples  # that there can be; infinity spares what is not finite
        self._mixer = Mixer(source.info, channel, self._first)
        self._digest: SampleDigest | None = None
        self._of_length: tuple[str, ...] = ()  # what is to be said of it

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def identify(self) -> None:
        """Compute the digest of what will be decoded; for whole files."""
        self._digest = SampleDigest(self.info)

    @property
    def audio_id(self) -> bytes | None:
        """The digest of all samples, at the end; None if it was not asked for."""
        return self._digest.digest() if self._digest else None

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    @property
    def length_s(self) -> float:
        """About how much there is to give, in seconds; 0 if the file does not say: see `Source`."""
        ends = [self._source.length_s or END, self._stop / SAMPLE_RATE_HZ]
        return max(min(ends) - self._start / SAMPLE_RATE_HZ, 0.0) if min(ends) < END else 0.0

    def windows(self, geometry: Geometry, beat: Callable[[], None] | None = None) -> Iterator[Cut]:
        """Decode, and cut into windows; may be called once, and instead of `blocks`.

        Of a window in which channels cancel, the louder one is given in place of their mean.

        Args:
            geometry: Says how.
            beat: Called for every block that was decoded, as a sign of life.

        Yields:
            Windows in order, starts counted from that of the span.

        Raises:
            AudioError: As from `blocks`.
        """
        rate = self.info.sample_rate
        self.hold_channels(geometry)
        for cut in geometry.cut(self.blocks(beat)):
            start = self._start + cut.start_sample  # in the audio
            channel = self.judge(start, cut.num_samples)
            if channel is None:
                yield cut
            else:
                alone = self._resampled_alone(channel, start, cut.num_samples)
                yield cut._replace(waveform=geometry.pad(alone))
            self.forget_channels(source_span(start + geometry.hop_samples, END, rate)[0])
        if geometry.native and self.num_samples > geometry.native_samples:
            self._of_length = (_not_native(geometry),)

    def blocks(self, beat: Callable[[], None] | None = None) -> Iterator[Samples]:
        """Decode; may be called once.

        Args:
            beat: Called for every block that was decoded, as a sign of life.

        Yields:
            (num_samples,) float32, at most a few seconds each, none empty.

        Raises:
            AudioError: With stage "decode" if it cannot be decoded or the recording is too long,
                "samples" if more than a thousandth are not finite, or a channel is missing.
        """
        rate = self.info.sample_rate
        resampler = StreamingResampler(rate, self._first)
        surplus = self._start - resampler.first_output
        for block in self._resampled(resampler, beat):
            skipped = min(surplus, len(block))
            surplus -= skipped
            wanted = block[skipped:][: self._stop - self._start - self.num_samples]
            if len(wanted):
                self.num_samples += len(wanted)
                yield wanted

    def source_blocks(self, beat: Callable[[], None] | None = None) -> Iterator[Samples]:
        """Decode all of the file at its own rate; otherwise like `blocks`, and instead of it."""
        num_source_samples = 0
        for mono in self._mono(beat):
            num_source_samples += len(mono)
            self.num_samples = output_length(num_source_samples, self.info.sample_rate)
            yield mono

    def hold_channels(self, geometry: Geometry) -> None:
        """Hold the channels of every window, to be judged and taken when it is there."""
        self._mixer.hold(geometry.longest_samples)

    def judge(self, start: int, num_samples: int) -> int | None:
        """Return the channel, counted from 0, to be taken of a window in which channels cancel.

        None for the mean, as nearly always. Start and length are in samples at 32 kHz.
        """
        rate = self.info.sample_rate
        stop = -(-(start + num_samples) * rate // SAMPLE_RATE_HZ)
        return self._mixer.judge(start * rate // SAMPLE_RATE_HZ, stop)

    def take_channel(self, channel: int, first: int, stop: int) -> Samples:
        """Return one channel at the file's rate, as far as it was decoded; see `Mixer.take`."""
        return self._mixer.take(channel, first, stop)

    def forget_channels(self, before: int) -> None:
        """Hold no more what ends before a position, in samples of the file."""
        self._mixer.forget(before)

    def _resampled_alone(self, channel: int, start: int, num_samples: int) -> Samples:
        """Return a span of one channel, at 32 kHz."""
        rate = self.info.sample_rate
        first, stop = source_span(start, start + num_samples, rate)
        resampler = StreamingResampler(rate, first)
        blocks = [resampler.push(self._mixer.take(channel, first, stop)), resampler.flush()]
        surplus = start - resampler.first_output
        return np.concatenate(blocks)[surplus : surplus + num_samples]

    def _resampled(
        self, resampler: StreamingResampler, beat: Callable[[], None] | None
    ) -> Iterator[Samples]:
        for mono in self._mono(beat):
            yield self._heard(resampler.push(mono))
        yield self._heard(resampler.flush())

    def _heard(self, block: Samples) -> Samples:
        if Level.asks_for_heard(self.info.sample_rate):
            self._mixer.level.hear(block)
        return block

    def _mono(self, beat: Callable[[], None] | None) -> Iterator[Samples]:
        """Yield the mean of the channels, or one of them, at the file's rate."""
        for channels in self._source.read(self._first, self._last):
            if self._digest:
                self._digest.add(channels)
            mono = self._mixer.mix(channels)
            self._mixer.require_finite(self._most_samples)
            if beat:
                beat()
            yield mono
        if self._most_samples < math.inf:
            self._mixer.require_finite()

    @property
    def louder(self) -> int | None:
        """The channel, counted from 1, to be taken where all that was decoded cancels as a whole.

        For what is not cut into windows; known at the end, and otherwise None.
        """
        return None if self._mixer.louder is None else self._mixer.louder + 1

    @property
    def peak(self) -> float:
        """The greatest sample of what is far over full scale, which is 1; otherwise 0."""
        return self._mixer.level.peak

    def absence(self) -> str:
        """Say why a span has no audio in it."""
        if self._stop <= 0:
            return f"its audio begins at {self.first_sample / SAMPLE_RATE_HZ:.2f} s"
        length_s = self._source.length_s
        end_s = self.first_sample / SAMPLE_RATE_HZ + length_s
        is_told = length_s > 0 and end_s <= self.start_sample / SAMPLE_RATE_HZ
        return f"it ends at {end_s:.2f} s" if is_told else "it is shorter"  # than its header says

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong and did not stop the decoding, in short sentences; known at the end."""
        of_level = self._mixer.level.warnings(self.info)
        return (*self._source.warnings(), *self._mixer.warnings(), *of_level, *self._of_length)


def _not_native(geometry: Geometry) -> str:
    """Say that a recording is in windows, where others have one of their own length."""
    most_s = geometry.native_samples / SAMPLE_RATE_HZ
    return f"longer than {most_s:g} s: in windows of {geometry.window_s:g} s, not one of its length"


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
