"""How loud each window is, as the store and its index keep it, whoever resamples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from synthetic import ORIGIN, block_of, make_store
from test_deferred import Resampling
from test_extract import new_store, run

from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.model.checkpoint import Checkpoint
from indexer.run.config import ExtractConfig
from indexer.store.parquet import SCENE_FILE
from indexer.store.reader import Store
from indexer.store.writer import PartWriter
from indexer.windows import Geometry, Padding
from search.generation.segments import Generation
from search.upkeep.build import build

Array = np.ndarray[Any, Any]


def levels_of(store: Store) -> dict[int, float]:
    """Window id → its level, as the store says."""
    found: dict[int, float] = {}
    for block in store.snapshot().blocks(3):
        found |= zip(block.windows.window_id.tolist(), block.levels.tolist(), strict=True)
    return found


def in_index(generation: Generation) -> dict[int, float]:
    rows = generation.live_rows()
    levels = generation.column("level_db", rows).tolist()
    return dict(zip(generation.window_ids(rows).tolist(), levels, strict=True))


def write_sounds(root: Path) -> Path:
    """Files of several rates and levels: one within a hop, one of several windows, one of zeros."""
    root.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 9 * 48_000)
    noise[5 * 48_000 :] *= 1e-3
    for rate_hz in (32_000, 44_100, 48_000):
        soundfile.write(root / f"{rate_hz} long.wav", noise, rate_hz, "FLOAT")
        soundfile.write(root / f"{rate_hz} short.wav", 0.3 * noise[:9_000], rate_hz, "FLOAT")
        soundfile.write(root / f"{rate_hz} zeros.wav", np.zeros(50_000), rate_hz, "FLOAT")
    return root


def peaks_of(root: Path, store: Store) -> dict[int, float]:
    """Window id → highest peak in dBFS, of the samples that a decoder gives, unpadded."""
    found = {}
    paths = {recording: path for path, recording in store.live_files()}
    windows = store.snapshot().windows
    for row, window_id in enumerate(windows.window_id.tolist()):
        window = windows.window(row)
        with open_audio(root / paths[window.recording_id]) as audio:
            samples = np.concatenate(list(audio.blocks()))
        own = samples[window.start_sample :][: window.num_samples]
        peak = float(np.abs(own).max())
        found[window_id] = 20 * np.log10(peak) if peak else -np.inf
    return found


@pytest.mark.whole
@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_level_of_a_window_is_the_peak_of_its_own_audio_on_both_paths(
    tmp_path: Path, tiny_checkpoint: Checkpoint, padding: Padding
) -> None:
    root = write_sounds(tmp_path / "library")
    plain = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    deferring = Resampling(tiny_checkpoint)
    geometry = Geometry(112_000, padding=padding)
    for name, extractor in (("plain", plain), ("deferred", deferring)):
        store = new_store(tmp_path / name, extractor, geometry)
        run(root, store, extractor, ExtractConfig(num_workers=0, batch_size=3))
        expected, found = peaks_of(root, store), levels_of(store)
        assert found.keys() == expected.keys()
        assert len(found) > 9
        silent = {window for window, level in expected.items() if level == -np.inf}
        assert len(silent) == 3
        for window_id, level in expected.items():
            # What a device resamples is rounded in another order: far below the signal.
            assert found[window_id] == pytest.approx(level, abs=1e-3)
        assert in_index(build(store)) == found
    assert {44_100, 48_000} <= set(deferring.rates_hz)


def test_level_is_null_where_nobody_knows_it(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    block = block_of("a", 3)
    levels = np.array([-np.inf, np.nan, -6.5], np.float32)
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block._replace(level_db=levels), None)
        writer.add_windows(block_of("b", 1), None)
        part = writer.commit()
    assert part is not None
    column = pq.read_table(part.path / SCENE_FILE)["level_db"]
    assert column.to_pylist() == [-np.inf, None, -6.5, None]
