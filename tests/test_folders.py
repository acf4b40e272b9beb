"""Every window as a folder of another tool: its rows are those of the store, one for one."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, Run, installed, run_with
from listener import Listener
from synthetic import Synthetic, make_store

from indexer.errors import OutputError
from indexer.progress import Step
from search.export.folders import export_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    store = make_store(tmp_path_factory.mktemp("folders") / "store")
    store.add({"a/1": 3, "b/2": 1})
    store.add({"3": 2, "dead": 2}, seed=1, last_samples=48_000)
    store.remove("dead.wav")
    return store


def expected(made: Synthetic) -> list[tuple[str, float, float]]:
    """Path, start and end of the live windows, in the order of the store."""
    named = {recording: path for path, recording in made.paths.items()}
    windows = [made.windows[row] for row in made.live()]
    return [(named[one.recording_id], one.start_s, one.end_s) for one in windows]


def scenes(made: Synthetic) -> np.ndarray:
    return np.stack([made.scene[row] for row in made.live()])


@pytest.mark.parametrize("rows_per_file", [1, 2, 3, 4, 6, 100])
def test_embedding_reader_folder_has_every_window_in_aligned_files(
    made: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_file: int
) -> None:
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", rows_per_file)
    told = Listener()
    assert export_folder(made.store, tmp_path, "embedding-reader", listen=told) == 6
    assert told.steps[-1] == Step("exporting", 6, 6, "window")
    arrays = [np.load(path) for path in sorted((tmp_path / "embeddings").iterdir())]
    tables = [pq.read_table(path) for path in sorted((tmp_path / "metadata").iterdir())]
    lengths = [len(array) for array in arrays]
    assert lengths == [len(table) for table in tables]
    assert max(lengths) <= rows_per_file
    assert len(lengths) == -(-6 // rows_per_file)
    array = np.concatenate(arrays)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, scenes(made))
    rows = [row for table in tables for row in table.to_pylist()]
    assert [(row["path"], row["start_s"], row["end_s"]) for row in rows] == expected(made)
    ids = [made.windows[row].window_id for row in made.live()]
    assert [row["window_id"] for row in rows] == ids
    card = (tmp_path / "embedding-reader.card.md").read_text()
    assert "# 6 windows, as ConvNeXt embeddings" in card
    assert "- precision: fp32" in card


def test_files_of_a_longer_export_are_replaced_as_one(
    made: Synthetic, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", "embedding-reader", made.store.path, "--output", tmp_path)
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 2)
    run(*words)
    (tmp_path / "README.md").write_text("somebody's")
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 4)
    assert "7 of the 7 files" in run(*words, code=1).err
    assert run(*words, "--force").out == f"{tmp_path}: 6 windows\n"
    names = {
        path.name for kind in ("embeddings", "metadata") for path in (tmp_path / kind).iterdir()
    }
    assert names == {"00000.npy", "00001.npy", "00000.parquet", "00001.parquet"}
    assert (tmp_path / "README.md").read_text() == "somebody's"


@pytest.mark.parametrize("name", ["20231.npy", "00002.npy", "00003.npy", "mine.npy"])
@pytest.mark.parametrize("is_with_table", [False, True])
def test_nothing_of_somebody_else_is_deleted_with_a_longer_export(
    made: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_with_table: bool
) -> None:
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 3)
    export_folder(made.store, tmp_path, "embedding-reader")
    theirs = tmp_path / "embeddings" / name
    theirs.write_text("somebody's")
    if is_with_table:
        table = tmp_path / "metadata" / f"{theirs.stem}.parquet"
        pq.write_table(pa.table({"path": ["a.wav"]}), table)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 6)
    with pytest.raises(OutputError, match=rf"{name} is of no earlier export, and would be read"):
        export_folder(made.store, tmp_path, "embedding-reader", force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_what_goes_on_counting_is_deleted_only_beside_a_card(
    made: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 3)
    export_folder(made.store, tmp_path, "embedding-reader")
    (tmp_path / "embedding-reader.card.md").write_text("# Mine\n")
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 6)
    with pytest.raises(OutputError, match=r"00001.npy is of no earlier export"):
        export_folder(made.store, tmp_path, "embedding-reader", force=True)


def test_folders_say_themselves_how_they_were_computed(made: Synthetic, tmp_path: Path) -> None:
    export_folder(made.store, tmp_path, "embedding-reader")
    told = json.loads(
        pq.read_schema(tmp_path / "metadata" / "00000.parquet").metadata[b"soundalike"]
    )
    assert (told["precision"], told["checkpoint"]) == ("fp32 on cpu", "test")


READER = """
import json, sys
from embedding_reader import EmbeddingReader

