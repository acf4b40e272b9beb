"""Overviews against what was put into a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import ORIGIN, Synthetic, block_of, identity, make_store, recording_id, table

from indexer.errors import DamagedStoreError, StoreError
from indexer.store.compaction import compact
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS, Origin
from indexer.store.snapshot import Block
from indexer.store.writer import PartWriter
from indexer.windows import Window
from search.upkeep.build import build
from search.upkeep.overview import overview
from soundalike.show.stores import overview_lines


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    """Ten windows of three recordings; then copies, failures, a warning and something gone."""
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "library")
    made.add({"a": 5, "b": 3})
    made.add({"c": 2, "a": 5}, path_prefix="again/")
    made.add_rows(
        [
            made.row("x.wav", None, "failed", stage="open", reason="not audio"),
            made.row("y.wav", None, "failed", stage="open", reason="not audio"),
            made.row("z.wav", None, "failed", stage="decode", reason="not audio"),
            made.row("a copy.wav", recording_id("a"), warnings="anti-phase"),
            made.row("later.wav", None, "failed", stage="open", reason="locked"),
        ]
    )
    made.add_rows([made.row("later.wav", recording_id("c"))])  # the last word counts
    made.remove("b.wav")
    return made


def test_overview_counts_what_was_put_in(store: Synthetic, tmp_path: Path) -> None:
    found = overview(store.store.path)
    assert found.path == store.store.path
    assert found.identity == identity("none")
    assert (found.checkpoint, found.known) == ("test", None)
    assert found.num_windows == len(store.live()) == 7
    assert found.num_recordings == 2
    assert found.audio_s == 70.0
    assert found.num_parts == len(store.store.part_names()) == 5
    assert found.num_dead_windows == len(store.windows) - 7 == 8
    assert found.num_indexed is None
    assert found.num_new_parts == 5
    assert found.statuses == {"ok": 5, "failed": 3, "gone": 1}
    assert found.failures == {("open", "not audio"): 2, ("decode", "not audio"): 1}
    assert found.warnings == {"anti-phase": 1}
    assert found.libraries == {store.library_id: tmp_path / "library"}
    assert found.origins == {("cpu", "fp32"): 2}  # nothing was computed in parts without windows


@pytest.mark.parametrize(
    ("num_parts", "num_left", "is_many"),
    [(100, 0, False), (101, 0, True), (140, 10, False), (141, 10, True), (2441, 2441, False)],
)
def test_overview_tells_to_compact_where_that_leaves_far_fewer_parts(
    store: Synthetic, num_parts: int, num_left: int, is_many: bool
) -> None:
    found = overview(store.store.path)
    found = replace(found, num_parts=num_parts, num_compact_parts=num_left)
    assert found.has_many_parts == is_many
    told = [line for line in overview_lines(found) if "soundalike compact" in line]
    assert len(told) == is_many


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("cpu", "cuda")])
def test_overview_knows_how_many_parts_a_compaction_leaves(
    store: Synthetic, devices: tuple[str, str]
) -> None:
    """What two devices have computed in turn stays in parts of its own."""
    for number in range(6):
        with PartWriter(store.store, replace(ORIGIN, device=devices[number % 2])) as writer:
            writer.add_windows(block_of(f"n{number}", 1), None)
            writer.add_ledger([store.row(f"n{number}.wav", recording_id(f"n{number}"))])
            writer.commit()
    found = overview(store.store.path)
    assert found.num_parts == 11
    assert found.num_compact_parts == compact(store.store).num_parts_after
    assert found.num_compact_parts == (1 if devices[0] == devices[1] else 6)


def test_overview_lists_the_most_frequent_first(store: Synthetic) -> None:
    found = overview(store.store.path)
    for counts in (found.statuses, found.failures, found.warnings):
        assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_overview_says_what_the_index_holds(store: Synthetic) -> None:
    build(store.store)
    found = overview(store.store.path)
    assert (found.num_indexed, found.num_new_parts) == (7, 0)
    store.add({"d": 4})
    found = overview(store.store.path)
    assert (found.num_indexed, found.num_new_parts, found.num_windows) == (7, 1, 11)


def test_overview_counts_origins_apart(store: Synthetic) -> None:
    gpu = Origin("NVIDIA H100", "bf16", {}, ORIGIN.created)
    window = Window(recording_id("q"), 0, 320_000)
    block = Block(
        table([window]),
        np.ones((1, EMBEDDING_DIM), np.float32),
        np.zeros((1, NUM_TAGS), np.float16),
    )
    with PartWriter(store.store, gpu) as writer:
        writer.add_windows(block, None)
        writer.add_ledger([store.row("q.wav", recording_id("q"))])
        writer.commit()
    assert overview(store.store.path).origins == {("cpu", "fp32"): 2, ("NVIDIA H100", "bf16"): 1}


def test_overview_size_is_that_of_all_files(store: Synthetic) -> None:
    build(store.store)
    files = [file for file in store.store.path.rglob("*") if file.is_file()]
    assert overview(store.store.path).size_bytes == sum(len(file.read_bytes()) for file in files)


def test_overview_of_files_that_vanish_while_counted_goes_on(
    store: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run beside it renames its folders: a name that was listed may be gone a moment later."""
    listed = [(str(store.store.path), [], ["store.json", "gone"]), ("/nowhere", [], ["x"])]
    monkeypatch.setattr("os.walk", lambda _: listed)
    size = (store.store.path / "store.json").stat().st_size
    assert overview(store.store.path).size_bytes == size


def test_overview_of_an_empty_store_is_all_zero(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    found = overview(store.store.path)
    assert (found.num_windows, found.num_recordings, found.audio_s) == (0, 0, 0.0)
    assert (found.num_parts, found.num_dead_windows, found.num_new_parts) == (0, 0, 0)
    assert found.statuses == found.failures == found.warnings == found.origins == {}
    build(store.store)
    assert overview(store.store.path).num_indexed == 0


def test_overview_of_many_files_equals_counting_one_by_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    rng = np.random.default_rng(0)
    kinds = [
        ("failed", str(rng.choice(["open", "decode"])), f"reason {rng.integers(0, 9)}")
        for _ in range(300)
    ]
    store.add_rows(
        [
            store.row(f"{number}.wav", None, status, stage=stage, reason=reason)
            for number, (status, stage, reason) in enumerate(kinds)
        ]
    )
    found = overview(store.store.path)
    assert found.failures == Counter((stage, reason) for _, stage, reason in kinds)
    assert found.statuses == {"failed": 300}


def test_overview_without_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        overview(tmp_path)


def test_overview_over_a_damaged_index_is_an_error_that_names_it(store: Synthetic) -> None:
    manifest = build(store.store).path / "manifest.json"
    manifest.write_text("{}")
    with pytest.raises(DamagedStoreError, match=r"manifest\.json"):
        overview(store.store.path)
