"""Opening a store: what is there, what is said if it cannot be read, and the files alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import needs_root, run_as_nobody
from safetensors.numpy import load_file, save
from synthetic import (
    ORIGIN,
    Synthetic,
    block_of,
    frames_of,
    head,
    identity,
    make_store,
    put_file,
    recording_id,
    table,
    windows_of,
)

from indexer.arrays import id_bytes
from indexer.errors import DamagedStoreError, StoreError
from indexer.paths import path_id
from indexer.store.disk import seal
from indexer.store.head import Head
from indexer.store.ledger import Ledger
from indexer.store.part import Part
from indexer.store.reader import Store
from indexer.store.schema import FILES_SCHEMA, SCHEMAS, LedgerRow
from indexer.store.snapshot import Block
from indexer.store.writer import PartWriter
from indexer.windows import Window
from search.upkeep.overview import overview

#: A ledger row that uses every column.
FULL_ROW = LedgerRow(
    path_id=path_id("L", r"caf\xe9/a.wav", (32_000, 320_000)),
    library_id="L",
    path=r"caf\xe9/a.wav",
    size=2**40,
    mtime_ns=1_700_000_000_123_456_789,
    status="ok",
    path_bytes=b"caf\xe9/a.wav",
    span_start=32_000,
    span_samples=320_000,
    stage="decode",
    reason="漢字",
    recording_id=b"\0" * 15 + b"\1",
    num_samples=2**40,
    sample_rate=192_000,
    channels=7,
    codec="pcm_s16le",
    warnings="damaged; channels cancel",
    audio_id=b"\2" * 16,
    file_digest=b"\3" * 16,
    first_sample=62_976,
)


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    return make_store(tmp_path / "store", frames="none")


# --- opening -------------------------------------------------------------------------------------


def test_open_nothing_there_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = tmp_path / "none"
    with pytest.raises(StoreError) as raised:
        Store.open(path)
    assert str(raised.value) == f"no store at {path}; index a library to make one"
    assert (raised.value.about, raised.value.value) == ("index", path)
    assert not isinstance(raised.value, DamagedStoreError)
    with pytest.raises(StoreError, match="empty is a folder, and no store; index it to make one"):
        Store.open(tmp_path / "empty")


def test_open_what_is_no_store_says_where_one_is(made: Synthetic, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match=f"^{file} is a file; a store is a folder$"):
        Store.open(file)
    for within in ("parts", "index", "parts/one"):
        with pytest.raises(StoreError, match=f"; {made.store.path} is one$") as raised:
            Store.open(made.store.path / within)
        assert (raised.value.about, raised.value.value) == ("stored", made.store.path)


def test_open_gives_what_the_store_was_made_with(made: Synthetic) -> None:
    store = Store.open(made.store.path)
    assert store == made.store
    assert store.identity == identity("none")
    assert store.checkpoint == "test"


def test_open_another_format_names_both_and_the_software(made: Synthetic) -> None:
    rewrite(made.store.path / "store.json", format_version=99, written_by="soundalike 9.9")
    with pytest.raises(StoreError, match=r"format 99, this version reads 1.*soundalike 9\.9"):
        Store.open(made.store.path)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": {}},
        {"identity": {**asdict(identity()), "colour": "red"}},
        {"identity": []},
        {"identity": None},
        *({"known": known} for known in ([], {}, 0, False, "x" * 20_000)),
        {"checkpoint": "x" * 20_000},
    ],
)
def test_open_sealed_document_of_another_shape_is_damage(
    change: dict[str, object], made: Synthetic
) -> None:
    rewrite(made.store.path / "store.json", **change)
    with pytest.raises(DamagedStoreError, match=r"store\.json is damaged"):
        Store.open(made.store.path)


def rewrite(path: Path, **changes: object) -> None:
    """Change a sealed document, and seal it again."""
    document = json.loads(path.read_bytes())
    del document["digest"]
    path.write_bytes(seal({**document, **changes}))


@pytest.mark.parametrize("name", ["store.json", "libraries.json", "head.safetensors", "parts"])
def test_open_folder_in_place_of_a_file_is_a_store_error(name: str, made: Synthetic) -> None:
    path = made.store.path / name
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(StoreError, match=f"{name} is no (regular file|folder); bring back"):
        use_everything(made.store.path)


def use_everything(path: Path) -> None:
    store = Store.open(path)
    store.head()
    store.libraries()
    store.snapshot()


@pytest.mark.whole
@needs_root
def test_open_without_the_right_to_read_is_a_store_error(public_folder: Path) -> None:
    for name in ("store", "file"):
        make_store(public_folder / name, frames="none").add({"a": 1})
    (public_folder / "store").chmod(0o700)
    part = make_store(public_folder / "part", frames="none")
    part.add({"a": 1})
    (name,) = part.store.part_names()
    (part.store.path / "parts" / name / "scene.parquet").chmod(0o600)
    (public_folder / "file" / "store.json").chmod(0o600)

    def attempt() -> list[str]:
        said = []
        for name in ("store", "file", "part"):
            with pytest.raises(StoreError) as caught:
                Store.open(public_folder / name).snapshot()
            said.append(str(caught.value))
        return said

    assert run_as_nobody(attempt) == [
        f"cannot read {public_folder}/store/store.json: Permission denied",
        f"cannot read {public_folder}/file/store.json: Permission denied",
        f"cannot read {public_folder}/part/parts/{name}/scene.parquet: Permission denied",
    ]


def test_open_store_that_was_moved_is_the_same(made: Synthetic, tmp_path: Path) -> None:
    made.add({"a": 2})
    target = tmp_path / "_odd #%20?" / ".hidden" / "a=b"
    target.parent.mkdir(parents=True)
    made.store.path.rename(target)
    snapshot = Store.open(target).snapshot()
    np.testing.assert_array_equal(snapshot.scene(np.arange(2)), made.scene)
    assert Store.open(target).latest_files(["path"])["path"].to_pylist() == ["a.wav"]


def test_open_empty_store_has_nothing(made: Synthetic) -> None:
    store = Store.open(made.store.path)
    assert store.part_names() == []
    assert store.parts() == []
    assert store.files().schema.equals(FILES_SCHEMA)
    assert store.files().num_rows == store.latest_files().num_rows == 0
    assert store.files_at(np.array([1, 2])) == []
    assert store.partial_windows([], store.ledger().known) == {}


# --- parts ---------------------------------------------------------------------------------------


def test_part_names_are_in_order_and_other_things_are_left_out(made: Synthetic) -> None:
    for name in "abc":
        made.add({name: 1})
    names = made.store.part_names()
    parts = made.store.path / "parts"
    for stranger in (".DS_Store", "@eaDir", "desktop.ini", f"{names[0]} (copy)", ".tmp-1", "1-a"):
        (parts / stranger).mkdir()
    assert made.store.part_names() == names == sorted(names)
    assert [part.name for part in made.store.parts()] == names
    assert [part.sequence for part in made.store.parts()] == [1, 2, 3]
    made.add({"d": 1})
    assert len(made.store.snapshot()) == 4


def test_parts_that_another_replaces_do_not_count(made: Synthetic) -> None:
    made.add({"a": 1})
    made.add({"b": 1})
    made.add({"c": 1})
    first, second, third = made.store.part_names()
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.commit(replaces=[first, third])
    names = [part.name for part in made.store.parts()]
    assert names == [second, made.store.part_names()[-1]]
    assert made.store.latest_files(["path"]).num_rows == 2


@pytest.mark.parametrize("damage", ["no manifest", "bad manifest", "no file", "short file"])
def test_damage_in_a_part_matters_until_another_replaces_it(damage: str, made: Synthetic) -> None:
    made.add({"a": 1})
    made.add({"b": 1})
    old, _ = made.store.part_names()
    folder = made.store.path / "parts" / old
    if damage.startswith("no"):
        (folder / ("manifest.json" if "manifest" in damage else "scene.parquet")).unlink()
    else:
        (folder / ("manifest.json" if "manifest" in damage else "scene.parquet")).write_text("{")
    for read in READERS.values():
        with pytest.raises(DamagedStoreError, match=f"{old}.*is (damaged|missing)"):
            read(made.store)

    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("a", 1), None)
        writer.add_ledger([made.row("a.wav", recording_id("a"))])
        writer.commit(replaces=[old])
    assert [part.name for part in made.store.parts()] == made.store.part_names()[1:]
    assert made.store.latest_files(["path"]).num_rows == 2
    assert len(made.store.snapshot()) == 2
    for read in READERS.values():
        read(made.store)


# --- reading while parts are replaced ------------------------------------------------------------

#: Everything that lists the parts and then reads them, and what it gives, to be compared.
READERS: dict[str, Callable[[Store], object]] = {
    "parts": lambda store: sum(part.num_windows for part in store.parts()),
    "ledger": lambda store: store.ledger().path_id.tolist(),
    "files": lambda store: store.files(["path"])["path"].to_pylist(),
    "latest_files": lambda store: store.latest_files(["path"])["path"].to_pylist(),
    "files_at": lambda store: store.files_at(store.ledger().path_id),
    "snapshot": lambda store: store.snapshot().window_ids.tolist(),
    "overview": lambda store: replace(
        overview(store.path), size_bytes=0, num_parts=0, num_new_parts=0, origins={}
    ),
}
NAMES = ("a", "b", "c")


def replace_all(made: Synthetic) -> None:
    """Write the same windows and rows anew, and delete what held them, as a compaction does."""
    old = made.store.part_names()
    with PartWriter(made.store, ORIGIN) as writer:
        for name in NAMES:
            writer.add_windows(block_of(name, 2), None)
        writer.add_ledger([made.row(f"{name}.wav", recording_id(name)) for name in NAMES])
        writer.commit(replaces=old)
    parts = made.store.path / "parts"
    for name in old:
        (parts / name).rename(parts / f".tmp-{name}")
        shutil.rmtree(parts / f".tmp-{name}")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("moment", ["listed", "opened"])
def test_reading_a_list_of_parts_that_are_replaced_and_deleted_reads_again(
    reader: str, moment: str, made: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_all(made)
    expected = READERS[reader](made.store)
    owner, name = {"listed": (Part, "from_manifest"), "opened": (Part, "require_sizes")}[moment]
    real, todo = getattr(owner, name), [replace_all]

    def interrupted(*args: Any) -> Any:
        if todo:
            todo.pop()(made)
        return real(*args)

    monkeypatch.setattr(owner, name, interrupted)
    assert READERS[reader](made.store) == expected
    assert not todo


def test_reading_finds_all_that_is_there_while_parts_are_replaced(made: Synthetic) -> None:
    replace_all(made)
    expected = {name: read(made.store) for name, read in READERS.items()}
    with ThreadPoolExecutor(1) as pool:
        for name in list(READERS) * 2:
            replacing = pool.submit(replace_all, made)
            while not replacing.done():
                assert READERS[name](made.store) == expected[name]
            replacing.result()


def test_reading_a_list_that_was_torn_reads_again(
    made: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's entries are listed in pieces: what comes and goes meanwhile may be in none."""
    replace_all(made)
    names = made.store.part_names()
    listings = [[], names]
    monkeypatch.setattr(
        "indexer.store.reader.part_names", lambda _: listings.pop(0) if listings else names
    )
    assert len(made.store.snapshot()) == 6


