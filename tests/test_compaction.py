"""Compaction: nothing that is live changes, whatever the history, and wherever it is cut short.

The oracle is what a library held: runs are played on the store's own ledger, as `extract` makes
them, and after each the live windows must be those of the files that were there.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, needs_root, run_as_nobody
from hypothesis import given, settings
from hypothesis import strategies as st
from listener import Listener
from oracle import Query, ask
from synthetic import ORIGIN, Synthetic, head, make_store, recording_id, table, windows_of

from indexer.arrays import contains
from indexer.errors import DamagedStoreError, StoreError
from indexer.progress import News, Step
from indexer.store.compaction import CompactReport, delete_replaced
from indexer.store.compaction import compact as compact_parts
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.schema import FramesMode, Origin
from indexer.store.snapshot import Block
from indexer.store.writer import PartWriter, remove_leftovers
from indexer.windows import Window
from search.asking.sound_index import SoundIndex
from search.upkeep.build import build
from search.upkeep.compact import compact
from search.upkeep.verify import verify

#: How many windows a recording of that name has.
LENGTHS = {name: 1 + number % 4 for number, name in enumerate("abcdefgh")}
#: What is no audio after its first window.
BROKEN = "h"


def window_of(name: str, number: int, num_frames: int = 2) -> tuple[Block, np.ndarray[Any, Any]]:
    """A window of a recording as the network gives it: the same whenever it is embedded."""
    rng = np.random.default_rng([ord(name), number])
    scene = rng.normal(0, 1, (1, 768)).astype(np.float32)
    tags = head().tags(scene).astype(np.float16)
    frames = rng.normal(0, 1, (1, num_frames, 768)).astype(np.float16)
    return Block(table(windows_of(name, number + 1)[-1:]), scene, tags), frames


@dataclass
class Library:
    """A folder of sounds and its store; `files` says which recording is at which path."""

    put: Synthetic
    files: dict[str, str]
    origin: Origin = ORIGIN

    @property
    def store(self) -> Store:
        return self.put.store

    def run(
        self, files: dict[str, str], *, part_windows: int = 3, max_windows: int | None = None
    ) -> list[str]:
        """Index what is there now, as `extract` does; a run may be cut short after some windows.

        Returns:
            The recordings of which windows were embedded, one name for each window.
        """
        parts = self.store.parts()
        ledger = self.store.ledger(parts)
        begun = self.store.partial_windows(parts, ledger.known)
        known = {name for name in LENGTHS if contains(ledger.known, ids(name))[0]}
        embedded: list[str] = []
        with PartWriter(self.store, self.origin) as writer:
            for path, name in files.items():
                if self.files.get(path) == name:
                    continue
                stored = {int(one) for one in begun.get(recording_id(name), ())}
                for number in range(0 if name in known else LENGTHS[name]):
                    block, frames = window_of(name, number)
                    if int(block.windows.window_id[0]) in stored or (name == BROKEN and number):
                        continue
                    if len(embedded) == max_windows:
                        writer.commit()
                        return embedded
                    writer.add_windows(block, None if self.has_no_frames else frames)
                    embedded.append(name)
                    if writer.num_windows == part_windows:
                        writer.commit()
                status = "failed" if name == BROKEN else "ok"
                writer.add_ledger([self.put.row(path, recording_id(name), status)])
                known.update({name} - {BROKEN})
                self.files[path] = name
            for path in set(self.files) - set(files):
                status = "moved" if self.files[path] in files.values() else "gone"
                recording = recording_id(self.files.pop(path))
                writer.add_ledger([self.put.row(path, recording, status)])
            writer.commit()
        return embedded

    @property
    def has_no_frames(self) -> bool:
        return self.store.identity.frames == "none"

    def compact(self, part_windows: int = 100_000) -> CompactReport:
        """Compact, and delete what was replaced."""
        report = compact_parts(self.store, part_windows=part_windows)
        delete_replaced(self.store, self.store.parts())
        return report

    def live(self) -> dict[Window, tuple[bytes, ...]]:
        """What must be found: every window of the files that are there, bit for bit."""
        found = {}
        for name in set(self.files.values()) - {BROKEN}:
            for number in range(LENGTHS[name]):
                (windows, scene, tags, _), frames = window_of(name, number)
                content = (scene.tobytes(), tags.tobytes())
                kept = () if self.has_no_frames else (frames.tobytes(),)
                found[windows.window(0)] = (*content, *kept)
        return found


def ids(*names: str) -> np.ndarray[Any, Any]:
    return np.array([recording_id(name) for name in names], "S16")


def stored(store: Store) -> dict[Window, tuple[bytes, ...]]:
    """The live windows of a store, bit for bit."""
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    columns: list[list[bytes]] = [
        [one.tobytes() for one in values] for values in (snapshot.scene(rows), snapshot.tags(rows))
    ]
    if store.identity.frames != "none":
        columns.append([one.tobytes() for one in snapshot.frames(rows)])
    windows = [snapshot.windows.window(row) for row in rows]
    return dict(zip(windows, zip(*columns, strict=True), strict=True))


def last_words(store: Store) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = store.latest_files().to_pylist()
    return rows


def files_below(folder: Path) -> dict[str, int]:
    """Relative path → mtime in ns of every file."""
    found = sorted(folder.rglob("*"))
    return {str(one.relative_to(folder)): one.stat().st_mtime_ns for one in found if one.is_file()}


def assert_no_lost_windows(store: Store, lengths: dict[str, int]) -> None:
    """Each "ok" row of the history has all windows of its recording in its part or before it."""
    windows_so_far: set[int] = set()
    for part in store.parts():
        if "scene.parquet" in part.files:
            rows = pq.read_table(part.path / "scene.parquet", columns=["window_id"])
            windows_so_far.update(rows["window_id"].to_pylist())
        if "files.parquet" in part.files:
            for row in pq.read_table(part.path / "files.parquet").to_pylist():
                if row["status"] == "ok":
                    name = next(n for n in lengths if recording_id(n) == row["recording_id"])
                    expected = {one.window_id for one in windows_of(name, lengths[name])}
                    assert expected <= windows_so_far, (part.name, row["path"])


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(make_store(tmp_path / "store"), {})


def lived_in(library: Library) -> Library:
    """Give a library a past: additions, a rename, a deletion, an edit, a copy and a failure."""
    library.run({"1": "a", "2": "b", "3": "c", "4": "d"})
    library.run({"1": "a", "2": "b", "3 renamed": "c", "4": "e"})
    library.run({"1": "a", "3 renamed": "c", "4": "e", "5": "h", "6": "a"})
    library.run({"1": "a", "3 renamed": "c", "4": "e", "5": "h", "6": "a", "7": "f"})
    return library


# --- nothing that is live changes ----------------------------------------------------------------


@pytest.mark.parametrize("part_windows", [1, 3, 5, 100_000])
@pytest.mark.parametrize("frames", ["pooled", "none"])
def test_compact_keeps_live_windows_and_last_words_bit_for_bit(
    tmp_path: Path, frames: FramesMode, part_windows: int
) -> None:
    library = lived_in(Library(make_store(tmp_path / "store", frames=frames), {}))
    words = last_words(library.store)
    before = library.store.snapshot()
    num_dead = sum(part.num_windows for part in before.parts) - len(before)
    num_words, num_parts = len(library.store.files()), len(before.parts)
    del before  # as long as it is there, its parts are
    report = library.compact(part_windows)
    after = library.store.parts()
    assert stored(library.store) == library.live()
    assert last_words(library.store) == words
    assert sum(part.num_windows for part in after) == len(library.live())
    assert len(library.store.files()) == len(words)
    removed = (report.num_windows_removed, report.num_rows_removed)
    assert removed == (num_dead, num_words - len(words)) > (0, 0)
    assert (report.num_parts_before, report.num_parts_after) == (num_parts, len(after))
    assert library.store.part_names() == [part.name for part in after]
    assert verify(library.store.path) == []


def test_compact_merges_all_of_a_small_store_into_one_part(library: Library) -> None:
    lived_in(library)
    last = library.store.parts()[-1]
    assert library.compact().num_parts_after == 1
    (part,) = library.store.parts()
    assert part.sequence == last.sequence
    assert part.num_windows == sum(LENGTHS[name] for name in "acef")


def test_compact_what_a_run_knows_is_exactly_what_is_live(library: Library) -> None:
    lived_in(library)
    library.compact()
    np.testing.assert_array_equal(library.store.ledger().known, np.sort(ids(*"acef")))


def test_compact_deleted_sound_that_comes_back_is_embedded_again(library: Library) -> None:
    library.run({"1": "a", "2": "c"})
    library.run({"1": "a"})
    library.compact()
    assert library.run({"1": "a", "2": "c"}) == ["c"] * LENGTHS["c"]
    assert stored(library.store) == library.live()


def test_compact_renamed_sound_is_not_embedded_again(library: Library) -> None:
    library.run({"1": "a", "2": "c"}, part_windows=1)
    library.run({"1": "a", "3": "c"})
    library.compact(part_windows=2)
    library.run({"1": "a"})
    assert library.run({"1": "a", "4": "c"}) == []
    assert stored(library.store) == library.live()


def test_compact_deleted_path_does_not_rise_from_the_dead(library: Library) -> None:
    """Its last word stays, or the older "ok" in an older part would count again."""
    library.run({"1": "d", "2": "c"})
    library.run({"2": "c"})
    for _ in range(2):
        library.compact(part_windows=1)
        assert stored(library.store) == library.live()


@pytest.mark.parametrize("part_windows", [1, 100_000])
def test_compact_unfinished_recording_is_continued_where_it_stopped(
    library: Library, part_windows: int
) -> None:
    library.run({"1": "a", "2": "d"}, part_windows=1)
    assert library.run({"1": "a", "2": "d", "3": "h", "4": "g"}, max_windows=3) == ["h", "g", "g"]
    for _ in range(2):
        library.compact(part_windows)
        assert stored(library.store) == library.live()
    assert library.run({"1": "a", "2": "d", "3": "h", "4": "g"}) == ["g"]
    assert stored(library.store) == library.live()


def test_compact_deleted_sound_that_is_half_embedded_again_is_continued(library: Library) -> None:
    """It has windows, and a word "gone" that is older."""
    library.run({"1": "a", "2": "d"})
    library.run({"1": "a"})
    library.compact()
    library.run({"1": "a", "2": "d"}, max_windows=3)
    for _ in range(2):
        library.compact()
    assert library.run({"1": "a", "2": "d"}) == ["d"]
    assert stored(library.store) == library.live()


def test_compact_windows_of_a_failed_file_are_removed(library: Library) -> None:
    library.run({"1": "a", "2": BROKEN})
    assert library.compact().num_windows_removed == 1
    assert [row["status"] for row in last_words(library.store)].count("failed") == 1


def test_compact_doubled_windows_are_kept_once_and_the_first(library: Library) -> None:
    library.run({"1": "c"}, part_windows=100)
    with PartWriter(library.store, ORIGIN) as writer:  # what two writers of old could make
        block, frames = window_of("c", 0)
        writer.add_windows(block._replace(scene=block.scene + 1), frames)
        writer.commit()
    assert library.compact(part_windows=1).num_windows_removed == 1
    assert stored(library.store) == library.live()
    assert not library.compact(part_windows=1).has_changed


def test_compact_spans_keep_the_recording_while_one_is_there(library: Library) -> None:
    put = library.put
    spans: list[dict[str, Any]] = [
        {"span_start": start, "span_samples": 320_000} for start in (0, 320_000)
    ]
    rows = [
        replace(put.row("1", recording_id("b"), **span), path_id=number)
        for number, span in enumerate(spans)
    ]
    with PartWriter(library.store, ORIGIN) as writer:
        for number, row in enumerate(rows):
            writer.add_windows(*window_of("b", number))
            writer.add_ledger([row])
            writer.commit()
        writer.add_ledger([replace(rows[0], status="gone")])
        writer.commit()
    assert library.compact(part_windows=1).num_rows_removed == 1
    library.files = {"1": "b"}
    assert stored(library.store) == library.live()
    put.add_rows([replace(rows[1], status="gone")])
    assert library.compact().num_windows_removed == 2
    assert len(library.store.ledger().known) == 0


def test_compact_empty_store_does_nothing(library: Library) -> None:
    assert library.compact() == CompactReport(0, 0, 0, 0, 0, 0)
    assert not library.store.part_names()


def test_compact_store_of_deleted_files_keeps_only_their_last_words(library: Library) -> None:
    library.run({"1": "a", "2": "d"}, part_windows=1)
    library.run({})
    words = last_words(library.store)
    library.compact()
    (part,) = library.store.parts()
    assert (list(part.files), part.num_windows) == (["files.parquet"], 0)
    assert last_words(library.store) == words


step = st.one_of(
    st.tuples(
        st.dictionaries(st.sampled_from("1234"), st.sampled_from(sorted(LENGTHS)), max_size=4),
        st.integers(1, 5),
        st.none() | st.integers(0, 6),
    ),
    st.integers(1, 12),
)


@pytest.mark.whole
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(step, min_size=2, max_size=8))
def test_compact_anywhere_in_any_history_changes_nothing_that_is_live(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    library = Library(make_store(tmp_path_factory.mktemp("history") / "store", frames="none"), {})
    for step in steps:
        if isinstance(step, int):
            words = last_words(library.store)
            library.compact(part_windows=step)
            assert last_words(library.store) == words
            names = library.store.part_names()
            library.compact(part_windows=step)
            assert library.store.part_names() == names  # twice writes nothing
        else:
            files, part_windows, max_windows = step
            library.run(files, part_windows=part_windows, max_windows=max_windows)
        assert stored(library.store) == library.live()
        assert_no_lost_windows(library.store, LENGTHS)
    shutil.rmtree(library.store.path)


# --- which parts become one ----------------------------------------------------------------------


def test_compact_twice_writes_nothing(library: Library) -> None:
    lived_in(library)
    build(library.store)
    compact(library.store.path)
    before = files_below(library.store.path)
    report = compact(library.store.path)
    assert not report.has_changed
    after = files_below(library.store.path)
    assert {name for name in after if after[name] != before.get(name)} <= {
        ".writer.lock",
        "index/.lock",
    }
    assert set(after) == set(before)


def test_compact_leaves_a_full_part_with_nothing_dead_alone(library: Library) -> None:
    library.run({"1": "d", "2": "c"}, part_windows=100)
    (full,) = library.store.part_names()
    library.run({"1": "d", "2": "c", "3": "a"})
    library.run({"1": "d", "2": "c", "3": "a", "4": "b"})
    library.compact(part_windows=7)
    assert library.store.part_names()[0] == full
    assert len(library.store.part_names()) == 2


def test_compact_merges_only_what_was_computed_in_one_way(library: Library) -> None:
    origins = [
        ORIGIN,
        replace(ORIGIN, created="2026-02-01T00:00:00+00:00"),
        replace(ORIGIN, device="GPU", precision="bf16"),
        replace(ORIGIN, versions={"torch": "3"}),
    ]
    files: dict[str, str] = {}
    for origin, name in zip(origins, "abcd", strict=True):
        library.origin = origin
        files[name] = name
        library.run(files, part_windows=100)
    library.origin = ORIGIN  # of a part with nothing but a ledger, which joins any
    library.run({**files, "a again": "a"})
    library.compact()
    newest = replace(origins[3], created=ORIGIN.created)
    assert [part.origin for part in library.store.parts()] == [origins[1], origins[2], newest]
    names = library.store.part_names()
    assert not library.compact().has_changed
    assert library.store.part_names() == names


@pytest.mark.whole
def test_compact_parts_with_one_sequence_number_become_one(tmp_path: Path) -> None:
    """Their random names order them: each written anew alone, the last could become the first."""
    library = Library(make_store(tmp_path / "store", frames="none"), {})
    files = {"0": "e", "1": "b", "2": "b"}
    for change in ({}, {"1": "a", "2": "a"}, {"1": "c", "3": "a"}, {"3": "d"}):
        files |= change
        library.run(files, part_windows=100)
    folder = library.store.path / "parts"
    places = zip((1, 2, 2, 3), library.store.part_names(), strict=True)
    for number, (sequence, name) in enumerate(places):
        (folder / name).rename(folder / f"{sequence:010d}-{'f' * 31}{number}")
    words = last_words(library.store)
    steps = Steps(library.store.path, tmp_path / "copies")
    for at in steps.during(lambda: library.compact(part_windows=1)):
        assert stored(Store.open(at)) == library.live()
        assert last_words(Store.open(at)) == words
    assert [part.sequence for part in library.store.parts()] == [1, 2, 3]


def test_compact_progress_ends_at_the_total(library: Library) -> None:
    lived_in(library)
    heard = Listener()
    compact_parts(library.store, listen=heard)
    num_rows = 2 * len(library.live()) + len(last_words(library.store))
    assert heard.steps[-1] == Step("compacting", num_rows, num_rows, "row")
    assert heard.done == sorted(set(heard.done))


# --- cut short -----------------------------------------------------------------------------------


class Steps:
    """Copies a store before each change that a function makes to the names and files on disk.

    A copy is what a process leaves that is killed there. What is written between two of these calls
    is in a temporary folder, and half of it is no other case than all of it.
    """

    _CALLS = ("rename", "replace", "unlink", "rmdir", "mkdir")

    def __init__(self, store: Path, copies: Path) -> None:
        self._store, self._copies = store, copies
        self._is_copying = False
        self.num_steps = 0

    def _before(self) -> None:
        if not self._is_copying:
            self._is_copying = True
            shutil.copytree(self._store, self._copies / f"{self.num_steps:03d}")
            self.num_steps += 1
            self._is_copying = False

    def during(self, action: Callable[[], object]) -> Iterator[Path]:
        with pytest.MonkeyPatch.context() as patch:
            for name in self._CALLS:
                call = getattr(os, name)

                def step(*words: Any, _call: Callable[..., Any] = call, **more: Any) -> Any:
                    self._before()
                    return _call(*words, **more)

                patch.setattr(os, name, step)
            action()
        yield from sorted(self._copies.iterdir())


def leftovers(store: Path) -> list[str]:
    return [str(one) for one in store.rglob(".tmp-*")]


def assert_goes_on_after_a_kill(library: Library, at: Path) -> None:
    """A store that a compaction left: all is there, and all can be done with it."""
    left = Library(replace(library.put, store=Store.open(at)), dict(library.files))
    words = last_words(left.store)
    assert stored(left.store) == library.live()
    assert_no_lost_windows(left.store, LENGTHS)
    remove_leftovers(left.store)
    everything = {**left.files, **{f"{name} again": name for name in LENGTHS}}
    left.run(everything)
    assert stored(left.store) == left.live()
    left.run(library.files)
    assert len(last_words(left.store)) == len(words) + len(LENGTHS)
    compact(at)
    assert stored(left.store) == library.live()
    assert_no_lost_windows(left.store, LENGTHS)
    assert leftovers(at) == []
    assert len(left.store.part_names()) == 1
    assert verify(at) == []


@pytest.mark.whole
@pytest.mark.parametrize("part_windows", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_compact_killed_at_any_step_loses_nothing(tmp_path: Path, part_windows: int) -> None:
    library = lived_in(Library(make_store(tmp_path / "store", frames="none"), {}))
    library.run(dict(library.files) | {"8": "g"}, max_windows=2)  # and one that is unfinished
    steps = Steps(library.store.path, tmp_path / "copies")
    for at in steps.during(lambda: library.compact(part_windows)):
        assert_goes_on_after_a_kill(library, at)
    assert steps.num_steps > 20
    assert leftovers(library.store.path) == []


@pytest.mark.whole
def test_compact_killed_at_any_step_is_finished_by_the_next_build(tmp_path: Path) -> None:
    library = lived_in(Library(make_store(tmp_path / "store", frames="none"), {}))
    build(library.store)
    library.run(dict(library.files) | {"8": "g"})
    expected = {one.window_id for one in library.live()}
    steps = Steps(library.store.path, tmp_path / "copies")
    for at in steps.during(lambda: compact(library.store.path)):
        store = Store.open(at)
        assert found_by_search(at) <= expected  # the windows of "g" come with the build
        assert build(store).num_windows == len(expected)
        assert found_by_search(at) == expected
        assert store.part_names() == [part.name for part in store.parts()]
        assert stored(store) == library.live()
    assert steps.num_steps > 20


def found_by_search(path: Path) -> set[int]:
    query = Query(vectors=np.eye(1, 768, dtype=np.float32), k=1000)
    return {hit.window_id for hit in ask(SoundIndex.open(path), query)}


@pytest.mark.whole
def test_compact_searches_go_on_and_miss_nothing(library: Library) -> None:
    lived_in(library)
    build(library.store)
    expected = {one.window_id for one in library.live()}
    answers: list[set[int]] = []
    counts: list[int] = []
    is_over = threading.Event()

    def search() -> None:
        while not is_over.is_set():
            answers.append(found_by_search(library.store.path))
            counts.append(len(library.store.snapshot()))

    with ThreadPoolExecutor(1) as threads:
        searching = threads.submit(search)
        for number in range(12):
            library.run({f"{path}'": name for path, name in library.files.items()})
            if number % 3 == 2:
                assert compact(library.store.path).has_changed
        is_over.set()
        searching.result()
    assert len(answers) > 3
    assert all(answer == expected for answer in answers)
    assert set(counts) == {len(expected)}


def test_compact_replaced_twice_before_anything_is_deleted_comes_back_never(
    library: Library,
) -> None:
    library.run({"1": "a", "2": "b"})
    library.run({"1": "a", "2": "b", "3": "a"})
    compact_parts(library.store)
    (first,) = library.store.parts()
    library.run({"1": "a", "3": "a"})
    compact_parts(library.store)
    (newest,) = library.store.parts()
    assert {*newest.replaces, newest.name} == set(library.store.part_names())
    assert {*first.replaces, first.name} < set(newest.replaces)
    shutil.rmtree(first.path)
    assert stored(library.store) == library.live()
    delete_replaced(library.store, library.store.parts())
    assert library.store.part_names() == [newest.name]


# --- what cannot be done -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scene.parquet", "frames.parquet", "files.parquet"])
def test_compact_damaged_part_is_refused_and_named(library: Library, name: str) -> None:
    lived_in(library)
    num_parts = len(library.store.parts())
    file = library.store.parts()[0].path / name
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(DamagedStoreError, match=f"{file} is damaged: its content"):
        compact(library.store.path)
    assert len(library.store.parts()) == num_parts
    file.write_bytes(content)
    assert compact(library.store.path).num_parts_after == 1
    assert stored(library.store) == library.live()


def test_compact_damaged_part_does_not_undo_the_groups_before_it(library: Library) -> None:
    lived_in(library)
    first = library.store.parts()[0]
    content = (first.path / "frames.parquet").read_bytes()
    (first.path / "frames.parquet").write_bytes(content[:-20] + bytes(20))
    words = last_words(library.store)
    with pytest.raises(DamagedStoreError, match=first.name):
        library.compact(part_windows=2)
    remaining = library.store.parts()
    assert remaining[0].name == first.name
    assert remaining[-1].replaces
    (first.path / "frames.parquet").write_bytes(content)
    assert stored(library.store) == library.live()
    assert last_words(library.store) == words


def test_compact_on_a_full_disk_is_an_error_and_leaves_the_store_as_it_was(
    library: Library,
) -> None:
    """A limit on the size of files stands for the disk: writing beyond it fails in the same way."""
    lived_in(library)
    build(library.store)
    parts = library.store.part_names()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write to the store .*: File too large"):
            compact(library.store.path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert library.store.part_names() == parts
    assert leftovers(library.store.path) == []
    assert compact(library.store.path).num_parts_after == 1
    assert stored(library.store) == library.live()


@pytest.mark.whole
@needs_root
def test_compact_store_of_somebody_else_is_an_error(public_folder: Path) -> None:
    library = lived_in(Library(make_store(public_folder / "store"), {}))
    before = files_below(library.store.path)

    def attempt() -> str:
        with pytest.raises(StoreError) as caught:
            compact(library.store.path)
        return str(caught.value)

    assert (
        run_as_nobody(attempt)
        == f"cannot write to the store {library.store.path}: Permission denied"
    )
    assert files_below(library.store.path) == before


def test_compact_waits_for_a_writer_and_says_so(library: Library) -> None:
    lived_in(library)
    said: list[News] = []
    is_told = threading.Event()

    def listen(news: News) -> None:
        said.append(news)
        is_told.set()

    with ThreadPoolExecutor(1) as threads:
        with sole_writer(library.store.path):
            compaction = threads.submit(compact, library.store.path, listen)
            assert is_told.wait(60)
            library.run({**library.files, "new": "g"})
        assert compaction.result().num_parts_after == 1
    assert "is being written by process" in str(said[0])
    assert stored(library.store) == library.live()


@pytest.mark.slow
def test_compact_memory_does_not_depend_on_the_size_of_the_store(tmp_path: Path) -> None:
    peaks = [peak_mb(tmp_path / str(num_windows), num_windows) for num_windows in (500, 8000)]
    assert peaks[1] - peaks[0] < 150, peaks


def peak_mb(path: Path, num_windows: int) -> int:
    """Return the peak memory of a process that compacts windows with frames of full size, in MB."""
    put = make_store(path)
    for seed in range(num_windows // 500):
        put.add({f"r{seed}": 499, f"dead{seed}": 1}, seed=seed)
    compact(path)  # into one part, from which something goes
    put.remove(*(f"dead{seed}.wav" for seed in range(num_windows // 500)))
    code = (
        "import sys; from pathlib import Path\n"
        "from search.upkeep.compact import compact\n"
        "report = compact(Path(sys.argv[1]))\n"
        "peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print(report.num_parts_after, int(peak) // 1024)"
    )
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    num_parts, peak = map(int, result.stdout.split())
    assert num_parts == 1
    return peak
