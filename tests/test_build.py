"""Building: what is on disk after each build, held against what was put into the store."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listener import Listener
from oracle import outputs_below, unit
from synthetic import ORIGIN, Synthetic, make_store, recording_id

from indexer.errors import DamagedStoreError, StoreError
from indexer.paths import path_id
from indexer.progress import Step
from indexer.store.creation import library_at
from indexer.store.reader import Store
from indexer.store.schema import LedgerRow
from indexer.store.writer import PartWriter
from indexer.tags import TagVocabulary
from search.generation.codes import code_of
from search.generation.manifest import GENERATION_FILE
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    RECORDINGS_FILE,
    SEGMENTS_FOLDER,
    Generation,
)
from search.generation.writing import normalise
from search.nearest.structure import open_index
from search.upkeep.build import build


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    return make_store(tmp_path / "store", frames="none")


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Relative path → (inode, mtime in ns) of every file that holds something."""
    return {
        str(file.relative_to(folder)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def generations(store: Store) -> list[str]:
    index = store.path / INDEX_FOLDER
    return sorted(one.name for one in index.iterdir() if one.name[:1].isdigit())


def segment_names(generation: Generation) -> set[str]:
    return {segment.name for segment in generation.segments}


def segments_on_disk(store: Store) -> set[str]:
    return {one.name for one in (store.path / INDEX_FOLDER / SEGMENTS_FOLDER).iterdir()}


def live_ids(generation: Generation) -> list[int]:
    rows = np.flatnonzero(
        np.concatenate([np.empty(0, bool), *(s.alive for s in generation.segments)])
    )
    return sorted(generation.window_ids(rows).tolist())


def places_of(generation: Generation, name: str) -> list[tuple[str, str]]:
    """(library_id, path) of each place of a recording."""
    rows = generation.recordings.rows_of(recording_id(name)).to_pylist()
    return [(row["library_id"], row["path"]) for row in rows]


def assert_holds(generation: Generation, put: Synthetic) -> None:
    """Every live window once, with its vector, tags and codes; nothing else alive."""
    expected = {put.windows[at].window_id: at for at in put.live()}
    assert live_ids(generation) == sorted(expected)
    assert generation.num_windows == len(expected)
    groups = [list(indices) for _, indices in TagVocabulary.audioset().groups]
    for segment in generation.segments:
        for row in np.flatnonzero(segment.alive):
            at = expected[int(segment.windows.window_id[row])]
            assert segment.windows.window(int(row)) == put.windows[at]
            assert np.abs(segment.vectors[row] - unit(put.scene[at])[0]).max() < 1e-7
            assert (segment.tags[row] == put.tags[at]).all()
        codes = code_of(segment.tags[:])
        assert (segment.codes[:527] == codes.T).all()
        for number, indices in enumerate(groups):
            assert (segment.codes[527 + number] == code_of(segment.tags[:, indices].max(1))).all()
        assert len(segment.codes) == 527 + len(groups)


# --- first and second ----------------------------------------------------------------------------


def test_build_empty_store_has_no_segments(store: Synthetic) -> None:
    generation = build(store.store)
    assert generation.segments == ()
    assert generation.num_windows == 0
    assert generation.starts.tolist() == [0]


def test_build_first_time_holds_everything(store: Synthetic) -> None:
    store.add({"a": 3, "b": 2})
    generation = build(store.store)
    assert len(generation.segments) == 1
    assert_holds(generation, store)
    assert_holds(Generation.current(store.store), store)


def test_build_without_change_writes_nothing(store: Synthetic) -> None:
    store.add({"a": 3})
    first = build(store.store)
    before = files_of(store.store.path)
    assert build(store.store).path == first.path
    assert files_of(store.store.path) == before


def test_build_groups_are_those_of_the_ontology(store: Synthetic) -> None:
    """The codes' columns are held against groups; here the groups against plain recursion."""
    vocabulary = TagVocabulary.audioset()
    names = {node.mid: node.name for node in vocabulary.nodes}
    for mid, indices in vocabulary.groups:
        assert set(indices) == set(outputs_below(names[mid]))


def test_build_new_part_writes_only_new_rows(store: Synthetic) -> None:
    store.add({"a": 9})
    first = build(store.store)
    before = files_of(first.segments[0].path)
    heard = Listener()
    store.add({"b": 2}, seed=1)
    second = build(store.store, listen=heard)
    assert segment_names(first) < segment_names(second)
    assert files_of(first.segments[0].path) == before  # same inodes, untouched
    assert sorted(len(segment) for segment in second.segments) == [2, 9]
    assert heard.steps[-1] == Step("indexing", 2, 2, "window")
    assert_holds(second, store)


@pytest.mark.parametrize("num_rows", [1, 3, 4, 5, 8, 9])
def test_build_segments_are_at_most_as_long_as_told(store: Synthetic, num_rows: int) -> None:
    store.add({"a": 3, "b": 5})
    store.add({"c": 1}, seed=1)
    generation = build(store.store, max_segment_rows=num_rows)
    lengths = [len(segment) for segment in generation.segments]
    assert sum(lengths) == 9
    assert max(lengths) <= num_rows
    assert len(lengths) == -(-9 // num_rows)
    assert_holds(generation, store)


@pytest.mark.whole
def test_build_parts_larger_than_a_block_lose_nothing(store: Synthetic) -> None:
    store.add({"a": 3000, "b": 1500})
    assert_holds(build(store.store, max_segment_rows=2000), store)


# --- rows that die and return --------------------------------------------------------------------


def test_build_dead_rows_are_masked_and_their_segment_kept(store: Synthetic) -> None:
    store.add({"a": 5, "b": 2})
    first = build(store.store)
    store.remove("b.wav")
    second = build(store.store)
    assert segment_names(second) == segment_names(first)
    assert second.segments[0].alive.sum() == 5
    assert_holds(second, store)
    assert_holds_old = live_ids(first)
    assert len(assert_holds_old) == 7  # the old generation is as it was


def test_build_rows_that_return_are_alive_again_without_writing(store: Synthetic) -> None:
    store.add({"a": 5, "b": 2})
    first = build(store.store)
    store.remove("b.wav")
    build(store.store)
    store.add_rows([store.row("back.wav", recording_id("b"))])
    store.paths["back.wav"] = recording_id("b")
    third = build(store.store)
    assert segment_names(third) == segment_names(first)
    assert_holds(third, store)


def test_build_segment_mostly_dead_is_written_anew(store: Synthetic) -> None:
    store.add({"a": 2, "b": 5})
    first = build(store.store)
    store.remove("b.wav")
    second = build(store.store)
    assert not segment_names(second) & segment_names(first)
    assert [len(segment) for segment in second.segments] == [2]
    assert_holds(second, store)


def test_build_segment_all_dead_is_dropped(store: Synthetic) -> None:
    store.add({"a": 2})
    build(store.store)
    store.remove("a.wav")
    second = build(store.store)
    assert second.segments == ()
    assert second.num_windows == 0


@pytest.mark.whole
def test_build_thirty_single_windows_keep_few_segments(store: Synthetic) -> None:
    for number in range(30):
        store.add({f"r{number}": 1}, seed=number)
        generation = build(store.store)
        assert len(generation.segments) <= (number + 1).bit_length()
    assert_holds(generation, store)


def test_build_shelf_is_written_anew_with_as_many_new_rows(store: Synthetic) -> None:
    """However many segments it has: what is alike lies together again."""
    store.add({"a": 9})
    first = build(store.store, max_segment_rows=4)
    store.add({"b": 4}, seed=1)
    second = build(store.store, max_segment_rows=4)
    assert segment_names(first) < segment_names(second)
    store.add({"c": 5}, seed=2)  # with the four before as many as the first
    third = build(store.store, max_segment_rows=4)
    assert not segment_names(second) & segment_names(third)
    assert sorted(len(one) for one in third.segments) == [2, 4, 4, 4, 4]
    assert len({entry.shelf for entry in third.manifest.segments}) == 1
    assert_holds(third, store)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4)), max_size=3),
            st.sets(st.sampled_from("abcdef"), max_size=3),
        ),
        min_size=1,
        max_size=5,
    ),
    max_segment_rows=st.integers(1, 9),
)
def test_build_any_history_holds_what_is_live(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[list[tuple[str, int]], set[str]]],
    max_segment_rows: int,
) -> None:
    put = make_store(tmp_path_factory.mktemp("history") / "store", frames="none")
    for seed, (added, removed) in enumerate(steps):
        # A name that comes again with more windows: the first ones are known already. Scenes come
        # from the name, so that a window is the same however often it was written.
        recordings = dict(added)
        scene = [
            np.random.default_rng([ord(name), number]).normal(0, 1, 768).astype(np.float32)
            for name, count in recordings.items()
            for number in range(count)
        ]
        put.add(recordings, scene=np.array(scene, np.float32).reshape(-1, 768), seed=seed)
        put.remove(*sorted(f"{name}.wav" for name in removed if f"{name}.wav" in put.paths))
        generation = build(put.store, max_segment_rows=max_segment_rows)
        assert_holds(generation, put)
        ids = generation.window_ids(np.arange(generation.starts[-1]))
        assert len(np.unique(ids)) == len(ids)  # dead rows included: no window is held twice
        assert all(len(segment) <= max_segment_rows for segment in generation.segments)
    shutil.rmtree(put.store.path)


