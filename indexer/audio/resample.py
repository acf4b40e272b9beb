"""Resampling a stream to 32 kHz, block by block, as if the whole recording were resampled at once.

The filter is that of torchaudio's defaults, which the published features were made with: a sinc
through six zero crossings under a Hann window, rolled off at 0.99 of the lower Nyquist frequency.

Time is cut into blocks of one second, counted from the start of the recording: `source_rate_hz`
samples go in, 32,000 come out, and the phase of the filter is the same at the start of each. So the
result depends neither on how the samples arrive nor on where decoding began, not by one bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from indexer.windows import SAMPLE_RATE_HZ, Samples

#: Name of this resampler in the identity of a store; its version changes when its samples do.
RESAMPLER = "torchaudio-sinc-hann-6-0.99-v1"
#: torchaudio's defaults: zero crossings on either side, and the cut-off as a part of Nyquist.
LOWPASS_FILTER_WIDTH = 6
ROLLOFF = 0.99
#: Largest kernel that is computed as torchaudio does, 4 MB. It has one row per phase, as long as a
#: period of the source: 2 MB at 11,025 Hz, but 5.6 GB at 44,101 Hz.
MAX_KERNEL_VALUES = 2**20
#: Largest table of coefficients that is kept, 16 MB; at high and odd rates up to 100 MB.
_MAX_TAPS = 2**22
#: OpenBLAS multiplies matrices with up to this many products on one thread (interface/gemm.c).
_PRODUCTS_AT_ONCE = 2**18
#: How many coefficients are computed at once, for 1 MB in float64.
_VALUES_AT_ONCE = 2**17


def half_width(source_rate_hz: int) -> int:
    """Return how many source samples before and after an instant its output sample depends on."""
    orig, new = _reduced(source_rate_hz)
    return math.ceil(LOWPASS_FILTER_WIDTH * orig / (min(orig, new) * ROLLOFF))


def has_small_kernel(source_rate_hz: int) -> bool:
    """Whether torchaudio's kernel for a rate is of a size to be computed and kept."""
    orig, new = _reduced(source_rate_hz)
    return new * (orig + 2 * half_width(source_rate_hz)) <= MAX_KERNEL_VALUES


