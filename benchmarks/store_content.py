"""All that a store holds, in memory, and how far one store is from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from indexer.arrays import id_bytes
from indexer.store.reader import Store

#: From a float16 to the next, relative to the larger of it and 1.
_STEP_FLOAT16 = 2.0**-10


class Content(NamedTuple):
    """A store's content: window → (scene, tags, frames), and path → what the ledger says."""

    windows: dict[tuple[bytes, int, int], tuple[np.ndarray, ...]]
    ledger: dict[str, tuple[Any, ...]]
    num_stored: int
    num_distinct: int


def content_of(path: Path) -> Content:
    store = Store.open(path)
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    table = snapshot.windows
    values = zip(snapshot.scene(rows), snapshot.tags(rows), snapshot.frames(rows), strict=True)
    keys = zip(table.recording_id, table.start_sample, table.num_samples, strict=True)
    windows = {
        (id_bytes(recording), int(start), int(length)): value
        for (recording, start, length), value in zip(keys, values, strict=True)
    }
    columns = ("path", "status", "stage", "recording_id", "num_samples", "size", "warnings")
    ledger = {
        row["path"]: tuple(row[name] for name in columns[1:])
        for row in store.latest_files(columns).to_pylist()
    }
    ids = [part.windows(["window_id"])["window_id"].to_numpy() for part in store.parts()]
    stored = np.concatenate([np.empty(0, np.int64), *ids])
    return Content(windows, ledger, len(stored), len(np.unique(stored)))


def difference(reference: Content, other: Content) -> tuple[int, int]:
    """Return how many windows and ledger rows are missing or wrong, and how many are doubled."""
    lost = len(reference.windows.keys() - other.windows.keys())
    too_many = len(other.windows.keys() - reference.windows.keys())
    for key in reference.windows.keys() & other.windows.keys():
        (scene, tags, frames), found = reference.windows[key], other.windows[key]
        near = np.abs(scene - found[0]).max() <= 1e-5
        for mine, theirs in ((tags, found[1]), (frames, found[2])):
            step = _STEP_FLOAT16 * np.maximum(np.abs(mine.astype(np.float32)), 1)
            near &= bool((np.abs(mine.astype(np.float32) - theirs) <= step).all())
        lost += not near
    lost += sum(other.ledger.get(path) != row for path, row in reference.ledger.items())
    doubled = other.num_stored - other.num_distinct
    doubled += len(other.ledger.keys() - reference.ledger.keys())
    return lost, doubled + too_many


def leftovers(store: Path) -> int:
    return len([*store.glob(".tmp*"), *store.glob("parts/.tmp*"), *store.glob("index/**/.tmp*")])
