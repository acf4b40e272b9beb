"""What is no longer there: recorded, counted and listed as gone, and nothing else is."""

from __future__ import annotations

import errno
import os
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import Run
from faults import fault
from synthetic import ORIGIN, Synthetic, block_of, make_store, write_tone
from test_extract import Counting, counting, new_store, statuses
from test_extract import run as extract_into

import soundalike
from indexer.errors import LibraryError
from indexer.library.changes import Changes
from indexer.library.files import FileList, FoundFile
from indexer.library.walk import Walk, walk
from indexer.paths import path_id
from indexer.run.config import ExtractConfig
from indexer.store import part
from indexer.store.compaction import compact
from indexer.store.reader import Store
from indexer.store.schema import FILES_SCHEMA
from indexer.store.writer import PartWriter
from search.upkeep.files import list_files
from search.upkeep.overview import overview

__all__ = ["counting"]  # a fixture


def lock(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let no folder of a name be listed; root may list any."""
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)


def gone_in(store: Path) -> list[str]:
    return [row.path for row in list_files(store, ["gone"])]


@pytest.mark.whole
def test_emptied_library_is_gone_if_that_is_allowed(
    tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    library, store = tmp_path / "library", tmp_path / "s"
    files = [write_tone(library / f"{at}.wav", 1.0, 300 + at) for at in range(3)]
    words = ("index", library, "--store", store, "--checkpoint", tiny_file)
    run(*words)
    for file in files:
        file.unlink()
    told = run(*words, code=1)
    fault("L1").require(told.code, told.err)
    assert gone_in(store) == []
    told = run(*words, "--allow-gone")
    fault("L1b").require(told.code, told.out)
    assert sorted(gone_in(store)) == ["0.wav", "1.wav", "2.wav"]
    assert soundalike.open(store).info().num_windows == 0
    assert run(*words).code == 0  # nothing more to be said


@pytest.mark.whole
def test_only_file_of_a_library_is_not_gone_unless_that_is_allowed(
    tmp_path: Path, counting: Counting
) -> None:
    """Its disk may not be mounted; more than half of one is one."""
    store = new_store(tmp_path / "s", counting)
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    extract_into(tmp_path / "library", store, counting)
    (tmp_path / "library" / "a.wav").unlink()
    (tmp_path / "library" / "notes.txt").touch()
    with pytest.raises(LibraryError, match="1 of 1 files"):
        extract_into(tmp_path / "library", store, counting)
    config = ExtractConfig(num_workers=0, allow_gone=True)
    assert extract_into(tmp_path / "library", store, counting, config).num_gone == 1


@pytest.mark.whole
def test_emptied_library_is_an_error_where_patterns_leave_nothing(
    tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "s", counting)
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    extract_into(tmp_path / "library", store, counting)
    config = ExtractConfig(num_workers=0, include=("*.flac",), allow_gone=True)
    with pytest.raises(LibraryError, match="passes the patterns"):
        extract_into(tmp_path / "library", store, counting, config)


def test_forgotten_files_are_neither_gone_nor_counted(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", frames="none")
    made.add({"a": 1, "b": 1, "c": 1})
    made.rename("b.wav", "new.wav")
    made.remove("c.wav")
    assert overview(made.store.path).statuses == {"ok": 2, "gone": 1, "moved": 1}
    soundalike.open(made.store.path).forget(made.library_id)
    for _ in range(2):
        assert list(list_files(made.store.path)) == []
        assert overview(made.store.path).statuses == {}
        compact(made.store)


@pytest.mark.whole
def test_name_that_never_was_there_is_not_gone(tmp_path: Path, counting: Counting) -> None:
    store = new_store(tmp_path / "s", counting)
    library = tmp_path / "library"
    write_tone(library / "a.wav", 1.0)
    write_tone(library / "was.wav", 1.0, 500)
    extract_into(library, store, counting)
    (library / "was.wav").unlink()
    wanted = tmp_path / "list.txt"
    wanted.write_text("a.wav\ntypo.wav\nwas.wav\nworse.wav\n")
    config = ExtractConfig(num_workers=0, files_from=wanted)
    for _ in range(2):
        assert len(extract_into(library, store, counting, config).failures) == 3
    rows = len(store.files())
    assert rows == 2 + 3  # each is told once
    report = extract_into(library, store, counting)
    assert report.num_gone == 1
    assert gone_in(store.path) == ["was.wav"]
    assert overview(store.path).statuses == {"ok": 1, "gone": 1}


@pytest.mark.whole
def test_folder_that_can_be_listed_again_is_not_gone(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "s", counting)
    library = tmp_path / "library"
    write_tone(library / "a.wav", 1.0)
    write_tone(library / "locked" / "b.wav", 1.0, 500)
    with monkeypatch.context() as locked:
        lock(locked, "locked")
        assert len(extract_into(library, store, counting).failures) == 1
    report = extract_into(library, store, counting)
    assert (report.num_gone, report.num_embedded) == (0, 1)
    assert gone_in(store.path) == []
    assert overview(store.path).statuses == {"ok": 2}


@pytest.mark.whole
def test_hidden_folder_that_is_locked_stays_as_it_was_recorded(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path / "s", counting)
    library = tmp_path / "library"
    write_tone(library / "a.wav", 1.0)
    write_tone(library / ".locked" / "b.wav", 1.0, 500)
    lock(monkeypatch, ".locked")
    extract_into(library, store, counting, ExtractConfig(num_workers=0, hidden=True))
    before = statuses(store)
    assert before[".locked"] == "failed"
    extract_into(library, store, counting)  # which does not ask for it
    assert statuses(store) == before


@pytest.mark.whole
def test_broken_link_is_tried_again_by_every_run(tmp_path: Path, tiny_file: Path, run: Run) -> None:
    library = tmp_path / "library"
    write_tone(library / "a.wav", 1.0)
    (library / "link.wav").symlink_to(tmp_path / "later.wav")
    words = ("index", library, "--store", tmp_path / "s", "--checkpoint", tiny_file)
    for _ in range(2):
        told = run(*words, code=3)
        fault("L5").require(told.code, told.out)
    write_tone(tmp_path / "later.wav", 1.0, 500)
    assert run(*words, "--format", "json").data["num_embedded"] == 1


def test_link_that_was_broken_when_the_first_version_ran_is_tried_again(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", frames="none")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "link.wav").symlink_to("nowhere")
    row = made.row("link.wav", None, "failed", stage="access", reason="broken link")
    made.add_rows([replace(row, size=0, mtime_ns=0)])
    ledger, found = made.store.ledger(), walk(tmp_path / "library")
    to_read = Changes(made.store, ledger, found, retry_failed=False).to_read
    assert [file.path for file in to_read] == ["link.wav"]


@pytest.mark.whole
def test_folder_that_cannot_be_listed_is_named_by_files(
    tmp_path: Path, tiny_file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, store = tmp_path / "library", tmp_path / "s"
    write_tone(library / "a.wav", 1.0)
    write_tone(library / "locked" / "b.wav", 1.0, 500)
    write_tone(library / ".too" / "c.wav", 1.0, 600)
    lock(monkeypatch, "locked")
    words = ("index", library, "--store", store, "--checkpoint", tiny_file)
    run(*words, code=3)
    told = run("files", store, "--skipped", code=3)
    fault("L6").require(told.code, told.out)
    assert run("files", store, "--failed").code == 0  # nothing is unknown of these
    rows = run("files", store, "--format", "json", code=3).data
    assert sorted((row["path"], row["status"]) for row in rows) == [
        (".too/c.wav", "skipped"),
        ("a.wav", "ok"),
        ("locked", "failed"),
    ]


@pytest.mark.whole
def test_library_that_cannot_be_listed_is_an_error_and_nothing_is_gone(
    tmp_path: Path, tiny_file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    write_tone(tmp_path / "library" / "a.wav", 0.1)
    run("index", tmp_path / "library", "--store", store, "--checkpoint", tiny_file)
    lock(monkeypatch, "library")
    for at in (store, tmp_path / "new"):
        told = run("index", tmp_path / "library", "--store", at, "--allow-gone", code=1)
        fault("L6b").require(told.code, told.err)
    assert gone_in(store) == []
    (row,) = list_files(store, ["skipped"])
    assert (row.status, row.path) == ("absent", ".")
    assert "Permission denied" in str(row.reason)


def test_hidden_folder_that_is_locked_is_skipped_because_it_is_hidden(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_store(tmp_path / "s", frames="none")
    write_tone(tmp_path / "library" / ".x" / "a.wav", 0.1)
    (tmp_path / "library" / ".notes.txt").touch()
    lock(monkeypatch, ".x")
    rows = {row.path: row for row in list_files(made.store.path)}
    hidden = "hidden: a name in its path begins with a dot"
    assert {path: row.reason for path, row in rows.items()} == {
        ".x": hidden,
        ".notes.txt": f"no ending of audio; {hidden}",
    }
    assert run("files", made.store.path, "--skipped").code == 0


def test_windows_of_a_recording_that_a_run_did_not_end_are_unfinished(
    tmp_path: Path, run: Run
) -> None:
    made = make_store(tmp_path / "s", frames="none")
    made.add({"ok": 2, "deleted": 3})
    made.remove("deleted.wav")
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("long", 4), None)
        writer.commit()
    told = run("info", made.store.path)
    fault("L7").require(told.code, told.out)
    found = overview(made.store.path)
    assert (found.num_windows, found.num_dead_windows, found.num_unfinished_windows) == (2, 3, 4)
    assert compact(made.store).num_windows_removed == 3
    found = overview(made.store.path)
    assert (found.num_windows, found.num_dead_windows, found.num_unfinished_windows) == (2, 0, 4)


def many_rows(made: Synthetic, num_files: int) -> pa.Table:
    """Ledger rows that differ in nothing but path and content."""
    row = asdict(made.row("", None, num_samples=1))
    columns = {
        field.name: pa.array([row[field.name]], field.type).take(np.zeros(num_files, np.int64))
        for field in FILES_SCHEMA
    }
    names = [f"{at}.mp3" for at in range(num_files)]
    ids = pa.array([at.to_bytes(16, "big") for at in range(num_files)], pa.binary(16))
    path_ids = pa.array([path_id(made.library_id, name) for name in names])
    columns |= {"path_id": path_ids, "path": pa.array(names), "recording_id": ids, "audio_id": ids}
    return pa.table(columns, FILES_SCHEMA)


def test_what_many_files_were_and_that_they_are_gone_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects for so many rows would be over 5 MB."""
    made, num_files = make_store(tmp_path / "s", frames="none"), 5_000
    (tmp_path / "library").mkdir()
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_rows("files.parquet", many_rows(made, num_files))
        writer.commit()
    files = FileList(FoundFile(f"{at}.mp3", 5, 5) for at in range(num_files))
    ledger = made.store.ledger()
    changed = Changes(made.store, ledger, Walk(tmp_path / "library", files), retry_failed=False)
    emptied = Changes(made.store, ledger, Walk(tmp_path / "library"), retry_failed=False)
    monkeypatch.setattr(part, "_LEDGER_BATCH", 1000)
    parts = made.store.parts()  # to read a manifest takes 64 MiB for a moment
    monkeypatch.setattr(Store, "from_parts", lambda _, read: read(parts))
    tracemalloc.start()
    former = changed.former()
    of_former = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    num_gone = sum(map(len, emptied.missing({}, allow_gone=True)))
    of_missing = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(of_former, of_missing) < 2.5e6
    for at in (0, 3_777):
        assert former.of(files[at]) == (at.to_bytes(16, "big"),) * 2
    assert num_gone == num_files
