"""Anything in any order, dying at any step: the store is whole, and the next run makes it complete.

A model of a few lines says what should be there: which content each path of the library has now,
and the embeddings of each content, computed on their own.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing.sharedctypes import RawValue
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from dying import dies_at
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from oracle import Query, ask
from synthetic import write_tone
from test_extract import new_store

from indexer.arrays import contains, id_bytes, ids_from_column
from indexer.embedding.extractor import Extractor, Timed
from indexer.library.shards import Shard
from indexer.library.walk import walk
from indexer.model.checkpoint import Checkpoint
from indexer.run.commit import commit
from indexer.run.extract import ExtractConfig, extract
from indexer.store.stage import Stage
from indexer.store.verify import verify_parts
from indexer.windows import SAMPLE_RATE_HZ, Geometry
from search.asking.sound_index import SoundIndex
from search.filters.tags import TagFilter
from search.upkeep.build import build
from search.upkeep.compact import compact

pytestmark = pytest.mark.whole  # Runs, in processes that die.

#: Windows of 1 s, so that a network takes milliseconds and a short file has several.
GEOMETRY = Geometry(hop_samples=SAMPLE_RATE_HZ, window_samples=SAMPLE_RATE_HZ)
#: Small parts: a file lies in several of them.
CONFIG = ExtractConfig(num_workers=0, batch_size=2, part_windows=3, allow_gone=True)
NAMES = ["a.wav", "b.wav", "c.wav", "sub/d.wav", "sub/e.wav"]

#: What a file holds: the pitch of its tone, and its length in seconds.
Content = tuple[int, int]
CONTENTS = st.tuples(st.sampled_from([300, 400, 500]), st.sampled_from([1, 2, 5, 7]))


class Counted(Extractor):
    """A real extractor that counts its windows, those of child processes too."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint, device="cpu")
        self.count = RawValue("q", 0)
        self._turn = threading.Lock()

    def embed_and_time(self, waveforms: torch.Tensor) -> Timed:
        with self._turn:
            self.count.value += len(waveforms)
        return super().embed_and_time(waveforms)


def plan(content: Content) -> list[tuple[int, int]]:
    return GEOMETRY.plan(content[1] * SAMPLE_RATE_HZ)


def write(path: Path, content: Content) -> None:
    """Write a file; its date is new, whatever the clock's steps are."""
    write_tone(path, content[1], content[0])


@pytest.fixture(scope="module")
def extractor(tiny_checkpoint: Checkpoint) -> Iterator[Counted]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork has the memory of other threads, and not the threads
    yield Counted(tiny_checkpoint)
    torch.set_num_threads(threads)


def expected_scenes(content: Content, extractor: Extractor, folder: Path) -> dict[int, np.ndarray]:
    """Start of each window → its scene, computed from the samples without any of the pipeline."""
    path = folder / "reference.wav"
    write(path, content)
    samples, _ = soundfile.read(path, dtype="float32")
    path.unlink()
    windows = {}
    for start, length in plan(content):
        padded = np.zeros((1, GEOMETRY.window_samples), np.float32)
        padded[0, :length] = samples[start : start + length]
        windows[start] = extractor(torch.from_numpy(padded)).scene[0]
    return windows


