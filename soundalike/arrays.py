"""What stores hold, as arrays: for notebooks and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from indexer.windows import SAMPLE_RATE_HZ
from search.generation.missing import whole_snapshot
from search.generation.recordings import Places, Recordings


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
    snapshot = whole_snapshot(store)
    scene = np.empty((len(snapshot), EMBEDDING_DIM), np.float32)
    tags = np.empty((len(snapshot), NUM_TAGS), np.float16)
    row = 0
    for block in snapshot.blocks():
        here = slice(row, row + len(block.scene))
        scene[here], tags[here] = block.scene, block.tags
        row = here.stop
    windows = snapshot.windows
    recordings = Recordings.of_parts(store, snapshot.parts, np.unique(windows.recording_id))
    paths = Places(recordings, store.libraries()).first_paths(windows.recording_id)
    return StoredWindows(
        window_ids=windows.window_id,
        recording_ids=windows.recording_id.view(f"V{windows.recording_id.itemsize}"),
        paths=np.asarray(paths.to_numpy(zero_copy_only=False), np.str_),
        start_s=windows.start_sample / SAMPLE_RATE_HZ,
        end_s=(windows.start_sample + windows.num_samples) / SAMPLE_RATE_HZ,
        scene=scene,
        tags=tags,
    )
