"""Snapshots against what was put in: rows in any order, from any part, dead ones left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import (
    ORIGIN,
    Synthetic,
    block_of,
    frames_of,
    make_store,
    recording_id,
    table,
    windows_of,
)

from indexer.errors import StoreError
from indexer.store.part import Part, _floats
from indexer.store.schema import FramesMode
from indexer.store.snapshot import Block, Snapshot, WindowTable
from indexer.store.writer import PartWriter
from indexer.windows import Window

#: More than one row group of scene.parquet (1024 rows) and of frames.parquet (64), in a part.
BIG = {"a": 700, "b": 400}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Five parts with windows: some dead, some in two parts with other numbers in each."""
    made = make_store(tmp_path_factory.mktemp("snapshot") / "store")
    made.add(BIG, seed=1, num_frames=1)
    made.add({"gone": 5, "c": 70}, seed=2, num_frames=3)
    made.add_rows([made.row("broken.wav", None, "failed")])
    made.add({"b": 6, "d": 65}, seed=3, num_frames=2)  # six windows of b a second time
    made.add({"gone too": 3}, seed=4, num_frames=1)  # a part without a live row
    made.add({"e": 1}, seed=5, num_frames=1)
    made.remove("gone.wav", "gone too.wav")
    made.rename("e.wav", "renamed.wav")
    return made


@pytest.fixture(scope="module")
def snapshot(made: Synthetic) -> Snapshot:
    return made.store.snapshot()


def expected(values: list[Any], made: Synthetic) -> np.ndarray[Any, Any]:
    return np.array([values[at] for at in made.live()])


def small(tmp_path: Path, frames: FramesMode = "none") -> Synthetic:
    return make_store(tmp_path / "store", frames=frames)


def live_names(made: Synthetic) -> set[str]:
    """Which of the recordings a to z have live windows."""
    snapshot = made.store.snapshot()
    held = {snapshot.windows.window(row).recording_id for row in range(len(snapshot))}
    return {name for name in ascii_lowercase if recording_id(name) in held}


# --- which windows -------------------------------------------------------------------------------


def test_snapshot_windows_are_the_live_ones_in_the_order_of_writing(
    made: Synthetic, snapshot: Snapshot
) -> None:
    assert len(snapshot) == 700 + 400 + 70 + 65 + 1
    windows = [made.windows[at] for at in made.live()]
    assert [snapshot.windows.window(row) for row in range(len(snapshot))] == windows
    assert snapshot.windows.window_id.tolist() == [window.window_id for window in windows]
    for column, dtype in zip(snapshot.windows, ("<i8", "S16", "<i8", "<i4"), strict=True):
        assert column.dtype == np.dtype(dtype)
        assert len(column) == len(snapshot)


@pytest.mark.parametrize("status", ["gone", "moved", "failed"])
def test_snapshot_recording_without_a_path_is_dead(status: str, tmp_path: Path) -> None:
    made = small(tmp_path)
    made.add({"a": 2, "b": 1})
    assert live_names(made) == {"a", "b"}
    made.add_rows([made.row("a.wav", recording_id("a"), status)])
    assert live_names(made) == {"b"}
    made.add_rows([made.row("again.wav", recording_id("a"))])  # known content: no new windows
    assert live_names(made) == {"a", "b"}
    assert len(made.store.snapshot()) == 3


def test_snapshot_recording_with_two_paths_lives_until_both_are_gone(tmp_path: Path) -> None:
    made = small(tmp_path)
    made.add({"a": 1})
    made.add_rows([made.row("copy.wav", recording_id("a"))])
    made.add_rows([made.row("a.wav", None, "gone")])
    assert live_names(made) == {"a"}
    made.add_rows([made.row("copy.wav", None, "gone")])
    assert live_names(made) == set()


def test_snapshot_path_with_new_content_lets_the_old_die(tmp_path: Path) -> None:
    made = small(tmp_path)
    made.add({"a": 2})
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("b", 3), None)
        writer.add_ledger([made.row("a.wav", recording_id("b"))])
        writer.commit()
    assert live_names(made) == {"b"}
    assert len(made.store.snapshot()) == 3


def test_snapshot_unfinished_recording_is_dead_until_its_last_part(tmp_path: Path) -> None:
    made = small(tmp_path)
    windows, scene, tags, _ = block_of("a", 4)
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(Block(windows.take(slice(3)), scene[:3], tags[:3]), None)
        writer.commit()
        assert len(made.store.snapshot()) == 0
        writer.add_windows(Block(windows.take(slice(3, 4)), scene[3:], tags[3:]), None)
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.commit()
    np.testing.assert_array_equal(made.store.snapshot().scene(np.arange(4)), scene)


