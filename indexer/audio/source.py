"""What a decoder gives, whichever library it stands on: the interface, and the bounds for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from indexer import MAX_CHANNELS
from indexer.errors import AudioError

#: What a header may ask for; hydrophones and bat detectors reach 1 MHz.
MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 1_600_000
#: A file that ends this much before its header says is reported, in seconds. An MP3 header counts
#: whole frames, of up to 0.1 s, and may count the padding.
TRUNCATED_S = 0.25
#: "To the end of the file", as the end of a span.
END = sys.maxsize
#: Samples times channels that are decoded before they are passed on: 4 MB as float32.
_CHUNK_VALUES = 2**20

#: For each channel (num_samples,) float32, full scale is 1; an array of two dimensions, or a list.
Channels: TypeAlias = npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]
#: Of any sample format and shape.
Raw = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file holds, as decoded.

    Attributes:
        sample_rate: Of the file, in Hz.
        channels: At its beginning.
        codec: FFmpeg's name ("mp3"), or libsndfile's.
        container: FFmpeg's name ("matroska,webm"), or libsndfile's.
        decoder: What reads it, with its version: "pyav 18.1.0".
        num_streams: Audio streams in the file, of which one is read.
        first_sample: Where the audio begins on the file's time line, as a player shows it, in
            samples at 32 kHz: 0 but for videos whose sound begins late.

    Raises:
        AudioError: With stage "open", if rate or channels are out of bounds.
    """

    sample_rate: int
    channels: int
    codec: str
    container: str
    decoder: str
    num_streams: int = 1
    first_sample: int = 0

    def __post_init__(self) -> None:
        if not MIN_RATE_HZ <= self.sample_rate <= MAX_RATE_HZ:
            bounds = f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
            raise AudioError("open", f"sample rate {self.sample_rate} Hz, not {bounds}")
        check_channels("open", self.channels)

    @property
    def chunk_samples(self) -> int:
        """How many samples to decode before passing them on: a second, or less if many channels."""
        return max(min(self.sample_rate, _CHUNK_VALUES // self.channels), 1)


class Source(Protocol):
    """An open file, its first samples decoded.

    Attributes:
        info: What it holds.
        length_s: About how long it is, in seconds, as its header or its bit rate has it: to tell
            people, and for nothing else. 0 if neither says it.
    """

    info: AudioInfo
    length_s: float

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Decode a span; may be called once.

        Args:
            start: First sample, at the file's rate.
            stop: End of the span; cut at the end of the file.

        Yields:
            float32 of every channel, each beginning where the one before ended, the first at
            `start`. Some files change their number of channels on the way.

        Raises:
            AudioError: With stage "decode", if what is there cannot or shall not be decoded.
        """
        ...

    def warnings(self) -> list[str]:
        """Return what was wrong with the file, once `read` has ended."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def check_channels(stage: str, channels: int) -> None:
    """Raise `AudioError` if there are too many channels, or none."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(stage, f"{channels} channels, not 1 to {MAX_CHANNELS}")


def check_duration(max_duration_s: float, end: int, rate_hz: int) -> None:
    """Raise `AudioError` if a recording reaches further than it may."""
    if end > max_duration_s * rate_hz:
        hours = max_duration_s / 3600
        limit = f"{hours:g} h" if hours >= 1 else f"{max_duration_s:g} s"
        raise AudioError("decode", f"longer than {limit}")


def truncation(end_s: float, declared_s: float) -> list[str]:
    """Return a warning if a file ends before its header says, in seconds."""
    if declared_s - end_s < TRUNCATED_S:
        return []
    return [f"ends at {end_s:.1f} s of the {declared_s:.1f} s that its header declares"]


def as_float(raw: Raw) -> npt.NDArray[np.float32]:
    """Return samples of any format with full scale brought to 1, in C order."""
    if raw.dtype == np.float32:
        return np.ascontiguousarray(raw, np.float32)
    if raw.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            return raw.astype(np.float32, order="C")
    # Each step by itself, on memory that lies in order: twice as fast as all in one.
    scaled = np.ascontiguousarray(raw).astype(np.float32)
    scaled *= np.float32(2.0 ** (1 - 8 * raw.dtype.itemsize))
    if raw.dtype == np.uint8:
        scaled -= 1
    return scaled
