"""What a run on a cluster left behind: the next to write to the store settles it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import ORIGIN, Synthetic, block_of, frames_of, make_store, recording_id

from indexer.errors import StoreError
from indexer.run.commit import commit
from indexer.run.config import ExtractConfig
from indexer.run.forget import forget
from indexer.run.survey import find_files, survey
from indexer.store.creation import create_store
from indexer.store.disk import remove_all, seal, write_whole
from indexer.store.reader import Store
from indexer.store.stage import Stage
from indexer.store.staging import clear_leftovers, sealed_parts, staging, take_up
from indexer.store.writer import PartWriter
from search.upkeep.compact import compact
from search.upkeep.verify import verify


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    root = tmp_path / "library"
    root.mkdir()
    made = make_store(tmp_path / "store", root=root)
    made.add({"first": 2})
    return made


def stage_shard(
    made: Synthetic, folder: Path, name: str, recording: str, *, is_sealed: bool = True
) -> Stage:
    """Write what a worker does: two windows of a recording, and a word on it."""
    stage = Stage.beside(made.store, folder / name)
    with PartWriter(stage, ORIGIN) as writer:
        writer.add_windows(block_of(recording, 2), frames_of(2, 31))
        writer.add_ledger([made.row(f"{recording}.wav", recording_id(recording))])
        writer.commit()
        writer.add_ledger([made.row("copy of first.wav", recording_id("first"))])
        writer.commit(is_claim=True)
    if is_sealed:
        stage.seal(made.library_id, made.store.libraries()[made.library_id])
    return stage


def leave(made: Synthetic) -> None:
    """Leave what a driver leaves that is killed: one shard is sealed, and one is not."""
    folder = made.store.path / "staging" / "run"
    stage_shard(made, folder, "000000-1", "second")
    stage_shard(made, folder, "000001-1", "third", is_sealed=False)


def paths(store: Store) -> dict[str, str]:
    rows = store.latest_files(("path", "status")).to_pylist()
    return {row["path"]: row["status"] for row in rows}


def require_settled(made: Synthetic) -> None:
    assert not (made.store.path / "staging").exists()
    assert len(made.store.snapshot()) == 4
    assert paths(made.store).keys() == {"first.wav", "second.wav", "copy of first.wav"}
    assert verify(made.store.path) == []


def survey_it(made: Synthetic) -> None:
    root = made.store.libraries()[made.library_id]
    found = find_files(root, ExtractConfig(), store=made.store.path)
    with survey(found, made.store, ExtractConfig()) as surveyed:
        assert len(surveyed.ledger) == 3  # it knows what was published


def compact_it(made: Synthetic) -> None:
    compact(made.store.path)


@pytest.mark.parametrize(
    "settle", [survey_it, compact_it, lambda made: clear_leftovers(made.store)]
)
def test_sealed_shards_of_a_run_that_died_are_published_and_the_others_deleted(
    made: Synthetic, settle: Callable[[Synthetic], None]
) -> None:
    leave(made)
    settle(made)
    require_settled(made)
    settle(made)
    require_settled(made)


def test_what_was_published_before_the_run_died_is_not_published_twice(made: Synthetic) -> None:
    leave(made)
    kept = made.store.path.with_name("kept")
    shutil.copytree(made.store.path / "staging", kept)
    clear_leftovers(made.store)
    shutil.copytree(kept, made.store.path / "staging")  # as if it had not been deleted yet
    clear_leftovers(made.store)
    require_settled(made)
    assert sum(part.num_windows for part in made.store.parts()) == 4


def test_publishing_that_was_broken_off_is_begun_again(
    made: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk without links that is full: what was copied so far is in nobody's way."""
    leave(made)
    copy = shutil.copyfileobj

    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(shutil, "copyfileobj", fill_up)
    for _ in range(2):
        with pytest.raises(StoreError, match="No space left"):
            take_up(made.store)
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    take_up(made.store)
    require_settled(made)


def test_library_that_is_forgotten_does_not_come_back_from_what_was_staged(made: Synthetic) -> None:
    leave(made)
    forget(made.store.path, made.library_id)
    assert set(paths(made.store).values()) == {"gone"}
    assert not (made.store.path / "staging").exists()
    clear_leftovers(made.store)
    assert len(made.store.snapshot()) == 0