# --- generations and readers ---------------------------------------------------------------------


def test_build_keeps_the_previous_generation_only(store: Synthetic) -> None:
    names = []
    for number in range(4):
        store.add({f"r{number}": 4**number}, seed=number)
        names.append(build(store.store).path.name)
    assert generations(store.store) == names[-2:]
    assert names == sorted(names)


def test_build_deletes_segments_that_no_kept_generation_names(store: Synthetic) -> None:
    store.add({"a": 1})
    first = build(store.store)
    store.add({"b": 1}, seed=1)
    second = build(store.store)  # merged: the first segment is only the first generation's
    assert segments_on_disk(store.store) == segment_names(first) | segment_names(second)
    store.add({"c": 1}, seed=2)
    third = build(store.store)
    assert segments_on_disk(store.store) == segment_names(second) | segment_names(third)
    assert not segment_names(first) & segments_on_disk(store.store)


def test_build_reader_of_an_old_generation_keeps_answering(store: Synthetic) -> None:
    store.add({"a": 3})
    old = build(store.store)
    index = open_index(old)
    query = unit(store.scene[1]).astype(np.float32)
    before = index.search(query, 3)
    for number in range(2):  # each takes the place of all segments
        store.remove(*list(store.paths))
        store.add({f"r{number}": 50}, seed=number + 1)
        build(store.store)
    assert not old.path.exists()
    assert not old.segments[0].path.exists()
    after = index.search(query, 3)
    assert (after.rows == before.rows).all()
    assert (after.scores == before.scores).all()
    assert places_of(old, "a") == [(store.library_id, "a.wav")]


