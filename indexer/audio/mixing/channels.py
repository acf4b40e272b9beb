"""Channels to one: their mean, or one of them; and what they are where the mean is nothing.

Where channels cancel, a window of their mean would be silence. So the channels are held for as long
as a window lasts, and of a window in which they cancel the louder one is taken. What is decided
depends on nothing but the samples of the window: a span that is read alone gives the same.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer import MAX_CHANNELS
from indexer.audio.mixing.level import Level
from indexer.audio.source import AudioInfo, Channels
from indexer.errors import AudioError
from indexer.progress import count
from indexer.windows import SAMPLE_RATE_HZ, Samples

#: Channels cancel if their mean holds less than this part of the power that it would hold if they
#: were unrelated: -20 dB.
CANCELLED_POWER = 0.01
#: Below this mean power, -80 dB of full scale, channels are silence and cancel nothing.
SILENT_POWER = 1e-8
#: If more than this part of the samples are not finite, a file fails. A recorder's glitch lasts
#: milliseconds; a file that was read in a wrong format has such samples in every second.
MAX_BAD_SHARE = 0.001
#: What the channels of the longest window may take to be held, 128 MiB: seventy channels at 48 kHz
#: for 10 s.
MAX_HELD_BYTES = 2**27
#: Windows that may be longer than 30 s may take more: what is held is what a clip has, not the
#: limit, and no fewer channels are compared of a short clip because a long one would be allowed.
_BOUNDED_SAMPLES = 30 * SAMPLE_RATE_HZ
#: The longest vectors that OpenBLAS multiplies without threads of its own: each reader has a core.
_DOT = 10_000
#: Sums in float32 are right to this factor: what is closer to a bound is summed again in float64.
_ROUNDING = 1.01


class _Chunk(NamedTuple):
    """Samples of a source from `start` to `stop`, and the sums of squares that hold for them.

    Attributes:
        channels: None if they are too many to be held.
    """

    start: int
    stop: int
    channels: Channels | None
    power_of_mean: float
    power_if_unrelated: float


class Mixer:
    """Makes one channel of several; of the last few seconds it has them all.

    Attributes:
        level: How loud they are.
        num_cancelled: Windows in which they cancel, and of which the louder one was taken.
        num_averaged: Windows in which they cancel, and are too many to be held.
        num_windows: All windows that were judged.
    """

    def __init__(self, info: AudioInfo, channel: int | None, first: int) -> None:
        """Prepare for the samples of a source.

        Args:
            info: What it holds.
            channel: Which to take, counted from 1; None for the mean.
            first: Position of the first sample that will come.

        Raises:
            AudioError: With stage "open" if there is no such channel.
        """
        if channel is not None:
            _require_channel("open", info.channels, channel)
        self._info, self._channel, self._position = info, channel, first
        # What begins with one channel and goes on with several is hardly ever met, and averaged.
        self._judges = channel is None and info.channels > 1
        self._recent: deque[_Chunk] = deque()
        self._most_channels: int | None = None  # that can be held; None unless windows are cut
        self._wanted = first  # before it, nothing will be asked for
        self._num_values = self._num_bad = self._first_bad = 0
        self._of_mean = self._if_unrelated = 0.0  # sums of squares
        self._powers = np.zeros(MAX_CHANNELS)  # likewise, of each channel
        self.level = Level()
        self.num_cancelled = self.num_averaged = self.num_windows = 0

    def hold(self, num_samples: int) -> None:
        """Hold the channels from now on, for windows of up to so many samples at 32 kHz."""
        bounded = min(num_samples, _BOUNDED_SAMPLES)
        longest = -(-bounded * self._info.sample_rate // SAMPLE_RATE_HZ)
        self._most_channels = MAX_HELD_BYTES // (longest * np.dtype(np.float32).itemsize)

    def mix(self, channels: Channels) -> Samples:
        """Return (num_samples,) float32 for the next samples of a source: all finite, and a copy.

        Raises:
            AudioError: With stage "samples" if the channel that is asked for has ended.
        """
        if self._channel is not None:
            _require_channel("samples", len(channels), self._channel)
            channels = [channels[self._channel - 1]]
        num_channels = len(channels)
        powers = [_power(channel) for channel in channels]
        # If that is finite, so is all else: no sample is so large that a sum might not be.
        if math.isfinite(sum(powers)):
            mono: Samples = _mean(channels)
            power_of_mean = _power(mono) if num_channels > 1 else powers[0]
        else:
            channels = self._silence_bad(channels)
            mono = _mean_of_huge(channels)
            powers = [_power(channel.astype(np.float64)) for channel in channels]
            power_of_mean = _power(mono.astype(np.float64))
        power, num_samples = sum(powers), len(mono)
        self._num_values += num_channels * num_samples
        self.level.add(channels, power, num_samples, power_of_mean)
        if num_channels > 1:
            self._powers[:num_channels] += powers
        if self._judges:
            self._remember(channels, mono, power_of_mean, power / num_channels**2)
        self._position += num_samples
        return mono

    def _silence_bad(self, channels: Channels) -> Channels:
        """Return a copy of channels in which samples that are not finite are 0; count these."""
        copies = [channel.copy() for channel in channels]
        found = [np.flatnonzero(~np.isfinite(channel)) for channel in copies]
        for channel, bad in zip(copies, found, strict=True):
            channel[bad] = 0
        num_bad = sum(map(len, found))
        if num_bad and not self._num_bad:
            self._first_bad = self._position + min(int(bad[0]) for bad in found if len(bad))
        self._num_bad += num_bad
        return copies

    def require_finite(self, most_samples: float | None = None) -> None:
        """Raise if too many samples were not finite.

        Args:
            most_samples: How many there may be in all, while more may come; None at the end.

        Raises:
            AudioError: With stage "samples".
        """
        if not self._num_bad:
            return
        most_values = 0 if most_samples is None else most_samples * self._info.channels
        if self._num_bad > MAX_BAD_SHARE * max(self._num_values, most_values):
            raise AudioError(
                "samples",
                f"more than a thousandth of its samples are not finite (NaN or infinite), the "
                f"first at {self._first_bad / self._info.sample_rate:.2f} s",
            )

    def _remember(
        self, channels: Channels, mono: Samples, power_of_mean: float, if_unrelated: float
    ) -> None:
        self._of_mean += power_of_mean
        self._if_unrelated += if_unrelated
        if self._most_channels is None:
            return
        held: Channels | None = channels if len(channels) > 1 else [mono]
        if len(channels) > max(self._most_channels, 1):
            held = None
        start, stop = self._position, self._position + len(mono)
        self._recent.append(_Chunk(start, stop, held, power_of_mean, if_unrelated))
        self.forget(self._wanted)

    def forget(self, before: int) -> None:
        """Let go of what ends before a position, which may not have come yet."""
        self._wanted = before
        while self._recent and self._recent[0].stop <= before:
            self._recent.popleft()

    def judge(self, first: int, stop: int) -> int | None:
        """Return which channel is to be taken of a window; None for the mean.

        Args:
            first: Where it begins, in samples of the source.
            stop: Where it ends; beyond the end of the source, that is meant.
        """
        self.num_windows += 1
        chunks = [one for one in self._recent if one.start < stop and one.stop > first]
        if_unrelated = sum(one.power_if_unrelated for one in chunks)
        inside = [one for one in chunks if one.start >= first and one.stop <= stop]
        of_mean = sum(one.power_of_mean for one in inside)
        if of_mean >= _ROUNDING * CANCELLED_POWER * if_unrelated:
            return None  # as nearly always, without another look at the samples
        pieces = [_piece(one, first, stop) for one in chunks if one.channels is not None]
        if len(pieces) < len(chunks):
            of_mean = sum(one.power_of_mean for one in chunks)
            num_samples = sum(one.stop - one.start for one in chunks)
            self.num_averaged += _cancels(of_mean, if_unrelated, num_samples)
            return None
        channel = _louder_if_cancelled(pieces)
        self.num_cancelled += channel is not None
        return channel

    def take(self, channel: int, first: int, stop: int) -> Samples:
        """Return (num_samples,) of one channel, as far as it has come; the mean if it is missing.

        Args:
            channel: Counted from 0.
            first: In samples of the source; not before what was forgotten.
            stop: Likewise.
        """
        chunks = [one for one in self._recent if one.start < stop and one.stop > first]
        pieces = [_piece(one, first, stop) for one in chunks]
        return np.concatenate(
            [one[channel] if channel < len(one) else _mean(one) for one in pieces]
        )

    @property
    def louder(self) -> int | None:
        """The channel with the most power, counted from 0, if all that came cancels as a whole."""
        cancels = _cancels(
            self._of_mean, self._if_unrelated, self._num_values / self._info.channels
        )
        return int(self._powers.argmax()) if cancels else None

    def warnings(self) -> list[str]:
        """Return what a listener should know, in short sentences."""
        found = []
        if self._num_bad:
            many = "1 sample was" if self._num_bad == 1 else f"{self._num_bad:,} samples were"
            verb, which = ("is", "") if self._num_bad == 1 else ("are", "the first ")
            at_s = self._first_bad / self._info.sample_rate
            found.append(f"{many} not finite and {verb} silence, {which}at {at_s:.2f} s")
        return found + self._cancellation()

    def _cancellation(self) -> list[str]:
        what, total = "its channels cancel (anti-phase)", self.num_windows
        if self.num_cancelled:
            where = f" in {self.num_cancelled} of {count(total, 'window')}"
            where, there = ("", "") if self.num_cancelled == total else (where, " there")
            return [f"{what}{where}; the louder one was taken{there}"]
        if self.num_averaged:
            return [
                f"{what} in {self.num_averaged} of {count(total, 'window')}, and are too many to "
                f"compare"
            ]
        is_mean = not total and self.louder is not None
        return ["its channels cancel in the mean (anti-phase)"] if is_mean else []


def _require_channel(stage: str, num_channels: int, channel: int) -> None:
    if num_channels < channel:
        plural = "" if num_channels == 1 else "s"
        raise AudioError(
            stage, f"it has {num_channels} channel{plural}, and channel {channel} is asked for"
        )


def _piece(chunk: _Chunk, first: int, stop: int) -> Channels:
    """Return what of a chunk lies in a window."""
    assert chunk.channels is not None  # those that are too many are never judged
    inside = slice(max(first - chunk.start, 0), stop - chunk.start)
    return [channel[inside] for channel in chunk.channels]


def _louder_if_cancelled(pieces: list[Channels]) -> int | None:
    """Return the channel with the most power, if channels cancel.

    In float64: the sums do not depend, in any digit that could count, on how a source is chunked.
    """
    of_mean = if_unrelated = 0.0
    powers = np.zeros(max(map(len, pieces), default=0))
    for channels in pieces:
        wide = [channel.astype(np.float64) for channel in channels]
        of_each = [_power(channel) for channel in wide]
        powers[: len(wide)] += of_each
        of_mean += _power(_mean(wide))
        if_unrelated += sum(of_each) / len(wide) ** 2
    num_samples = sum(len(channels[0]) for channels in pieces)
    return int(powers.argmax()) if _cancels(of_mean, if_unrelated, num_samples) else None


def _cancels(of_mean: float, if_unrelated: float, num_samples: float) -> bool:
    """Whether hardly anything is left of channels that are not silent."""
    is_silent = if_unrelated <= SILENT_POWER * num_samples
    return not is_silent and of_mean < CANCELLED_POWER * if_unrelated


def _mean(channels: Any) -> Any:
    # NumPy's own is 50 times as slow where channels are interleaved, and its matrix product would
    # start threads in every reader.
    mono = channels[0] + channels[1] if len(channels) > 1 else channels[0].copy()
    for channel in channels[2:]:
        mono += channel
    mono *= np.float32(1 / len(channels))
    return mono


def _mean_of_huge(channels: Channels) -> Samples:
    """Do the same where a sum may be too large for float32, though the mean is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        mono: Samples = _mean(channels)
    beyond = np.flatnonzero(~np.isfinite(mono))
    mono[beyond] = np.mean([channel[beyond] for channel in channels], axis=0, dtype=np.float64)
    return mono


def _power(samples: npt.NDArray[np.floating]) -> float:
    """Return the sum of squares of (n,), in their own precision: infinite if they are huge."""
    pieces = (samples[first : first + _DOT] for first in range(0, len(samples), _DOT))
    return sum(float(np.vdot(piece, piece)) for piece in pieces)
