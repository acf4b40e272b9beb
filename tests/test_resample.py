"""The oracle is torchaudio on the whole recording."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.audio.resample import (
    BlockFilter,
    StreamingResampler,
    half_width,
    output_length,
    source_span,
    torchaudios_kernel,
)
from indexer.windows import SAMPLE_RATE_HZ, Samples

#: Rates that torchaudio's kernel is used for.
USUAL = [1000, 8000, 11_025, 16_000, 22_050, 37_500, 44_100, 48_000, 96_000, 250_000, 384_000]
#: Rates whose kernel would be large: bioacoustics, or an error in a header.
ODD = [11_127, 24_414, 44_101, 47_952, 97_656]


def noise(num_samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-1, 1, num_samples).astype(np.float32)


def resampled(samples: Samples, rate: int, *cuts: int, first: int = 0) -> Samples:
    """Push what lies between the cuts, one after the other."""
    resampler = StreamingResampler(rate, first)
    edges = [0, *sorted(cuts), len(samples)]
    outputs = [resampler.push(samples[start:stop]) for start, stop in pairwise(edges)]
    return np.concatenate([*outputs, resampler.flush()])


def of_torchaudio(samples: Samples, rate: int, dtype: torch.dtype = torch.float32) -> Samples:
    whole = torch.from_numpy(samples).to(dtype)
    return np.asarray(torchaudio.functional.resample(whole, rate, SAMPLE_RATE_HZ).float().numpy())


def direct(samples: Samples, rate: int, output: int) -> float:
    """One output sample by the definition, in float64."""
    cutoff = min(rate, SAMPLE_RATE_HZ) * 0.99
    seconds = np.arange(len(samples)) / rate - output / SAMPLE_RATE_HZ
    crossings = np.clip(seconds * cutoff, -6, 6)
    weights = np.sinc(crossings) * np.cos(crossings * np.pi / 12) ** 2 * cutoff / rate
    return float(samples.astype(np.float64) @ weights)


@pytest.mark.parametrize("rate", USUAL)
def test_resampler_usual_rate_equals_torchaudio(rate: int) -> None:
    samples = noise(int(2.7 * rate) + 13)
    ours = resampled(samples, rate)
    assert len(ours) == output_length(len(samples), rate)
    np.testing.assert_allclose(ours, of_torchaudio(samples, rate), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", USUAL)
def test_torchaudios_kernel_is_torchaudios_to_the_bit(rate: int) -> None:
    theirs = torchaudio.transforms.Resample(rate, SAMPLE_RATE_HZ, dtype=torch.float32).kernel
    np.testing.assert_array_equal(torchaudios_kernel(rate), theirs.numpy()[:, 0])


@pytest.mark.parametrize("rate", ODD)
def test_resampler_odd_rate_equals_definition(rate: int) -> None:
    samples = noise(int(1.3 * rate) + 13)
    ours = resampled(samples, rate)
    assert len(ours) == output_length(len(samples), rate)
    outputs = [0, 1, 777, 31_999, 32_000, 40_001, len(ours) - 1]
    expected = [direct(samples, rate, output) for output in outputs]
    np.testing.assert_allclose(ours[outputs], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", USUAL)
def test_exact_filter_usual_rate_equals_torchaudio_in_float64(rate: int) -> None:
    block = BlockFilter(rate, exact=True)
    samples = noise(rate + block.context)
    ours = block(np.pad(samples, (block.context, 0)))
    theirs = of_torchaudio(samples, rate, torch.float64)[:SAMPLE_RATE_HZ]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@given(
    rate=st.sampled_from([8000, 44_100, 48_000, 24_414]),
    cuts=st.lists(st.integers(0, 110_000), max_size=8),
    num_samples=st.integers(0, 110_000),
)
@settings(max_examples=40, deadline=None)
def test_resampler_any_blocks_same_bits(rate: int, cuts: list[int], num_samples: int) -> None:
    samples = noise(num_samples)
    whole = resampled(samples, rate)
    assert len(whole) == output_length(num_samples, rate)
    np.testing.assert_array_equal(resampled(samples, rate, *cuts), whole)


@given(
    rate=st.sampled_from([32_000, 8000, 44_100, 48_000, 24_414, 96_000]),
    start=st.integers(0, 70_000),
    length=st.integers(1, 40_000),
)
@settings(max_examples=40, deadline=None)
def test_resampler_started_in_the_middle_same_bits(rate: int, start: int, length: int) -> None:
    samples = noise(3 * rate)
    first, stop = source_span(start, start + length, rate)
    resampler = StreamingResampler(rate, first)
    assert resampler.first_output <= start
    given_ = np.concatenate([resampler.push(samples[first:stop]), resampler.flush()])
    span = given_[start - resampler.first_output :][:length]
    np.testing.assert_array_equal(span, resampled(samples, rate)[start : start + length])


@pytest.mark.parametrize("rate", [*USUAL, *ODD, 32_000])
def test_resampler_one_sample_gives_all_of_it(rate: int) -> None:
    ours = resampled(np.ones(1, np.float32), rate)
    assert len(ours) == -(-SAMPLE_RATE_HZ // rate)
    assert np.isfinite(ours).all()


def test_resampler_nothing_gives_nothing() -> None:
    assert len(resampled(noise(0), 44_100)) == 0


def test_resampler_silence_gives_silence() -> None:
    assert not resampled(np.zeros(100_000, np.float32), 44_100).any()


def test_resampler_32_khz_passes_through() -> None:
    samples = noise(100)
    resampler = StreamingResampler(SAMPLE_RATE_HZ, 7)
    assert resampler.first_output == 7
    assert resampler.push(samples) is samples
    assert len(resampler.flush()) == 0


def test_resampler_pushed_array_may_change_afterwards() -> None:
    samples = noise(20_000)
    resampler = StreamingResampler(44_100)
    pushed = samples.copy()
    resampler.push(pushed)
    pushed[:] = 0
    np.testing.assert_array_equal(resampler.flush(), resampled(samples, 44_100))


@pytest.mark.parametrize(("rate", "first"), [(0, 0), (-1, 0), (44_100, -1)])
def test_resampler_impossible_arguments_is_value_error(rate: int, first: int) -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        StreamingResampler(rate, first)


def test_half_width_is_torchaudios() -> None:
    for rate in USUAL:
        assert half_width(rate) == torchaudio.transforms.Resample(rate, SAMPLE_RATE_HZ).width


def test_resampler_long_stream_keeps_memory() -> None:
    resampler = StreamingResampler(44_100)
    second = noise(44_100)
    tracemalloc.start()
    try:
        for _ in range(5):
            resampler.push(second)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            resampler.push(second)
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current - before < 100_000
    assert peak - before < 3_000_000


@pytest.mark.whole
def test_filter_hostile_rate_keeps_memory_and_time() -> None:
    """Near the highest rate, sharing no factor with 32 kHz: torchaudio would want 205 GB."""
    tracemalloc.start()
    try:
        block = BlockFilter(1_599_999)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150_000_000
    assert len(block(np.zeros(1_599_999 + 2 * block.context, np.float32))) == SAMPLE_RATE_HZ