def test_build_leftovers_of_a_crash_are_removed(store: Synthetic) -> None:
    store.add({"a": 2})
    first = build(store.store)
    index = store.store.path / INDEX_FOLDER
    leftovers = [
        index / f".tmp-{1:032x}",
        index / SEGMENTS_FOLDER / f".tmp-{2:032x}",
        index / SEGMENTS_FOLDER / f"{3:032x}",
        index / "trained" / f"{5:032x}",  # lists of an older version
    ]
    half = index / f".tmp-CURRENT-{4:032x}"
    half.write_text("0000")
    others = [index / "photos", index / SEGMENTS_FOLDER / "thesis", index / "trained" / "notes"]
    for folder in others:
        (folder / "of").mkdir(parents=True)
    for folder in leftovers:
        folder.mkdir(parents=True)
        (folder / "vectors.raw").write_bytes(b"half")
    assert build(store.store).path == first.path  # nothing changed, but they are in the way
    assert not any(folder.exists() for folder in [*leftovers, half])
    assert all((folder / "of").is_dir() for folder in others)
    assert_holds(Generation.current(store.store), store)


def test_build_leftovers_are_removed_even_if_it_is_not_known_what_others_need(
    store: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update, no index can be read until one is built: what fills the disk has to go."""
    store.add({"a": 2})
    first = build(store.store)
    (first.path / GENERATION_FILE).write_text("{}")
    left = store.store.path / INDEX_FOLDER / SEGMENTS_FOLDER / f".tmp-{2:032x}"
    left.mkdir()
    (left / "0").write_bytes(b"rows")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("search.upkeep.build.write_shelf", full)
    with pytest.raises(StoreError, match="No space left"):
        build(store.store)
    assert not left.exists()
    assert first.segments[0].path.is_dir()


def is_too_much(num_left: int, work: Callable[[], object]) -> bool:
    """Do some work on a disk that is full after so many changes, but for what is deleted."""
    changes = itertools.count()

    def limited(call: Callable[..., object]) -> Callable[..., object]:
        def change(*words: Any) -> object:
            if next(changes) >= num_left:
                raise OSError(28, "No space left on device")
            return call(*words)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "mkdir", "rename", "replace"):
            patch.setattr(os, name, limited(getattr(os, name)))
        try:
            work()
        except StoreError as error:
            return "No space left" in str(error)
    return False


@pytest.mark.whole
def test_build_that_fails_at_any_step_leaves_the_old_generation_and_is_made_up_for(
    store: Synthetic, tmp_path: Path
) -> None:
    store.add({"a": 2})
    first = build(store.store).path.name
    store.add({"b": 7}, seed=1)
    current = []
    for num_left in itertools.count():
        copied = replace(store, store=Store.open(shutil.copytree(store.store.path, tmp_path / "x")))
        if not is_too_much(num_left, partial(build, copied.store)):
            break
        current.append(Generation.current(copied.store))
        second = build(copied.store)
        assert_holds(second, copied)
        assert segments_on_disk(copied.store) == segment_names(current[0]) | segment_names(second)
        assert generations(copied.store) == [first, second.path.name]
        shutil.rmtree(copied.store.path)
    names = [one.path.name for one in current]
    assert len(names) > 15
    assert names[:-1] == [first] * (len(names) - 1)  # at the last step, all is there already


def test_build_on_a_full_disk_is_an_error_and_not_a_crash(
    store: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full stands for the disk: a mapped file there would end the process by a signal."""
    store.add({"a": 2})
    monkeypatch.setattr("search.generation.writing.array_file", lambda *_: Path("/dev/full"))
    with pytest.raises(StoreError, match="No space left"):
        build(store.store)


@pytest.mark.parametrize(
    "damage", ["no CURRENT", "CURRENT", "no manifest", "manifest", "recordings", "no segment"]
)
def test_build_over_a_damaged_index_makes_a_new_one(store: Synthetic, damage: str) -> None:
    store.add({"a": 2, "b": 1})
    first = build(store.store)
    index = store.store.path / INDEX_FOLDER
    file = {
        "no CURRENT": index / CURRENT_FILE,
        "CURRENT": index / CURRENT_FILE,
        "no manifest": first.path / GENERATION_FILE,
        "manifest": first.path / GENERATION_FILE,
        "recordings": first.path / RECORDINGS_FILE,
        "no segment": first.segments[0].path / "vectors.raw",
    }[damage]
    if damage.startswith("no "):
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(StoreError):
        Generation.current(store.store)
    second = build(store.store)
    assert second.path != first.path
    assert_holds(second, store)
    assert_holds(Generation.current(store.store), store)


@pytest.mark.whole
def test_build_in_three_processes_at_once_all_end_well(store: Synthetic) -> None:
    for number in range(3):
        store.add({f"r{number}": 40}, seed=number)
    code = (
        "import sys; from pathlib import Path\n"
        "from indexer.store.reader import Store\n"
        "from search.upkeep.build import build\n"
        "opened = Store.open(Path(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.read()\n"  # so that they begin together
        "print(build(opened).num_windows)"
    )
    command = [sys.executable, "-c", code, str(store.store.path)]
    pipe = subprocess.PIPE
    root = Path(__file__).parent.parent
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root)
            )
            for _ in range(3)
        ]
        pipes = [(one.stdin, one.stdout) for one in running if one.stdin and one.stdout]
        assert [output.readline() for _, output in pipes] == ["ready\n"] * 3
        for start, _ in pipes:
            start.close()
        assert [output.read() for _, output in pipes] == ["120\n"] * 3
    assert [process.returncode for process in running] == [0, 0, 0]
    generation = Generation.current(store.store)
    assert_holds(generation, store)
    assert generations(store.store) == [generation.path.name]  # one built, the others found it
    assert segments_on_disk(store.store) == segment_names(generation)


