"""How loud each window is, as the store and its index keep it, whoever resamples."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from conftest import Run
from synthetic import ORIGIN, block_of, make_store
from test_deferred import Resampling
from test_extract import new_store
from test_extract import run as extract

import soundalike
from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.errors import IdentityError, NotAsWrittenError
from indexer.model.checkpoint import Checkpoint
from indexer.run.config import ExtractConfig
from indexer.store.parquet import SCENE_FILE
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.store.writer import PartWriter
from indexer.windows import Geometry, Level, Padding
from search.asking.sound_index import SoundIndex
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


def embed(root: Path, path: Path, extractor: Extractor, geometry: Geometry) -> Store:
    """A new store of the sounds, in small batches."""
    store = new_store(path, extractor, geometry)
    extract(root, store, extractor, ExtractConfig(num_workers=0, batch_size=3))
    return store


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
        store = embed(root, tmp_path / name, extractor, geometry)
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


# --- windows that are brought to one loudness ----------------------------------------------------


def by_hand(waveform: Array, num_samples: int) -> Array:
    """A padded window whose own audio has a root mean square of -20 dBFS; silence as it is."""
    own = waveform[:num_samples].astype(np.float64)
    if np.abs(own).max() < 1e-4:
        return waveform
    return (waveform * (0.1 / np.sqrt(np.mean(own**2)))).astype(np.float32)


@pytest.mark.whole
@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_levelled_windows_are_those_made_by_hand_on_both_paths(
    tmp_path: Path, tiny_checkpoint: Checkpoint, padding: Padding
) -> None:
    root = write_sounds(tmp_path / "library")
    plain = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    deferring = Resampling(tiny_checkpoint)
    deferring.level = "rms"
    levelling = Extractor(tiny_checkpoint, device="cpu", precision="fp32", level="rms")
    geometry = Geometry(112_000, padding=padding)
    for name, extractor in (("plain", levelling), ("deferred", deferring)):
        store = embed(root, tmp_path / name, extractor, geometry)
        assert store.identity.level == "rms"
        snapshot = store.snapshot()
        scenes, levels = snapshot.scene(np.arange(len(snapshot))), levels_of(store)
        paths = {recording: path for path, recording in store.live_files()}
        for row, window_id in enumerate(snapshot.windows.window_id.tolist()):
            window = snapshot.windows.window(row)
            with open_audio(root / paths[window.recording_id]) as audio:
                cuts = {cut.start_sample: cut for cut in audio.windows(geometry)}
            cut = cuts[window.start_sample]
            wanted = plain(torch.from_numpy(by_hand(cut.waveform, cut.num_samples))[None]).scene
            np.testing.assert_allclose(scenes[row], wanted[0], atol=2e-4)
            with np.errstate(divide="ignore"):
                peak_db = 20 * np.log10(np.abs(cut.waveform).max())
            assert levels[window_id] == pytest.approx(peak_db, abs=1e-3)  # before any gain
    assert {44_100, 48_000} <= set(deferring.rates_hz)


@pytest.mark.whole
def test_levelled_store_finds_a_copy_of_any_level_and_asks_it_once(
    tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    library, path = tmp_path / "library", tmp_path / "s.soundalike"
    library.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        at = np.arange(40_000 + 9_000 * number) / 32_000
        tone = np.sin(2 * np.pi * (300 + 170 * number) * at) * np.exp(-((3 * at) % 1))
        sound = 0.5 * tone + 0.02 * rng.normal(0, 1, len(at))
        soundfile.write(library / f"{number}.wav", sound, 32_000, "FLOAT")
        soundfile.write(tmp_path / f"quiet {number}.wav", 0.01 * sound, 32_000, "FLOAT")
    told = run("index", library, "--store", path, "--checkpoint", tiny_file, "--level", "rms")
    assert ", padding repeat, level rms)" in told.out
    assert ", padding repeat, level rms, frames pooled" in run("info", path).out
    sounds = soundalike.open(path)
    for number in range(8):
        answer = sounds.search(tmp_path / f"quiet {number}.wav")
        assert answer[0].path == library / f"{number}.wav"
        assert answer[0].score == pytest.approx(1, abs=1e-4)
        assert answer.notes == ()  # not louder besides
    again = run("index", library, "--store", path)  # the store's
    assert "nothing to embed" in again.out
    refused = run("index", library, "--store", path, "--level", "off", code=1)
    assert "level is rms there and off here" in refused.err


def test_stores_of_another_level_are_not_asked_together(
    tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    made = {}
    for level in get_args(Level):
        extractor = Extractor(tiny_checkpoint, device="cpu", level=level)
        made[level] = new_store(tmp_path / level, extractor)
        build(made[level])
    with pytest.raises(IdentityError, match="level is off there and rms here"):
        SoundIndex.open(*(store.path for store in made.values()))
    document = asdict(made["off"].identity)
    assert document.pop("level") == "off"
    assert Identity.from_dict(document) == made["off"].identity  # what does not say it
    with pytest.raises(NotAsWrittenError, match="its level is 'loud'"):
        Identity.from_dict({**document, "level": "loud"})
