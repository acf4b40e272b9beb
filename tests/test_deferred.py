"""Windows that are resampled where they are embedded are those that readers would resample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import write_tone
from test_extract import by_window, many_files, new_store, run, statuses

from indexer.audio.deferred import (
    DeferredResampler,
    SourceWindows,
    cut_source,
    is_deferrable,
    num_seconds,
)
from indexer.audio.resample import StreamingResampler
from indexer.embedding.extractor import Extractor
from indexer.model.checkpoint import Checkpoint
from indexer.run.config import ExtractConfig
from indexer.windows import SAMPLE_RATE_HZ, Cut, Geometry, Padding, Samples

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)


def resampled(samples: Samples, rate_hz: int) -> Samples:
    resampler = StreamingResampler(rate_hz)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def in_blocks(samples: Samples, size: int) -> list[Samples]:
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def as_windows(cuts: list[Cut], rate_hz: int, geometry: Geometry) -> SourceWindows:
    return SourceWindows(
        torch.from_numpy(np.stack([cut.waveform for cut in cuts])),
        rate_hz,
        torch.tensor([cut.start_sample % SAMPLE_RATE_HZ for cut in cuts]),
        torch.tensor([cut.num_samples for cut in cuts]),
        geometry.window_samples,
        geometry.padding,
    )


@pytest.mark.whole
@settings(deadline=None)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    duration_s=st.floats(0.001, 9.0),
    window_s=st.sampled_from([1.0, 2.5, 3.0]),
    hop_samples=st.sampled_from([16_000, 32_000, 37_001, 64_000, 100_000]),
    block=st.integers(1_000, 50_000),
    padding=st.sampled_from(get_args(Padding)),
)
def test_deferred_windows_are_those_of_the_streaming_resampler(
    rate_hz: int, duration_s: float, window_s: float, hop_samples: int, block: int, padding: Padding
) -> None:
    window_samples = round(window_s * SAMPLE_RATE_HZ)
    geometry = Geometry(hop_samples, window_samples=window_samples, padding=padding)
    random = np.random.default_rng(block)
    samples = random.normal(0, 0.3, max(int(duration_s * rate_hz), 1)).astype(np.float32)
    expected = list(geometry.cut([resampled(samples, rate_hz)]))
    found = list(cut_source(in_blocks(samples, block), rate_hz, geometry))
    assert [cut[:2] for cut in found] == [cut[:2] for cut in expected]
    windows = as_windows(found, rate_hz, geometry)
    waveforms = DeferredResampler(rate_hz, torch.device("cpu"))(windows)
    np.testing.assert_allclose(waveforms, [cut.waveform for cut in expected], atol=1e-6)


def test_cut_source_holds_no_more_than_a_window_and_a_block() -> None:
    """What is passed on is not kept, however long the recording."""
    geometry, rate_hz = Geometry(), 44_100
    given_out = 0

    def blocks() -> object:
        for number in range(60):
            # A window must be out before the third second behind its end is asked for.
            assert number <= 10 * given_out + 12
            yield np.zeros(rate_hz, np.float32)

    for cut in cut_source(blocks(), rate_hz, geometry):  # type: ignore[arg-type]
        given_out += 1
        assert cut.waveform.base is None or len(cut.waveform.base) == len(cut.waveform)
    assert given_out == 6


@pytest.mark.parametrize(
    ("rate_hz", "geometry", "deferrable"),
    [
        (44_100, Geometry(), True),
        (SAMPLE_RATE_HZ, Geometry(), False),  # nothing to do
        (48_000, Geometry(), True),
        (96_000, Geometry(), False),  # three times as large
        (44_101, Geometry(), False),  # its filter has a row for every sample of a second
        (44_100, Geometry(native=True), False),  # windows of any length
    ],
)
def test_is_deferrable(rate_hz: int, geometry: Geometry, deferrable: bool) -> None:
    assert is_deferrable(rate_hz, geometry) == deferrable


def test_num_seconds_holds_windows_wherever_they_begin() -> None:
    assert num_seconds(Geometry()) == 10
    assert num_seconds(Geometry(5 * SAMPLE_RATE_HZ)) == 10
    assert num_seconds(Geometry(SAMPLE_RATE_HZ // 2)) == 11
    assert num_seconds(Geometry(window_samples=SAMPLE_RATE_HZ // 2)) == 10 // 10


def test_source_windows_split_in_order() -> None:
    windows = SourceWindows(
        torch.arange(10.0).reshape(5, 2), 44_100, torch.arange(5), torch.arange(5) + 10, 7, "zero"
    )
    pieces = windows.split(2)
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    for name in ("samples", "offsets", "lengths"):
        whole = torch.cat([getattr(piece, name) for piece in pieces])
        torch.testing.assert_close(whole, getattr(windows, name))


class Resampling(Extractor):
    """An extractor that resamples itself, as one on a GPU does; and counts what it was given."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint, device="cpu", precision="fp32")
        self.rates_hz: list[int] = []

    @property
    def resamples(self) -> bool:
        return True

    def embed_and_time(self, windows):  # type: ignore[no-untyped-def]
        rate_hz = windows.source_rate_hz if isinstance(windows, SourceWindows) else SAMPLE_RATE_HZ
        self.rates_hz += [rate_hz] * len(windows)
        return super().embed_and_time(windows)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Files of several rates, in the order of a walk never two of the same in a row."""
    root = tmp_path / "library"
    for number in range(12):
        rate_hz = (44_100, 32_000, 48_000, 44_101)[number % 4]
        write_tone(root / f"{number:02}.wav", 1.0 + number, 200 + 10 * number, rate=rate_hz)
    (root / "05b.wav").write_bytes(b"not audio")
    return root


@pytest.mark.whole
@pytest.mark.parametrize(("num_workers", "padding"), [(0, "zero"), (2, "repeat")])
def test_extract_with_deferred_resampling_gives_the_same_store(
    mixed: Path, tmp_path: Path, tiny_checkpoint: Checkpoint, num_workers: int, padding: Padding
) -> None:
    plain = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    deferring = Resampling(tiny_checkpoint)
    geometry = Geometry(112_000, padding=padding)
    stores = [new_store(tmp_path / name, plain, geometry) for name in ("plain", "later")]
    config = ExtractConfig(num_workers=num_workers, batch_size=3)
    reports = [
        run(mixed, store, extractor, config)
        for store, extractor in zip(stores, (plain, deferring), strict=True)
    ]
    assert {44_100, 48_000, 32_000} == set(deferring.rates_hz)  # 44,101 Hz come as 32,000
    assert reports[0].num_windows == reports[1].num_windows == len(deferring.rates_hz)
    assert statuses(stores[0]) == statuses(stores[1])
    expected, found = map(by_window, stores)
    assert found.keys() == expected.keys()
    for key, (scene, tags, _) in expected.items():
        np.testing.assert_allclose(found[key][0], scene, atol=1e-4)
        np.testing.assert_allclose(found[key][1], tags, atol=2e-3)  # a step of float16


@pytest.mark.whole
def test_extract_with_deferred_resampling_halves_batches_too(
    tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    library = many_files(tmp_path / "library")
    for path in sorted(library.iterdir())[:20]:
        path.unlink()
        write_tone(path, 1.0, 300, rate=48_000)
    plain, deferring = (
        Extractor(tiny_checkpoint, device="cpu", precision="fp32"),
        Resampling(tiny_checkpoint),
    )
    deferring.most_windows = 2
    stores = [new_store(tmp_path / name, plain) for name in ("plain", "later")]
    config = replace(ExtractConfig(num_workers=0), batch_size=5)
    for store, extractor in zip(stores, (plain, deferring), strict=True):
        run(library, store, extractor, config)
    expected, found = map(by_window, stores)
    assert found.keys() == expected.keys()
    for key, (scene, _, _) in expected.items():
        np.testing.assert_allclose(found[key][0], scene, atol=1e-4)
