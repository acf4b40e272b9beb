"""Which spans of a recording are embedded: planning, and cutting a stream into windows."""

from __future__ import annotations

import hashlib
import math
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.errors import QueryError

#: What the published checkpoints were trained on: arXiv:2306.00830, section 2.
SAMPLE_RATE_HZ = 32_000
WINDOW_S = 10.0
WINDOW_SAMPLES = 320_000
#: Shortest input that the network sees, 0.25 s: its last stage needs 24 spectrogram frames, 0.23 s.
MIN_INPUT_SAMPLES = 8_000
#: A shorter last window is kept if at least this much of it (1 s) lies in no earlier window.
MIN_NEW_SAMPLES = 32_000
#: Longest recording that `native` embeds as one window unless told otherwise, 60 s.
NATIVE_SAMPLES = 1_920_000
#: The same before it could be told: 30 s.
FORMER_NATIVE_SAMPLES = 960_000
#: Of what it may be, the longest: 10 minutes take the network 1.3 GB of memory.
MOST_NATIVE_SAMPLES = 19_200_000

#: From one frame of the network to the next, in seconds. Source: its strides, four steps of the
#: spectrogram, of 10 ms each, in the stem, and twice as many in each of three stages.
FRAME_S = 0.32

#: What follows in a window after the audio of a recording that is shorter: silence, as with the
#: published checkpoints, or the audio once more, again and again.
Padding = Literal["zero", "repeat"]
#: What is done to the loudness of a window before it is embedded: nothing, or its own audio is
#: brought to a root mean square of `LEVEL_DBFS`.
Level = Literal["off", "rms"]
#: In dBFS: that of speech and effects at a usual level; see docs/decisions/0031.
LEVEL_DBFS = -20.0

#: A window whose highest peak is below is silent, in dBFS: 16 bits hold three steps below it, and
#: the network hears hardly anything: see docs/decisions/0031.
SILENT_DBFS = -80.0

#: Audio: (num_samples,) float32, mono.
Samples = npt.NDArray[np.float32]
#: Levels in dB relative to full scale: -inf of digital silence, NaN where they are not known.
Decibels = npt.NDArray[np.float32]


def decibels(amplitude: npt.ArrayLike) -> Decibels:
    """Return amplitudes, 1 at full scale, in dBFS, float32; -inf of 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(20 * np.log10(np.asarray(amplitude, np.float64)), np.float32)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of a recording that is embedded.

    Attributes:
        recording_id: The recording it lies in.
        start_sample: Offset in samples at 32 kHz.
        num_samples: Real audio in it, before any padding, in samples at 32 kHz.
    """

    recording_id: bytes
    start_sample: int
    num_samples: int

    @property
    def window_id(self) -> int:
        """63-bit id that depends on nothing but content, start and length."""
        return window_id(self.recording_id, self.start_sample, self.num_samples)

    @property
    def start_s(self) -> float:
        """Start in seconds."""
        return self.start_sample / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        """End in seconds."""
        return (self.start_sample + self.num_samples) / SAMPLE_RATE_HZ