class Protocol(RuleBasedStateMachine):
    """A library that changes, and a store that follows it."""

    extractor: Counted

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "library 0"
        self.root.mkdir()
        self.store = new_store(self.folder / "store", self.extractor, GEOMETRY)
        self.paths: dict[str, Content] = {}
        self.bad: set[str] = set()
        self.scenes: dict[Content, dict[int, np.ndarray]] = {}
        self.num_edits = 0
        self.is_complete = False

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # --- the library -----------------------------------------------------------------------------

    def touched(self) -> None:
        self.is_complete = False
        self.num_edits += 1

    @rule(name=st.sampled_from(NAMES), content=CONTENTS)
    def put(self, name: str, content: Content) -> None:
        write(self.root / name, content)
        self.paths[name] = content
        self.bad.discard(name)
        self.touched()

    @rule(name=st.sampled_from(NAMES))
    def spoil(self, name: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_text(f"not audio {self.num_edits}")
        self.paths.pop(name, None)
        self.bad.add(name)
        self.touched()

    @precondition(lambda self: self.paths)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.paths)))
        (self.root / name).unlink()
        del self.paths[name]
        self.touched()

    @precondition(lambda self: self.paths)
    @rule(data=st.data(), to=st.sampled_from(NAMES))
    def rename(self, data: st.DataObject, to: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.paths)))
        (self.root / to).parent.mkdir(exist_ok=True)
        (self.root / name).rename(self.root / to)
        self.paths[to] = self.paths.pop(name)
        self.bad.discard(to)
        self.touched()

    @precondition(lambda self: self.paths and self.is_complete)
    @rule()
    def move_library(self) -> None:
        """Nothing else has changed: the next run knows it again, and embeds nothing."""
        self.num_edits += 1
        self.root = self.root.rename(self.folder / f"library {self.num_edits}")
        before = self.extractor.count.value
        self.extract_all()
        assert self.extractor.count.value == before
        self.check_complete()

    # --- the store -------------------------------------------------------------------------------

    def extract_all(self) -> None:
        extract(self.root, self.store, self.extractor, CONFIG)

    @precondition(lambda self: self.paths or self.bad)
    @rule()
    def run(self) -> None:
        self.extract_all()
        self.is_complete = True
        self.check_complete()

    @precondition(lambda self: self.paths or self.bad)
    @rule(step=st.integers(0, 60))
    def run_and_die(self, step: int) -> None:
        if not dies_at(step, self.extract_all):
            self.is_complete = True

    @rule()
    def compact(self) -> None:
        compact(self.store.path)
        assert not list((self.store.path / "parts").glob(".tmp*"))

    @rule(step=st.integers(0, 60))
    def compact_and_die(self, step: int) -> None:
        dies_at(step, lambda: compact(self.store.path))

    @rule()
    def build(self) -> None:
        build(self.store)
        self.check_search()

    @rule(step=st.integers(0, 80))
    def build_and_die(self, step: int) -> None:
        dies_at(step, lambda: build(self.store))

    # --- shards ----------------------------------------------------------------------------------

    def stage(self, number: int) -> None:
        """Embed one of two shares; the others may do so at other times."""
        shard = Shard(number, 2)
        stage = Stage.beside(self.store, self.folder / "staged" / shard.folder_name)
        found = shard.of(walk(self.root, may_be_empty=True))
        extract(found, stage, self.extractor, CONFIG)

    @precondition(lambda self: self.paths or self.bad)
    @rule(number=st.integers(1, 2))
    def stage_shard(self, number: int) -> None:
        self.stage(number)

    @precondition(lambda self: self.paths or self.bad)
    @rule(number=st.integers(1, 2), step=st.integers(0, 60))
    def stage_shard_and_die(self, number: int, step: int) -> None:
        dies_at(step, lambda: self.stage(number))

    def has_staged(self) -> bool:
        return hasattr(self, "folder") and any(self.folder.glob("staged/*/store.json"))

    @precondition(has_staged)
    @rule()
    def commit_shards(self) -> None:
        """What was staged an hour ago may say what is no longer so; the next run mends that."""
        commit(self.store.path, [self.folder / "staged"])
        self.is_complete = False
        again = commit(self.store.path, [self.folder / "staged"])
        assert (again.published, again.num_parts) == ([], 0)

    @precondition(has_staged)
    @rule(step=st.integers(0, 60))
    def commit_shards_and_die(self, step: int) -> None:
        self.is_complete = False
        dies_at(step, lambda: commit(self.store.path, [self.folder / "staged"]))

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def store_is_whole(self) -> None:
        if not hasattr(self, "folder"):
            return
        assert verify_parts(self.store) == []
        windows = self.store.snapshot().windows
        assert len(set(windows.window_id.tolist())) == len(windows.window_id)
        if self.is_complete:
            assert self.live() == self.expected()

    @invariant()
    def no_recording_is_known_without_its_windows(self) -> None:
        """A run would take such a recording for embedded, and never look at it again."""
        if not hasattr(self, "folder"):
            return
        rows = self.store.files(["status", "recording_id", "num_samples"])
        lengths = {
            id_bytes(recording): length
            for recording, length, status in zip(
                ids_from_column(rows["recording_id"]),
                rows["num_samples"].to_pylist(),
                rows["status"].to_pylist(),
                strict=True,
            )
            if status == "ok" and length
        }
        stored: dict[bytes, set[int]] = {}
        for part in self.store.parts():
            table = part.windows(["recording_id", "start_sample"])
            ids = ids_from_column(table["recording_id"])
            for recording, start in zip(ids, table["start_sample"].to_pylist(), strict=True):
                stored.setdefault(id_bytes(recording), set()).add(start)
        known = self.store.ledger().known
        for recording, length in lengths.items():
            assert contains(known, np.array([recording], known.dtype))[0]
            assert stored.get(recording, set()) == {start for start, _ in GEOMETRY.plan(length)}

    def expected(self) -> list[tuple[int, int]]:
        return sorted(window for content in set(self.paths.values()) for window in plan(content))

    def live(self) -> list[tuple[int, int]]:
        windows = self.store.snapshot().windows
        return sorted(zip(windows.start_sample.tolist(), windows.num_samples.tolist(), strict=True))

    def check_complete(self) -> None:
        """What the library holds is in the store, once, with the right numbers; nothing else is."""
        assert not list((self.store.path / "parts").glob(".tmp*"))
        assert self.live() == self.expected()
        snapshot = self.store.snapshot()
        scenes = snapshot.scene(np.arange(len(snapshot)))
        for content in set(self.paths.values()):
            if content not in self.scenes:
                self.scenes[content] = expected_scenes(content, self.extractor, self.folder)
            for start, scene in self.scenes[content].items():
                at_start = snapshot.windows.start_sample == start
                assert np.abs(scenes[at_start] - scene).max(1).min() < 1e-5
        rows = self.store.latest_files(["path", "status"]).to_pylist()
        statuses = {row["path"]: row["status"] for row in rows}
        for name in self.paths:
            assert statuses[name] == "ok"
        for name in self.bad:
            assert statuses[name] == "failed"
        for name in statuses.keys() - self.paths.keys() - self.bad:
            assert statuses[name] in ("moved", "gone")

    def check_search(self) -> None:
        """A search that asks for everything finds every live window once."""
        everything = Query(k=1000, filter=TagFilter(none_of=("Speech",), threshold=1.0))
        hits = ask(SoundIndex.open(self.store.path), everything)
        ids = self.store.snapshot().windows.window_id
        assert sorted(hit.window_id for hit in hits) == sorted(ids.tolist())


