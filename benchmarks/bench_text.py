"""How long a question in words takes: scanning the projected vectors of a million windows.

    python benchmarks/bench_text.py [--rows 1000000] [--dim 256]

Rows of random directions, in segments as `build` makes them, are searched in the way of
`soundalike search --text`: all of them, and behind filters. Beside it stand two other ways to keep
them: half as many bytes (float16, made float32 block by block), and one matrix product over all.
Seconds of the processor are told too: where other programs run, the wall clock says more of these.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from indexer.arrays import Float32
from search.generation.allowed import Allowed
from search.generation.mapped import Lookup
from search.generation.segments import Rows, Segment
from search.nearest.index import VectorIndex
from search.upkeep.build import MAX_SEGMENT_ROWS

REPEATS = 15
K = 10
_BLOCK_ROWS = 4096


class Generation(Rows):
    """As much of a generation as a search needs."""

    def __init__(self, vectors: Float32) -> None:
        firsts = range(0, len(vectors), MAX_SEGMENT_ROWS)
        self.segments = tuple(
            segment(first, vectors[first : first + MAX_SEGMENT_ROWS]) for first in firsts
        )
        self.starts = np.cumsum([0, *map(len, self.segments)], dtype=np.int64)
        self.num_windows = len(vectors)


def segment(first: int, vectors: Float32) -> Segment:
    arrays: dict[str, Any] = {
        "vectors": vectors,
        "window_id": np.arange(first, first + len(vectors)),
    }
    alive, codes = np.ones(len(vectors), bool), np.empty((0, 0), np.uint8)
    lookup = Lookup.of(arrays["window_id"])
    return Segment(Path(str(first)), arrays, codes, alive, alive.view(np.int8), lookup, lookup)


def directions(num_rows: int, dim: int) -> Float32:
    random = np.random.default_rng(0)
    vectors = np.empty((num_rows, dim), np.float32)
    for first in range(0, num_rows, MAX_SEGMENT_ROWS):
        block = random.standard_normal(vectors[first : first + MAX_SEGMENT_ROWS].shape, np.float32)
        vectors[first : first + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def timed(what: str, ask: Callable[[], Any]) -> None:
    ask()
    walls, cores = [], []
    for _ in range(REPEATS):
        wall, core = perf_counter(), process_time()
        ask()
        walls.append(perf_counter() - wall)
        cores.append(process_time() - core)
    print(
        f"{what:<28}{statistics.median(walls) * 1e3:>8.0f} ms{min(walls) * 1e3:>8.0f} ms"
        f"{statistics.median(cores) * 1e3:>10.0f} ms"
    )


def by_half(half: Any, vector: Float32) -> Float32:
    near = np.empty(len(half), np.float32)
    for first in range(0, len(half), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        near[block] = half[block].astype(np.float32) @ vector
    return near


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    given = parser.parse_args()
    vectors = directions(given.rows, given.dim)
    generation: Any = Generation(vectors)
    index = VectorIndex(generation)
    asked = directions(1, given.dim)
    print(f"{given.rows:,} rows x {given.dim}, k = {K}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':<28}{'median':>11}{'least':>11}{'processor':>13}")
    timed("all windows", lambda: index.search(asked, K))
    for share in (0.1, 0.01):
        random = np.random.default_rng(1)
        some = Allowed.of(random.random(len(one)) < share for one in generation.segments)
        timed(f"{share:.0%} of them", lambda some=some: index.search(asked, K, some))  # type: ignore[misc]
    timed("one product over all", lambda: vectors @ asked[0])
    half = vectors.astype(np.float16)
    timed("float16", lambda: by_half(half, asked[0]))


if __name__ == "__main__":
    main()
