"""Every window of a store in a plain file: a table, JSON lines, or one array."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from indexer.arrays import Float16, Float32
from indexer.errors import SoundalikeError
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM
from indexer.store.snapshot import Snapshot
from indexer.tags import DEFAULT_THRESHOLD, pick_heard
from indexer.windows import Window

WindowsForm = Literal["csv", "jsonl", "npy"]


class _Row(NamedTuple):
    window: Window
    paths: list[str]
    scene: Float32
    tags: Float16


def export_windows(
    store: Store,
    path: Path,
    form: WindowsForm,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    listen: Listen = ignore,
) -> int:
    """Write every window of a store.

    Args:
        store: What to export.
        path: The file. Of "csv" each row is window_id, path, start_s, end_s and tags, as
            "name probability; …". "jsonl" has all paths, the tags as objects and the scene
            embedding as well. "npy" is (n, 768) float32, and beside it `{path}.csv` says which row
            is which window.
        form: Of it.
        threshold: Probability from which on a tag is named.
        listen: Hears of every window, as the step "exporting".

    Returns:
        How many windows were written.

    Raises:
        SoundalikeError: If the file cannot be written.
    """
    snapshot = store.snapshot()
    rows = _counted(_rows(store, snapshot), len(snapshot), listen)
    try:
        if form == "csv":
            _write_csv(path, rows, threshold)
        elif form == "jsonl":
            _write_jsonl(path, rows, threshold)
        else:
            _write_npy(path, rows, len(snapshot), threshold)
    except OSError as error:
        raise SoundalikeError(f"cannot write {path}: {error.strerror or error}") from error
    return len(snapshot)


def _rows(store: Store, snapshot: Snapshot) -> Iterator[_Row]:
    paths: dict[bytes, list[str]] = defaultdict(list)
    for path, recording in store.live_files():
        paths[recording].append(path)
    for block in snapshot.blocks():
        for row, (scene, tags) in enumerate(zip(block.scene, block.tags, strict=True)):
            window = block.windows.window(row)
            yield _Row(window, paths[window.recording_id], scene, tags)


def _counted(rows: Iterator[_Row], total: int, listen: Listen) -> Iterator[_Row]:
    for number, row in enumerate(rows, start=1):
        yield row
        listen(Step("exporting", number, total, "window"))


def _write_csv(path: Path, rows: Iterator[_Row], threshold: float) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["window_id", "path", "start_s", "end_s", "tags"])
        for row in rows:
            writer.writerow(_cells(row, threshold))


def _cells(row: _Row, threshold: float) -> list[object]:
    window = row.window
    tags = pick_heard(row.tags, threshold=threshold)
    named = "; ".join(f"{one.tag.name} {one.probability:.3f}" for one in tags)
    path = row.paths[0] if row.paths else ""
    return [window.window_id, path, repr(window.start_s), repr(window.end_s), named]


def _write_jsonl(path: Path, rows: Iterator[_Row], threshold: float) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            document = {
                "window_id": row.window.window_id,
                "paths": row.paths,
                "start_s": row.window.start_s,
                "end_s": row.window.end_s,
                "tags": [
                    {"name": one.tag.name, "mid": one.tag.mid, "probability": one.probability}
                    for one in pick_heard(row.tags, threshold=threshold)
                ],
                "scene": [float(value) for value in row.scene],
            }
            file.write(json.dumps(document) + "\n")


def _write_npy(path: Path, rows: Iterator[_Row], num_rows: int, threshold: float) -> None:
    shape = (num_rows, EMBEDDING_DIM)
    array = np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape)

    def kept() -> Iterator[_Row]:
        for place, row in enumerate(rows):
            array[place] = row.scene
            yield row

    _write_csv(path.with_name(f"{path.name}.csv"), kept(), threshold)
    array.flush()
