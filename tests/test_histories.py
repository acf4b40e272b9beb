"""An index that is kept up to date through any history, held against one that is made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import ORIGIN, block_of, frames_of, make_store, recording_id, table, windows_of

from indexer.arrays import contains, id_bytes
from indexer.store.reader import Store
from indexer.store.schema import LedgerRow
from indexer.store.writer import PartWriter
from search.generation.frames import StoredFrames
from search.generation.mapped import Lookup, array_file
from search.generation.segments import Generation
from search.upkeep import build as building
from search.upkeep.build import build, has_index
from search.upkeep.compact import compact

#: Recordings, and how many windows they have.
COUNTS = {"a": 1, "b": 3, "c": 5}
#: What a build takes over of a segment, and holds against its digest.
TAKEN_OVER = ("window_id", "recording_id", "start_sample", "num_samples", *Lookup.array_names("id"))


class History:
    """A store, and all that can happen to it; each has the name of a recording, and a number."""

    def __init__(self, path: Path) -> None:
        self._put = make_store(path, frames="pooled")
        self.store = self._put.store
        self._paths: dict[str, list[str]] = {name: [] for name in COUNTS}
        self._num_files = 0

    def add(self, name: str, _: int) -> None:
        """A file comes: as a run does it, what is known is not embedded again."""
        self._num_files += 1
        self._paths[name].append(f"{self._num_files}.wav")
        self._commit(name, COUNTS[name], [self._row(name)])

    def begin(self, name: str, _: int) -> None:
        """A run embeds some windows, and is killed."""
        self._commit(name, COUNTS[name] - 1, [])

    def remove(self, name: str, _: int) -> None:
        """A file is deleted."""
        if self._paths[name]:
            gone = self._row(name, "gone")
            self._paths[name].pop()
            self._commit(name, 0, [gone])

    def rename(self, name: str, _: int) -> None:
        """A file gets another name."""
        if self._paths[name]:
            moved = self._row(name, "moved")
            self._paths[name][-1] = f"moved {self._paths[name][-1]}"
            self._commit(name, 0, [moved, self._row(name)])

    def compact(self, *_: Any) -> None:
        """Parts are written anew."""
        compact(self.store.path)

    def kill(self, _: str, number: int) -> None:
        """A build is killed before one of its steps."""
        step = ("write_shelf", "measure", "_publish", "write_whole")[number % 4]
        killed = mock.patch.object(building, step, side_effect=KeyboardInterrupt)
        with killed, suppress(KeyboardInterrupt):
            build(self.store)

    def damage(self, _: str, number: int) -> None:
        """A byte of a segment is another, before a file comes that makes a build look at it."""
        for segment in Generation.current(self.store).segments if has_index(self.store) else ():
            file = array_file(segment.path, TAKEN_OVER[number % len(TAKEN_OVER)])
            content = bytearray(file.read_bytes())
            content[number % len(content)] ^= 1 << number % 8
            file.unlink()  # whoever has mapped it keeps what it was
            file.write_bytes(content)
        self._put.add_rows([self._put.row("broken.wav", None, "failed")])

    def _row(self, name: str, status: str = "ok") -> LedgerRow:
        return self._put.row(self._paths[name][-1], recording_id(name), status)

    def _commit(self, name: str, stop: int, rows: list[LedgerRow]) -> None:
        """Write a part with the windows up to some number that the store lacks."""
        parts, known = self.store.parts(), self.store.ledger().known
        windows, block = windows_of(name, COUNTS[name]), block_of(name, COUNTS[name], ord(name))
        there = self.store.partial_windows(parts, known).get(recording_id(name), np.empty(0))
        lacks = [at for at in range(stop) if windows[at].window_id not in there]
        if recording_id(name) in map(id_bytes, known):
            lacks = []
        with PartWriter(self.store, ORIGIN) as writer:
            if lacks:
                some = block._replace(
                    windows=table([windows[at] for at in lacks]),
                    scene=block.scene[lacks],
                    tags=block.tags[lacks],
                    level_db=np.array(lacks, np.float32),
                )
                writer.add_windows(some, frames_of(len(lacks), 2))
            writer.add_ledger(rows)
            writer.commit()


def told(store: Store, generation: Generation) -> dict[int, Any]:
    """All that is known of each live window, by its id; and that the index agrees with itself."""
    rows = generation.live_rows()
    ids, recordings = generation.window_ids(rows), generation.recording_ids(rows)
    every = generation.window_ids(np.arange(generation.starts[-1]))
    assert len(np.unique(every)) == len(every)  # dead rows included: no window is held twice
    assert generation.num_windows == len(ids)
    assert contains(np.unique(recordings), generation.recordings.ids).all()
    for segment in generation.segments:
        first = generation.recordings.first_rows(segment.windows.recording_id)
        np.testing.assert_array_equal(segment.recordings[segment.alive], first[segment.alive])
        np.testing.assert_array_equal(segment.find(segment.windows.window_id), range(len(segment)))
    columns = (
        generation.windows(rows).each(),
        generation.vectors(rows).tolist(),
        generation.tags(rows).tolist(),
        generation.column("level_db", rows).tolist(),
        [sorted(places) for places in generation.recordings.paths_of(recordings)],
        [len(one) for one in StoredFrames(store, generation).read(rows)],  # or they are of others
    )
    return dict(zip(ids.tolist(), zip(*columns, strict=True), strict=True))


def assert_as_made_anew(store: Store, generation: Generation) -> None:
    beside = store.path.with_name("anew")
    shutil.copytree(store.path, beside)
    anew = Store.open(beside)
    assert told(store, generation) == told(anew, build(anew, anew=True))
    shutil.rmtree(beside)


HAPPENS: dict[str, Callable[[History, str, int], None]] = {
    name: getattr(History, name)
    for name in ("add", "remove", "begin", "rename", "compact", "kill", "damage")
}


@pytest.mark.whole
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "remove", *HAPPENS]),
            st.sampled_from([*COUNTS]),
            st.integers(0, 99),
        ),
        min_size=3,
        max_size=9,
    ),
    st.sampled_from([2, 4, 100, 100]),
)
def test_index_after_any_history_is_as_one_made_anew(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, str, int]],
    max_segment_rows: int,
) -> None:
    history = History(tmp_path_factory.mktemp("history") / "store")
    for what, name, number in steps:
        HAPPENS[what](history, name, number)
        if number % 4:  # some builds find several parts that are new
            told(history.store, build(history.store, max_segment_rows=max_segment_rows))
    assert_as_made_anew(history.store, build(history.store, max_segment_rows=max_segment_rows))
    shutil.rmtree(history.store.path)


def test_what_comes_back_after_a_compaction_is_found(tmp_path: Path) -> None:
    """Its rows are dead in a segment that stays, and no part says that it ever was there."""
    history = History(tmp_path / "store")
    for name in ("c", "b"):
        history.add(name, 0)
    build(history.store)
    for what in (history.remove, history.compact, history.add):
        what("b", 0)
        generation = build(history.store)
    assert [len(one) for one in generation.segments] == [8]
    assert_as_made_anew(history.store, generation)