def test_reading_parts_that_never_stay_is_an_error_that_says_so(made: Synthetic) -> None:
    replace_all(made)

    def read(parts: list[Part]) -> Ledger:
        replace_all(made)
        return made.store.ledger(parts)

    with pytest.raises(StoreError, match=r"change faster than they can be read; try again"):
        made.store.from_parts(read)


# --- the ledger as rows --------------------------------------------------------------------------


def test_files_are_the_history_oldest_first(made: Synthetic) -> None:
    made.add({"a": 1, "b": 1})
    made.remove("a.wav")
    made.rename("b.wav", "c.wav")
    history = made.store.files(["path", "status"]).to_pylist()
    assert [(row["path"], row["status"]) for row in history] == [
        ("a.wav", "ok"),
        ("b.wav", "ok"),
        ("a.wav", "gone"),
        ("b.wav", "moved"),
        ("c.wav", "ok"),
    ]
    older = made.store.parts()[:1]
    assert made.store.files(["status", "path"], older).column_names == ["status", "path"]
    assert made.store.files(["status", "path"], older).num_rows == 2


def test_latest_files_are_the_last_row_of_each_path(made: Synthetic) -> None:
    made.add({"a": 1, "b": 1})
    made.remove("a.wav")
    latest = made.store.latest_files(["status", "path"])
    assert latest.column_names == ["status", "path"]
    by_path = {row["path"]: row["status"] for row in latest.to_pylist()}
    assert by_path == {"a.wav": "gone", "b.wav": "ok"}
    keys = made.store.latest_files()["path_id"].to_pylist()
    assert keys == sorted(path_id(made.library_id, path) for path in by_path)


