"""Every window of a store as a folder that another tool opens as its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import OutputError
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM
from indexer.store.snapshot import Block, Snapshot
from search.datasets.provenance import store_provenance
from search.export.card import card_place, is_card, windows_lines, write_card
from search.export.hoplite import hoplite_places, write_hoplite
from search.generation.missing import whole_snapshot
from search.output import make_folder, require_free, writing

FolderForm = Literal["perch-hoplite", "embedding-reader"]
#: The form that is written in many files.
_FORM: FolderForm = "embedding-reader"
#: Rows of one file for embedding_reader, 300 MB of them: it reads several files at once.
ROWS_PER_FILE = 100_000
_CONTENTS = {
    "perch-hoplite": "A database of perch-hoplite 1: recordings and windows in hoplite.sqlite, "
    "their scene embeddings, (768) float16, in usearch.index.",
    "embedding-reader": "Scene embeddings, (n, 768) float32, in `embeddings/*.npy`; which window "
    "each row is, in `metadata/*.parquet` of the same names: window_id, path, start_s, end_s. For "
    'embedding_reader, as "npy" or "parquet_npy".',
}
#: Folders for embedding_reader, and how the files in each end.
_KINDS = {"embeddings": "npy", "metadata": "parquet"}
#: Under which a table says what it was made from.
_SAID = b"soundalike"
_METADATA = pa.schema(
    {
        "window_id": pa.int64(),
        "path": pa.string(),
        "start_s": pa.float64(),
        "end_s": pa.float64(),
    }
)


def export_folder(
    store: Store,
    folder: Path,
    form: FolderForm,
    *,
    force: bool = False,
    listen: Listen = ignore,
) -> int:
    """Write every window of a store into a folder, and a card beside them, `{form}.card.md`.

    Args:
        store: What to export.
        folder: Where to; it is made.
        form: Whose it is: "perch-hoplite", a database that this package opens; or
            "embedding-reader", arrays and tables for embedding_reader and what is built on it.
        force: Whether files that are there are replaced. Of an earlier export that was longer, what
            is left is deleted.
        listen: Hears of the windows, as the step "exporting".

    Returns:
        How many windows were written.

    Raises:
        SoundalikeError: If the form needs a package that is not there.
        OutputError: If one of the files is there already, or one of somebody else that would be
            read with them; then none is written. Or if one cannot be written.
    """
    snapshot = whole_snapshot(store)
    places = hoplite_places(folder) if form == "perch-hoplite" else _places(folder, len(snapshot))
    stale = _stale(folder, places) if form == _FORM else []
    require_free(*places, *stale, card_place(folder / form), force=force)
    make_folder(folder)
    blocks = _counted(snapshot, listen)
    if form == "perch-hoplite":
        write_hoplite(store, snapshot, blocks, folder, force=force)
    else:
        _write_arrays(store, blocks, folder, len(snapshot), force=force)
        for old in stale:
            old.unlink()  # or it would be read with the new ones
    lines = windows_lines(store, len(snapshot), _CONTENTS[form])
    write_card(folder / form, lines, force=force)
    return len(snapshot)


def _counted(snapshot: Snapshot, listen: Listen) -> Iterator[Block]:
    done = 0
    for block in snapshot.blocks():
        done += len(block.scene)
        listen(Step("exporting", done, len(snapshot), "window"))
        yield block  # whoever writes them asks for no more than there are


def _places(folder: Path, num_windows: int) -> list[Path]:
    """Return the arrays, and behind each the table that says which windows are in it."""
    numbers = range(-(-num_windows // ROWS_PER_FILE))
    return [place for number in numbers for place in _pair(folder, number)]


def _pair(folder: Path, number: int) -> list[Path]:
    return [folder / kind / f"{number:05}.{ending}" for kind, ending in _KINDS.items()]


def _stale(folder: Path, places: list[Path]) -> list[Path]:
    """Return what a longer export left in the folder: what goes on counting, and is ours.

    Raises:
        OutputError: If something else would be read with what is written.
    """
    left: list[Path] = []
    number = len(places) // len(_KINDS)
    while is_card(card_place(folder / _FORM)) and _is_ours(pair := _pair(folder, number)):
        left += pair
        number += 1
    found = {path for kind, end in _KINDS.items() for path in (folder / kind).glob(f"*.{end}")}
    for path in sorted(found.difference(places, left)):
        raise OutputError(
            f"{path} is of no earlier export, and would be read with what is written; move it "
            f"away, or choose another folder"
        )
    return left


def _is_ours(pair: Sequence[Path]) -> bool:
    """Whether an array and its table are there, and the table says who wrote it."""
    array, table = pair
    try:
        return array.is_file() and _SAID in (pq.read_schema(table).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _write_arrays(
    store: Store, blocks: Iterator[Block], folder: Path, num_windows: int, *, force: bool
) -> None:
    for kind in _KINDS:
        make_folder(folder / kind)
    paths: dict[bytes, str] = {}
    for path, recording in store.live_files():
        paths.setdefault(recording, path)
    schema = _METADATA.with_metadata({_SAID: json.dumps(store_provenance(store))})
    pieces, left = _pieces(blocks), num_windows
    places = iter(_places(folder, num_windows))
    for array, table in zip(places, places, strict=True):
        num_rows = min(left, ROWS_PER_FILE)
        left -= num_rows
        header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, EMBEDDING_DIM)}
        with (
            writing(array, force=force) as file,
            writing(table, force=force) as below,
            pq.ParquetWriter(below, schema) as writer,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            while num_rows:
                piece = next(pieces)
                file.write(piece.scene.astype("<f4").tobytes())
                writer.write_batch(_described(piece, paths, schema))
                num_rows -= len(piece.scene)


def _pieces(blocks: Iterator[Block]) -> Iterator[Block]:
    """Cut blocks where a file ends."""
    done = 0
    for block in blocks:
        first = 0
        while first < len(block.scene):
            last = first + ROWS_PER_FILE - done % ROWS_PER_FILE
            piece = slice(first, last)
            taken = Block(block.windows.take(piece), block.scene[piece], block.tags[piece])
            yield taken
            done += len(taken.scene)
            first = last


def _described(block: Block, paths: dict[bytes, str], schema: pa.Schema) -> pa.RecordBatch:
    windows = [block.windows.window(row) for row in range(len(block.scene))]
    columns = {
        "window_id": block.windows.window_id,
        "path": [paths.get(window.recording_id, "") for window in windows],
        "start_s": [window.start_s for window in windows],
        "end_s": [window.end_s for window in windows],
    }
    return pa.record_batch(columns, schema=schema)
