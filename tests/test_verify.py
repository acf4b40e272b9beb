"""Damage: whatever byte changes, `verify` names the file, and reading ends in a StoreError."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listener import Listener, on_step
from synthetic import (
    ORIGIN,
    Synthetic,
    block_of,
    frames_of,
    head,
    make_store,
    put_file,
    recording_id,
)

from indexer.errors import DamagedStoreError, StoreError
from indexer.progress import Step
from indexer.store.part import MANIFEST_FILE, Part
from indexer.store.reader import Store
from indexer.store.snapshot import Block
from indexer.store.verify import Problem, verify_parts
from indexer.store.writer import PartWriter

#: Read as a whole by every command, and sealed.
SMALL = ["store.json", "libraries.json", "manifest.json"]
BIG = ["head.safetensors", "scene.parquet", "frames.parquet", "files.parquet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A store of one part with all kinds of files. Tests put back what they damage."""
    made = make_store(tmp_path_factory.mktemp("verify") / "store")
    made.add({"a": 2, "b": 1}, num_frames=2)
    return made


def file_of(made: Synthetic, name: str) -> Path:
    (found,) = (path for path in made.store.path.rglob(name) if "index" not in path.parts)
    return found


@contextmanager
def content(path: Path, changed: bytes) -> Iterator[None]:
    """Let a file hold other bytes for a while."""
    good = path.read_bytes()
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(good)


def flips(path: Path, count: int | None) -> Iterator[bytes]:
    """Yield a file with one byte changed: every byte, or some from everywhere and from its ends."""
    good = path.read_bytes()
    rng = np.random.default_rng(len(good))
    positions = set(range(len(good)))
    if count is not None:
        inside = rng.choice(len(good), count, replace=False)
        # A Parquet file ends with what describes it, a head begins with it.
        ends = rng.choice(1500, count, replace=False) % len(good)
        positions = {0, 3, len(good) - 1, len(good) - 5, *inside, *ends, *(len(good) - 1 - ends)}
    for position in sorted(positions):
        other = good[position] ^ int(rng.integers(1, 256))
        yield good[:position] + bytes([other]) + good[position + 1 :]


def problems_of(store: Path) -> list[Problem]:
    """Everything that is wrong, as `soundalike verify` finds it: opening comes first."""
    try:
        return verify_parts(Store.open(store))
    except StoreError as error:
        return [Problem(store / "store.json", str(error))]


def read_everything(path: Path) -> None:
    store = Store.open(path)
    store.libraries()
    store.head()
    store.files_at(store.ledger().path_id)
    parts = store.parts()
    store.partial_windows(parts, store.ledger().known)
    snapshot = store.snapshot(parts)
    rows = np.arange(len(snapshot))[::-1]
    snapshot.scene(rows)
    snapshot.tags(rows)
    snapshot.frames(rows)
    for row in rows:
        assert isinstance(snapshot.windows.window(row).window_id, int)
    list(snapshot.blocks(2))


# --- all is well ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", ["pooled", "full", "none"])
def test_verify_store_as_it_was_written_finds_nothing(
    frames: str, tmp_path: Path, made: Synthetic
) -> None:
    fresh = make_store(tmp_path / "store", frames=frames)  # type: ignore[arg-type]
    assert verify_parts(fresh.store) == []
    fresh.add({"a": 5, "b": 0}, num_frames=1)
    fresh.add_rows([fresh.row("x.wav", None, "failed")])
    assert verify_parts(fresh.store) == []
    assert problems_of(made.store.path) == []
    read_everything(made.store.path)


def test_verify_progress_counts_the_parts(made: Synthetic, tmp_path: Path) -> None:
    fresh = make_store(tmp_path / "store", frames="none")
    for name in "abc":
        fresh.add({name: 1})
    heard = Listener()
    verify_parts(fresh.store, heard)
    assert heard.steps == [Step("verifying", done, 3, "part") for done in (1, 2, 3)]


# --- one byte ------------------------------------------------------------------------------------


READERS: dict[str, Callable[[Path], object]] = {
    "store.json": Store.open,
    "libraries.json": lambda path: Store.open(path).libraries(),
    "manifest.json": lambda path: Store.open(path).parts(),
}


@pytest.mark.parametrize("name", SMALL)
def test_any_changed_byte_of_a_small_file_is_damage_to_its_reader(
    name: str, made: Synthetic
) -> None:
    path = file_of(made, name)
    for changed in flips(path, None):
        with content(path, changed), pytest.raises(DamagedStoreError, match=f"{name} is damaged"):
            READERS[name](made.store.path)