def output_length(num_samples: int, source_rate_hz: int) -> int:
    """Return how many samples at 32 kHz a recording of `num_samples` becomes: rounded up."""
    return -(-num_samples * SAMPLE_RATE_HZ // source_rate_hz)


def source_span(start: int, stop: int, source_rate_hz: int) -> tuple[int, int]:
    """Return the source samples that a span of the output depends on.

    Args:
        start: First output sample, at 32 kHz.
        stop: End of the span, at 32 kHz.
        source_rate_hz: Of the recording.

    Returns:
        First source sample and end; the end may lie beyond the end of the recording.
    """
    if source_rate_hz == SAMPLE_RATE_HZ:
        return start, stop
    width = half_width(source_rate_hz)
    first = start * source_rate_hz // SAMPLE_RATE_HZ - width
    return max(first, 0), stop * source_rate_hz // SAMPLE_RATE_HZ + width + 1


class StreamingResampler:
    """Mono audio at any whole rate in, 32 kHz out.

    All that is given, in order, is `torchaudio.functional.resample` of the whole recording, and its
    length `output_length`. Holds under three seconds of audio.

    Attributes:
        first_output: Index in the recording, at 32 kHz, of the first sample that will be given.
    """

    def __init__(self, source_rate_hz: int, first_sample: int = 0) -> None:
        """Start at some sample of a recording.

        Args:
            source_rate_hz: Of the recording.
            first_sample: Index in the recording of the first sample that will be pushed. Output
                begins where it no longer depends on earlier ones, see `source_span`.

        Raises:
            ValueError: If the rate is not positive or the index is negative.
        """
        if source_rate_hz < 1 or first_sample < 0:
            raise ValueError(f"cannot resample from {source_rate_hz} Hz, sample {first_sample}")
        self._rate = source_rate_hz
        self._end = first_sample  # in the recording, of what was pushed
        self._passes = source_rate_hz == SAMPLE_RATE_HZ
        if self._passes:
            self.first_output = first_sample
            return
        self._filter = filter_for(source_rate_hz)
        reach = first_sample + half_width(source_rate_hz) if first_sample else 0
        self.first_output = self._given = output_length(reach, source_rate_hz)
        # What is held begins `context` before the block that the next output sample lies in.
        base = self._given // SAMPLE_RATE_HZ * source_rate_hz - self._filter.context
        self._held = [np.zeros(max(first_sample - base, 0), np.float32)]
        self._num_held = len(self._held[0])
        self._surplus = max(base - first_sample, 0)

    def push(self, samples: Samples) -> Samples:
        """Take the next samples of the recording; return what is now certain.

        Args:
            samples: (num_samples,) float32, any length.

        Returns:
            (num_outputs,) float32, possibly empty; at 32 kHz the argument itself.
        """
        self._end += len(samples)
        if self._passes:
            return samples
        skipped = min(self._surplus, len(samples))
        self._surplus -= skipped
        self._held.append(samples[skipped:].copy())
        self._num_held += len(samples) - skipped
        return self._complete_blocks()

    def flush(self) -> Samples:
        """Return the rest: the recording ends with the last sample pushed."""
        if self._passes:
            return np.zeros(0, np.float32)
        length = output_length(self._end, self._rate)
        blocks = [np.zeros(0, np.float32)]
        while self._given < length:
            missing = self._rate + 2 * self._filter.context - self._num_held
            self._held.append(np.zeros(max(missing, 0), np.float32))
            self._num_held += max(missing, 0)
            given = self._given
            blocks.append(self._complete_blocks()[: length - given])
        return np.concatenate(blocks)

    def _complete_blocks(self) -> Samples:
        """Filter every whole block that is held with its context, and forget its samples."""
        needed = self._rate + 2 * self._filter.context
        if self._num_held < needed:
            return np.zeros(0, np.float32)
        held = np.concatenate(self._held)
        outputs = []
        start = 0
        while len(held) - start >= needed:
            output = self._filter(held[start : start + needed])[self._given % SAMPLE_RATE_HZ :]
            self._given += len(output)
            outputs.append(output)
            start += self._rate
        self._held = [held[start:].copy()]
        self._num_held = len(held) - start
        return np.concatenate(outputs)


class BlockFilter:
    """Turns one second of source samples, with some context, into 32,000 samples.

    Neighbouring outputs depend on overlapping inputs, so they are computed in groups, as one matrix
    product each. torchaudio's convolution multiplies mostly zeros: seven times as long at 44.1 kHz.

    Attributes:
        context: How many source samples are needed before and after the second.
        taps: (groups, 1, num_taps, outputs of a group) float32 coefficients.
        starts: (groups, batches, periods of a batch) int64, the first source sample of each group.
    """

    def __init__(self, source_rate_hz: int, *, exact: bool | None = None) -> None:
        """Prepare the coefficients.

        Args:
            source_rate_hz: Of what will be filtered.
            exact: Compute the coefficients in float64, instead of rounding them as torchaudio's
                `functional.resample` does for float32, as the published code did: those are off by
                up to 3e-5 of full scale at 44.1 kHz. By default only where torchaudio's kernel
                would be larger than `MAX_KERNEL_VALUES`.
        """
        orig, new = _reduced(source_rate_hz)
        width = half_width(source_rate_hz)
        self.context = width + 1
        if exact is None:
            exact = not has_small_kernel(source_rate_hz)
        coefficients = _exact(orig, new) if exact else _rounded(source_rate_hz)
        size = _group_size(orig, new, width)
        repeat = math.lcm(new, size)  # this many outputs on, the coefficients are the same again
        outputs = np.arange(repeat).reshape(-1, size)
        # The first source sample that each group depends on, counted from the block.
        starts = outputs[:, 0] * orig // new - width + 1
        num_taps = _num_taps(orig, new, width, size)
        table = np.empty((len(starts), num_taps, size), np.float32)
        at_once = max(_VALUES_AT_ONCE // (num_taps * size), 1)
        for first in range(0, len(starts), at_once):
            chunk = slice(first, first + at_once)
            sources = starts[chunk, None, None] + np.arange(num_taps)[:, None]
            # (groups, num_taps, 1) and (groups, 1, outputs of a group)
            table[chunk] = coefficients(sources, outputs[chunk, None, :])
        self.taps = table[:, None]
        # Products are kept so small that NumPy's BLAS does not start threads: every worker would.
        num_periods = SAMPLE_RATE_HZ // repeat
        at_once = max(_PRODUCTS_AT_ONCE // (num_taps * size), 1)
        batch = max(count for count in range(1, at_once + 1) if num_periods % count == 0)
        periods = np.arange(num_periods).reshape(-1, batch) * (repeat * orig // new)
        self.starts = self.context + starts[:, None, None] + periods  # (groups, batches, periods)

    def __call__(self, samples: Samples) -> Samples:
        """Return (32000,) float32 for (context + source rate + context,) float32."""
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.taps.shape[-2])
        filtered: Samples = windows[self.starts] @ self.taps
        # (groups, batches, periods of a batch, outputs of a group) into the order of the outputs
        return filtered.transpose(1, 2, 0, 3).reshape(-1)


def _group_size(orig: int, new: int, width: int) -> int:
    """Return how many outputs to compute together: a power of two, which divides 32,000."""
    for size in (32, 16, 8):
        num_groups = math.lcm(new, size) // size
        if num_groups * _num_taps(orig, new, width, size) * size <= _MAX_TAPS:
            return size
    return 4


def _num_taps(orig: int, new: int, width: int, size: int) -> int:
    """Return how many source samples a group of `size` outputs depends on, at most."""
    return -(-(size - 1) * orig // new) + 2 * width


#: Gives the coefficients between some source samples and some output samples, both counted from
#: the start of a block; the two arrays are broadcast against each other.
_Coefficients = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.floating]]


def _exact(orig: int, new: int) -> _Coefficients:
    """Return the filter itself, in float64. Source: torchaudio 2.11, `sinc_interp_hann`."""
    cutoff = min(orig, new) * ROLLOFF

    def coefficients(
        sources: npt.NDArray[np.int64], outputs: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.floating]:
        steps = sources * new - outputs * orig  # how far apart, in parts of a second: no rounding
        crossings = steps * (cutoff / (orig * new))
        crossings = np.clip(crossings, -LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
        window = np.cos(crossings * (np.pi / 2 / LOWPASS_FILTER_WIDTH)) ** 2
        return np.asarray(np.sinc(crossings) * window * (cutoff / orig))

    return coefficients


def _rounded(source_rate_hz: int) -> _Coefficients:
    """Return the same filter with each step rounded to float32; see `torchaudios_kernel`."""
    orig, new = _reduced(source_rate_hz)
    width = half_width(source_rate_hz)
    kernel = torchaudios_kernel(source_rate_hz)
    kernel = np.pad(kernel, ((0, 0), (1, 1)))  # so that what lies outside can be clipped to zero

    def coefficients(
        sources: npt.NDArray[np.int64], outputs: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.floating]:
        column = sources - outputs // new * orig + width + 1
        return np.asarray(kernel[outputs % new, np.clip(column, 0, kernel.shape[1] - 1)])

    return coefficients


def torchaudios_kernel(source_rate_hz: int) -> npt.NDArray[np.float32]:
    """Return the filter to 32 kHz as torchaudio computes it: each step rounded to float32.

    torchaudio itself is not asked: its 2.11.1 cannot be loaded beside PyTorch 2.11, though it says
    that it can.

    Args:
        source_rate_hz: One of those that have a small kernel.

    Returns:
        (phases, width + period + width) float32: a row for each output sample of a period, a column
        for each source sample of it and for `half_width` before and after.
    """
    # Only here: whoever decodes at 32 kHz, or computes a digest, does not wait for PyTorch. Its
    # sines are not NumPy's, in the last bit.
    import torch  # noqa: PLC0415

    orig, new = _reduced(source_rate_hz)
    width = half_width(source_rate_hz)
    cutoff = min(orig, new) * ROLLOFF
    outputs_s = torch.arange(0, -new, -1, dtype=torch.float32)[:, None] / new
    crossings = outputs_s + torch.arange(-width, width + orig, dtype=torch.float32) / orig
    crossings = (crossings * cutoff).clamp(-LOWPASS_FILTER_WIDTH, LOWPASS_FILTER_WIDTH)
    window = (crossings * math.pi / LOWPASS_FILTER_WIDTH / 2).cos() ** 2
    angles = crossings * math.pi
    sinc = torch.where(angles == 0, 1.0, angles.sin() / angles)
    kernel: npt.NDArray[np.float32] = (sinc * (window * (cutoff / orig))).numpy()
    return kernel


def _reduced(source_rate_hz: int) -> tuple[int, int]:
    """Return the source rate and 32 kHz without their common factor: a period of the filter."""
    common = math.gcd(source_rate_hz, SAMPLE_RATE_HZ)
    return source_rate_hz // common, SAMPLE_RATE_HZ // common


#: Kept for the rates met last: a library has few.
filter_for = lru_cache(maxsize=4)(BlockFilter)