def test_files_at_gives_back_every_column(made: Synthetic) -> None:
    assert None not in asdict(FULL_ROW).values()
    bare = LedgerRow(5, "L", "b.wav", 0, -1, "failed")
    made.add_rows([bare, FULL_ROW])
    (found,) = made.store.files_at(np.array([FULL_ROW.path_id]))
    assert found == FULL_ROW
    assert made.store.files_at(np.array([5, 6])) == [bare]
    newer = replace(FULL_ROW, size=1)
    made.add_rows([newer])
    assert made.store.files_at(np.array([FULL_ROW.path_id])) == [newer]
    assert made.store.files_at(np.array([], np.int64)) == []


def test_files_at_any_paths_are_their_latest_rows(made: Synthetic) -> None:
    rng = np.random.default_rng(0)
    latest: dict[int, LedgerRow] = {}
    for size in range(6):
        paths = [f"{at}.wav" for at in rng.integers(0, 30, 10)]
        rows = [replace(made.row(path, None, "failed"), size=size) for path in paths]
        made.add_rows(rows)
        latest.update((row.path_id, row) for row in rows)
    for part in made.store.parts():
        ledger = pq.ParquetFile(part.path / "files.parquet").read()
        put_file(part.path, "files.parquet", ledger, row_group_size=3)
    expected = [latest[key] for key in sorted(latest)]
    assert [LedgerRow(**row) for row in made.store.latest_files().to_pylist()] == expected
    assert made.store.files_at(np.array(list(latest))) == expected
    for chosen in np.array_split(rng.permutation(list(latest)), 6):
        some = [latest[key] for key in sorted(chosen.tolist())]
        assert made.store.files_at(np.append(chosen, [-1, chosen[0]])) == some


