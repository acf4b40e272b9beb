"""What people add to a store is theirs: whole, checked, and touched by nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Run
from synthetic import Synthetic, head, make_store

import soundalike
from indexer.errors import DamagedStoreError, QueryError, StoreError
from indexer.store.creation import create_store
from indexer.store.own import Own
from search.upkeep.build import build
from search.upkeep.compact import compact
from search.upkeep.verify import verify

LABELS = {"dog": ["a.wav", "b.wav"], "threshold": 0.25}


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 3, "b": 2})
    return made


def test_own_documents_are_read_as_they_were_written(made: Synthetic) -> None:
    own = Own.of(made.store.path)
    assert (own.names(), own.read("labels")) == ([], {})
    own.write("labels", LABELS)
    own.write("other-1", {})
    own.write("labels", {**LABELS, "more": "漢字"})
    assert own.names() == ["labels", "other-1"]
    assert Own.of(made.store.path).read("labels") == {**LABELS, "more": "漢字"}
    assert not list(own.folder.glob(".tmp*"))


def test_own_documents_outlive_index_build_and_compaction(made: Synthetic) -> None:
    own = Own.of(made.store.path)
    own.write("labels", LABELS)
    before = (own.folder / "labels.json").read_bytes()
    build(made.store)
    shutil.rmtree(made.store.path / "index")
    build(made.store)
    made.add({"c": 2})
    compact(made.store.path)
    assert (own.folder / "labels.json").read_bytes() == before
    assert verify(made.store.path) == []
    # A store that lost store.json alone is not taken for a folder of somebody else's.
    (made.store.path / "store.json").unlink()
    with pytest.raises(StoreError, match=r"store\.json, which says how"):
        create_store(made.store.path, made.store.identity, head(), checkpoint="x", written_by="x")


def test_own_document_that_is_damaged_is_named_by_verify(made: Synthetic) -> None:
    own = Own.of(made.store.path)
    own.write("labels", LABELS)
    file = own.folder / "labels.json"
    file.write_bytes(file.read_bytes().replace(b"a.wav", b"c.wav"))
    with pytest.raises(DamagedStoreError, match=r"labels\.json is damaged"):
        own.read("labels")
    (problem,) = verify(made.store.path)
    assert problem.path == file


def test_own_folder_elsewhere_serves_a_store_that_may_only_be_read(
    made: Synthetic, tmp_path: Path
) -> None:
    own = Own.of(made.store.path, tmp_path / "mine")
    own.write("labels", LABELS)
    assert not (made.store.path / "own").exists()
    assert own.read("labels") == LABELS
    assert verify(made.store.path, own=own) == []
    (tmp_path / "mine" / "labels.json").write_text("{}")
    (problem,) = verify(made.store.path, own=own)
    assert problem.path == tmp_path / "mine" / "labels.json"


@pytest.mark.parametrize("name", ["", "../x", "A", ".x", "a/b", "a.b", "x" * 65, "é"])
def test_own_name_that_leads_elsewhere_is_refused(name: str, made: Synthetic) -> None:
    with pytest.raises(QueryError, match="is no name for what is added"):
        Own.of(made.store.path).write(name, LABELS)
    assert not (made.store.path / "own").exists()


def test_own_folder_that_is_a_link_is_neither_read_nor_written(
    made: Synthetic, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (made.store.path / "own").symlink_to(tmp_path / "theirs")
    own = Own.of(made.store.path)
    for use in (own.names, lambda: own.read("labels"), lambda: own.write("labels", LABELS)):
        with pytest.raises(StoreError, match="own is a symbolic link"):
            use()
    assert list((tmp_path / "theirs").iterdir()) == []
    (problem,) = verify(made.store.path)
    assert problem.path == made.store.path / "own"


def test_own_folder_is_shown_and_checked_by_the_command(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    sounds = soundalike.open(made.store.path, own=tmp_path / "mine")
    sounds.own.write("labels", LABELS)
    assert sounds.info().own == ("labels",)
    assert "added       labels" in run("info", made.store.path, "--own", tmp_path / "mine").out
    assert "added" not in run("info", made.store.path).out
    run("verify", made.store.path, "--own", tmp_path / "mine")
    (tmp_path / "mine" / "labels.json").write_text("{}")
    told = run("verify", made.store.path, "--own", tmp_path / "mine", code=1)
    assert "labels.json" in told.out