def test_build_in_a_folder_that_cannot_be_written_is_an_error(store: Synthetic) -> None:
    store.add({"a": 1})
    (store.store.path / INDEX_FOLDER).write_text("in the way")
    with pytest.raises(StoreError, match="index is no folder"):
        build(store.store)


# --- recordings ----------------------------------------------------------------------------------


def test_build_recordings_equal_the_last_word_on_every_path(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"ä": 1, "b": 1, "c": 1, "d": 1})
    other = library_at(store.store, tmp_path / "other")
    with PartWriter(store.store, ORIGIN) as writer:
        for path in ("b again.wav", "0.wav"):
            row = store.row(path, recording_id("b"))
            fields = {name: getattr(row, name) for name in row.__slots__}
            fields |= {"library_id": other, "path_id": path_id(other, path)}
            writer.add_ledger([LedgerRow(**fields)])
        writer.commit()
    store.remove("c.wav")
    store.add_rows([store.row("d.wav", None, "failed", stage="open", reason="gone bad")])
    generation = build(store.store)

    expected = [(other, "0.wav"), (other, "b again.wav"), (store.library_id, "b.wav")]
    assert places_of(generation, "b") == sorted(expected)
    assert places_of(generation, "ä") == [(store.library_id, "ä.wav")]
    assert places_of(generation, "c") == []
    assert places_of(generation, "d") == []


