"""A run that things happen to: readers die, files are locked, disks are unplugged, others write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY, needs_root, run_as_nobody
from listener import Listener, on_step
from synthetic import write_tone
from test_extract import (
    IN_PROCESS,
    Counting,
    by_window,
    counting,
    library,
    many_files,
    new_store,
    reasons,
    run,
    statuses,
)

from indexer.audio.content import recording_digest
from indexer.audio.source import AudioInfo
from indexer.embedding.cores import num_cores
from indexer.errors import LibraryError
from indexer.library.changes import Changes
from indexer.library.walk import look_again, walk
from indexer.progress import News, Step
from indexer.reading import dataset
from indexer.reading.batches import Batch
from indexer.reading.dataset import Work
from indexer.reading.events import Done, Failure, WindowKey
from indexer.reading.interrupts import undisturbed
from indexer.reading.readers import load_windows
from indexer.run.config import ExtractConfig
from indexer.run.extract import extract
from indexer.run.survey import find_files
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ, WINDOW_SAMPLES

__all__ = ["counting", "library"]  # fixtures

pytestmark = pytest.mark.whole  # Runs, and what becomes of them.


def entries(store: Store) -> set[str]:
    return {entry.name for entry in (store.path / "parts").iterdir()}


# --- files that kill -----------------------------------------------------------------------------


def test_run_whose_reader_is_killed_once_embeds_every_file(
    tmp_path: Path, counting: Counting
) -> None:
    root = many_files(tmp_path / "library")
    store = new_store(tmp_path / "store", counting)
    victims = []

    def kill_one(step: Step) -> None:
        if step.done >= 4 and not victims:
            victims.append(active_children()[0])
            victims[0].kill()

    config = ExtractConfig(num_workers=2, batch_size=1)
    report = extract(root, store, counting, config, on_step(kill_one))
    assert victims
    assert (report.num_embedded, report.failures) == (40, [])
    assert len(store.snapshot()) == counting.num_windows == 40


def test_file_that_kills_is_quarantined_until_it_is_to_be_tried_again(
    library: Path, tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dataset.open_audio

    def deadly(path: Path, **options: Any) -> Any:
        if path.name == "long.wav":
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(path, **options)

    monkeypatch.setattr(dataset, "open_audio", deadly)
    store = new_store(tmp_path / "store", counting)
    config = ExtractConfig(num_workers=1)
    report = run(library, store, counting, config)
    reason = "the process that read it was ended by SIGSEGV; tried twice"
    assert [tuple(failure) for failure in report.failures] == [("long.wav", "crash", reason)]
    assert reasons(store) == {"long.wav": ("crash", reason)}
    assert len(store.snapshot()) == 2
    again = run(library, store, counting, config)
    assert (again.num_failed_before, again.num_unchanged, again.failures) == (1, 2, [])
    monkeypatch.setattr(dataset, "open_audio", real)  # a better decoder was installed
    last = run(library, store, counting, ExtractConfig(num_workers=1, retry_failed=True))
    assert (last.num_embedded, last.failures) == (1, [])
    assert len(store.snapshot()) == 4


# --- access that is lost, and comes back ---------------------------------------------------------


@needs_root
def test_file_that_could_not_be_read_is_tried_again_by_the_next_run(
    public_folder: Path, counting: Counting
) -> None:
    for name in ("a.wav", "locked.wav"):
        write_tone(public_folder / "library" / name, 1.0, 300 + len(name))
    locked = public_folder / "library" / "locked.wav"
    locked.chmod(0)
    (public_folder / "stores").mkdir()
    (public_folder / "stores").chmod(0o777)
    run(public_folder / "library", new_store(public_folder / "first", counting), counting)

    def work() -> object:
        path = public_folder / "stores" / "store"
        store = Store.open(path) if path.exists() else new_store(path, counting)
        report = run(public_folder / "library", store, counting)
        return statuses(store), len(report.failures), len(store.part_names())

    assert run_as_nobody(work) == ({"a.wav": "ok", "locked.wav": "failed"}, 1, 1)
    assert run_as_nobody(work) == ({"a.wav": "ok", "locked.wav": "failed"}, 1, 1)  # written once
    locked.chmod(0o644)  # neither its size nor its date have changed
    assert run_as_nobody(work) == ({"a.wav": "ok", "locked.wav": "ok"}, 0, 2)


def test_library_that_vanishes_stops_the_run_and_fails_no_file(
    tmp_path: Path, counting: Counting
) -> None:
    root = many_files(tmp_path / "library")
    store = new_store(tmp_path / "store", counting)

    def unplug(step: Step) -> None:
        if step.done == 10:
            root.rename(tmp_path / "unplugged")
            root.mkdir()  # what is left of a mount is an empty folder

    config = ExtractConfig(num_workers=0, batch_size=1)
    with pytest.raises(LibraryError, match=r"vanished while it was read; .* run again"):
        extract(root, store, counting, config, on_step(unplug))
    assert set(statuses(store).values()) == {"ok"}
    assert 10 <= len(store.snapshot()) < 40
    root.rmdir()
    (tmp_path / "unplugged").rename(root)
    counting.num_windows = 0
    report = run(root, store, counting)
    assert report.failures == []
    assert report.num_embedded + report.num_unchanged == 40
    assert counting.num_windows <= report.num_embedded <= 30


def test_file_that_is_deleted_before_its_turn_is_gone_not_lost(
    tmp_path: Path, counting: Counting
) -> None:
    root = many_files(tmp_path / "library")
    store = new_store(tmp_path / "store", counting)

    def delete(_: Step) -> None:
        (root / "9.wav").unlink(missing_ok=True)

    config = ExtractConfig(num_workers=0, batch_size=1)
    report = extract(root, store, counting, config, on_step(delete))
    assert [failure[:2] for failure in report.failures] == [("9.wav", "access")]
    assert run(root, store, counting).num_gone == 1
    assert statuses(store)["9.wav"] == "gone"


# --- what is found -------------------------------------------------------------------------------


def test_run_says_at_its_start_what_it_found(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    heard = Listener()
    extract(library, store, counting, IN_PROCESS, heard)
    assert heard.sentences == [
        f"{library}: 3 new, 0 changed, 0 moved, 0 gone, 0 unchanged, 0 failed before, 0 tried again"
    ]
    (library / "bad.wav").write_text("no audio")
    for number in range(5):
        write_tone(library / f"{number}.wav", 1.0, 600 + number)
    run(library, store, counting)
    (library / "0.wav").rename(library / "sub" / "0.wav")
    (library / "1.wav").unlink()
    write_tone(library / "2.wav", 1.5, 800)
    write_tone(library / "new.wav", 1.5, 900)
    extract(library, store, counting, IN_PROCESS, heard)
    assert heard.sentences[1] == (
        f"{library}: 2 new, 1 changed, 1 moved, 1 gone, 5 unchanged, 1 failed before, 0 tried again"
    )
    again = ExtractConfig(num_workers=0, retry_failed=True)
    extract(library, store, counting, again, heard)
    assert heard.sentences[2].endswith(
        "0 changed, 0 moved, 0 gone, 8 unchanged, 0 failed before, 1 tried again"
    )


# --- several writers -----------------------------------------------------------------------------


def test_second_run_waits_for_the_first_and_looks_again(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    told: list[str] = []
    waits, reports = threading.Event(), []

    def second() -> None:
        def listen(news: News) -> None:
            if isinstance(news, str):
                told.append(news)
                waits.set()

        reports.append(extract(library, store, counting, IN_PROCESS, listen))

    with sole_writer(store.path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        assert f"being written by process {os.getpid()} on " in told[0]
        assert "waiting" in told[0]
        write_tone(library / "meanwhile.wav", 1.0, 900)
        assert store.part_names() == []
    thread.join()
    assert reports[0].num_embedded == 4
    assert statuses(store)["meanwhile.wav"] == "ok"


def test_two_runs_at_once_embed_each_file_once(tmp_path: Path, counting: Counting) -> None:
    root = many_files(tmp_path / "library")
    store = new_store(tmp_path / "store", counting)
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(run(root, store, counting)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.num_embedded for report in reports) == [0, 0, 40]
    assert counting.num_windows == len(store.snapshot()) == 40


def test_lock_of_a_process_that_was_killed_is_free_though_its_readers_live(
    tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from indexer.store.lock import sole_writer\n"
        f"with sole_writer(Path({str(store.path)!r})):\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        with sole_writer(store.path) as has_waited:
            assert not has_waited
        os.kill(child, signal.SIGKILL)


def test_leftovers_of_killed_writers_are_removed_by_the_next_run(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    (store.path / "parts" / f".tmp-{1:032x}").mkdir()
    (store.path / "parts" / f".tmp-{1:032x}" / "scene.parquet").write_bytes(b"PAR1")
    (store.path / f".tmp-libraries.json-{1:032x}").write_bytes(b"{")
    run(library, store, counting)
    assert entries(store) == set(store.part_names())
    assert not list(store.path.glob(".tmp-*"))


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_undisturbed_block_ends_before_a_signal_takes_effect(number: signal.Signals) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    def work() -> None:
        with undisturbed():
            steps.append(1)
            signal.raise_signal(number)
            steps.append(2)
        steps.append(3)

    before = signal.signal(number, stop)
    steps: list[int] = []
    try:
        with pytest.raises(Stopped):
            work()
        assert steps == [1, 2]
        with pytest.raises(Stopped):  # and from then on it takes effect at once
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


# --- copies of files that fail -------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_copies_of_a_file_that_fails_late_all_fail_and_its_windows_are_stored_once(
    tmp_path: Path, counting: Counting, num_workers: int
) -> None:
    root = tmp_path / "library"
    write_tone(root / "0.wav", 60.0)
    for number in range(1, 4):
        shutil.copyfile(root / "0.wav", root / f"{number}.wav")
    store = new_store(tmp_path / "store", counting)
    config = ExtractConfig(num_workers=num_workers, max_hours=35 / 3600)
    run(root, store, counting, config)
    assert reasons(store) == {f"{n}.wav": ("decode", "longer than 35 s") for n in range(4)}
    stored = [one for part in store.parts() for one in part.windows(["window_id"])["window_id"]]
    assert len(stored) == len(set(stored)) == counting.num_windows


@pytest.mark.parametrize("num_workers", [0, 2])
def test_copies_of_a_file_with_samples_too_large_all_fail(
    tmp_path: Path, counting: Counting, num_workers: int
) -> None:
    root = tmp_path / "library"
    root.mkdir()
    loud = np.full((5 * SAMPLE_RATE_HZ,), 1e30, np.float32)
    soundfile.write(root / "0.wav", loud, SAMPLE_RATE_HZ, subtype="FLOAT")
    for number in range(1, 4):
        shutil.copyfile(root / "0.wav", root / f"{number}.wav")
    store = new_store(tmp_path / "store", counting)
    report = run(root, store, counting, ExtractConfig(num_workers=num_workers, batch_size=2))
    assert {failure[:2] for failure in report.failures} == {(f"{n}.wav", "embed") for n in range(4)}
    assert set(statuses(store).values()) == {"failed"}
    assert counting.num_windows == 1


def test_ledger_row_of_known_content_says_what_was_decoded_before(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    columns = ("path", "recording_id", "num_samples", "sample_rate", "channels", "codec")
    before = {row["path"]: row for row in store.latest_files(columns).to_pylist()}
    (library / "sub").rename(library / "renamed")
    assert run(library, store, counting).num_known == 2
    after = {row["path"]: row for row in store.latest_files(columns).to_pylist()}
    for name in ("short.wav", "stereo.flac"):
        assert after[f"renamed/{name}"] == before[f"sub/{name}"] | {"path": f"renamed/{name}"}
        assert after[f"renamed/{name}"]["num_samples"]


class ReadFirst:
    """Lets a run's first pass read what is given, and the others the files.

    Attributes:
        passes: How many files each pass has.
    """

    def __init__(self, events: list[Batch]) -> None:
        self._events = events
        self.passes: list[int] = []

    def __call__(self, work: Work, **options: Any) -> Iterator[Batch]:
        self.passes.append(len(work.items))
        return iter(self._events) if len(self.passes) == 1 else load_windows(work, **options)


@pytest.mark.parametrize("stage", ["access", "crash"])
def test_copy_whose_windows_were_dropped_for_an_owner_that_failed_is_embedded_whole(
    tmp_path: Path, counting: Counting, stage: str
) -> None:
    """The first file gives one window and fails; its copy was further on, and lost some."""
    root = tmp_path / "library"
    write_tone(root / "a.wav", 60.0)
    for name in ("b.wav", "c.wav"):
        shutil.copyfile(root / "a.wav", root / name)
    events = scripted(
        root,
        [
            ("a", 0),
            ("b", 0),
            ("b", 1),
            ("b", 2),
            ("a", stage),
            ("b", 3),
            ("c", 0),
            ("b", 4),
            ("b", 5),
            ("b", "done"),
            ("c", 1),
            ("c", 2),
            ("c", 3),
            ("c", 4),
            ("c", 5),
            ("c", "done"),
        ],
    )
    store = new_store(tmp_path / "store", counting)
    extract(root, store, counting, IN_PROCESS, read=ReadFirst(events))
    assert statuses(store) == {"a.wav": "failed", "b.wav": "ok", "c.wav": "ok"}
    starts = store.snapshot().windows.start_sample
    assert sorted(starts.tolist()) == [WINDOW_SAMPLES * number for number in range(6)]


def test_copy_that_fails_on_its_own_takes_nothing_from_the_owner(
    tmp_path: Path, counting: Counting
) -> None:
    root = tmp_path / "library"
    write_tone(root / "a.wav", 30.0)
    shutil.copyfile(root / "a.wav", root / "b.wav")
    events = scripted(
        root, [("a", 0), ("b", 0), ("b", "decode"), ("a", 1), ("a", 2), ("a", "done")]
    )
    store = new_store(tmp_path / "store", counting)
    extract(root, store, counting, IN_PROCESS, read=lambda *_, **__: iter(events))
    assert statuses(store) == {"a.wav": "ok", "b.wav": "failed"}
    assert len(store.snapshot()) == 3


def test_copies_that_wait_for_an_owner_whose_reader_died_get_their_turn(
    tmp_path: Path, counting: Counting
) -> None:
    """What kills a reader leaves no digest."""
    root = tmp_path / "library"
    write_tone(root / "a.wav", 5.0)
    shutil.copyfile(root / "a.wav", root / "b.wav")
    events = scripted(root, [("a", 0), ("b", 0), ("b", "done"), ("a", None)])
    store = new_store(tmp_path / "store", counting)
    reading = ReadFirst(events)
    extract(root, store, counting, IN_PROCESS, read=reading)
    assert reading.passes == [2, 1]
    assert statuses(store) == {"a.wav": "failed", "b.wav": "ok"}


def scripted(root: Path, steps: Sequence[tuple[str, object]]) -> list[Batch]:
    """What readers would give, in an order that is chosen: windows by number, and ends of files."""
    files = [file.path for file in walk(root).files]
    samples, _ = soundfile.read(root / files[0], dtype="float32")
    digest = recording_digest(root / files[0])
    info = AudioInfo(SAMPLE_RATE_HZ, 1, "pcm_s16le", "wav", "none")
    batches = []
    for name, step in steps:
        item = files.index(f"{name}.wav")
        waveform, keys, events = torch.empty(0, 0), [], []
        if isinstance(step, int):
            start = step * WINDOW_SAMPLES
            real = samples[start : start + WINDOW_SAMPLES]
            waveform = torch.zeros(1, WINDOW_SAMPLES)
            waveform[0, : len(real)] = torch.from_numpy(real)
            keys = [WindowKey(item, digest, start, len(real))]
        elif step == "done":
            events = [Done(item, digest, len(samples), info)]
        else:
            events = [Failure(item, str(step or "crash"), "a reason", digest if step else None)]
        batches.append(Batch(waveform, SAMPLE_RATE_HZ, keys, events))
    return batches


# --- folders, lists, and failures over failures --------------------------------------------------


@needs_root
def test_folders_that_become_readable_are_no_files_that_are_gone(
    public_folder: Path, counting: Counting
) -> None:
    root = public_folder / "library"
    for name in ("a", "b", "c"):
        write_tone(root / name / "x.wav", 1.0, 300 + ord(name))
    (public_folder / "stores").mkdir()
    (public_folder / "stores").chmod(0o777)
    for name in ("b", "c"):
        (root / name).chmod(0)
    run(root, new_store(public_folder / "first", counting), counting)

    def work() -> tuple[int, int]:
        path = public_folder / "stores" / "store"
        store = Store.open(path) if path.exists() else new_store(path, counting)
        report = run(root, store, counting)
        return report.num_embedded, len(report.failures)

    done = []
    for _ in range(2):
        done.append(run_as_nobody(work))
        for name in ("b", "c"):
            (root / name).chmod(0o755)
    assert done == [(1, 2), (2, 0)]


def test_list_of_files_is_looked_at_again_after_waiting_not_read_again(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("long.wav\n")
    config = ExtractConfig(num_workers=0, files_from=names)
    found = find_files(library, config)
    names.write_text("")  # a pipe is empty the second time
    write_tone(library / "long.wav", 3.0)
    again = look_again(found)
    assert [file.path for file in again.files] == ["long.wav"]
    assert again.files[0].size == (library / "long.wav").stat().st_size
    assert not again.is_complete


def test_access_that_fails_over_an_older_failure_is_tried_again(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    (library / "bad.wav").write_text("no audio")
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    changes = Changes(store, store.ledger(), walk(library), retry_failed=True)
    (file,) = changes.to_read
    locked = replace(changes.row(file), status="failed", stage="access", size=0, mtime_ns=0)
    assert changes.new_failures([locked]) == [locked]
    same = replace(locked, stage="open", size=file.size, mtime_ns=file.mtime_ns)
    assert changes.new_failures([same]) == []


def test_file_that_is_rewritten_while_it_is_read_leaves_no_window_of_its_new_bytes(
    tmp_path: Path, counting: Counting
) -> None:
    """They would be stored under the digest of the old ones, and be live when those come back."""
    root = tmp_path / "library"
    length_s = 10.0 * (num_cores() + 8)  # more than is read ahead
    write_tone(root / "a.wav", length_s, 300)
    shutil.copyfile(root / "a.wav", tmp_path / "old.wav")
    store = new_store(tmp_path / "store", counting)

    def rewrite(step: Step) -> None:
        if step.audio_s == 20.0:
            write_tone(root / "a.wav", length_s, 900)

    config = ExtractConfig(num_workers=0, batch_size=1, part_windows=1)
    report = extract(root, store, counting, config, on_step(rewrite))
    assert [failure.stage for failure in report.failures] == ["access"]
    shutil.copyfile(tmp_path / "old.wav", root / "a.wav")
    run(root, store, counting)
    clean = new_store(tmp_path / "clean", counting)
    run(root, clean, counting)
    expected, found = by_window(clean), by_window(store)
    assert expected.keys() == found.keys()
    for key, (scene, _, _) in expected.items():
        np.testing.assert_allclose(found[key][0], scene, atol=1e-5)
