"""Windows at the rate of their files, to be resampled where they are embedded.

A GPU resamples a window in next to no time, and readers that leave it to the GPU give more windows.
What is cut here are whole seconds of the source, counted from the start of the recording as in
`resample`, so that the same filter applies to all of them, and to windows of many files at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from indexer.audio.resample import (
    BlockFilter,
    filter_for,
    half_width,
    has_small_kernel,
    output_length,
)
from indexer.audio.stream import AudioStream
from indexer.windows import SAMPLE_RATE_HZ, Cut, Geometry, Held, Padding, Samples, repeated


@dataclass(frozen=True, slots=True)
class SourceWindows:
    """B windows of one length and source rate.

    Attributes:
        samples: (B, context + num_seconds * source_rate_hz + context) float32, mono.
        source_rate_hz: Of them.
        offsets: (B,) int64, where each window begins in those seconds, in samples at 32 kHz.
        lengths: (B,) int64, how much of each is audio, in samples at 32 kHz.
        window_samples: Length of all of them, at 32 kHz.
        padding: What follows the audio.
    """

    samples: Tensor
    source_rate_hz: int
    offsets: Tensor
    lengths: Tensor
    window_samples: int
    padding: Padding

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, size: int) -> list[SourceWindows]:
        """Return them in pieces of so many windows, the last with what is left."""
        parts = (some.split(size) for some in (self.samples, self.offsets, self.lengths))  # type: ignore[no-untyped-call]
        return [
            replace(self, samples=samples, offsets=offsets, lengths=lengths)
            for samples, offsets, lengths in zip(*parts, strict=True)
        ]

    def pin_memory(self) -> SourceWindows:
        """Return them in page-locked memory."""
        return self._each(torch.Tensor.pin_memory)

    def to(self, device: torch.device, *, non_blocking: bool) -> SourceWindows:
        """Return them on a device; from pinned memory without waiting, if not blocking."""
        return self._each(lambda some: some.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[Tensor], Tensor]) -> SourceWindows:
        samples, offsets, lengths = map(change, (self.samples, self.offsets, self.lengths))
        return replace(self, samples=samples, offsets=offsets, lengths=lengths)


def is_deferrable(source_rate_hz: int, geometry: Geometry) -> bool:
    """Whether windows had better be resampled later.

    All must have one length, and the filter must be small. At more than twice our rate, a window is
    so large that readers do better to make it smaller.
    """
    is_near = source_rate_hz != SAMPLE_RATE_HZ and source_rate_hz <= 2 * SAMPLE_RATE_HZ
    return is_near and not geometry.native and has_small_kernel(source_rate_hz)


def source_windows(
    audio: AudioStream, geometry: Geometry, beat: Callable[[], None] | None = None
) -> Iterator[Cut]:
    """Decode a whole file, and cut it at its own rate; otherwise like `AudioStream.windows`.

    Args:
        audio: Opened from its start, and not decoded yet.
        geometry: Not native.
        beat: Called for every block that was decoded.
    """
    rate_hz, num_values = audio.info.sample_rate, _num_values(audio.info.sample_rate, geometry)

    def first_of(start: int) -> int:
        return start // SAMPLE_RATE_HZ * rate_hz - _context(rate_hz)

    audio.hold_channels(geometry)
    for cut in cut_source(audio.source_blocks(beat), rate_hz, geometry):
        channel = audio.judge(cut.start_sample, cut.num_samples)
        if channel is None:
            yield cut
        else:
            first = first_of(cut.start_sample)
            alone = audio.take_channel(channel, max(first, 0), first + num_values)
            before = max(-first, 0)  # the recording begins in the middle of the context
            after = num_values - before - len(alone)
            yield cut._replace(waveform=np.pad(alone, (before, after)))
        audio.forget_channels(first_of(cut.start_sample + geometry.hop_samples))


def cut_source(blocks: Iterable[Samples], source_rate_hz: int, geometry: Geometry) -> Iterator[Cut]:
    """Cut a whole recording into the windows of `Geometry.plan`, at its own rate.

    Args:
        blocks: float32 arrays of any length, mono, from the start of the recording.
        source_rate_hz: Of them.
        geometry: Not native.

    Yields:
        The windows in order, start and length in samples at 32 kHz; the waveform is what
        `SourceWindows` holds of each. It is the receiver's to keep.
    """
    context, num_values = _context(source_rate_hz), _num_values(source_rate_hz, geometry)
    held = Held()
    held.append(np.zeros(context, np.float32))  # so that second n begins at n * rate - context

    def ends() -> Iterator[int]:
        """How many samples at 32 kHz are certain, as more and more is held."""
        for block in blocks:
            held.append(block)
            certain = max(held.end - 2 * context, 0) // source_rate_hz
            yield certain * SAMPLE_RATE_HZ
        yield output_length(held.end - context, source_rate_hz)

    for start, num_samples in geometry.plan_stream(ends()):
        first = start // SAMPLE_RATE_HZ * source_rate_hz
        samples = held.take(first, first + num_values)
        yield Cut(start, num_samples, np.pad(samples, (0, num_values - len(samples))))
        held.forget((start + geometry.hop_samples) // SAMPLE_RATE_HZ * source_rate_hz)


def _context(source_rate_hz: int) -> int:
    """Return how many samples the filter needs before and after the seconds of a window."""
    return half_width(source_rate_hz) + 1


def _num_values(source_rate_hz: int, geometry: Geometry) -> int:
    """Return how many samples hold any window with its context."""
    return num_seconds(geometry) * source_rate_hz + 2 * _context(source_rate_hz)


def num_seconds(geometry: Geometry) -> int:
    """Return how many whole seconds, from that in which it begins, hold any window."""
    begins_late = bool(geometry.hop_samples % SAMPLE_RATE_HZ)
    most = geometry.window_samples + begins_late * (SAMPLE_RATE_HZ - 1)
    return -(-most // SAMPLE_RATE_HZ)


class DeferredResampler:
    """`resample.BlockFilter` for many windows at once, on a device."""

    def __init__(self, source_rate_hz: int, device: torch.device) -> None:
        """Bring the coefficients to the device."""
        block_filter: BlockFilter = filter_for(source_rate_hz)
        self._rate, self._context = source_rate_hz, block_filter.context
        taps = block_filter.taps[:, 0]  # (groups, num_taps, outputs of a group)
        self._taps = torch.from_numpy(taps).to(device)
        starts = block_filter.starts.reshape(len(taps), -1)  # (groups, periods of a second)
        self._starts = torch.from_numpy(starts).to(device)

    def __call__(self, windows: SourceWindows) -> Tensor:
        """Return (B, window_samples) float32 at 32 kHz, padded beyond each window's length."""
        block = self._rate + 2 * self._context
        seconds = windows.samples.unfold(1, block, self._rate)  # (B, num_seconds, block)
        inputs = seconds.unfold(2, self._taps.shape[1], 1)[:, :, self._starts]
        # (B, num_seconds, groups, periods, num_taps) @ (groups, num_taps, outputs of a group)
        resampled = (inputs @ self._taps).transpose(2, 3).flatten(1)
        places = torch.arange(windows.window_samples, device=resampled.device)
        lengths = windows.lengths[:, None]
        if windows.padding == "repeat":
            places = repeated(places, lengths)
        waveforms = resampled.gather(1, windows.offsets[:, None] + places)
        return torch.where(places < lengths, waveforms, 0.0)