def test_snapshot_of_older_parts_is_as_it_was(tmp_path: Path) -> None:
    made = small(tmp_path)
    made.add({"a": 1, "b": 2})
    older = made.store.parts()
    made.remove("a.wav")
    made.add({"c": 1})
    assert len(made.store.snapshot(older)) == 3
    assert len(made.store.snapshot()) == 3
    assert live_names(made) == {"b", "c"}


@pytest.mark.parametrize("frames", ["pooled", "none"])
def test_snapshot_of_an_empty_store_is_empty(frames: FramesMode, tmp_path: Path) -> None:
    made = small(tmp_path, frames)
    made.add_rows([made.row("a.wav", None, "failed")])
    for snapshot in (make_store(tmp_path / "other").store.snapshot(), made.store.snapshot()):
        none = np.empty(0, np.int64)
        assert len(snapshot) == 0
        assert list(snapshot.blocks()) == []
        assert snapshot.scene(none).shape == (0, 768)
        assert snapshot.tags(none).shape == (0, 527)
        assert snapshot.count_tags().tolist() == [0] * 527


@pytest.mark.parametrize("column", ["recording_id", "start_sample", "num_samples"])
@pytest.mark.parametrize("parts", [1, 2])
def test_snapshot_two_windows_under_one_id_are_an_error(
    column: str, parts: int, tmp_path: Path
) -> None:
    made = small(tmp_path)
    other = {"recording_id": recording_id("b"), "start_sample": 1, "num_samples": 319_999}[column]
    windows = table(windows_of("a", 1) * 2)
    getattr(windows, column)[1] = other
    block = block_of("a", 2)._replace(windows=windows)
    with PartWriter(made.store, ORIGIN) as writer:
        for row in (slice(1), slice(1, 2)):
            writer.add_windows(Block(windows.take(row), block.scene[row], block.tags[row]), None)
            if parts == 2:
                writer.commit()
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.commit()
    with pytest.raises(
        StoreError, match=f"two different windows have the id {windows.window_id[0]}"
    ):
        made.store.snapshot()


# --- rows ----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1235), max_size=40))
def test_rows_in_any_order_equal_what_was_put_in(
    made: Synthetic, snapshot: Snapshot, rows: list[int]
) -> None:
    at = [made.live()[row] for row in rows]
    asked = np.array(rows, np.int64)

    scene, tags = snapshot.scene(asked), snapshot.tags(asked)
    assert (scene.dtype, scene.shape) == (np.float32, (len(rows), 768))
    assert (tags.dtype, tags.shape) == (np.float16, (len(rows), 527))
    np.testing.assert_array_equal(scene, np.array([made.scene[one] for one in at]).reshape(-1, 768))
    np.testing.assert_array_equal(tags, np.array([made.tags[one] for one in at]).reshape(-1, 527))
    frames = snapshot.frames(asked)
    assert len(frames) == len(rows)
    for found, one in zip(frames, at, strict=True):
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, made.frames[one])


def test_rows_all_of_them_equal_what_was_put_in(made: Synthetic, snapshot: Snapshot) -> None:
    rows = np.arange(len(snapshot))[::-1]
    np.testing.assert_array_equal(snapshot.scene(rows), expected(made.scene, made)[::-1])
    np.testing.assert_array_equal(snapshot.tags(rows), expected(made.tags, made)[::-1])


@pytest.mark.parametrize("rows", [[-1], [1236], [0, 5, 2**40], [-(2**40), 3]])
def test_rows_beyond_the_snapshot_are_an_index_error(rows: list[int], snapshot: Snapshot) -> None:
    for read in (snapshot.scene, snapshot.tags, snapshot.frames):
        with pytest.raises(IndexError, match="rows are 0 to 1235"):
            read(np.array(rows))


@pytest.mark.parametrize(("frames", "shape"), [("pooled", (2,)), ("full", (2, 7))])
def test_frames_have_time_first_or_as_published_channels_first(
    frames: FramesMode, shape: tuple[int, ...], tmp_path: Path
) -> None:
    made = small(tmp_path, frames)
    stored = frames_of(3, *shape)
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 3), stored)
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.commit()
    rows = np.array([2, 0, 0])
    for number, found in zip(rows, made.store.snapshot().frames(rows), strict=True):
        np.testing.assert_array_equal(found, stored[number])
    published = made.store.snapshot().frames(rows, published_layout=True)
    for number, found in zip(rows, published, strict=True):
        assert found.shape == (768, *shape)
        for time in range(2):
            np.testing.assert_array_equal(found[:, time], stored[number, time].T)


