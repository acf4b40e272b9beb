"""What a worker of a cluster refuses before it loads a network, and how far all of them are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import make_store

from indexer.embedding.cores import num_cores
from indexer.errors import LibraryError, QueryError, SoundalikeError, StoreError
from indexer.library.files import FileList
from indexer.library.walk import walk
from indexer.progress import Step
from indexer.run.config import ExtractConfig, Settings
from indexer.run.cutting import Shard, weights
from indexer.run.report import ExtractReport
from indexer.run.shard_worker import Plan, ShardWorker, plan_of
from indexer.run.spread import require_workers
from indexer.run.tally import Board, Tally


@pytest.fixture
def worker() -> Iterator[ShardWorker]:
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    yield ShardWorker((1, 1), None)
    if before:
        os.sched_setaffinity(0, before)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    root = tmp_path / "library"
    root.mkdir()
    for number in range(30):
        (root / f"{number}.wav").write_bytes(bytes(number))
    store = make_store(tmp_path / "store", root=root).store
    folder = store.path / "staging" / "run"
    folder.mkdir(parents=True)
    found = walk(root)
    asked = ExtractConfig(include=("*.wav",), num_workers=1)
    return plan_of(store, folder, found, found.files, asked, Settings())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="it has no such thing")
def test_worker_uses_its_own_cores_alone(worker: ShardWorker) -> None:
    assert num_cores() == 1


def test_plan_leaves_it_to_the_run_what_is_read(plan: Plan) -> None:
    assert (plan.config.include, plan.config.retry_failed) == ((), True)
    assert plan.config.num_workers == 1
    assert 10 <= len(plan.sample) <= 15


def test_machine_that_sees_no_library_or_another_is_refused(
    worker: ShardWorker, plan: Plan
) -> None:
    elsewhere = plan.root.with_name("elsewhere")
    with pytest.raises(LibraryError, match=f"the library {elsewhere} is not seen there"):
        worker.prepare(replace(plan, root=elsewhere))
    for file in plan.root.iterdir():
        file.write_bytes(b"something else, and longer than before: 0123456789")
    with pytest.raises(LibraryError, match=f"the library {plan.root} is not seen there"):
        worker.prepare(plan)


def test_machine_that_sees_no_store_or_another_is_refused(worker: ShardWorker, plan: Plan) -> None:
    there = plan.store / "elsewhere"
    for other in (replace(plan, store=there), replace(plan, staging=there)):
        with pytest.raises(StoreError, match=f"the store {other.store} is not seen there"):
            worker.prepare(other)


def test_worker_begins_nothing_for_a_run_that_is_over(worker: ShardWorker, plan: Plan) -> None:
    worker._plan = plan
    plan.staging.rmdir()
    with pytest.raises(StoreError, match="is not seen there"):
        worker.embed(FileList(), "000000-1")
    assert not plan.staging.exists()


def test_machine_with_another_version_is_refused(worker: ShardWorker, plan: Plan) -> None:
    with pytest.raises(SoundalikeError, match=r"is \S+ there, and 9\.9 here; install the same"):
        worker.prepare(replace(plan, version="9.9"))


def test_workers_that_cannot_be_are_refused_before_anything_else() -> None:
    with pytest.raises(QueryError, match="workers are a whole number, at least 1, got 0"):
        require_workers(Settings(), 0)
    with pytest.raises(QueryError, match="cuda:1 is one GPU of one machine"):
        require_workers(Settings(device="cuda:1"), 2)
    require_workers(Settings(device="cuda"), 2)


# --- how far all of them are ---------------------------------------------------------------------


def shard(number: int, files: FileList) -> Shard:
    return Shard(number, files, int(weights(files).sum()), attempt=1)


def test_tally_adds_what_is_done_and_in_hand_and_estimates_the_rest(plan: Plan) -> None:
    files = walk(plan.root).files
    first, second = (shard(at, FileList([files[at]])) for at in (0, 1))
    report = ExtractReport()
    tally, board = Tally(4, report), Board()
    for one in (first, second):
        tally.begin(one)
    board.tell(first.folder_name, Step("embedding", 0, 1, "file", 5.0, 0, 20.0, "a.wav"))
    tally.note(board.read())
    assert board.read() == {}
    step = tally.step(first.num_bytes * 2)
    assert (step.done, step.total, step.audio_s, step.name) == (0, 4, 5.0, "a.wav")
    assert step.total_audio_s == pytest.approx(80.0, rel=0.01)  # as long as the first, all four
    assert step.bound == ""
    tally.finish(first, 10.0)
    report.seconds["network"] = 3.0
    tally.drop(second)  # its worker is lost
    step = tally.step(first.num_bytes * 3)
    assert (step.done, step.audio_s, step.bound) == (1, 10.0, "the model")
    assert step.total_audio_s == pytest.approx(40.0, rel=0.01)


def test_report_of_a_run_is_the_sum_of_its_shards_and_the_crew_at_its_largest() -> None:
    report, one, two = ExtractReport(), ExtractReport(), ExtractReport()
    one.num_windows, one.num_cores, one.num_lanes, one.num_workers = 10, 4, 4, 1
    two.num_windows, two.num_cores, two.num_lanes, two.num_workers = 5, 8, 8, 2
    one.seconds |= {"decode": 6.0, "network": 2.0, "write": 4.0, "embed": 9.0, "total": 10.0}
    for shard_report in (one, two, one):
        report.add(shard_report)
    report.count_together([one])
    report.count_together([one, two])
    report.count_together([two])  # the other has ended
    assert report.num_windows == 25
    assert (report.num_remote, report.num_workers, report.num_lanes) == (2, 3, 12)
    assert (report.num_cores, report.num_devices, report.device) == (12, 2, "cpu")
    assert (report.seconds["embed"], report.seconds["total"]) == (0.0, 0.0)
    assert report.busy() == pytest.approx(
        {"decoding": 4.0, "the model": 4 / 12, "writing": 4.0, "publishing": 0.0}
    )
