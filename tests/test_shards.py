"""Shards: staged by anybody, published once, and together what one process would have made."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run, needs_root, run_as_nobody
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_store, write_tone
from test_extract import IN_PROCESS, Counting, by_window, counting, new_store, statuses

import soundalike
from indexer.errors import DamagedStoreError, QueryError, SoundalikeError, StoreError
from indexer.library.files import FileList, FoundFile
from indexer.library.shards import Shard
from indexer.library.walk import Walk, walk
from indexer.run.commit import CommitReport, commit
from indexer.run.config import ExtractConfig
from indexer.run.extract import extract
from indexer.run.report import ExtractReport
from indexer.store.compaction import compact as compact_parts
from indexer.store.creation import library_at
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.stage import Stage
from indexer.store.verify import verify_parts
from indexer.windows import Geometry
from search.upkeep.build import build
from search.upkeep.compact import compact

__all__ = ["counting"]  # a fixture

SHARDS = [Shard(number, 3) for number in (1, 2, 3)]
#: What differs between two runs of the same library, and may.
_OF_A_RUN = ("library_id", "path_id")


# --- which files a shard has ---------------------------------------------------------------------


@given(st.lists(st.text(min_size=1), unique=True, max_size=40), st.integers(1, 9))
def test_every_file_is_in_one_shard_and_the_same_for_all(names: list[str], total: int) -> None:
    names = [name.encode(errors="ignore").decode() for name in names]
    found = Walk(Path("/nowhere"), FileList(FoundFile(name, 1, 2) for name in names))
    shares = [Shard(number, total).of(found) for number in range(1, total + 1)]
    assert sorted(file.path for one in shares for file in one.files) == sorted(names)
    again = Walk(Path("/elsewhere"), FileList(FoundFile(name, 3, 4) for name in names[::-1]))
    for number, one in enumerate(shares):
        other = Shard(number + 1, total).of(again)
        assert {file.path for file in other.files} == {file.path for file in one.files}
        assert not one.is_complete


def test_shards_are_of_about_one_size() -> None:
    files = FileList(FoundFile(f"2024/site {n % 7}/{n}.wav", 1, 1) for n in range(16_000))
    found = Walk(Path("/nowhere"), files)
    sizes = [len(Shard(number, 16).of(found).files) for number in range(1, 17)]
    assert 900 < min(sizes) <= max(sizes) < 1100  # 1,000 each; three standard deviations are 92


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/3", "a/b", "1/3 ", "1/1000000", ""])
def test_parse_of_what_is_no_shard_is_one_line(text: str) -> None:
    with pytest.raises(QueryError, match="as in 3/16"):
        Shard.parse(text)
    assert Shard.parse("3/16") == Shard(3, 16)


def test_folders_of_shards_sort_as_their_numbers_do() -> None:
    names = [Shard(number, 12).folder_name for number in range(1, 13)]
    assert names == sorted(names)


# --- staging and publishing ----------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, whole: None) -> Path:
    """Files of one and several windows, copies, and what is no audio, in several folders."""
    root = tmp_path / "library"
    for number in range(12):
        write_tone(root / f"site {number % 3}" / f"{number}.wav", 1 + number % 2 * 11, 200 + number)
    shutil.copy(root / "site 0" / "0.wav", root / "copy.wav")
    shutil.copy(root / "site 1" / "1.wav", root / "site 2" / "another copy.wav")
    (root / "broken.wav").write_text("no audio")
    (root / "empty.wav").touch()
    (root / "leads nowhere.wav").symlink_to("gone.wav")
    return root


@pytest.fixture
def whole() -> None:
    """Mark what uses it: runs take place."""


def stage_one(
    root: Path, store: Store, shard: Shard, extractor: Counting, config: ExtractConfig = IN_PROCESS
) -> ExtractReport:
    stage = Stage.beside(store, store.path.parent / "staged" / shard.folder_name)
    return extract(shard.of(walk(root, may_be_empty=True)), stage, extractor, config)


def stage_all(root: Path, store: Store, extractor: Counting) -> Path:
    for shard in SHARDS:
        stage_one(root, store, shard, extractor)
    return store.path.parent / "staged"


def words(store: Store) -> list[dict[str, Any]]:
    """The last word on each path, without what is drawn at random for a library."""
    rows = store.latest_files().to_pylist()
    told = [{key: row[key] for key in row if key not in _OF_A_RUN} for row in rows]
    return sorted(told, key=lambda row: str(row["path"]))


def assert_same(one: Store, other: Store) -> None:
    """Hold windows and words of two stores against each other."""
    assert words(one) == words(other)
    mine, theirs = by_window(one), by_window(other)
    assert mine.keys() == theirs.keys()
    for window_id, (scene, tags, frames) in mine.items():
        np.testing.assert_allclose(scene, theirs[window_id][0], atol=1e-5)
        np.testing.assert_allclose(tags, theirs[window_id][1], atol=1e-3)
        np.testing.assert_allclose(frames, theirs[window_id][2], atol=1e-2)
    here, there = one.snapshot().windows, other.snapshot().windows
    for column in ("start_sample", "num_samples", "recording_id"):
        pairs = [
            dict(zip(some.window_id.tolist(), getattr(some, column).tolist(), strict=True))
            for some in (here, there)
        ]
        assert pairs[0] == pairs[1]
    assert verify_parts(one) == []


def test_committed_shards_are_what_one_run_makes(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    one, store = (new_store(tmp_path / name, counting) for name in ("one", "store"))
    extract(library, one, counting, IN_PROCESS)
    staged = stage_all(library, store, counting)
    assert store.part_names() == []
    report = commit(store.path, [staged])
    assert len(report.published) == 3
    assert (report.already, report.refused, report.num_left_out) == ([], [], 0)
    assert_same(store, one)
    assert sorted(store.libraries().values()) == [library.resolve()]
    names = store.part_names()
    again = commit(store.path, [staged, staged / SHARDS[0].folder_name])
    assert again == CommitReport(already=report.published)
    assert store.part_names() == names
    before = counting.num_windows
    extract(library, store, counting, IN_PROCESS)
    assert counting.num_windows == before
    assert_same(store, one)


def test_shards_may_be_published_in_any_order_and_one_by_one(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    one, store = (new_store(tmp_path / name, counting) for name in ("one", "store"))
    extract(library, one, counting, IN_PROCESS)
    staged = stage_all(library, store, counting)
    for shard in SHARDS[::-1]:
        assert len(commit(store.path, [staged / shard.folder_name]).published) == 1
        assert verify_parts(store) == []
    assert_same(store, one)


def test_parts_of_shards_share_their_bytes_with_the_stage_or_are_copied(
    library: Path, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked, copied = (new_store(tmp_path / name / "store", counting) for name in ("a", "b"))
    commit(linked.path, [stage_all(library, linked, counting)])
    scenes = [part.path / "scene.parquet" for part in linked.parts()]
    assert [one.stat().st_nlink for one in scenes] == [2] * len(scenes)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    staged = stage_all(library, copied, counting)
    monkeypatch.setattr(os, "link", refuse)
    commit(copied.path, [staged])
    shutil.rmtree(staged)
    assert_same(copied, linked)


def test_stage_begins_nothing_anew_that_it_has(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    """A run that is cut short goes on where it was, and its shard is not done before."""
    store = new_store(tmp_path / "store", counting)
    small = ExtractConfig(num_workers=0, batch_size=1, part_windows=1)
    stop_at = counting.num_windows + 2

    class Stopping(Counting):
        def embed_and_time(self, waveforms: Any) -> Any:
            if self.num_windows >= stop_at:
                raise KeyboardInterrupt
            return super().embed_and_time(waveforms)

    stopping = Stopping(counting.checkpoint, device="cpu")
    (big,) = [one for one in SHARDS if "site 1/1.wav" in share(library, one)]
    with pytest.raises(KeyboardInterrupt):
        stage_one(library, store, big, stopping, small)
    staged = store.path.parent / "staged"
    refused = commit(store.path, [staged / big.folder_name]).refused
    assert [one.path for one in refused] == [staged / big.folder_name]
    assert "is not done" in refused[0].reason
    assert store.part_names() == []
    stage_one(library, store, big, counting, small)
    total = stopping.num_windows + counting.num_windows
    assert commit(store.path, [staged / big.folder_name]).refused == []
    live = len(store.snapshot())
    assert live <= total <= live + 2  # what was in hand, and no more


def share(library: Path, shard: Shard) -> list[str]:
    return [file.path for file in shard.of(walk(library)).files]


def test_shard_that_is_run_again_takes_what_is_new(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    staged = stage_all(library, store, counting)
    commit(store.path, [staged])
    write_tone(library / "new.wav", 3, 900)
    before = counting.num_windows
    stage_all(library, store, counting)
    assert counting.num_windows == before + 1
    report = commit(store.path, [staged])
    assert (len(report.published), len(report.already)) == (1, 2)
    assert statuses(store)["new.wav"] == "ok"


# --- what a store has had before -----------------------------------------------------------------


def test_files_whose_content_the_store_has_are_words_only(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    """Renamed files, and copies: nothing is embedded again, and they are where they are now."""
    one, store = (new_store(tmp_path / name, counting) for name in ("one", "store"))
    for each in (one, store):
        extract(library, each, counting, IN_PROCESS)
    (library / "site 0" / "0.wav").rename(library / "renamed.wav")
    shutil.copy(library / "site 1" / "1.wav", library / "third.wav")
    before = counting.num_windows
    report = commit(store.path, [stage_all(library, store, counting)])
    assert counting.num_windows == before
    assert (report.num_windows, report.num_files, report.num_left_out) == (0, 2, 0)
    after = statuses(store)
    assert after["renamed.wav"] == after["third.wav"] == "ok"
    assert after["site 0/0.wav"] == "ok"  # a shard does not say what is gone
    extract(library, store, counting, IN_PROCESS)
    extract(library, one, counting, IN_PROCESS)
    assert counting.num_windows == before
    mine, theirs = words(store), words(one)
    gone = next(row for row in mine if row["path"] == "site 0/0.wav")
    assert gone["status"] == "gone"  # one run would have said where it is now
    assert [row for row in mine if row is not gone] == [
        row for row in theirs if row["path"] != "site 0/0.wav"
    ]


def test_word_on_what_a_compaction_dropped_is_left_out_and_the_next_run_reads_the_file(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    extract(library, store, counting, IN_PROCESS)
    (library / "site 0" / "3.wav").rename(library / "renamed.wav")
    staged = stage_all(library, store, counting)
    (library / "renamed.wav").rename(library / "site 0" / "three.txt")
    extract(library, store, counting, IN_PROCESS)  # it is gone
    compact(store.path)
    report = commit(store.path, [staged])
    assert report.num_left_out == 1
    assert "renamed.wav" not in statuses(store)
    assert verify_parts(store) == []
    (library / "site 0" / "three.txt").rename(library / "renamed.wav")
    before = counting.num_windows
    extract(library, store, counting, IN_PROCESS)
    assert counting.num_windows == before + 2
    assert statuses(store)["renamed.wav"] == "ok"


def test_commit_after_a_compaction_brings_nothing_twice(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    staged = stage_all(library, store, counting)
    commit(store.path, [staged])
    compact(store.path)
    assert len(store.part_names()) == 1
    assert len(commit(store.path, [staged]).already) == 3
    assert len(store.part_names()) == 1


def test_stage_does_not_count_on_windows_of_a_run_that_was_cut_short(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    """A compaction may drop them: a shard has all windows of what it says is embedded."""
    store = new_store(tmp_path / "store", counting)

    class Dying(Counting):
        def embed_and_time(self, waveforms: Any) -> Any:
            if self.num_windows:
                raise KeyboardInterrupt
            return super().embed_and_time(waveforms)

    small = ExtractConfig(num_workers=0, batch_size=1, part_windows=1, include=("*/1.wav",))
    dying = Dying(counting.checkpoint, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        extract(walk(library, ["*/1.wav"]), store, dying, small)
    assert len(store.snapshot()) == 0 < sum(part.num_windows for part in store.parts())
    staged = stage_all(library, store, counting)
    compact(store.path)
    commit(store.path, [staged])
    one = new_store(tmp_path / "one", counting)
    extract(library, one, counting, IN_PROCESS)
    assert_same(store, one)


# --- what is refused -----------------------------------------------------------------------------


def test_commit_refuses_by_name_and_publishes_the_others(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    staged = stage_all(library, store, counting)
    other = new_store(tmp_path / "elsewhere" / "store", counting, Geometry(hop_samples=160_000))
    stage_one(library, other, SHARDS[0], counting)
    wrong = tmp_path / "elsewhere" / "staged" / SHARDS[0].folder_name
    (staged / SHARDS[1].folder_name / "sealed.json").unlink()
    scene = next((staged / SHARDS[2].folder_name).glob("parts/*/scene.parquet"))
    damaged = bytearray(scene.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    scene.write_bytes(damaged)
    report = commit(store.path, [staged, wrong])
    assert report.published == [staged / SHARDS[0].folder_name]
    reasons = {
        one.path.name if one.path != wrong else "wrong": one.reason for one in report.refused
    }
    assert "is not done: its run was cut short, or goes on" in reasons[SHARDS[1].folder_name]
    assert "does not match its digest" in reasons[SHARDS[2].folder_name]
    assert "the hop is 10 s there and 5 s here" in reasons["wrong"]
    assert all("\n" not in one for one in reasons.values())
    assert verify_parts(store) == []


def test_commit_refuses_what_was_staged_for_another_store(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    """Its words are on paths of a library that this store calls otherwise."""
    store, other = (new_store(tmp_path / name / "store", counting) for name in ("a", "b"))
    library_at(other, library.resolve())
    report = commit(other.path, [stage_all(library, store, counting)])
    assert len(report.refused) == 3
    assert all("was staged for another store" in one.reason for one in report.refused)
    assert other.part_names() == []


def test_stage_takes_shards_of_one_library_of_one_store(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    """Another's would be sealed with the first, be that done or not, and published with it."""
    store, other = (new_store(tmp_path / name, counting) for name in ("a", "b"))
    staged = stage_all(library, store, counting) / SHARDS[0].folder_name
    sealed = (staged / "sealed.json").read_bytes()
    another = tmp_path / "another library"
    for number in range(9):
        write_tone(another / f"{number}.wav", 1, 700 + number)
    for root, base in ((another, store), (library, other)):
        with pytest.raises(StoreError, match=r"has a shard of another library, or for another"):
            stage_one(root, base, SHARDS[0], counting)
    assert (staged / "sealed.json").read_bytes() == sealed
    assert (len(store.libraries()), other.libraries()) == (1, {})
    moved = library.rename(tmp_path / "moved")
    stage_one(moved, store, SHARDS[0], counting)


