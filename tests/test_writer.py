"""Writing: a part appears whole or not at all, whoever dies, interrupts, or writes beside."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, needs_root, run_as_nobody
from dying import dies_at
from synthetic import (
    ORIGIN,
    Synthetic,
    block_of,
    frames_of,
    head,
    identity,
    make_store,
    recording_id,
    table,
    windows_of,
)

from indexer.errors import DamagedStoreError, IdentityError, StoreError
from indexer.store.creation import create_store, library_at, open_matching
from indexer.store.part import Part
from indexer.store.reader import HEAD_FILE, LIBRARIES_FILE, Store
from indexer.store.schema import STORE_FILE, FramesMode
from indexer.store.snapshot import Block
from indexer.store.writer import PartWriter, remove_leftovers
from indexer.windows import Window


def entries(store: Store) -> list[str]:
    """Names of everything in the folder of parts, temporary things included."""
    return sorted(entry.name for entry in (store.path / "parts").iterdir())


def create(path: Path, weights: str = "a" * 64, seed: int = 0) -> Store:
    return create_store(
        path, identity(weights=weights), head(seed), checkpoint="c", written_by="tests"
    )


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    return make_store(tmp_path / "store")


@pytest.fixture
def bare(tmp_path: Path) -> Synthetic:
    return make_store(tmp_path / "bare", frames="none")


@pytest.fixture
def start_python(whole: None) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python on indented code, with arguments; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", dedent(code), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


# --- creating a store ----------------------------------------------------------------------------


def test_create_store_holds_what_it_was_given(tmp_path: Path) -> None:
    store = create_store(
        tmp_path / "a" / "b", identity("full"), head(3), checkpoint="name", written_by="tests 1"
    )
    assert (store.identity, store.checkpoint) == (identity("full"), "name")
    assert store == Store.open(tmp_path / "a" / "b")
    for found, given in zip(store.head(), head(3), strict=True):
        np.testing.assert_array_equal(found, given)
    assert entries(store) == []


def test_create_store_twice_opens_the_first(tmp_path: Path) -> None:
    first = create(tmp_path / "s")
    content = (tmp_path / "s" / STORE_FILE).read_bytes()
    again = create_store(
        tmp_path / "s", identity(), head(), checkpoint="other", written_by="later version"
    )
    assert again == first
    assert (tmp_path / "s" / STORE_FILE).read_bytes() == content


def test_create_store_of_another_identity_names_the_fields(tmp_path: Path) -> None:
    create(tmp_path / "s")
    other = replace(identity("full"), hop_samples=160_000)
    with pytest.raises(IdentityError) as raised:
        create_store(tmp_path / "s", other, head(), checkpoint="c", written_by="tests")
    assert raised.value.differences == {
        "frames": ("pooled", "full"),
        "hop_samples": (320_000, 160_000),
    }
    assert "frames is 'pooled' there and 'full' here" in str(raised.value)
    assert Store.open(tmp_path / "s").identity == identity()


def test_open_matching_other_identity_is_refused(tmp_path: Path) -> None:
    create(tmp_path / "s")
    assert open_matching(tmp_path / "s", identity()).identity == identity()
    with pytest.raises(IdentityError, match="weights"):
        open_matching(tmp_path / "s", identity(weights="b" * 64))


def test_create_store_on_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"audio")
    with pytest.raises(StoreError, match=r"song\.wav is a file, not a directory"):
        create(tmp_path / "song.wav")
    with pytest.raises(StoreError, match="Not a directory"):
        create(tmp_path / "song.wav" / "store")
    assert (tmp_path / "song.wav").read_bytes() == b"audio"


def test_create_store_among_other_files_is_refused_and_leaves_them_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(StoreError, match=r"holds other files, 'holiday\.jpg' for one"):
        create(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]


def test_create_store_in_an_empty_folder_with_hidden_files_is_made(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    assert create(tmp_path).identity == identity()


@pytest.mark.whole
def test_create_store_after_a_creator_was_killed_is_made(tmp_path: Path) -> None:
    """Nothing but store.json makes a store; what a dead creator left is written anew."""
    num_without = 0
    for step in itertools.count():
        path = tmp_path / f"{step}"
        if not dies_at(step, partial(create, path, "a" * 64, seed=1)):
            break
        if (path / STORE_FILE).exists():
            assert Store.open(path).identity.weights == "a" * 64
            np.testing.assert_array_equal(Store.open(path).head().weight, head(1).weight)
            continue
        num_without += 1
        with pytest.raises(StoreError, match="no store"):
            Store.open(path)
        store = create(path, "b" * 64, seed=2)
        assert store.identity.weights == "b" * 64
        np.testing.assert_array_equal(store.head().weight, head(2).weight)
    assert 10 < num_without < step


def test_create_store_over_embeddings_of_an_unknown_kind_is_refused(made: Synthetic) -> None:
    made.add({"a": 1})
    (made.store.path / STORE_FILE).unlink()
    with pytest.raises(DamagedStoreError, match=r"store\.json, which says .* is missing"):
        create(made.store.path, "b" * 64)
    assert not (made.store.path / STORE_FILE).exists()


def test_create_store_by_two_at_once_keeps_identity_and_head_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = os.replace

    def slowly(source: Path, target: Path) -> None:
        real(source, target)
        written.append(target.name)
        if len(written) == 1:  # between its head and its store.json, the other has its chance
            time.sleep(0.3)

    monkeypatch.setattr(os, "replace", slowly)
    start = threading.Barrier(2)

    def compete(number: int) -> int | None:
        start.wait()
        try:
            create(tmp_path / "s", str(number) * 64, seed=number)
        except IdentityError:
            return None
        return number

    with ThreadPoolExecutor(2) as pool:
        (winner,) = (one for one in pool.map(compete, [1, 2]) if one is not None)
    store = Store.open(tmp_path / "s")
    assert store.identity.weights == str(winner) * 64
    np.testing.assert_array_equal(store.head().weight, head(winner).weight)
    assert written == [HEAD_FILE, STORE_FILE]


def test_create_store_by_many_processes_is_made_once(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
        from pathlib import Path
        import sys, time
        from synthetic import head, identity
        from indexer.errors import IdentityError
        from indexer.store.creation import create_store
        folder, number = Path(sys.argv[1]), int(sys.argv[2])
        (folder / f"ready{number}").touch()
        while not (folder / "go").exists():
            time.sleep(0.001)
        try:
            create_store(folder / "s", identity(weights=f"{number}" * 64), head(number),
                         checkpoint="c", written_by="tests")
            print("made or opened")
        except IdentityError:
            print("another identity")
    """
    processes = [start_python(code, str(tmp_path), str(number)) for number in (1, 1, 2)]
    wait_until(lambda: all((tmp_path / f"ready{number}").exists() for number in (1, 2)))
    (tmp_path / "go").touch()
    said = [finished(process).strip() for process in processes]

    store = Store.open(tmp_path / "s")
    winner = int(store.identity.weights[0])
    won = {1: ["made or opened"] * 2 + ["another identity"], 2: ["another identity"] * 2}
    assert said[: len(won[winner])] == won[winner]
    np.testing.assert_array_equal(store.head().weight, head(winner).weight)


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return output


