"""Every window of a store in a plain file: a table, JSON lines, or one array."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import numpy as np

from indexer.arrays import Float16, Float32
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM
from indexer.store.snapshot import Snapshot
from indexer.tags import DEFAULT_THRESHOLD, Threshold, pick_heard
from indexer.windows import Window
from search.export.card import card_place, windows_lines, write_card
from search.export.cells import path_cell
from search.generation.missing import whole_snapshot
from search.output import is_stream, require_file, require_free, writing, writing_text

WindowsForm = Literal["csv", "jsonl", "npy"]
_CONTENTS: Mapping[WindowsForm, str] = {
    "csv": "A row for each window: window_id, path, start_s, end_s, and tags with probabilities.",
    "jsonl": "An object in each line, for each window: window_id, paths, start_s, end_s, tags with "
    "probabilities, scene (768 floats).",
    "npy": "Scene embeddings, (n, 768) float32; which window each row is, in the table `.npy.csv` "
    "beside them: window_id, path, start_s, end_s, and tags with probabilities.",
}


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
    threshold: Threshold = DEFAULT_THRESHOLD,
    force: bool = False,
    listen: Listen = ignore,
) -> int:
    """Write every window of a store.

    Args:
        store: What to export.
        path: The file. Of "csv" each row is window_id, path (see `path_cell`), start_s, end_s and
            tags, as "name probability; …". "jsonl" has all paths, the tags as objects and the scene
            embedding as well. "npy" is (n, 768) float32, and beside it `{path}.csv` says which row
            is which window. Beside each lies a card, `{path}.card.md`, unless it is a pipe or what
            this process prints to.
        form: Of it.
        threshold: Probability from which on a tag is named; one for all, or (527,).
        force: Whether files that are there are replaced.
        listen: Hears of every window, as the step "exporting".

    Returns:
        How many windows were written.

    Raises:
        OutputError: If one of the files is there already; then none is written. Or if one cannot be
            written.
    """
    require_file(path, f".{form}", force=force)
    beside = [] if is_stream(path) else [card_place(path)]
    if form == "npy":
        beside.append(_table_place(path))
    require_free(path, *beside, force=force)
    snapshot = whole_snapshot(store)
    rows = _counted(_rows(store, snapshot), len(snapshot), listen)
    if form == "csv":
        with writing_text(path, force=force) as text:
            _write_csv(text, rows, threshold)
    elif form == "jsonl":
        with writing_text(path, force=force) as text:
            _write_jsonl(text, rows, threshold)
    else:
        _write_npy(path, rows, len(snapshot), threshold, force=force)
    if not is_stream(path):
        write_card(path, windows_lines(store, len(snapshot), _CONTENTS[form]), force=force)
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


def _write_csv(text: TextIO, rows: Iterator[_Row], threshold: Threshold) -> None:
    writer = csv.writer(text)
    writer.writerow(["window_id", "path", "start_s", "end_s", "tags"])
    for row in rows:
        writer.writerow(_cells(row, threshold))


def _cells(row: _Row, threshold: Threshold) -> list[object]:
    window = row.window
    tags = pick_heard(row.tags, threshold=threshold)
    named = "; ".join(f"{one.tag.name} {one.probability:.3f}" for one in tags)
    path = path_cell(row.paths[0]) if row.paths else ""
    return [window.window_id, path, repr(window.start_s), repr(window.end_s), named]


def _write_jsonl(text: TextIO, rows: Iterator[_Row], threshold: Threshold) -> None:
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
        text.write(json.dumps(document) + "\n")


def _table_place(path: Path) -> Path:
    """Return where the table of the rows of an array lies."""
    return path.with_name(f"{path.name}.csv")


def _write_npy(
    path: Path, rows: Iterator[_Row], num_rows: int, threshold: Threshold, *, force: bool
) -> None:
    """Write the array row by row: a mapped one ends the process where the disk is full."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, EMBEDDING_DIM)}
    with (
        writing(path, force=force) as array,
        writing_text(_table_place(path), force=force) as text,
    ):
        np.lib.format.write_array_header_1_0(array, header)

        def kept() -> Iterator[_Row]:
            for row in rows:
                array.write(row.scene.astype("<f4").tobytes())
                yield row

        _write_csv(text, kept(), threshold)