def test_commit_refuses_a_store_and_a_part_that_would_replace_others(
    tmp_path: Path, library: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    beside = new_store(tmp_path / "beside", counting)
    extract(library, beside, counting, IN_PROCESS)
    (refused,) = commit(store.path, [beside.path]).refused
    assert "is a store, and no shard of one" in refused.reason
    extract(library, beside, counting, IN_PROCESS)
    compact(beside.path)
    write_tone(library / "more.wav", 2, 950)
    extract(library, beside, counting, IN_PROCESS)
    with sole_writer(beside.path):
        compact_parts(beside)  # the new part stands for the old ones, which are still there
    Stage.beside(store, beside.path).seal(library_at(store, library.resolve()), library.resolve())
    (refused,) = commit(store.path, [beside.path]).refused
    assert "stands for other parts" in refused.reason
    assert store.part_names() == []


def test_commit_of_what_is_no_shard_is_one_line(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store").store
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="there is no shard in"):
        commit(store.path, [tmp_path / "empty"])
    with pytest.raises(StoreError, match="no such folder"):
        commit(store.path, [tmp_path / "absent"])
    with pytest.raises(StoreError, match=r"cannot read x.*: File name too long"):
        commit(store.path, [Path("x" * 300)])
    with pytest.raises(StoreError, match="no store at"):
        commit(tmp_path / "absent", [tmp_path / "empty"])


def test_link_in_a_stage_is_not_followed(library: Path, tmp_path: Path, counting: Counting) -> None:
    store = new_store(tmp_path / "store", counting)
    staged = stage_all(library, store, counting)
    scene = next((staged / SHARDS[0].folder_name).glob("parts/*/scene.parquet"))
    scene.rename(tmp_path / "scene.parquet")
    scene.symlink_to(tmp_path / "scene.parquet")
    refused = commit(store.path, [staged]).refused
    assert [one.path.name for one in refused] == [SHARDS[0].folder_name]
    assert "symbolic link" in refused[0].reason


def test_damaged_record_of_what_was_published_says_what_to_do(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    staged = stage_all(library, store, counting)
    commit(store.path, [staged])
    (store.path / "published.json").write_text("{}")
    with pytest.raises(DamagedStoreError, match="remove it: shards that were published"):
        commit(store.path, [staged])
    (store.path / "published.json").unlink()
    assert len(commit(store.path, [staged]).already) == 3


@needs_root
def test_shards_of_a_known_library_are_staged_beside_a_store_that_may_only_be_read(
    library: Path, public_folder: Path, counting: Counting
) -> None:
    root = Path(shutil.copytree(library, public_folder / "library", symlinks=True))
    store = new_store(public_folder / "store", counting)
    library_at(store, root.resolve())
    (public_folder / "staged").mkdir()
    (public_folder / "staged").chmod(0o777)

    def work() -> int:
        return stage_one(root, store, SHARDS[0], counting).num_embedded

    expected = len([name for name in share(root, SHARDS[0]) if Path(name).name[0].isdigit()])
    assert run_as_nobody(work) >= expected
    assert len(commit(store.path, [public_folder / "staged"]).published) == 1


def test_commit_leaves_a_library_where_it_is_now(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    staged = stage_all(library, store, counting)
    commit(store.path, [staged])
    moved = library.rename(tmp_path / "moved")
    extract(moved, store, counting, IN_PROCESS)
    commit(store.path, [staged])
    assert list(store.libraries().values()) == [moved.resolve()]


# --- the command, and Python ---------------------------------------------------------------------


def test_extract_and_commit_by_command(
    library: Path, tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    store, staged = tmp_path / "s.soundalike", tmp_path / "staged"
    how = ("--checkpoint", tiny_file, "--stage", staged, "--workers", 0)
    for number in (1, 2):
        told = run("extract", library, store, "--shard", f"{number}/2", *how, code=None)
        assert f"when all shards are done: soundalike commit {store} {staged}" in told.out
        assert "by name:" not in told.out  # the store does not know of them yet
    told = run("commit", store, staged)
    assert told.out.startswith("published 2 shards: 17 files and ")
    assert f"soundalike index LIBRARY --store {store}" in told.out
    assert run("commit", store, staged, "--format", "json").data["published"] == []
    (staged / "shard-1-of-2" / "sealed.json").unlink()
    told = run("commit", store, staged, code=3)
    assert "shard-1-of-2 is not done" in told.out
    run("index", library, "--store", store, "--workers", 0, code=3)
    assert "searched exactly" in run("info", store).out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--shard", "1/2"), "a shard is given, and no stage with it; say --stage DIR"),
        (("--stage", "x"), "a stage is given, and no shard with it; say --shard I/N"),
        (("--shard", "3/2", "--stage", "x"), "got '3/2'"),
    ],
)
def test_half_of_a_shard_is_one_line(
    given: tuple[str, ...], told: str, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "library").mkdir()
    outcome = run("extract", tmp_path / "library", tmp_path / "s", *given, code=1)
    assert told in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "s").exists()


def test_shards_from_python(library: Path, tmp_path: Path, tiny_file: Path) -> None:
    sounds = soundalike.open(tmp_path / "s.soundalike", checkpoint=tiny_file)
    for number in (1, 2):
        sounds.extract(library, shard=f"{number}/2", stage=tmp_path / "staged", num_workers=0)
    report = sounds.commit(tmp_path / "staged")
    assert len(report.published) == 2
    build(Store.open(tmp_path / "s.soundalike"))
    assert sounds.num_windows == len(Store.open(tmp_path / "s.soundalike").snapshot())


# --- many processes ------------------------------------------------------------------------------

#: What each of the processes does: its shards, one after the other, as tasks of a scheduler would.
_TASK = """
import sys
import soundalike
library, store, checkpoint, staged, *numbers = sys.argv[1:]
sounds = soundalike.open(store, checkpoint=checkpoint, device="cpu")
for number in numbers:
    sounds.extract(library, shard=f"{number}/16", stage=staged, num_workers=0)
"""


def start_task(library: Path, folder: Path, tiny_file: Path, numbers: range) -> Popen[bytes]:
    words = (library, folder / "store", tiny_file, folder / "staged", *numbers)
    command = [sys.executable, "-c", _TASK, *map(str, words)]
    return Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})