def machine(extractor: Counted) -> type[Protocol]:
    return type("Machine", (Protocol,), {"extractor": extractor})


BRIEF = settings(
    max_examples=12,
    stateful_step_count=18,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a history takes minutes
    suppress_health_check=list(HealthCheck),
)


def test_protocol_any_history_leaves_a_whole_store(extractor: Counted) -> None:
    run_state_machine_as_test(machine(extractor), settings=BRIEF)


@pytest.mark.slow
def test_protocol_many_long_histories_leave_a_whole_store(extractor: Counted) -> None:
    long = settings(BRIEF, max_examples=40, stateful_step_count=50, derandomize=False)
    run_state_machine_as_test(machine(extractor), settings=long)


def test_run_killed_at_every_step_repeats_at_most_a_part_each_time(
    extractor: Counted, tmp_path: Path
) -> None:
    """One file, longer than many parts: it is never begun again from the start."""
    root = tmp_path / "library"
    write(root / "long.wav", (300, 25))
    store = new_store(tmp_path / "store", extractor, GEOMETRY)
    extractor.count.value = 0
    num_kills = 0
    step = 6
    while dies_at(step, lambda: extract(root, store, extractor, CONFIG)):
        num_kills += 1
        step = 6 + 5 * num_kills % 37  # long enough for a part now and then, and then not
        assert num_kills < 200
    assert num_kills > 5
    snapshot = store.snapshot()
    assert snapshot.windows.start_sample.tolist() == [start for start, _ in plan((300, 25))]
    repeated = extractor.count.value - 25
    assert CONFIG.batch_size is not None
    part = CONFIG.part_windows - 1 + CONFIG.batch_size  # it ends with the batch that fills it
    assert repeated <= num_kills * (part + CONFIG.batch_size)  # and the next is on its way
    scenes = expected_scenes((300, 25), extractor, tmp_path)
    found = snapshot.scene(np.arange(25))
    np.testing.assert_allclose(found, np.stack(list(scenes.values())), atol=1e-5)
    assert sorted(e.name for e in (store.path / "parts").iterdir()) == store.part_names()