@pytest.mark.whole
@pytest.mark.parametrize("name", SMALL + BIG)
def test_verify_changed_byte_names_the_file(name: str, made: Synthetic) -> None:
    path = file_of(made, name)
    for changed in flips(path, 20):
        with content(path, changed):
            (problem,) = problems_of(made.store.path)
            assert problem.path == path
            assert problem.reason


@pytest.mark.whole
@pytest.mark.parametrize("name", SMALL + BIG)
def test_reading_with_a_changed_byte_raises_store_errors_only(name: str, made: Synthetic) -> None:
    path = file_of(made, name)
    num_errors = 0
    for changed in flips(path, 25):
        with content(path, changed):
            try:
                read_everything(made.store.path)
            except StoreError:
                num_errors += 1
    assert num_errors > 5  # the rest is in embeddings, which only `verify` reads as a whole


def test_ledger_with_any_changed_byte_is_damage(made: Synthetic) -> None:
    """A wrong word there would drop recordings or embed them again, so nothing of it is used."""
    path = file_of(made, "files.parquet")
    for changed in flips(path, 100):
        with content(path, changed), pytest.raises(DamagedStoreError, match=r"files\.parquet"):
            made.store.ledger()


# --- cut, grown, missing -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL + BIG)
@pytest.mark.parametrize("change", ["empty", "first half", "last byte cut", "byte added"])
def test_verify_file_of_another_size_is_named_and_reading_is_refused(
    change: str, name: str, made: Synthetic
) -> None:
    path = file_of(made, name)
    good = path.read_bytes()
    changed = {
        "empty": b"",
        "first half": good[: len(good) // 2],
        "last byte cut": good[:-1],
        "byte added": good + b"\0",
    }[change]
    with content(path, changed):
        assert [problem.path for problem in problems_of(made.store.path)] == [path]
        with pytest.raises(DamagedStoreError, match=name):
            read_everything(made.store.path)


@pytest.mark.parametrize("name", SMALL + BIG)
def test_verify_missing_file_is_named(name: str, made: Synthetic) -> None:
    path = file_of(made, name)
    hidden = path.with_name("hidden")
    path.rename(hidden)
    try:
        assert [problem.path for problem in problems_of(made.store.path)] == [path]
        if name != "libraries.json":  # without it a store can be searched all the same
            with pytest.raises(StoreError, match=f"{name} is missing|no store at"):
                read_everything(made.store.path)
    finally:
        hidden.rename(path)


@pytest.mark.parametrize("name", BIG)
def test_verify_folder_in_place_of_a_file_is_named(name: str, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    made.add({"a": 1}, num_frames=1)
    path = file_of(made, name)
    path.unlink()
    path.mkdir()
    assert [problem.path for problem in problems_of(made.store.path)] == [path]
    with pytest.raises(StoreError, match=name):
        read_everything(made.store.path)


def test_verify_several_damaged_files_are_all_named(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    made.add({"a": 1}, num_frames=1)
    made.add({"b": 1}, num_frames=1)
    made.add({"c": 1}, num_frames=1)
    first, second, _ = made.store.parts()
    damaged = [
        made.store.path / "libraries.json",
        made.store.path / "head.safetensors",
        first.path / "files.parquet",
        first.path / "scene.parquet",
        second.path / "manifest.json",
    ]
    damaged[0].write_bytes(b"{}")
    damaged[1].write_bytes(b"")
    os.truncate(damaged[2], 10)
    damaged[3].unlink()
    damaged[4].unlink()
    assert sorted(problem.path for problem in verify_parts(made.store)) == sorted(damaged)


@pytest.mark.parametrize("is_replaced", [True, False])
def test_verify_part_that_vanishes_meanwhile_is_a_problem_unless_another_replaced_it(
    is_replaced: bool, tmp_path: Path
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    for name in "abc":
        made.add({name: 1})
    first, second, _ = made.store.parts()

    def take_away(step: Step) -> None:
        if step.done == 1:
            if is_replaced:
                with PartWriter(made.store, ORIGIN) as writer:
                    writer.add_ledger([made.row("b.wav", recording_id("b"), "gone")])
                    writer.commit(replaces=[first.name, second.name])
            for part in (first, second):
                part.path.rename(part.path.with_name(f".tmp-{part.name}"))

    problems = verify_parts(made.store, on_step(take_away))
    assert [one.path for one in problems] == ([] if is_replaced else [second.path / MANIFEST_FILE])


def test_reading_file_that_is_cut_after_the_part_was_opened_is_damage(made: Synthetic) -> None:
    snapshot = made.store.snapshot()
    for name, read in (("scene.parquet", snapshot.scene), ("frames.parquet", snapshot.frames)):
        path = file_of(made, name)
        with (
            content(path, path.read_bytes()[:100]),
            pytest.raises(DamagedStoreError, match=name),
        ):
            read(np.arange(3))


def test_reading_file_of_another_part_is_damage(tmp_path: Path) -> None:
    """Every file is whole here, and the sizes may be equal: the rows are not those of the part."""
    made = make_store(tmp_path / "store")
    made.add({"a": 2}, num_frames=1)
    made.add({"b": 1}, num_frames=1)
    snapshot = made.store.snapshot()
    first, second = made.store.parts()
    row = np.array([0])
    shutil.copy(second.path / "frames.parquet", first.path)
    with pytest.raises(
        DamagedStoreError, match=r"frames\.parquet is damaged: 1 rows, written as 2"
    ):
        first.frames(row, "pooled")
    shutil.copy(first.path / "scene.parquet", first.path / "frames.parquet")
    with pytest.raises(DamagedStoreError, match="its columns are not those of this format"):
        first.frames(row, "pooled")
    with pytest.raises(DamagedStoreError, match="its content does not match its digest"):
        snapshot.frames(row)


# --- well written, but wrong ---------------------------------------------------------------------


def add_tags(made: Synthetic, block: Block) -> Path:
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block, None)
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        part = writer.commit()
    assert part is not None
    return part.path / "scene.parquet"


@pytest.mark.parametrize("row", [0, 499])
def test_verify_one_tag_that_does_not_fit_its_scene_is_found(row: int, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    block = block_of("a", 500)
    block.tags[row, 526] += np.float16(0.25)
    path = add_tags(made, block)
    (problem,) = verify_parts(made.store)
    assert problem.path == path
    assert "by up to 0.25" in problem.reason


@pytest.mark.parametrize("array", ["scene", "tags"])
def test_verify_nan_is_found(array: str, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    block = block_of("a", 3)
    getattr(block, array)[1, 5] = np.nan
    path = add_tags(made, block)
    assert [problem.path for problem in verify_parts(made.store)] == [path]


def test_verify_tags_within_their_rounding_pass(tmp_path: Path) -> None:
    """The second nearest float16: another batch, or another machine, may give it."""
    made = make_store(tmp_path / "store", frames="none")
    block = block_of("a", 50)
    exact = head().tags(block.scene)
    up = np.nextafter(block.tags, np.float16(1))
    down = np.nextafter(block.tags, np.float16(-1))
    add_tags(made, block._replace(tags=np.where(exact >= block.tags, up, down)))
    assert verify_parts(made.store) == []


@pytest.mark.parametrize(
    "change",
    [lambda scene: scene.remove_column(4), lambda scene: scene.append_column("more", scene[4])],
)
def test_verify_file_of_another_format_is_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 1})
    (part,) = made.store.parts()
    scene = pq.ParquetFile(part.path / "scene.parquet").read()
    put_file(part.path, "scene.parquet", change(scene))
    (problem,) = verify_parts(made.store)
    assert problem.path == file_of(made, "scene.parquet")
    assert "its columns are not those of this format" in problem.reason


def test_verify_library_that_nobody_knows_is_found(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add_rows([made.row("a.wav", None, "failed")])
    made.library_id = "unheard of"
    made.add_rows([made.row("a.wav", None, "failed")])
    (problem,) = verify_parts(made.store)
    assert problem.path == made.store.path / "libraries.json"
    assert "unheard of" in problem.reason


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_part_open_checks_sizes_before_anything_is_parsed(size: int, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 1})
    (part,) = made.store.parts()
    (part.path / "scene.parquet").write_bytes(b"x" * size)
    with pytest.raises(
        DamagedStoreError, match=rf"scene\.parquet is damaged: {size} bytes, written as"
    ):
        Part.open(part.path)


def test_frames_given_with_windows_of_no_frames_store_are_not_kept(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 1), frames_of(1))
        part = writer.commit()
    assert part is not None
    assert list(part.files) == ["scene.parquet"]