def test_commit_of_shards_settles_what_was_staged_first(made: Synthetic, tmp_path: Path) -> None:
    leave(made)
    stage_shard(made, tmp_path, "shard", "fourth")
    assert commit(made.store.path, [tmp_path / "shard"]).num_windows == 2
    assert len(made.store.snapshot()) == 6


def test_shard_that_somebody_began_to_delete_keeps_nobody_from_writing(made: Synthetic) -> None:
    for name in ("store.json", "head.safetensors", "sealed.json", "parts"):
        leave(made)
        remove_all(made.store.path / "staging" / "run" / "000000-1" / name)
        clear_leftovers(made.store)
        assert not (made.store.path / "staging").exists()
    assert "second.wav" in paths(made.store)  # without its head it was whole
    assert verify(made.store.path) == []


def test_shard_that_is_damaged_is_left_out_and_read_again_by_the_run(made: Synthetic) -> None:
    leave(made)
    (scene,) = (made.store.path / "staging/run/000000-1").rglob("scene.parquet")
    content = bytearray(scene.read_bytes())
    content[100] ^= 1
    scene.write_bytes(content)
    clear_leftovers(made.store)
    assert paths(made.store) == {"first.wav": "ok"}
    assert not (made.store.path / "staging").exists()


def test_shard_of_another_identity_is_no_part_of_the_store(made: Synthetic, tmp_path: Path) -> None:
    leave(made)
    other = make_store(tmp_path / "other", weights="b" * 64)
    folder = made.store.path / "staging" / "run"
    shutil.rmtree(folder / "000000-1")
    stage = stage_shard(other, folder, "000000-1", "second")
    with pytest.raises(StoreError, match=r"made in another way than .*weights"):
        sealed_parts(made.store, stage.path)
    clear_leftovers(made.store)
    assert paths(made.store) == {"first.wav": "ok"}


def test_nothing_is_read_through_a_link(made: Synthetic, tmp_path: Path) -> None:
    leave(made)
    (made.store.path / "staging").rename(tmp_path / "elsewhere")
    (made.store.path / "staging").mkdir()
    (made.store.path / "staging" / "run").symlink_to(tmp_path / "elsewhere" / "run")
    clear_leftovers(made.store)
    assert paths(made.store) == {"first.wav": "ok"}
    assert (tmp_path / "elsewhere" / "run" / "000000-1").is_dir()


def test_run_that_ends_leaves_nothing_staged(made: Synthetic) -> None:
    with staging(made.store) as folder:
        stage_shard(made, folder, "000000-1", "second")
        assert sealed_parts(made.store, folder / "000000-1")
        stage_shard(made, folder, "000001-1", "third", is_sealed=False)
        assert sealed_parts(made.store, folder / "000001-1") is None
    require_settled(made)


def test_store_that_lost_its_head_may_have_what_was_staged(made: Synthetic) -> None:
    """A folder with nothing but what a store has is a place for one."""
    leave(made)
    shutil.rmtree(made.store.path / "parts")
    (made.store.path / "store.json").unlink()
    again = create_store(
        made.store.path, made.store.identity, made.store.head(), checkpoint="x", written_by="tests"
    )
    assert again.part_names() == []


# --- shards of strangers -------------------------------------------------------------------------


def reseal(made: Synthetic, stage: Stage, parts: list[str]) -> None:
    told = {"parts": parts, "library_id": made.library_id, "root": "/library"}
    write_whole(stage.path / "sealed.json", seal(told))


@pytest.mark.parametrize("spell", [os.path.relpath, lambda path, _: str(path)])
def test_shard_brings_no_part_from_outside_of_it(
    made: Synthetic, tmp_path: Path, spell: Callable[[Path, Path], str]
) -> None:
    other = make_store(tmp_path / "other", weights="b" * 64)
    other.add({"theirs": 3})
    stage = stage_shard(made, tmp_path, "shard", "second")
    reseal(made, stage, [spell(other.store.parts()[0].path, stage.path / "parts")])
    (refused,) = commit(made.store.path, [stage.path]).refused
    assert "is missing; run the shard again" in refused.reason
    assert len(made.store.part_names()) == 1