def test_frames_of_a_store_without_are_refused(tmp_path: Path) -> None:
    made = small(tmp_path)
    made.add({"a": 1})
    with pytest.raises(
        StoreError, match="made without; another store, with them, can be made"
    ) as caught:
        made.store.snapshot().frames(np.array([0]))
    assert (caught.value.about, caught.value.value) == ("frames", "pooled")


# --- blocks --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    num_rows=st.integers(1, 1500),
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0, 0.01, 0.5, 1]),
)
def test_blocks_of_any_size_and_choice_equal_what_was_put_in(
    made: Synthetic, snapshot: Snapshot, num_rows: int, seed: int, share: float
) -> None:
    wanted = np.random.default_rng(seed).random(len(snapshot)) < share
    blocks = list(snapshot.blocks(num_rows, wanted))

    assert all(1 <= len(block.scene) <= num_rows for block in blocks)
    found = joined(blocks)
    np.testing.assert_array_equal(found.scene, expected(made.scene, made)[wanted])
    np.testing.assert_array_equal(found.tags, expected(made.tags, made)[wanted])
    for column, whole in zip(found.windows, snapshot.windows.take(wanted), strict=True):
        np.testing.assert_array_equal(column, whole)


def joined(blocks: list[Block]) -> Block:
    windows = [table([]), *(block.windows for block in blocks)]
    return Block(
        WindowTable(*map(np.concatenate, zip(*windows, strict=True))),
        np.concatenate([np.empty((0, 768), np.float32), *(block.scene for block in blocks)]),
        np.concatenate([np.empty((0, 527), np.float16), *(block.tags for block in blocks)]),
    )


def test_blocks_without_a_choice_are_all_rows(made: Synthetic, snapshot: Snapshot) -> None:
    found = joined(list(snapshot.blocks()))
    np.testing.assert_array_equal(found.scene, expected(made.scene, made))
    np.testing.assert_array_equal(found.tags, expected(made.tags, made))


def test_blocks_do_not_read_parts_without_a_wanted_row(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    blocks = Part.blocks

    def counted(part: Part, num_rows: int) -> Any:
        opened.append(part.sequence)
        return blocks(part, num_rows)

    monkeypatch.setattr(Part, "blocks", counted)
    wanted = np.zeros(len(snapshot), bool)
    wanted[[1100, -1]] = True  # the first row of the second part, and the last of all
    assert len(list(snapshot.blocks(wanted=wanted))) == 2
    assert opened == [2, 6]
    opened.clear()
    list(snapshot.blocks())
    assert opened == [1, 2, 4, 6]  # three is a ledger, all of five is dead


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_floats_of_a_slice_are_those_of_its_rows(start: int, length: int, chunked: bool) -> None:
    """A FixedSizeList keeps all its values when it is sliced."""
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 2).slice(start, length)
    found = _floats(pa.chunked_array([column, column[:1]]) if chunked else column)
    expected = values[start : start + length]
    if chunked:
        expected = np.concatenate([expected, expected[:1]])
    np.testing.assert_array_equal(found, expected)


def test_count_tags_equals_counting_float32_comparisons(
    made: Synthetic, snapshot: Snapshot
) -> None:
    tags = expected(made.tags, made).astype(np.float32)
    for threshold in (0.25, 0.5, float(tags[3, 5]), 0.0, 1.0):
        expected_counts = np.count_nonzero(tags >= np.float32(threshold), axis=0)
        np.testing.assert_array_equal(snapshot.count_tags(threshold), expected_counts)
    np.testing.assert_array_equal(snapshot.count_tags(), snapshot.count_tags(0.25))


# --- tables of windows ---------------------------------------------------------------------------


def test_window_table_gives_back_windows_with_all_bytes_of_their_ids() -> None:
    windows = [Window(bytes([number]) + bytes(15), number, 7) for number in range(4)]
    held = table(windows)
    assert [held.window(row) for row in range(4)] == windows
    assert held.take(np.array([3, 1])).window(0) == windows[3]
    assert held.take(held.start_sample > 2).window(0) == windows[3]
    assert held.take(slice(1, None)).window(0) == windows[1]


def test_snapshot_does_not_care_for_rows_of_other_libraries_paths(tmp_path: Path) -> None:
    """A path of another library is another path, though it reads the same."""
    made = small(tmp_path)
    made.add({"a": 1})
    made.add_rows([replace(made.row("a.wav", None, "gone"), library_id="other", path_id=1)])
    assert live_names(made) == {"a"}
