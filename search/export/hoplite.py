"""A database that perch-hoplite 1 opens: recordings and windows in SQLite, vectors in USearch.

Sources: the tables and metadata that its `SQLiteUSearchDB` makes, and the settings of its index.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from indexer.errors import SoundalikeError
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM
from indexer.store.snapshot import Block, Snapshot
from search.datasets.provenance import store_provenance
from search.output import writing

_DATABASE, _INDEX = "hoplite.sqlite", "usearch.index"
#: Of a new database there: inner products of vectors as they are.
_SETTINGS = {
    "embedding_dim": EMBEDDING_DIM,
    "dtype": "float16",
    "metric_name": "IP",
    "expansion_add": 256,
    "expansion_search": 128,
}
_ID = "id INTEGER PRIMARY KEY AUTOINCREMENT"
_RECORDING = "recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE"
_TABLES = (
    "hoplite_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    f"deployments ({_ID}, name TEXT NOT NULL, project TEXT NOT NULL, latitude REAL, longitude REAL,"
    " UNIQUE (name, project))",
    f"recordings ({_ID}, filename TEXT NOT NULL, datetime TEXT, deployment_id INTEGER REFERENCES "
    "deployments(id) ON DELETE CASCADE, UNIQUE (id, deployment_id), "
    "UNIQUE (filename, deployment_id))",
    f"windows ({_ID}, {_RECORDING}, offsets FLOAT_LIST NOT NULL, "
    "UNIQUE (id, recording_id, offsets))",
    f"annotations ({_ID}, {_RECORDING}, offsets FLOAT_LIST NOT NULL, label TEXT NOT NULL, "
    "label_type INTEGER NOT NULL, provenance TEXT NOT NULL, UNIQUE (id, recording_id, offsets))",
)
_INDEXES = (
    "idx_annotations ON annotations (recording_id, offsets, label, label_type, provenance)",
    "idx_labels ON annotations (label, label_type, provenance)",
    "idx_recordings_deployment_id ON recordings (deployment_id)",
    "idx_windows_recording_id ON windows (recording_id)",
)


def hoplite_places(folder: Path) -> list[Path]:
    """Return where `write_hoplite` writes."""
    return [folder / _DATABASE, folder / _INDEX]


def write_hoplite(
    store: Store, snapshot: Snapshot, blocks: Iterable[Block], folder: Path, *, force: bool
) -> None:
    """Write a database, which is built in memory: 2 kB for each window.

    A library is a project, and what its root is called; a recording's first folder is a deployment,
    as `embed` of that package has it. Windows are numbered from 1 on, in the order of the blocks.

    Args:
        store: What is exported.
        snapshot: Of it.
        blocks: Of that, all of them.
        folder: Where to.
        force: Whether files that are there are replaced.

    Raises:
        SoundalikeError: If the package usearch is not there.
    """
    index = _new_index()
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in (
            *(f"CREATE TABLE {table}" for table in _TABLES),
            *(f"CREATE INDEX {one}" for one in _INDEXES),
        ):
            database.execute(statement)
        _insert_metadata(database, store)
        recordings = _insert_recordings(database, store, snapshot)
        first = 1
        for block in blocks:
            keys = np.arange(first, first + len(block.scene))
            rows = _windows(block, recordings)
            database.executemany("INSERT INTO windows (recording_id, offsets) VALUES (?, ?)", rows)
            index.add(keys, block.scene.astype(np.float16))
            first += len(block.scene)
        database.commit()
        content = database.serialize()
    for place, written in zip(hoplite_places(folder), (content, index.save()), strict=True):
        with writing(place, force=force) as file:
            file.write(written)


def _new_index() -> Any:
    try:
        from usearch.index import Index, MetricKind, ScalarKind  # noqa: PLC0415 - for this form
    except ImportError as error:
        raise SoundalikeError(
            "perch-hoplite keeps vectors in an index of the package usearch, which is not there; "
            "install it: pip install usearch"
        ) from error
    return Index(
        ndim=EMBEDDING_DIM,
        metric=MetricKind.IP,
        dtype=ScalarKind.F16,
        expansion_add=_SETTINGS["expansion_add"],
        expansion_search=_SETTINGS["expansion_search"],
    )


def _insert_metadata(database: sqlite3.Connection, store: Store) -> None:
    sources = [
        {"dataset_name": name, "base_path": str(root), "file_glob": "**/*"}
        for name, root in _projects(store).values()
    ]
    values = {
        "usearch_config": _SETTINGS,
        "audio_sources": {"audio_globs": sources},
        "soundalike": store_provenance(store),
    }
    rows = [(key, json.dumps(value)) for key, value in values.items()]
    database.executemany("INSERT INTO hoplite_metadata VALUES (?, ?)", rows)


def _projects(store: Store) -> dict[str, tuple[str, Path]]:
    """Return library_id → what it is called, and its root; where names are alike, with a number."""
    found: dict[str, tuple[str, Path]] = {}
    for library, root in store.libraries().items():
        taken = {name for name, _ in found.values()}
        names = (root.name or "library", *(f"{root.name} {number}" for number in range(2, 10**6)))
        found[library] = next(name for name in names if name not in taken), root
    return found


def _insert_recordings(
    database: sqlite3.Connection, store: Store, snapshot: Snapshot
) -> dict[bytes, int]:
    """Insert the recordings that are there, and return recording_id → number."""
    projects = {library: name for library, (name, _) in _projects(store).items()}
    columns = ("path", "recording_id", "status", "library_id")
    table = store.latest_files(columns, snapshot.parts)
    rows = sorted(
        (row["path"], row["library_id"], row["recording_id"])
        for row in table.to_pylist()
        if row["status"] == "ok"
    )
    deployments: dict[tuple[str, str], int] = {}
    numbers: dict[bytes, int] = {}
    for path, library, recording in rows:
        if recording in numbers:
            continue
        project = projects.get(library, "library")
        folders = PurePosixPath(path).parts[:-1]
        key = (folders[0] if folders else project, project)
        if key not in deployments:
            into = "INSERT INTO deployments (name, project) VALUES (?, ?)"
            deployments[key] = database.execute(into, key).lastrowid or 0
        into = "INSERT INTO recordings (filename, deployment_id) VALUES (?, ?)"
        numbers[recording] = database.execute(into, (path, deployments[key])).lastrowid or 0
    return numbers


def _windows(block: Block, recordings: dict[bytes, int]) -> Iterator[tuple[int, bytes]]:
    for row in range(len(block.scene)):
        window = block.windows.window(row)
        offsets = np.array([window.start_s, window.end_s], "<f8").tobytes()
        yield recordings[window.recording_id], offsets
