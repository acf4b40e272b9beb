"""A generation whose rows are arrays in memory: for what is asked of many rows, or of damaged ones.

It needs neither a store nor FAISS, and its arrays cannot be written to, as mapped ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from indexer.arrays import ID_DTYPE, Float16, Float32, Integers, Mask
from search.generation.mapped import Lookup, number_of
from search.generation.recordings import Recordings
from search.generation.segments import Generation, Segment


def segment(
    number: int,
    vectors: Float32,
    tags: Float16,
    window_ids: Integers | None = None,
    alive: Mask | None = None,
) -> Segment:
    """Return a segment of (n, 768) vectors and (n, 527) tags, whose codes nobody asks for."""
    num_rows = len(vectors)
    ids = np.arange(num_rows) + number * 10**9 if window_ids is None else window_ids
    arrays: dict[str, Any] = {
        "window_id": ids,
        "recording_id": np.full(num_rows, b"r" * 16, ID_DTYPE),
        "start_sample": np.zeros(num_rows, np.int64),
        "num_samples": np.ones(num_rows, np.int32),
        "vectors": vectors.view(),
        "tags": tags.view(),
        "level_db": np.zeros(num_rows, np.float32),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return Segment(
        Path(f"/{number:032x}"),
        arrays,
        np.zeros((0, num_rows), np.uint8),
        np.ones(num_rows, bool) if alive is None else alive,
        np.zeros(num_rows, np.int32),
        Lookup.of(ids),
        Lookup.of(number_of(arrays["recording_id"])),
    )


def generation(*segments: Segment) -> Generation:
    """Return a generation of segments, with no recordings and no manifest."""
    starts = np.cumsum([0, *map(len, segments)], dtype=np.int64)
    num_windows = sum(int(one.alive.sum()) for one in segments)
    nothing: Recordings = None  # type: ignore[assignment]
    return Generation(Path("/"), segments, starts, (), num_windows, nothing, None)  # type: ignore[arg-type]


def random_rows(rng: np.random.Generator, num_rows: int) -> tuple[Float32, Float16]:
    """Return (n, 768) vectors of length 1, and (n, 527) probabilities of which most are small."""
    vectors = rng.standard_normal((num_rows, 768), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, (rng.random((num_rows, 527), dtype=np.float32) ** 8).astype(np.float16)