def test_shard_brings_no_part_that_no_reader_would_see(made: Synthetic, tmp_path: Path) -> None:
    stage = stage_shard(made, tmp_path, "shard", "second")
    (stage.path / "parts" / stage.part_names()[0]).rename(stage.path / "parts" / "0000000001-x")
    reseal(made, stage, ["0000000001-x"])
    assert len(commit(made.store.path, [stage.path]).refused) == 1
    names = [one.name for one in (made.store.path / "parts").iterdir()]
    assert names == made.store.part_names()


def test_parts_of_a_shard_are_not_looked_for_through_a_link(
    made: Synthetic, tmp_path: Path
) -> None:
    stage = stage_shard(made, tmp_path, "shard", "second")
    (stage.path / "parts").rename(tmp_path / "elsewhere")
    (stage.path / "parts").symlink_to(tmp_path / "elsewhere")
    (refused,) = commit(made.store.path, [stage.path]).refused
    assert "symbolic link" in refused.reason


def test_part_that_a_shard_names_twice_is_published_once(made: Synthetic, tmp_path: Path) -> None:
    stage = stage_shard(made, tmp_path, "shard", "second")
    reseal(made, stage, [*stage.part_names(), *stage.part_names()])
    assert commit(made.store.path, [stage.path]).num_parts == 2


# --- what a commit leaves alone ------------------------------------------------------------------


def test_copies_of_a_shard_are_published_once(made: Synthetic, tmp_path: Path) -> None:
    stage = stage_shard(made, tmp_path, "shard", "second")
    shutil.copytree(stage.path, tmp_path / "copy")
    report = commit(made.store.path, [stage.path, tmp_path / "copy"])
    assert (report.published, report.already) == ([stage.path], [tmp_path / "copy"])
    assert len(made.store.part_names()) == 3


def test_shard_that_is_refused_leaves_its_library_unknown(made: Synthetic, tmp_path: Path) -> None:
    stage = stage_shard(made, tmp_path, "shard", "second")
    stage.seal("b" * 32, tmp_path / "another library")
    scene = next(stage.path.rglob("scene.parquet"))
    content = scene.read_bytes()
    scene.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (refused,) = commit(made.store.path, [stage.path]).refused
    assert refused.reason.endswith(f"; remove {stage.path}, and stage it anew")
    assert made.store.libraries().keys() == {made.library_id}
    scene.write_bytes(content)
    assert len(commit(made.store.path, [stage.path]).published) == 1
    assert made.store.libraries().keys() == {made.library_id, "b" * 32}


def test_shard_that_is_there_already_brings_no_library_back(
    made: Synthetic, tmp_path: Path
) -> None:
    stage = stage_shard(made, tmp_path, "shard", "second")
    commit(made.store.path, [stage.path])
    forget(made.store.path, made.library_id)
    assert len(commit(made.store.path, [stage.path]).already) == 1
    assert made.store.libraries() == {}


def test_stage_does_not_count_on_windows_that_were_published(
    made: Synthetic, tmp_path: Path
) -> None:
    """A recording that was read in half: the store went on with it, and has dropped all of it."""
    stage = Stage.beside(made.store, tmp_path / "shard")
    with PartWriter(stage, ORIGIN) as writer:
        writer.add_windows(block_of("second", 1), frames_of(1, 31))
        writer.commit()

    def begun() -> set[bytes]:
        return set(stage.partial_windows(stage.parts(), stage.ledger().known))

    assert begun() == {recording_id("second")}
    stage.seal(made.library_id, made.store.libraries()[made.library_id])
    commit(made.store.path, [stage.path])
    assert begun() == set()


def test_verify_tells_of_a_damaged_record_of_what_was_published(
    made: Synthetic, tmp_path: Path
) -> None:
    commit(made.store.path, [stage_shard(made, tmp_path, "shard", "second").path])
    assert verify(made.store.path) == []
    (made.store.path / "published.json").write_text("{}")
    (problem,) = verify(made.store.path)
    assert (problem.path.name, problem.remedy[:9]) == ("published.json", "remove it")
