"""Frames, as FFmpeg decodes them, to samples: hundreds in ten seconds, so they are joined first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np

from indexer.audio.source import Channels, as_float, check_channels
from indexer.errors import AudioError

#: From this many on, PyAV's list of the planes of a planar frame has no reliable end: it looks for
#: a null pointer behind the eight that a frame has room for (PyAV 18.1, `AudioFrame.planes`).
_MANY_PLANES = 8
_DTYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}


class OneRate:
    """Brings frames to one rate, where a stream changes its rate on the way.

    Attributes:
        rate_hz: That of the first frame, unless it was given.
        has_changed: Whether any frame had another one.
    """

    def __init__(self, rate_hz: int | None) -> None:
        self.rate_hz = rate_hz
        self.has_changed = False
        self._resampler: av.AudioResampler | None = None
        self._from: tuple[int, str, str] | None = None
        self._time_base: Fraction | None = None

    def take(self, frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        """Yield frames of the one rate; those that were resampled have no timestamp."""
        for frame in frames:
            self.rate_hz = self.rate_hz or frame.sample_rate
            if frame.sample_rate == self.rate_hz:
                if self._resampler:
                    yield from self.rest()
                yield frame
                continue
            self.has_changed, self._time_base = True, frame.time_base
            kind = frame.sample_rate, frame.format.name, frame.layout.name
            if kind != self._from:
                yield from self.rest()
                # FFmpeg rounds what it resamples, unless they are floats.
                self._resampler = av.AudioResampler("fltp", frame.layout, self.rate_hz)
                self._from = kind
            yield from self._resampled(frame)

    def rest(self) -> Iterator[av.AudioFrame]:
        """Yield what was held back, and begin anew."""
        yield from self._resampled(None)
        self._resampler = self._from = None

    def _resampled(self, frame: av.AudioFrame | None) -> Iterator[av.AudioFrame]:
        for resampled in self._resampler.resample(frame) if self._resampler else ():
            resampled.pts = None  # it counts samples, not the ticks of the stream
            resampled.time_base = self._time_base  # else it would not go with the others
            yield resampled


class Run:
    """Frames of one kind that follow each other, joined by FFmpeg.

    There are hundreds in ten seconds, and to Python each would cost as much as to its decoder.
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self._kind: tuple[str, int] | None = None
        self._fifo = av.AudioFifo()

    def append(self, frame: av.AudioFrame) -> bool:
        """Take a frame, which loses its timestamp; or return False if it is of another kind."""
        # FFmpeg does not count the channels: of too few it would follow a null pointer.
        if (frame.format.name, frame.layout.nb_channels) != self._kind:
            return False
        frame.pts = None  # else it has to agree with the count of samples
        self._fifo.write(frame)
        self.num_samples += frame.samples
        return True

    def restart(self, frame: av.AudioFrame) -> None:
        """Take a frame of any kind; nothing else is held."""
        channels = frame.layout.nb_channels
        check_channels("decode", channels)
        self._kind, self._fifo = (frame.format.name, channels), av.AudioFifo()
        self.append(frame)

    def take(self) -> Channels:
        """Return what is held, and hold nothing."""
        self.num_samples = 0
        frame = self._fifo.read()
        assert frame is not None  # nobody asks when nothing is held
        return _unpacked(frame)


def _unpacked(frame: av.AudioFrame) -> Channels:
    """Return a frame's samples; those that are planes of float32 already are not copied."""
    channels = frame.layout.nb_channels
    name = frame.format.name
    try:
        if frame.format.is_planar and channels >= _MANY_PLANES:
            (frame,) = av.AudioResampler(format=frame.format.packed).resample(frame)
        dtype = _DTYPES[frame.format.name.removesuffix("p")]
        if frame.format.is_planar:
            planes = [memoryview(plane) for plane in frame.planes[:channels]]
            return [as_float(np.frombuffer(plane, dtype, frame.samples)) for plane in planes]
        packed = np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * channels)
    except (av.FFmpegError, KeyError, ValueError) as error:
        raise AudioError("decode", f"{channels} channels of {name} samples are not read") from error
    return as_float(packed.reshape(frame.samples, channels).T)
