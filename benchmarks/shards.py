"""What sharing out a library costs: who has which files, and publishing what was staged.

    python benchmarks/shards.py --windows 20000 --files 200000

Prints the seconds of one process for each step, per million files or windows. Audio is not read:
windows are random numbers, written as a run writes them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from indexer.arrays import ID_DTYPE
from indexer.library.files import FileList, FoundFile
from indexer.library.shards import Shard
from indexer.library.walk import Walk
from indexer.paths import path_id
from indexer.run.commit import commit
from indexer.run.survey import origin_now
from indexer.store.creation import create_store, library_at
from indexer.store.head import Head
from indexer.store.reader import Store
from indexer.store.schema import FramesMode, Identity, LedgerRow
from indexer.store.snapshot import Block, WindowTable
from indexer.store.stage import Stage
from indexer.store.writer import PartWriter
from indexer.windows import WINDOW_SAMPLES, window_id

#: As `ExtractConfig.part_windows`, and windows of a file of 10 min.
PART_WINDOWS, FILE_WINDOWS = 4096, 60


@contextmanager
def timed(what: str, per: int, unit: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:44}{wall:8.2f} s, CPU {cpu:7.2f} s; per 10^6 {unit} CPU {cpu / per * 1e6:8.1f} s")


def make_store(path: Path, frames: FramesMode) -> Store:
    identity = Identity("a" * 64, "random", "none", frames)
    head = Head(*(np.zeros(shape, np.float32) for shape in ((527, 768), 527, 768, 768)))
    return create_store(path, identity, head, checkpoint="none", written_by="benchmark")


def fill(stage: Stage, library_id: str, num_windows: int, rng: np.random.Generator) -> None:
    """Write parts of random windows, as many as a run puts in each."""
    for first in range(0, num_windows, PART_WINDOWS):
        count = min(PART_WINDOWS, num_windows - first)
        recordings = [rng.bytes(16) for _ in range(-(-count // FILE_WINDOWS))]
        places = [(recordings[n // FILE_WINDOWS], n % FILE_WINDOWS) for n in range(count)]
        starts = np.array([number * WINDOW_SAMPLES for _, number in places])
        table = WindowTable(
            np.array(
                [window_id(one, n * WINDOW_SAMPLES, WINDOW_SAMPLES) for one, n in places], np.int64
            ),
            np.array([one for one, _ in places], ID_DTYPE),
            starts,
            np.full(count, WINDOW_SAMPLES, np.int32),
        )
        scene = rng.normal(size=(count, 768)).astype(np.float32)
        tags = rng.random((count, 527)).astype(np.float16)
        frames = None
        if stage.identity.frames == "pooled":
            frames = rng.random((count, 31, 768), np.float32).astype(np.float16)
        with PartWriter(stage, origin_now("none", "fp32")) as writer:
            writer.add_windows(Block(table, scene, tags), frames)
            names = [(f"{one.hex()}.wav", one) for one in recordings]
            writer.add_ledger(
                [
                    LedgerRow(
                        path_id(library_id, name),
                        library_id,
                        name,
                        1,
                        1,
                        "ok",
                        recording_id=one,
                        num_samples=FILE_WINDOWS * WINDOW_SAMPLES,
                    )
                    for name, one in names
                ]
            )
            writer.commit()


def measure_commit(frames: FramesMode, num_windows: int, folder: Path) -> None:
    store = make_store(folder / f"store-{frames}", frames)
    library_id = library_at(store, folder / "library")
    stage = Stage.beside(store, folder / f"staged-{frames}" / "shard-1-of-1")
    with timed(f"stage, frames {frames}", num_windows, "windows"):
        fill(stage, library_id, num_windows, np.random.default_rng(0))
        stage.seal(library_id, folder / "library")
    with timed(f"commit, frames {frames}: digests, links", num_windows, "windows"):
        assert len(commit(store.path, [stage.path]).published) == 1
    with timed(f"commit again, frames {frames}", num_windows, "windows"):
        assert len(commit(store.path, [stage.path]).already) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    found = Walk(
        Path("/nowhere"),
        FileList(FoundFile(f"{n % 997}/{n}.wav", n, n) for n in range(given.files)),
    )
    with timed("which files are in a shard of 16", given.files, "files"):
        Shard(3, 16).of(found)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for frames in ("none", "pooled"):
            measure_commit(frames, given.windows, Path(folder))


if __name__ == "__main__":
    main()