def test_build_recordings_are_sorted_as_bytes(store: Synthetic) -> None:
    names = [f"r{number}" for number in range(50)]
    store.add(dict.fromkeys(names, 1))
    recordings = build(store.store).recordings
    ids = [bytes(one).ljust(16, b"\0") for one in recordings.ids]
    assert ids == sorted(recording_id(name) for name in names)


def test_build_renamed_file_updates_its_path_and_writes_no_segment(store: Synthetic) -> None:
    store.add({"a": 3})
    first = build(store.store)
    before = files_of(first.segments[0].path)
    store.rename("a.wav", "folder/b.wav")
    second = build(store.store)
    assert second.path != first.path
    assert segment_names(second) == segment_names(first)
    assert files_of(second.segments[0].path) == before
    assert places_of(second, "a") == [(store.library_id, "folder/b.wav")]
    assert_holds(second, store)


def test_build_replaced_parts_change_no_window_and_are_deleted(store: Synthetic) -> None:
    """What `compact` does: one part that stands for two others, with the same windows."""
    store.add({"a": 3})
    store.add({"b": 2}, seed=1)
    first = build(store.store)
    scene, tags = store.scene.copy(), store.tags.copy()
    replaced = store.store.part_names()
    store.add({"a": 3, "b": 2}, scene=np.array(scene), tags=np.array(tags), replaces=replaced)
    second = build(store.store)
    assert second.parts == tuple(store.store.part_names())
    assert not {*replaced} & {*store.store.part_names()}
    assert segment_names(second) == segment_names(first)
    assert_holds(second, store)


def test_build_damaged_scenes_are_refused_and_not_given_a_new_digest(store: Synthetic) -> None:
    store.add({"a": 3})
    first = build(store.store)
    store.add({"b": 9}, seed=1)
    file = store.store.parts()[-1].path / "scene.parquet"
    content = file.read_bytes()
    file.write_bytes(content.replace(store.scene[5].tobytes(), store.scene[6].tobytes()))
    with pytest.raises(DamagedStoreError, match=f"{file} is damaged"):
        build(store.store)
    assert Generation.current(store.store).path == first.path
    file.write_bytes(content)
    assert_holds(build(store.store), store)


# --- vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e4, 1e30])
def test_normalised_vectors_have_length_one(scale: float) -> None:
    scene = (np.random.default_rng(0).normal(0, 1, (20, 768)) * scale).astype(np.float32)
    vectors = normalise(scene)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-6
    assert np.abs(vectors - unit(scene)).max() < 1e-7


def test_normalised_zeros_stay_zeros() -> None:
    assert (normalise(np.zeros((2, 768), np.float32)) == 0).all()


def test_normalised_nothing_is_nothing() -> None:
    assert normalise(np.empty((0, 768), np.float32)).shape == (0, 768)