def test_libraries_of_a_store_without_any_are_none(made: Synthetic, tmp_path: Path) -> None:
    assert made.store.libraries() == {made.library_id: tmp_path / "library"}
    (made.store.path / "libraries.json").unlink()
    assert made.store.libraries() == {}


# --- recordings that were begun ------------------------------------------------------------------


def test_partial_windows_are_those_of_begun_recordings(made: Synthetic) -> None:
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("begun", 3), None)
        writer.add_windows(block_of("whole", 2), None)
        writer.add_ledger([made.row("whole.wav", recording_id("whole"))])
        writer.commit()
        later = windows_of("begun", 5)[3:]
        block = block_of("begun", 2)
        writer.add_windows(Block(table(later), block.scene, block.tags), None)
        writer.commit()
    parts = made.store.parts()
    partial = made.store.partial_windows(parts, made.store.ledger().known)
    ids = [window.window_id for window in windows_of("begun", 5)]
    assert as_lists(partial) == {recording_id("begun"): sorted(ids)}
    partial = made.store.partial_windows(parts[:1], made.store.ledger().known)
    assert as_lists(partial) == {recording_id("begun"): sorted(ids[:3])}

    made.add_rows([made.row("begun.wav", recording_id("begun"))])
    assert made.store.partial_windows(made.store.parts(), made.store.ledger().known) == {}


def as_lists(partial: dict[bytes, np.ndarray[Any, Any]]) -> dict[bytes, list[int]]:
    assert all(windows.dtype == np.int64 for windows in partial.values())
    return {recording: windows.tolist() for recording, windows in partial.items()}


def test_partial_windows_of_several_recordings_are_kept_apart(made: Synthetic) -> None:
    """Their windows are mixed, in several parts, and some are there twice."""
    rng = np.random.default_rng(0)
    expected: dict[bytes, set[int]] = {}
    for _ in range(3):
        chosen = [windows_of(name, 20)[at] for name in "abc" for at in rng.permutation(20)[:9]]
        windows = [chosen[at] for at in rng.permutation(len(chosen))]
        block = block_of("a", len(windows))
        with PartWriter(made.store, ORIGIN) as writer:
            writer.add_windows(Block(table(windows), block.scene, block.tags), None)
            writer.commit()
        for window in windows:
            expected.setdefault(window.recording_id, set()).add(window.window_id)
    partial = made.store.partial_windows(made.store.parts(), made.store.ledger().known)
    assert as_lists(partial) == {one: sorted(ids) for one, ids in expected.items()}


def test_partial_windows_of_an_id_with_zeros_at_its_end_are_found(made: Synthetic) -> None:
    window = Window(b"\1" + bytes(15), 0, 320_000)
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block_of("begun", 1)._replace(windows=table([window])), None)
        writer.commit()
    partial = made.store.partial_windows(made.store.parts(), made.store.ledger().known)
    assert as_lists(partial) == {window.recording_id: [window.window_id]}


# --- head ----------------------------------------------------------------------------------------


def test_head_is_read_back_bit_by_bit(made: Synthetic) -> None:
    for name, found in made.store.head()._asdict().items():
        np.testing.assert_array_equal(found, getattr(head(), name))
        assert found.dtype == np.float32
    tensors = load_file(made.store.path / "head.safetensors")  # as anyone may read it
    assert set(tensors) == set(Head._fields)