def wait_until(is_so: Callable[[], bool], most_s: float = 120) -> None:
    end_s = time.monotonic() + most_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.slow
def test_sixteen_shards_by_four_processes_of_which_two_are_killed(
    tmp_path: Path, tiny_file: Path
) -> None:
    root = tmp_path / "library"
    for number in range(160):
        write_tone(root / f"{number % 11}" / f"{number}.wav", 1 + number % 5 * 6, 100 + number)
    for number in range(20):
        shutil.copy(root / f"{number % 11}" / f"{number}.wav", root / f"copy of {number}.wav")
    (root / "broken.wav").write_text("no audio")
    numbers = [range(first, 17, 4) for first in (1, 2, 3, 4)]
    tasks = [start_task(root, tmp_path, tiny_file, some) for some in numbers]
    for task, number in zip(tasks[:2], (5, 6), strict=True):  # one is done, the next has begun
        wait_until((tmp_path / "staged" / f"shard-{number:02d}-of-16" / "store.json").exists)
        task.kill()
    assert [task.wait(300) for task in tasks] == [-signal.SIGKILL] * 2 + [0, 0]
    store = Store.open(tmp_path / "store")
    early = commit(store.path, [tmp_path / "staged"])
    assert len(early.published) >= 10
    for one in early.refused:
        assert "is not done" in one.reason or "never began" in one.reason
    again = [start_task(root, tmp_path, tiny_file, some) for some in numbers[:2]]
    assert [task.wait(300) for task in again] == [0, 0]
    late = commit(store.path, [tmp_path / "staged"])
    assert (len(late.published) + len(late.already), late.refused) == (16, [])
    names = store.part_names()
    assert commit(store.path, [tmp_path / "staged"]).num_parts == 0
    assert store.part_names() == names

    one = soundalike.open(tmp_path / "one", checkpoint=tiny_file, device="cpu")
    one.extract(root, num_workers=0)
    assert_same(store, Store.open(tmp_path / "one"))


