"""What stores hold, as arrays: for notebooks and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Ids, Integers
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from indexer.windows import SAMPLE_RATE_HZ


class StoredWindows(NamedTuple):
    """All live windows of some stores; a row is a window.

    Attributes:
        window_ids: (n,) int64.
        recording_ids: (n,) 16-byte ids.
        start_s: (n,) float64, in seconds.
        end_s: (n,) float64, in seconds.
        scene: (n, 768) float32 scene embeddings, not normalised.
        tags: (n, 527) float16 probabilities.
    """

    window_ids: Integers
    recording_ids: Ids
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    scene: Float32
    tags: Float16


def read_windows(stores: Sequence[Store]) -> StoredWindows:
    """Read all live windows of some stores, one store after the other.

    Raises:
        StoreError: If one cannot be read.
    """
    snapshots = [store.snapshot() for store in stores]
    tables = [one.windows for one in snapshots]
    num_rows = sum(map(len, snapshots))
    scene = np.empty((num_rows, EMBEDDING_DIM), np.float32)
    tags = np.empty((num_rows, NUM_TAGS), np.float16)
    row = 0
    for snapshot in snapshots:
        for block in snapshot.blocks():
            here = slice(row, row + len(block.scene))
            scene[here], tags[here] = block.scene, block.tags
            row = here.stop
    start = np.concatenate([one.start_sample for one in tables])
    length = np.concatenate([one.num_samples for one in tables])
    return StoredWindows(
        window_ids=np.concatenate([one.window_id for one in tables]),
        recording_ids=np.concatenate([one.recording_id for one in tables]),
        start_s=start / SAMPLE_RATE_HZ,
        end_s=(start + length) / SAMPLE_RATE_HZ,
        scene=scene,
        tags=tags,
    )