folder = sys.argv[1]
found = []
for reader in (
    EmbeddingReader(folder + "/embeddings", "npy"),
    EmbeddingReader(
        folder + "/embeddings", "parquet_npy", metadata_folder=folder + "/metadata",
        meta_columns=["path", "start_s", "end_s"],
    ),
):
    for vectors, meta in reader(batch_size=4, show_progress=False):
        columns = ["path", "start_s", "end_s"] if "path" in meta else ["i"]
        found.append([vectors[:, :9].tolist(), meta[columns].values.tolist()])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_embedding_reader_reads_it_itself(
    made: Synthetic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    folder = installed(pytestconfig, "embedding-reader==1.8.1", "fsspec")
    monkeypatch.setattr("search.export.folders.ROWS_PER_FILE", 4)
    export_folder(made.store, tmp_path, "embedding-reader")
    found = json.loads(run_with(folder, READER, tmp_path).splitlines()[-1])
    assert [len(vectors) for vectors, _ in found] == [4, 2, 4, 2]
    for batches in (found[:2], found[2:]):
        vectors = np.concatenate([np.float32(vectors) for vectors, _ in batches])
        np.testing.assert_array_equal(vectors, scenes(made)[:, :9])
    described = [tuple(row) for _, rows in found[2:] for row in rows]
    assert described == expected(made)


def test_perch_hoplite_without_usearch_says_what_is_missing(
    made: Synthetic, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    told = run("export", "perch-hoplite", made.store.path, "--output", tmp_path / "x", code=1)
    assert "in an index of the package usearch, which is not there; install it: pip" in told.err
    assert list((tmp_path / "x").iterdir()) == []


#: What perch-hoplite says of a database that we wrote: and that it takes more windows.
HOPLITE = """
import json, sys
from pathlib import Path
import numpy as np
from indexer.store.reader import Store
from search.export.folders import export_folder
from perch_hoplite.db.sqlite_usearch_impl import SQLiteUSearchDB

store, folder = Store.open(Path(sys.argv[1])), sys.argv[2]
export_folder(store, Path(folder), "perch-hoplite")
db = SQLiteUSearchDB.create(folder)
recordings = {one.id: one for one in db.get_all_recordings()}
deployments = {one.id: one for one in db.get_all_deployments()}
windows = db.get_all_windows()
found = {
    "count": db.count_embeddings(),
    "windows": [[recordings[one.recording_id].filename, *one.offsets] for one in windows],
    "deployments": [[one.name, one.project] for one in deployments.values()],
    "vectors": [db.get_embedding(one.id)[:9].astype(float).tolist() for one in windows],
    "nearest": [int(db.ui.search(db.get_embedding(one.id), 1).keys[0]) - one.id for one in windows],
    "sources": db.get_metadata("audio_sources").to_dict()["audio_globs"],
}
added = db.insert_window(1, [70.0, 80.0], np.ones(768, np.float16))
db.commit()
found["added"] = [added, db.count_embeddings()]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_perch_hoplite_opens_and_adds_to_it_itself(
    made: Synthetic, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    packages = ("usearch", "numkong", "absl-py", "etils", "ml-collections")
    folder = installed(pytestconfig, "perch-hoplite==1.0.2", *packages)
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{HOPLITE}"
    found = json.loads(run_with(folder, code, made.store.path, tmp_path / "x").splitlines()[-1])
    assert found["count"] == 6
    assert [tuple(row) for row in found["windows"]] == expected(made)
    assert found["deployments"] == [["library", "library"], ["a", "library"], ["b", "library"]]
    np.testing.assert_array_equal(found["vectors"], scenes(made)[:, :9].astype(np.float16))
    assert found["nearest"] == [0] * 6
    assert found["sources"][0]["dataset_name"] == "library"
    assert found["added"] == [7, 7]
    with closing(sqlite3.connect(tmp_path / "x" / "hoplite.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(tmp_path / "x" / "hoplite.sqlite")) as database:
        asked = "SELECT value FROM hoplite_metadata WHERE key = 'soundalike'"
        assert json.loads(database.execute(asked).fetchone()[0])["precision"] == "fp32 on cpu"
    assert "hoplite.sqlite" in (tmp_path / "x" / "perch-hoplite.card.md").read_text()