def wait_until(happened: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


# --- libraries -----------------------------------------------------------------------------------


def test_library_at_new_root_gets_an_id_that_stays(bare: Synthetic) -> None:
    first = library_at(bare.store, Path("/music"))
    second = library_at(bare.store, Path("/other"))
    assert library_at(bare.store, Path("/music")) == first
    assert len({bare.library_id, first, second}) == 3
    assert bare.store.libraries()[first] == Path("/music")


def test_library_at_new_root_of_a_moved_library_keeps_its_id(bare: Synthetic) -> None:
    first = library_at(bare.store, Path("/music"))
    assert library_at(bare.store, Path("/moved"), library_id=first) == first
    assert bare.store.libraries()[first] == Path("/moved")
    assert library_at(bare.store, Path("/music")) != first


def test_library_at_root_that_is_not_utf8_is_remembered(bare: Synthetic) -> None:
    root = Path(os.fsdecode(b"/mus\xefque"))
    library_id = library_at(bare.store, root)
    assert bare.store.libraries()[library_id] == root


def test_library_at_many_at_once_are_all_remembered(
    bare: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def slowly(source: Path, target: Path) -> None:
        time.sleep(0.05)  # between reading and writing the others have their chance
        real(source, target)

    monkeypatch.setattr(os, "replace", slowly)
    roots = [Path(f"/music/{number % 4}") for number in range(16)]
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda root: library_at(bare.store, root), roots))
    assert len(set(ids)) == 4
    assert {bare.store.libraries()[one] for one in ids} == set(roots)