def test_commit_names_the_shards_that_never_began(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    stage_one(library, store, SHARDS[1], counting)
    staged = store.path.parent / "staged"
    report = commit(store.path, [staged])
    assert report.published == [staged / SHARDS[1].folder_name]
    absent = [staged / SHARDS[at].folder_name for at in (0, 2)]
    assert [one.path for one in report.refused] == absent
    assert "shard 1/3 never began" in report.refused[0].reason
    assert commit(store.path, report.published).refused == []  # it was named by itself


@pytest.mark.parametrize(
    ("means", "told"),
    [
        ({"shard": 1, "stage": "x"}, "as in 3/16"),
        ({"shard": "1/2", "stage": "s.soundalike/x"}, "a stage lies beside it"),
        ({"ray": True, "ray_workers": 1.5}, "workers are a whole number"),
        ({"ray": 7}, "its HOST:PORT, got 7"),
    ],
)
def test_nonsense_from_python_is_one_line(
    means: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "library").mkdir()
    sounds = soundalike.open("s.soundalike")
    with pytest.raises(SoundalikeError, match=told):
        sounds.extract("library", **means)
    with pytest.raises(SoundalikeError, match="a share of a library has no index"):
        sounds.index("library", shard="1/2", stage="x")
    with pytest.raises(SoundalikeError, match="name folders of shards"):
        sounds.commit()
    assert not (tmp_path / "s.soundalike").exists()
