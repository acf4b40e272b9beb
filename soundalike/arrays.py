"""What stores hold, as arrays: for notebooks and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from indexer.arrays import Float16, Float32, Ids, Integers, id_bytes
from indexer.store.part import Part
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from indexer.windows import SAMPLE_RATE_HZ
from search.generation.recordings import path_text


class StoredWindows(NamedTuple):
    """All live windows of some stores; a row is a window.

    Attributes:
        window_ids: (n,) int64.
        recording_ids: (n,) 16-byte ids, as NumPy's `void`: `bytes(one)` is what a hit has.
        paths: (n,) text: the first path of each window's recording.
        start_s: (n,) float64, in seconds.
        end_s: (n,) float64, in seconds.
        scene: (n, 768) float32 scene embeddings, not normalised.
        tags: (n, 527) float16 probabilities.
    """

    window_ids: Integers
    recording_ids: npt.NDArray[np.void]
    paths: npt.NDArray[np.str_]
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    scene: Float32
    tags: Float16


def read_windows(stores: Sequence[Store]) -> StoredWindows:
    """Read all live windows of some stores, one store after the other.

    Raises:
        StoreError: If one cannot be read.
    """
    each = [_read_store(store) for store in stores]
    return StoredWindows(*(np.concatenate(column) for column in zip(*each, strict=True)))


def _read_store(store: Store) -> StoredWindows:
    return store.from_parts(lambda parts: _read(store, parts))


def _read(store: Store, parts: list[Part]) -> StoredWindows:
    snapshot = store.snapshot(parts)
    scene = np.empty((len(snapshot), EMBEDDING_DIM), np.float32)
    tags = np.empty((len(snapshot), NUM_TAGS), np.float16)
    row = 0
    for block in snapshot.blocks():
        here = slice(row, row + len(block.scene))
        scene[here], tags[here] = block.scene, block.tags
        row = here.stop
    windows = snapshot.windows
    return StoredWindows(
        window_ids=windows.window_id,
        recording_ids=windows.recording_id.view(f"V{windows.recording_id.itemsize}"),
        paths=_first_paths(store, parts, windows.recording_id),
        start_s=windows.start_sample / SAMPLE_RATE_HZ,
        end_s=(windows.start_sample + windows.num_samples) / SAMPLE_RATE_HZ,
        scene=scene,
        tags=tags,
    )


def _first_paths(store: Store, parts: list[Part], recording_ids: Ids) -> npt.NDArray[np.str_]:
    """Return (n,) the first path of each recording, of those that are there."""
    files = store.latest_files(("library_id", "path", "recording_id", "status"), parts)
    files = files.filter(pc.equal(files["status"], "ok"))
    roots, first = store.libraries(), dict[bytes, str]()
    columns = (files[name].to_pylist() for name in ("recording_id", "library_id", "path"))
    for recording, library, path in zip(*columns, strict=True):
        root = roots.get(library, Path(f"(library {library})"))
        found = f"{path_text(root)}/{path}"
        first[recording] = min(first.get(recording, found), found)
    return np.array([first[id_bytes(one)] for one in recording_ids], np.str_)
