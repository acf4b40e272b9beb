"""Segments and generations against the arrays that were put into a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Array, unit
from synthetic import Synthetic, make_store, recording_id

import search.generation.segments
from indexer.errors import DamagedStoreError, StoreError
from indexer.store.disk import read_sealed, seal
from indexer.store.reader import Store
from search.generation.codes import code_of
from search.generation.manifest import GENERATION_FILE
from search.generation.mapped import Lookup, array_file
from search.generation.recordings import Recordings
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    PARTS_FILE,
    RECORDING_DTYPE,
    SEGMENT_ARRAYS,
    SEGMENTS_FOLDER,
    Generation,
    Segment,
    alive_file,
    current_name,
    recordings_file,
)
from search.upkeep.build import build

#: Bits of 1.0 as float16.
ONE = 0x3C00


def float16s(bits: Array) -> Array:
    return bits.astype(np.uint16).view(np.float16)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Synthetic, Generation]:
    """Three parts in segments of at most 4 rows, with dead rows among them."""
    store = make_store(tmp_path_factory.mktemp("several") / "store", frames="none")
    for seed, recordings in enumerate([{"a": 3, "b": 2}, {"c": 5}, {"d": 1, "e": 6}]):
        store.add(recordings, seed=seed)
        build(store.store, max_segment_rows=4)
    store.remove("b.wav", "d.wav")
    return store, build(store.store, max_segment_rows=4)


def position_of(store: Synthetic, window_id: int) -> int:
    return next(at for at, one in enumerate(store.windows) if one.window_id == window_id)


# --- codes ---------------------------------------------------------------------------------------


def test_code_of_all_probabilities_is_one_byte_and_never_decreases() -> None:
    codes = code_of(float16s(np.arange(ONE + 1)))
    assert codes.dtype == np.uint8
    assert (np.diff(codes.astype(int)) >= 0).all()
    assert codes[0] == 0
    assert codes[-1] == 240  # room to spare below 256: nothing wrapped
    assert len(np.unique(codes)) == 241


def test_code_of_strided_probabilities_equals_that_of_a_copy() -> None:
    tags = float16s(np.arange(600).reshape(20, 30))
    assert (code_of(tags[::2, ::3]) == code_of(tags[::2, ::3].copy())).all()


@given(st.integers(0, ONE), st.integers(0, ONE))
def test_code_of_two_probabilities_keeps_their_order(first: int, second: int) -> None:
    low, high = sorted((first, second))
    codes = code_of(float16s(np.array([low, high])))
    assert codes[0] <= codes[1]


# --- a generation's rows -------------------------------------------------------------------------


def test_generation_rows_hold_what_was_put_in(several: tuple[Synthetic, Generation]) -> None:
    store, generation = several
    rows = np.random.default_rng(1).permutation(int(generation.starts[-1]))
    ids = generation.window_ids(rows)
    windows, vectors, tags = (
        one(rows) for one in (generation.windows, generation.vectors, generation.tags)
    )
    assert len(generation.segments) >= 4
    assert len(set(ids.tolist())) == len(rows)
    for at, window_id in enumerate(ids.tolist()):
        put = position_of(store, window_id)
        assert windows.window(at) == store.windows[put]
        assert np.abs(vectors[at] - unit(store.scene[put])[0]).max() < 1e-7
        assert (tags[at] == store.tags[put]).all()
    assert (generation.recording_ids(rows) == windows.recording_id).all()


@pytest.mark.parametrize(
    ("rows", "are_far_apart"),
    [
        ([7], True),
        (range(0, 90_000, 1_000), True),  # what an answer takes
        (range(0, 90_000, 30), False),
        (range(4096, 8192), False),  # a block of a pass over all
        (reversed(range(4096, 8192)), False),
    ],
)
def test_rows_that_are_far_apart_are_read_without_what_is_around_them(
    several: tuple[Synthetic, Generation], rows: Iterable[int], are_far_apart: bool
) -> None:
    segment = replace(
        several[1].segments[0],
        arrays={"vectors": np.zeros(90_000)},
        scattered={"vectors": np.ones(90_000)},
    )
    found = segment.rows_of("vectors", np.array(list(rows)))
    assert (found == are_far_apart).all()


def test_generation_no_rows_gives_empty_arrays(several: tuple[Synthetic, Generation]) -> None:
    _, generation = several
    rows = np.empty(0, np.int64)
    assert generation.vectors(rows).shape == (0, 768)
    assert generation.tags(rows).shape == (0, 527)
    assert generation.window_ids(rows).dtype == np.int64


def test_generation_alive_rows_are_the_live_windows(several: tuple[Synthetic, Generation]) -> None:
    store, generation = several
    alive = np.concatenate([segment.alive for segment in generation.segments])
    found = generation.window_ids(np.flatnonzero(alive)).tolist()
    assert sorted(found) == sorted(store.windows[at].window_id for at in store.live())
    assert generation.num_windows == len(found) == 14
    assert not alive.all()


def test_generation_finds_the_rows_of_live_windows(several: tuple[Synthetic, Generation]) -> None:
    store, generation = several
    wanted = [store.windows[at].window_id for at in store.live()]
    for ids in (wanted, wanted[3:4]):
        found = list(generation.find_all(ids))
        assert sorted(window_id for window_id, _ in found) == sorted(ids)
        rows = np.array([row for _, row in found])
        assert generation.window_ids(rows).tolist() == [window_id for window_id, _ in found]


def test_generation_finds_no_dead_window(several: tuple[Synthetic, Generation]) -> None:
    store, generation = several
    dead = set(range(len(store.windows))) - set(store.live())
    held = generation.window_ids(np.arange(generation.starts[-1])).tolist()
    assert any(store.windows[at].window_id in held for at in dead)  # on disk, but masked
    assert list(generation.find_all(store.windows[at].window_id for at in dead)) == []


@pytest.mark.parametrize("window_id", [0, -1, 2**63 - 1, 2**63, 10**19 - 1])
def test_generation_finds_no_unknown_id(
    several: tuple[Synthetic, Generation], window_id: int
) -> None:
    assert list(several[1].find_all([window_id])) == []


# --- recordings ----------------------------------------------------------------------------------


def test_recordings_places_are_sorted_and_complete(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"one": 1, "two": 2})
    store.add_rows([store.row("zz copy.wav", recording_id("one"))])
    store.add_rows([store.row("a copy.wav", recording_id("one"))])
    recordings = build(store.store).recordings
    rows = recordings.rows_of(recording_id("one"))
    assert rows["path"].to_pylist() == ["a copy.wav", "one.wav", "zz copy.wav"]
    assert set(rows["library_id"].to_pylist()) == {store.library_id}
    assert recordings.rows_of(recording_id("two"))["path"].to_pylist() == ["two.wav"]
    assert len(recordings.rows_of(recording_id("three"))) == 0


def test_recordings_ids_that_end_in_zero_bytes_are_kept_apart(tmp_path: Path) -> None:
    ids = [b"x" * 14 + b"\0\0", b"x" * 15 + b"\0", b"x" * 16, b"\0" * 15 + b"\1"]
    store = make_store(tmp_path / "store", frames="none")
    names = iter(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthetic.recording_id", lambda name: ids["abcd".index(name)])
        store.add(dict.fromkeys("abcd", 1))
    recordings = build(store.store).recordings
    for name, one in zip("abcd", names, strict=True):
        assert recordings.rows_of(one)["path"].to_pylist() == [f"{name}.wav"]


# --- opening -------------------------------------------------------------------------------------


def test_current_without_index_says_how_to_make_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store").store
    assert current_name(store) is None
    with pytest.raises(StoreError, match="has no index yet") as caught:
        Generation.current(store)
    assert (caught.value.about, caught.value.value) == ("build", store.path)


@pytest.mark.parametrize(
    "content", ["", "../../etc", ".", "00000001", "00000001-zzzzzzzz", "00000001-00000000\n", "\0"]
)
def test_current_that_names_no_generation_is_damage(tmp_path: Path, content: str) -> None:
    store = make_store(tmp_path / "store").store
    build(store)
    (store.path / INDEX_FOLDER / CURRENT_FILE).write_text(content)
    with pytest.raises(DamagedStoreError, match=CURRENT_FILE):
        Generation.current(store)


def test_current_that_names_a_missing_generation_is_damage(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store").store
    build(store)
    (store.path / INDEX_FOLDER / CURRENT_FILE).write_text("00000009-0123abcd")
    with pytest.raises(DamagedStoreError, match=f"{CURRENT_FILE} is damaged.*00000009-0123abcd"):
        Generation.current(store)


def test_current_replaced_while_it_is_opened_gives_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store").store
    newest = build(store).path.name
    seen = iter(["00000000-00000000", newest, newest])  # deleted between reading and opening
    monkeypatch.setattr(search.generation.segments, "current_name", lambda _: next(seen))
    assert Generation.current(store).path.name == newest


def test_current_that_never_stays_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store").store
    build(store)
    names = (f"{number:08d}-00000000" for number in range(100, 200))
    monkeypatch.setattr(search.generation.segments, "current_name", lambda _: next(names))
    with pytest.raises(StoreError, match="try again"):
        Generation.current(store)


LOOKUPS = [*Lookup.array_names("id"), *Lookup.array_names("recording")]


@pytest.mark.parametrize("name", [*SEGMENT_ARRAYS, *LOOKUPS, "codes", "alive", "recordings"])
@pytest.mark.parametrize("change", ["missing", "short", "long"])
def test_segment_array_of_another_size_is_damage(tmp_path: Path, name: str, change: str) -> None:
    folder = tmp_path / "segment"
    folder.mkdir()
    num_rows, num_columns = 3, 5
    for one, (dtype, shape) in SEGMENT_ARRAYS.items():
        np.zeros((num_rows, *shape), dtype).tofile(array_file(folder, one))
    np.zeros((num_columns, num_rows), np.uint8).tofile(array_file(folder, "codes"))
    for one in LOOKUPS:
        dtype = "<i8" if one.startswith("sorted") else "<i4"
        np.zeros(num_rows, dtype).tofile(array_file(folder, one))
    own = {
        "alive": alive_file(tmp_path, "segment"),
        "recordings": recordings_file(tmp_path, "segment"),
    }
    np.packbits(np.ones(num_rows, bool)).tofile(own["alive"])
    np.zeros(num_rows, RECORDING_DTYPE).tofile(own["recordings"])
    assert len(Segment.open(folder, tmp_path, num_rows, num_columns)) == num_rows

    file = own.get(name, array_file(folder, name))
    content = file.read_bytes()
    file.unlink()
    if change != "missing":
        file.write_bytes(content[:-1] if change == "short" else content + b"\0")
    with pytest.raises(DamagedStoreError, match=file.name):
        Segment.open(folder, tmp_path, num_rows, num_columns)


def test_segment_arrays_cannot_be_written_to(several: tuple[Synthetic, Generation]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        several[1].segments[0].vectors[0] = 1


@pytest.mark.parametrize("without", ["segments", "num_windows", "files"])
def test_generation_manifest_without_a_field_is_damage(tmp_path: Path, without: str) -> None:
    store = make_store(tmp_path / "store").store
    file = build(store).path / GENERATION_FILE
    document = read_sealed(file)
    del document[without]
    file.write_bytes(seal(document))
    with pytest.raises(DamagedStoreError):
        Generation.current(store)


@pytest.mark.parametrize("content", [None, "", "0000000001-00000000000000000000000000000000\n"])
def test_generation_without_its_list_of_parts_is_damage(
    tmp_path: Path, content: str | None
) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    generation = build(store.store)
    assert generation.parts == tuple(store.store.part_names())
    file = generation.path / PARTS_FILE
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(DamagedStoreError, match=PARTS_FILE):
        Generation.current(store.store)


def test_generation_without_its_segment_is_damage(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 2})
    [segment] = build(store.store).segments
    segment.path.rename(tmp_path / "elsewhere")
    with pytest.raises(DamagedStoreError, match=SEGMENTS_FOLDER):
        Generation.current(Store.open(store.store.path))


def test_recordings_that_are_not_in_order_are_refused(tmp_path: Path) -> None:
    """They are looked up by halving: a row that is not found would be one beyond the last."""
    store = make_store(tmp_path / "store", frames="none")
    store.add({"one": 1, "two": 1})
    table = build(store.store).recordings.table
    Recordings(table.take([1, 0])).write(tmp_path / "recordings.arrow")
    with pytest.raises(DamagedStoreError, match="its recordings are not in order"):
        Recordings.open(tmp_path / "recordings.arrow")