# --- what a part holds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "shape"), [("pooled", (31, 768)), ("full", (31, 7, 768)), ("none", None)]
)
def test_part_holds_what_was_added(
    mode: FramesMode, shape: tuple[int, ...] | None, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "s", frames=mode).store
    block = block_of("a", 3)
    frames = shape and np.random.default_rng(0).normal(0, 1, (3, *shape)).astype(np.float16)
    with PartWriter(store, ORIGIN) as writer:
        writer.add_windows(block, frames)
        assert writer.num_windows == 3
        part = writer.commit()

    assert part is not None
    assert part == Part.open(part.path)
    assert (part.num_windows, part.origin, part.replaces) == (3, ORIGIN, ())
    assert set(part.files) == {"scene.parquet"} | ({"frames.parquet"} if shape else set())
    assert {entry.name for entry in part.path.iterdir()} == {"manifest.json", *part.files}
    scene = pq.read_table(part.path / "scene.parquet").combine_chunks()
    assert scene["window_id"].to_pylist() == [one.window_id for one in windows_of("a", 3)]
    assert scene["recording_id"].to_pylist() == [recording_id("a")] * 3
    assert scene["start_sample"].to_pylist() == [0, 320_000, 640_000]
    assert scene["num_samples"].to_pylist() == [320_000] * 3
    np.testing.assert_array_equal(np.array(scene["scene"].to_pylist(), np.float32), block.scene)
    np.testing.assert_array_equal(np.array(scene["tags"].to_pylist(), np.float16), block.tags)
    if frames is not None:
        held = pq.read_table(part.path / "frames.parquet").to_pylist()
        assert [row["window_id"] for row in held] == scene["window_id"].to_pylist()
        assert [row["num_frames"] for row in held] == [31] * 3
        assert [row["frames"] for row in held] == [one.astype("<f2").tobytes() for one in frames]


def test_part_of_strided_float64_arrays_holds_their_values(bare: Synthetic) -> None:
    block = block_of("a", 6)
    wide = np.repeat(block.scene.astype(np.float64), 2, axis=1)[::2, ::2]
    with PartWriter(bare.store, ORIGIN) as writer:
        writer.add_windows(
            Block(block.windows.take(slice(0, 6, 2)), wide, np.asfortranarray(block.tags)[::2]),
            None,
        )
        writer.add_ledger([bare.row("a.wav", recording_id("a"))])
        writer.commit()
    snapshot = bare.store.snapshot()
    np.testing.assert_array_equal(snapshot.scene(np.arange(3)), block.scene[::2])
    np.testing.assert_array_equal(snapshot.tags(np.arange(3)), block.tags[::2])
    assert snapshot.windows.start_sample.tolist() == [0, 640_000, 1_280_000]


def test_part_ids_of_a_narrower_array_keep_their_zeros(bare: Synthetic) -> None:
    """NumPy drops them when it hands out an id; an array of such is narrower."""
    recording = b"\1\2" + bytes(14)
    windows = table([Window(recording, 0, 1)])
    windows = windows._replace(recording_id=np.array(list(windows.recording_id)))
    assert windows.recording_id.itemsize == 2
    with PartWriter(bare.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 1)._replace(windows=windows), None)
        writer.add_ledger([bare.row("a.wav", recording)])
        writer.commit()
    assert bare.store.snapshot().windows.window(0) == Window(recording, 0, 1)