def window_id(recording_id: bytes, start_sample: int, num_samples: int) -> int:
    """Return the 63-bit id of a window: it survives moves, rebuilds and machines."""
    key = recording_id + struct.pack("<qq", start_sample, num_samples)
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def num_frames(num_samples: int) -> int:
    """Return how many frames the network gives for so much audio, at 32 kHz.

    Source: its spectrogram has a frame for each 320 samples, and one more; the stem pads four to
    either side and takes every fourth; three stages halve what is left.
    """
    spectrogram = max(num_samples, MIN_INPUT_SAMPLES) // 320 + 1
    return ((spectrogram + 2 * 4) // 4) // 8


class Cut(NamedTuple):
    """One window's audio.

    Attributes:
        start_sample: Offset in the recording, in samples at 32 kHz.
        num_samples: Real audio, before padding.
        waveform: (length,) float32; padded as the geometry says.
    """

    start_sample: int
    num_samples: int
    waveform: Samples


@dataclass(frozen=True, slots=True)
class Geometry:
    """How recordings are cut into windows.

    Attributes:
        hop_samples: From one window's start to the next, in samples at 32 kHz.
        native: Embed a recording of up to `native_samples` as one window of its own length, and pad
            nothing beyond 0.25 s (what published AudioCaps features did).
        window_samples: Length of a window, in samples at 32 kHz.
        native_samples: Longest recording that is one window with `native`, in samples at 32 kHz.
        padding: What follows audio that is shorter than a window.
    """

    hop_samples: int = WINDOW_SAMPLES
    native: bool = False
    window_samples: int = WINDOW_SAMPLES
    native_samples: int = NATIVE_SAMPLES
    padding: Padding = "zero"

    def __post_init__(self) -> None:
        if min(self.hop_samples, self.window_samples, self.native_samples) < 1:
            raise ValueError(f"hop and windows need at least one sample, got {self}")

    @property
    def hop_s(self) -> float:
        """From one window's start to the next, in seconds."""
        return self.hop_samples / SAMPLE_RATE_HZ

    @property
    def window_s(self) -> float:
        """Length of a window, in seconds."""
        return self.window_samples / SAMPLE_RATE_HZ

    @property
    def longest_samples(self) -> int:
        """Of all windows, the longest, in samples at 32 kHz."""
        return max(self.window_samples, self.native_samples if self.native else 0)

    def plan(self, num_samples: int) -> list[tuple[int, int]]:
        """Return (start_sample, num_samples) of every window of a recording.

        Args:
            num_samples: Length of the recording at 32 kHz; nothing is planned for 0.

        Returns:
            Windows in order. Every recording with a sample has one.
        """
        if num_samples <= 0:
            return []
        if self.native and num_samples <= self.native_samples:
            return [(0, num_samples)]
        window, hop = self.window_samples, self.hop_samples
        num_full = (num_samples - window) // hop + 1 if num_samples >= window else 0
        planned = [(index * hop, window) for index in range(num_full)]
        start = num_full * hop
        if self._keeps_rest(start, num_samples):
            planned.append((start, num_samples - start))
        return planned

    def _keeps_rest(self, start: int, num_samples: int) -> bool:
        """Whether the shorter window from `start` to the end is worth a row."""
        if start == 0:
            return num_samples > 0
        held = start - self.hop_samples + self.window_samples  # end of the window before
        return num_samples - max(start, held) >= MIN_NEW_SAMPLES

    def pad(self, waveform: Samples) -> Samples:
        """Bring one window's audio to the length that the network is given.

        Args:
            waveform: (num_samples,) float32, not longer than a window unless native.

        Returns:
            (length,) float32: a whole window, or with `native` at least 0.25 s.
        """
        length = MIN_INPUT_SAMPLES if self.native else max(self.window_samples, MIN_INPUT_SAMPLES)
        missing = length - len(waveform)
        if missing <= 0:
            return waveform
        if self.padding == "zero":
            return np.pad(waveform, (0, missing))
        filled: Samples = waveform[repeated(np.arange(length), len(waveform))]
        return filled

    def cut(self, blocks: Iterable[Samples]) -> Iterator[Cut]:
        """Cut a stream of samples into windows, holding one window and the blocks that it touches.

        Args:
            blocks: float32 arrays of any length, mono, 32 kHz, in order.

        Yields:
            The windows of `plan`, in order, padded; the arrays are the receiver's to keep.
        """
        held = Held()
        for start, num_samples in self.plan_stream(map(held.append, blocks)):
            yield Cut(start, num_samples, self.pad(held.take(start, start + num_samples)))
            held.forget(start + self.hop_samples)

    def plan_stream(self, ends: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Plan a recording whose length is not known yet.

        Args:
            ends: How many samples of it are there, growing; the last is its length.

        Yields:
            What `plan` returns, each window as soon as it is certain and all of it is there.
        """
        start = end = 0
        deciding = self.native  # whether the recording may still turn out to be one native window
        for end in ends:
            if deciding and end <= self.native_samples:
                continue
            deciding = False
            while end - start >= self.window_samples:
                yield start, self.window_samples
                start += self.hop_samples
        if deciding and end > 0:
            yield 0, end
        elif not deciding and self._keeps_rest(start, end):
            yield start, end - start


def repeated(places: Any, num_samples: Any) -> Any:
    """Return which sample is at each place of a window that repeats its audio.

    Args:
        places: Integers, counted from the start of the window; an array, or a tensor.
        num_samples: How much audio it has, at least one; of the same kind, or a number.
    """
    return places % num_samples


class Held:
    """The samples of a stream from some offset on.

    Attributes:
        end: How many have come so far.
    """

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()
        self._start = 0  # offset of the first block
        self._wanted = 0  # offset of the first sample that may still be taken
        self.end = 0

    def append(self, block: Samples) -> int:
        """Take the next samples; return the new `end`."""
        self._blocks.append(block)
        self.end += len(block)
        self.forget(self._wanted)
        return self.end

    def forget(self, before: int) -> None:
        """Drop what ends before an offset, which may not have come yet."""
        self._wanted = before
        while self._blocks and self._start + len(self._blocks[0]) <= before:
            self._start += len(self._blocks.popleft())

    def take(self, start: int, stop: int) -> Samples:
        """Return a copy of the samples from `start` to `stop`, or to the end."""
        pieces, at = [], self._start
        for block in self._blocks:
            pieces.append(block[max(start - at, 0) : max(stop - at, 0)])
            at += len(block)
        return np.concatenate(pieces)


def samples_of(start_s: float, duration_s: float | None) -> tuple[int, int | None]:
    """Return the first sample of a span at 32 kHz, and how many it has; None for all that follow.

    Raises:
        QueryError: If it begins before the file, or is not longer than nothing.
    """
    if not 0 <= start_s < math.inf:
        raise QueryError(f"a clip begins at 0 s or later, got {start_s:g}")
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise QueryError(f"a clip is longer than 0 s, got {duration_s:g}")
    start = round(start_s * SAMPLE_RATE_HZ)
    return start, None if duration_s is None else max(1, round(duration_s * SAMPLE_RATE_HZ))