def test_head_that_is_missing_or_another_is_damage(made: Synthetic) -> None:
    path = made.store.path / "head.safetensors"
    path.write_bytes(save({name: tensor * 2 for name, tensor in head()._asdict().items()}))
    with pytest.raises(DamagedStoreError, match=r"its digest is not that in store\.json"):
        made.store.head()
    path.unlink()
    with pytest.raises(DamagedStoreError, match=r"head\.safetensors is missing"):
        made.store.head()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_head_tags_are_the_sigmoid_of_an_affine_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classifier = Head(*(tensor.astype(np.float64) for tensor in head(seed)))
    scene = rng.normal(0, 1, (20, 768)).astype(np.float32)
    expected = [
        1 / (1 + np.exp(-(classifier.weight @ one.astype(np.float64) + classifier.bias)))
        for one in scene
    ]
    np.testing.assert_allclose(head(seed).tags(scene), expected, atol=1e-5)


def test_head_tags_of_far_logits_are_zero_and_one_without_a_warning() -> None:
    scene = np.zeros((2, 768), np.float32)
    scene[:, 0] = [-1e5, 1e5]
    far = head()._replace(weight=np.ones((527, 768), np.float32))
    assert far.tags(scene).tolist() == [[0.0] * 527, [1.0] * 527]
    assert far.tags(scene).dtype == np.float32


def test_stored_tags_are_the_heads_to_float16(made: Synthetic) -> None:
    made.add({"a": 40})
    snapshot = made.store.snapshot()
    exact = made.store.head().tags(snapshot.scene(np.arange(40)))
    stored = snapshot.tags(np.arange(40))
    assert np.all(np.abs(exact - stored) <= np.spacing(stored))


# --- the files, by themselves --------------------------------------------------------------------


def test_parquet_files_are_read_by_pyarrow_and_pandas_alone(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    frames = frames_of(70, 3)
    block = block_of("a", 70)
    with PartWriter(made.store, ORIGIN) as writer:
        writer.add_windows(block, frames)
        writer.add_ledger([made.row("a.wav", recording_id("a")), FULL_ROW])
        writer.commit()
    (part,) = (tmp_path / "store" / "parts").iterdir()

    for name, schema in SCHEMAS.items():
        assert pq.read_table(part / name).schema.equals(schema), name
    scene = pd.read_parquet(part / "scene.parquet")
    assert scene["window_id"].tolist() == [one.window_id for one in windows_of("a", 70)]
    assert scene["recording_id"].tolist() == [recording_id("a")] * 70
    np.testing.assert_array_equal(np.stack(scene["scene"].tolist()), block.scene)
    np.testing.assert_array_equal(np.stack(scene["tags"].tolist()), block.tags)
    stored = pd.read_parquet(part / "frames.parquet")
    assert stored["window_id"].tolist() == scene["window_id"].tolist()
    for count, blob, given_frames in zip(
        stored["num_frames"], stored["frames"], frames, strict=True
    ):
        np.testing.assert_array_equal(np.frombuffer(blob, "<f2").reshape(count, 768), given_frames)
    files = pd.read_parquet(part / "files.parquet")
    assert {name: files[name][1] for name in files} == asdict(FULL_ROW)


def test_manifest_names_size_and_digest_of_every_file(made: Synthetic) -> None:
    made.add({"a": 1})
    (part,) = made.store.parts()
    document = json.loads((part.path / "manifest.json").read_bytes())
    assert set(document["files"]) == {"scene.parquet", "files.parquet"}
    assert document["origin"] == asdict(ORIGIN)
    assert document["num_windows"] == 1
    for name, (size, digest) in document["files"].items():
        assert (part.path / name).stat().st_size == size
        assert len(bytes.fromhex(digest)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": {"scene.parquet": [1]}},
        {"files": {"scene.parquet": 5}},
        {"files": None},
        {"origin": {}},
        {"origin": 3},
        {"replaces": 7},
        {"unfinished": ["zz"]},
        {"unfinished": [5]},
    ],
)
def test_manifest_of_another_shape_is_damage(change: dict[str, object], made: Synthetic) -> None:
    """Sealed well, so not an accident: whoever made it must not get further than this."""
    made.add({"a": 1})
    (part,) = made.store.parts()
    rewrite(part.path / "manifest.json", **change)
    with pytest.raises(DamagedStoreError, match=r"manifest\.json is damaged"):
        made.store.parts()


def test_ids_of_the_ledger_are_whole(made: Synthetic) -> None:
    made.add_rows([made.row("a.wav", b"\1" + bytes(15))])
    assert [id_bytes(one) for one in made.store.ledger().live_recordings()] == [b"\1" + bytes(15)]