@pytest.mark.parametrize("batches", [[150], [50, 50, 50], [1] * 70, [64, 64], [63, 66, 21]])
def test_part_frames_come_in_row_groups_of_at_most_64(batches: list[int], made: Synthetic) -> None:
    frames = frames_of(sum(batches))
    block, at = block_of("a", sum(batches)), 0
    with PartWriter(made.store, ORIGIN) as writer:
        for count in batches:
            rows = slice(at, at + count)
            writer.add_windows(
                Block(block.windows.take(rows), block.scene[rows], block.tags[rows]), frames[rows]
            )
            at += count
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        part = writer.commit()
    assert part is not None
    metadata = pq.read_metadata(part.path / "frames.parquet")
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sizes == [64] * (at // 64) + [at % 64] * bool(at % 64)
    np.testing.assert_array_equal(made.store.snapshot().frames(np.arange(at)), frames)


@pytest.mark.parametrize(
    "frames", [None, frames_of(2), frames_of(3, 31, 7), frames_of(3)[:, :, :700]]
)
def test_add_windows_with_frames_of_another_shape_is_refused_whole(
    frames: np.ndarray[Any, Any] | None, made: Synthetic
) -> None:
    with PartWriter(made.store, ORIGIN) as writer:
        with pytest.raises(ValueError, match="frames"):
            writer.add_windows(block_of("a", 3), frames)
        assert writer.is_empty
        assert writer.commit() is None
    assert entries(made.store) == []


def test_part_with_a_ledger_only_has_nothing_else(bare: Synthetic) -> None:
    row = bare.row("x.wav", None, "failed", stage="decode", reason="damaged")
    with PartWriter(bare.store, ORIGIN) as writer:
        writer.add_ledger([row])
        part = writer.commit()
    assert part is not None
    assert (list(part.files), part.num_windows) == (["files.parquet"], 0)
    assert bare.store.files_at(np.array([row.path_id])) == [row]
    assert len(bare.store.snapshot()) == 0


def test_part_text_that_is_not_utf8_is_escaped_not_fatal(bare: Synthetic) -> None:
    """What a decoder says may quote a file's name as Python holds it."""
    row = bare.row("x.wav", None, "failed", stage="open", reason="no caf\udce9.wav here")
    with PartWriter(bare.store, ORIGIN) as writer:
        writer.add_ledger([row])
        writer.commit()
    (found,) = bare.store.files_at(np.array([row.path_id]))
    assert found == replace(row, reason=r"no caf\udce9.wav here")


def test_commit_replaces_names_the_parts_it_stands_for(bare: Synthetic) -> None:
    bare.add({"a": 2})
    (old,) = bare.store.part_names()
    with PartWriter(bare.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 2, seed=9), None)
        writer.add_ledger([bare.row("a.wav", recording_id("a"))])
        part = writer.commit(replaces=[old])
    assert part is not None
    assert part.replaces == (old,)
    assert bare.store.parts() == [part]
    assert len(bare.store.part_names()) == 2
    np.testing.assert_array_equal(
        bare.store.snapshot().scene(np.arange(2)), block_of("a", 2, seed=9).scene
    )


def test_unfinished_recording_is_named_until_its_last_part(bare: Synthetic) -> None:
    a, b = recording_id("a"), recording_id("b")
    with PartWriter(bare.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 2), None)
        writer.add_windows(block_of("b", 1), None)
        writer.add_ledger([bare.row("b.wav", b), bare.row("a.wav", a, "failed")])
        first = writer.commit()
        writer.add_windows(block_of("a", 3), None)
        writer.add_ledger([bare.row("a.wav", a)])
        second = writer.commit()
    assert first is not None
    assert second is not None
    assert (first.unfinished, second.unfinished) == ((a,), ())


# --- whole or not at all -------------------------------------------------------------------------


def test_part_before_its_commit_is_invisible(made: Synthetic) -> None:
    made.add({"old": 1})
    before = made.store.part_names()
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 70), frames_of(70))
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        assert len(entries(made.store)) > len(before)  # something is on disk already
        reader = Store.open(made.store.path)
        assert reader.part_names() == before
        assert len(reader.snapshot()) == 1
        assert len(reader.ledger()) == 1
        writer.commit()
        assert len(reader.snapshot()) == 71  # the same reader, asked again
    assert entries(made.store) == made.store.part_names()


def test_commit_of_nothing_is_none_and_leaves_nothing(made: Synthetic) -> None:
    with PartWriter(made.store, ORIGIN) as writer:
        assert writer.is_empty
        assert writer.commit() is None
        writer.add_windows(block_of("a", 0), frames_of(0))
        writer.add_ledger([])
        assert writer.is_empty
        assert writer.commit() is None
    assert entries(made.store) == []


