"""A library is forgotten: what only it holds goes, and nothing is lost before `compact`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Run
from faults import fault
from synthetic import make_store, recording_id, write_tone
from test_extract import Counting, counting, new_store
from test_extract import run as extract_into

import soundalike
from indexer.errors import LibraryError
from indexer.run.forget import forget
from indexer.store.compaction import compact
from indexer.store.reader import Store
from search.upkeep.verify import verify

__all__ = ["counting"]  # a fixture

pytestmark = pytest.mark.whole  # Runs of the indexer.


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A library with two sounds of its own, 21 s and 1 s; and one that shares a third with it."""
    field, meadow = tmp_path / "field", tmp_path / "meadow"
    write_tone(field / "long.wav", 21.0, 300)
    write_tone(field / "short.wav", 1.0, 350)
    write_tone(field / "shared.wav", 10.0, 400)
    write_tone(meadow / "same.wav", 10.0, 400)
    write_tone(meadow / "own.wav", 1.0, 500)
    (field / "bad.wav").write_text("no audio")
    return field, meadow


@pytest.fixture
def store(folders: tuple[Path, Path], tmp_path: Path, counting: Counting) -> Store:
    """Of both."""
    made = new_store(tmp_path / "s", counting)
    for folder in folders:
        extract_into(folder, made, counting)
    return made


def live_paths(store: Store) -> set[str]:
    return {path for path, _ in store.live_files()}


def test_forgotten_library_goes_and_comes_back_without_being_embedded(
    folders: tuple[Path, Path], store: Store, counting: Counting
) -> None:
    before, field = len(store.snapshot()), folders[0]
    planned = forget(store.path, str(field), dry_run=True)
    assert len(store.snapshot()) == before  # nothing was changed
    done = forget(store.path, str(field))
    assert (planned.is_done, done.is_done) == (False, True)
    assert (done.num_files, done.num_windows, done.num_shared_windows) == (4, 4, 1)
    assert done.audio_s == pytest.approx(22.0)
    assert live_paths(store) == {"same.wav", "own.wav"}
    assert len(store.snapshot()) == 2
    assert list(store.libraries().values()) == [folders[1]]
    assert verify(store.path) == []
    counting.num_windows = 0
    report = extract_into(field, store, counting)
    assert (counting.num_windows, report.num_known, len(store.snapshot())) == (0, 3, before)


def test_forgotten_library_whose_folder_is_gone_is_removed_by_a_compaction(
    folders: tuple[Path, Path], store: Store
) -> None:
    shutil.rmtree(folders[0])
    (library_id,) = (key for key, root in store.libraries().items() if root == folders[0])
    forget(store.path, library_id[:8])
    assert compact(store).num_windows_removed == 4
    assert live_paths(store) == {"same.wav", "own.wav"}
    assert verify(store.path) == []


def test_forget_of_many_files_writes_a_word_on_each(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", frames="none")
    made.add_rows([made.row(f"{at}.wav", recording_id(str(at))) for at in range(66_000)])
    assert forget(made.store.path, made.library_id).num_files == 66_000
    ledger = made.store.ledger()
    assert len(ledger) == 66_000
    assert not len(ledger.present(made.library_id))


def test_library_that_is_not_known_or_not_certain_is_an_error(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", frames="none")
    for asked in ("library", made.library_id[:7], str(tmp_path)):
        with pytest.raises(LibraryError, match="no library"):
            forget(made.store.path, asked)
    sounds = soundalike.open(made.store.path)
    assert sounds.forget(tmp_path / "library", dry_run=True).library_id == made.library_id


def test_command_says_what_would_go_and_does_it_with_yes(
    folders: tuple[Path, Path], tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    (folders[0] / "bad.wav").unlink()
    store = tmp_path / "s"
    for folder in folders:
        run("index", folder, "--store", store, "--checkpoint", tiny_file)
    told = run("forget", store, "nowhere", code=1)
    fault("F6a").require(told.code, told.err)
    assert all(str(folder) in told.err for folder in folders)
    (folders[1] / "same.wav").unlink()
    run("index", folders[1], "--store", store)
    told = run("forget", store, folders[0])
    fault("F6b").require(told.code, told.out)
    done = run("forget", store, folders[0], "--yes", "--format", "json").data
    assert (done["is_done"], done["num_windows"]) == (True, 5)
    run("build", store)
    assert str(folders[0]) not in run("search", store, "--tag", "Music", "--threshold", 0).out
    assert str(folders[0]) not in run("info", store).out
