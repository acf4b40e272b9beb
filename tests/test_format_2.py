"""A store of format 2 is opened, asked, verified, added to and compacted, its levels unknown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import REPOSITORY
from safetensors.numpy import save as save_safetensors

import soundalike
from indexer.embedding.extractor import Extractor
from indexer.run.config import ExtractConfig
from indexer.run.extract import extract
from indexer.store.compaction import compact
from indexer.store.disk import read_sealed, seal, write_whole
from indexer.store.parquet import SCENE_FILE
from indexer.store.reader import HEAD_FILE, LIBRARIES_FILE, Store
from indexer.store.schema import FORMAT_VERSION, STORE_FILE, LedgerRow
from indexer.store.writer import PartWriter
from search.generation.segments import INDEX_FOLDER, Generation
from search.upkeep.build import build
from search.upkeep.verify import verify

GOLDEN = Path(__file__).parent / "golden"
#: What the code that wrote it answered: by window id and by tag.
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "store-format-2.json").read_text())
SAMPLES = ("tools/hammer", "animals/dog", "vehicles/car_horn")


@pytest.fixture
def old(tmp_path: Path, demo_extractor: Extractor) -> Path:
    """Three samples and two files of zeros, and the head of the bundled checkpoint beside them."""
    path = tmp_path / "old.soundalike"
    shutil.copytree(GOLDEN / "store-format-2", path)
    write_whole(path / HEAD_FILE, save_safetensors(demo_extractor.head()._asdict()))
    return path


def library(old: Path) -> Path:
    """The library that it was made from, where the store looks for it, and one file more."""
    root = old.parent / "field"
    root.mkdir()
    for name in SAMPLES:
        shutil.copy(REPOSITORY / f"data/samples/{name}.ogg", root)
    soundfile.write(root / "silence.wav", np.zeros(16_000, np.int16), 16_000)
    soundfile.write(root / "nothing.wav", np.zeros(24_000, np.int16), 16_000)
    tone = 0.5 * np.sin(np.arange(32_000))
    soundfile.write(root / "new.wav", tone, 32_000, "FLOAT")
    roots = read_sealed(old / LIBRARIES_FILE)["roots"]
    write_whole(old / LIBRARIES_FILE, seal({"roots": dict.fromkeys(roots, str(root))}))
    return root


def assert_answers_as_before(path: Path) -> None:
    sounds = soundalike.open(path)
    for words, expected in ANSWERS["by_window"].items():
        assert_same(sounds.search(int(words), k=5), expected)
    for words, expected in ANSWERS["by_tag"].items():
        assert_same(sounds.search(tags=words, k=5), expected)


def assert_same(answer: soundalike.Answer, expected: list[dict[str, Any]]) -> None:
    found = {hit.window_id: hit for hit in answer}
    assert [hit.score for hit in answer] == pytest.approx(
        [one["score"] for one in expected], abs=1e-6
    )
    assert found.keys() == {one["window_id"] for one in expected}
    for one in expected:
        hit = found[one["window_id"]]
        assert hit.recording_id.hex() == one["recording_id"]
        assert [str(path) for path in hit.paths] == one["paths"]
        assert (hit.start_s, hit.end_s) == (one["start_s"], one["end_s"])


def levels_of(store: Store) -> list[float]:
    return [level for block in store.snapshot().blocks() for level in block.levels.tolist()]


def test_store_of_format_2_answers_as_it_did_once_its_index_is_built(old: Path) -> None:
    assert read_sealed(old / STORE_FILE)["format_version"] == 2
    assert np.isnan(levels_of(Store.open(old))).tolist() == [True] * 5
    generation = build(Store.open(old))
    assert np.isnan(generation.column("level_db", generation.live_rows())).all()
    assert_answers_as_before(old)
    assert verify(old) == []
    assert read_sealed(old / STORE_FILE)["format_version"] == 2  # nothing was added
    shutil.rmtree(old / INDEX_FOLDER)
    build(Store.open(old))
    assert_answers_as_before(old)


@pytest.mark.whole
def test_store_of_format_2_is_added_to_and_compacted(old: Path, demo_extractor: Extractor) -> None:
    root, store = library(old), Store.open(old)
    report = extract(root, store, demo_extractor, ExtractConfig(num_workers=0))
    assert (report.num_embedded, report.failures) == (1, [])  # what it had is not embedded again
    assert read_sealed(old / STORE_FILE)["format_version"] == FORMAT_VERSION
    levels = levels_of(store)
    assert np.isnan(levels).tolist() == [True] * 5 + [False]
    assert levels[-1] == pytest.approx(20 * np.log10(0.5), abs=0.01)
    before = build(store)
    assert_same_levels(before, levels)
    assert verify(old) == []
    scenes = store.snapshot().scene(np.arange(6))
    assert compact(store, part_windows=10).num_parts_after in (1, 2)  # by device and precision
    again = Store.open(old)
    np.testing.assert_array_equal(levels_of(again), levels)
    np.testing.assert_array_equal(again.snapshot().scene(np.arange(6)), scenes)
    assert_same_levels(build(again), levels)
    assert verify(old) == []


def assert_same_levels(generation: Generation, levels: list[float]) -> None:
    found = generation.column("level_db", generation.live_rows())
    np.testing.assert_array_equal(np.sort(found), np.sort(np.array(levels, np.float32)))


def test_part_of_format_2_that_loses_a_window_is_written_with_levels_that_are_null(
    old: Path,
) -> None:
    store = Store.open(old)
    [part] = store.parts()
    assert "level_db" not in pq.read_schema(part.path / SCENE_FILE).names
    row = store.latest_files().to_pylist()[0]
    with PartWriter(store, part.origin) as writer:
        writer.add_ledger([LedgerRow(**{**row, "status": "gone"})])
        writer.commit()
    assert compact(store).num_windows_removed == 1
    [part] = store.parts()
    column = pq.read_table(part.path / SCENE_FILE)["level_db"]
    assert column.to_pylist() == [None] * 4
    assert np.isnan(levels_of(store)).tolist() == [True] * 4