def test_commit_again_writes_only_what_is_new(bare: Synthetic) -> None:
    with PartWriter(bare.store, ORIGIN) as writer:
        for number, name in enumerate("ab", 1):
            writer.add_windows(block_of(name, number), None)
            writer.add_ledger([bare.row(f"{name}.wav", recording_id(name))])
            part = writer.commit()
            assert part is not None
            assert (part.sequence, part.num_windows) == (number, number)
            assert writer.is_empty
            assert writer.commit() is None
    assert len(bare.store.snapshot()) == 3


def test_abandon_leaves_nothing_and_the_writer_goes_on(made: Synthetic) -> None:
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 70), frames_of(70))
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.abandon()
        assert writer.is_empty
        assert entries(made.store) == []
        writer.add_ledger([made.row("b.wav", recording_id("b"))])
        writer.commit()
    assert made.store.latest_files(["path"])["path"].to_pylist() == ["b.wav"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_context_left_by_an_error_leaves_nothing(
    error: type[BaseException], made: Synthetic
) -> None:
    def leave() -> None:
        with PartWriter(made.store, ORIGIN) as writer:
            writer.add_windows(block_of("a", 70), frames_of(70))
            assert len(entries(made.store)) == 1
            raise error

    with pytest.raises(error):
        leave()
    assert entries(made.store) == []


@pytest.fixture(params=[0, 1, 2, 3, 4])
def broken_off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the n-th call that writes rows be interrupted, as Ctrl-C may at any time."""
    calls = iter(range(100))
    write = pq.ParquetWriter.write_table

    def interrupted(self: Any, *arguments: Any) -> None:
        write(self, *arguments)
        if next(calls) == request.param:
            raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", interrupted)


@pytest.mark.usefixtures("broken_off")
def test_interrupt_between_scene_and_frames_commits_neither(made: Synthetic) -> None:
    """An interrupted run commits what it has: that must not be scenes without their frames."""

    def write(writer: PartWriter) -> None:
        writer.add_windows(block_of("a", 1100), frames_of(1100))
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.commit()

    with PartWriter(made.store, ORIGIN) as writer:
        with pytest.raises(KeyboardInterrupt):
            write(writer)
        assert writer.commit() is None
    assert entries(made.store) == []


def test_full_disk_is_a_store_error_and_leaves_nothing(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
        from pathlib import Path
        import resource, signal, sys
        from synthetic import ORIGIN, block_of, frames_of, make_store
        from indexer.errors import StoreError
        from indexer.store.writer import PartWriter
        store = make_store(Path(sys.argv[1])).store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit, count in ((100_000, 1100), (1_500, 1), (3_500, 1), (100_000, 70)):
            with PartWriter(store, ORIGIN) as writer:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
                try:
                    writer.add_windows(block_of("a", count), frames_of(count))
                    writer.commit()
                except StoreError as error:
                    print(error)
                print(writer.commit(), list((store.path / "parts").iterdir()))
    """
    process = start_python(code, str(tmp_path / "s"))
    kept = "what was committed is kept, and running again continues"
    message = f"cannot write to the store {tmp_path / 's'}: File too large; {kept}"
    assert finished(process).splitlines() == [message, "None []"] * 4


@pytest.mark.whole
@needs_root
def test_store_that_cannot_be_written_is_a_store_error(public_folder: Path) -> None:
    made = make_store(public_folder / "s", frames="none")
    made.add({"a": 1})
    (made.store.path / "parts" / ".tmp-0").mkdir(mode=0o700)

    def attempt(what: Callable[..., object], *arguments: object) -> str:
        try:
            return str(what(*arguments))
        except StoreError as error:
            return str(error)

    def work() -> list[str]:
        writer = PartWriter(made.store, ORIGIN)
        writer.add_ledger([made.row("a.wav", None, "gone")])
        return [
            attempt(writer.commit),
            attempt(library_at, made.store, Path("/elsewhere")),
            attempt(make_store, public_folder / "new"),
            attempt(remove_leftovers, made.store),
        ]

    path = made.store.path
    assert run_as_nobody(work) == [
        f"cannot write to the store {path}: Permission denied; "
        "what was committed is kept, and running again continues",
        f"cannot write to the store {path}: Permission denied",
        f"cannot write to the store {path.with_name('new')}: Permission denied",
        "0",
    ]


# --- several writers -----------------------------------------------------------------------------


def test_two_writers_at_once_both_commit_in_order(bare: Synthetic) -> None:
    with PartWriter(bare.store, ORIGIN) as one, PartWriter(bare.store, ORIGIN) as two:
        one.add_windows(block_of("a", 1), None)
        two.add_windows(block_of("b", 2), None)
        two.add_ledger([bare.row("x.wav", recording_id("b"))])
        one.add_ledger([bare.row("x.wav", recording_id("a"))])
        first, second = two.commit(), one.commit()
    assert first is not None
    assert second is not None
    assert (first.sequence, second.sequence) == (1, 2)
    assert bare.store.parts() == [first, second]
    assert len(bare.store.snapshot()) == 1  # the later commit has the last word on x.wav


def test_commit_with_the_same_sequence_is_ordered_by_name(bare: Synthetic) -> None:
    """Two machines may look at the same time; what they wrote has an order all the same."""
    names = []
    for name in "abcdef":
        with PartWriter(bare.store, ORIGIN) as writer:
            writer.add_ledger([bare.row("x.wav", recording_id(name))])
            part = writer.commit(sequence=7)
        assert part is not None
        names.append((part.name, name))
    parts = bare.store.parts()
    assert {part.sequence for part in parts} == {7}
    assert [part.name for part in parts] == sorted(part for part, _ in names)
    (last,) = bare.store.latest_files(["recording_id"])["recording_id"].to_pylist()
    assert last == recording_id(dict(names)[parts[-1].name])


def test_sequence_is_one_more_than_the_highest(bare: Synthetic) -> None:
    bare.add({"a": 1})
    (name,) = bare.store.part_names()
    parts = bare.store.path / "parts"
    (parts / name).rename(parts / f"0000000041{name[10:]}")
    (parts / "@eaDir").mkdir()
    (parts / "9999999999-notes.txt").touch()
    bare.add({"b": 1})
    assert [part.sequence for part in bare.store.parts()] == [41, 42]


def test_many_writers_at_once_lose_nothing(bare: Synthetic) -> None:
    def write(number: int) -> None:
        with PartWriter(bare.store, ORIGIN) as writer:
            for part in range(3):
                writer.add_ledger([bare.row(f"{number}/{part}.wav", None, "failed")])
                writer.commit()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    paths = bare.store.latest_files(["path"])["path"].to_pylist()
    assert sorted(paths) == [f"{number}/{part}.wav" for number in range(4) for part in range(3)]
    assert entries(bare.store) == bare.store.part_names()


# --- leftovers -----------------------------------------------------------------------------------


def test_leftovers_are_removed_and_nothing_else(bare: Synthetic) -> None:
    bare.add({"a": 1})
    parts = bare.store.path / "parts"
    (parts / f".tmp-{1:032x}").mkdir()
    (parts / f".tmp-{1:032x}" / "scene.parquet").touch()
    (bare.store.path / f".tmp-libraries.json-{2:032x}").touch()
    (parts / ".DS_Store").touch()
    (parts / ".tmp-mine").mkdir()
    assert remove_leftovers(bare.store) == 2
    assert entries(bare.store) == [".DS_Store", ".tmp-mine", *bare.store.part_names()]
    assert not list(bare.store.path.glob(".tmp*"))
    assert remove_leftovers(bare.store) == 0


def test_leftover_of_a_process_that_was_killed_while_it_wrote_is_removed(
    made: Synthetic, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
        from pathlib import Path
        import sys, time
        from synthetic import ORIGIN, block_of, frames_of
        from indexer.store.reader import Store
        from indexer.store.writer import PartWriter
        writer = PartWriter(Store.open(Path(sys.argv[1])), ORIGIN)
        writer.add_windows(block_of("a", 70), frames_of(70))
        print("ready", flush=True)
        time.sleep(600)
    """
    process = start_python(code, str(made.store.path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(entries(made.store)) == 1
    process.kill()
    process.communicate()
    assert remove_leftovers(made.store) == 1
    assert entries(made.store) == made.store.part_names() == []


def test_writer_files_are_gone_with_the_store_intact(made: Synthetic) -> None:
    made.add({"a": 1})
    names = {entry.name for entry in made.store.path.iterdir() if not entry.name.startswith(".")}
    assert names == {STORE_FILE, HEAD_FILE, LIBRARIES_FILE, "parts"}
