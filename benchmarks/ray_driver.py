"""What the driver of a run on a Ray cluster costs by itself: its CPU for 100,000 files.

    python benchmarks/ray_driver.py --files 100000 --workers 1 2

The files are tiny, and the model gives zeros, so that workers do little but read. What the driver
does grows with the number of files: it walks, holds the walk against the ledger, cuts shards, sends
their names to workers, publishes what these wrote, and looks what is gone.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from indexer.embedding.extractor import Embeddings, Extractor, Timed, Windows
from indexer.model.checkpoint import Checkpoint, state_digest
from indexer.model.convnext import ConvNeXt
from indexer.run.cluster import connect
from indexer.run.config import ExtractConfig, Settings
from indexer.run.shard_worker import ShardWorker
from indexer.run.spread import embed_spread
from indexer.run.survey import find_files, survey
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ, Geometry

GEOMETRY = Geometry(hop_samples=SAMPLE_RATE_HZ, window_samples=SAMPLE_RATE_HZ)
CONFIG = ExtractConfig(num_workers=1, batch_size=64)


class Zeros(Extractor):
    """A model that does next to nothing."""

    def __init__(self) -> None:
        torch.manual_seed(7)
        model = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 768)).eval()
        super().__init__(
            Checkpoint("tiny", Path("tiny.safetensors"), state_digest(model), model),
            device="cpu",
            precision="fp32",
            frames="none",
        )

    def embed_and_time(self, windows: Windows) -> Timed:
        n = len(windows)
        zeros = np.zeros((n, 768), np.float32), None, np.zeros((n, 527), np.float32)
        return Timed(Embeddings(*zeros, np.zeros(n, np.float32)), 0.0, 0.0, 0.0)


class Worker(ShardWorker):
    """A worker with that model."""

    def _load(self) -> Extractor:
        return Zeros()


def make_library(root: Path, num_files: int) -> None:
    """Write files of 0.1 s, each different, 1,000 in a folder."""
    noise = np.random.default_rng(0)
    for number in range(num_files):
        folder = root / f"{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        samples = noise.integers(-3000, 3000, SAMPLE_RATE_HZ // 10, np.int16)
        soundfile.write(folder / f"{number:07d}.wav", samples, SAMPLE_RATE_HZ)


def new_store(path: Path) -> Store:
    extractor = Zeros()
    named = {"checkpoint": "tiny", "written_by": "a benchmark"}
    return create_store(path, extractor.identity(GEOMETRY), extractor.head(), **named)


def measure(root: Path, folder: Path, num_workers: int) -> tuple[float, float, float, float]:
    """Return CPU seconds of the walk, the survey, and the run, and how long the run took."""
    store = new_store(folder / f"store of {num_workers}")
    clocks = [time.process_time()]
    found = find_files(root, CONFIG, store=store.path)
    clocks.append(time.process_time())
    with survey(found, store, CONFIG) as surveyed:
        clocks.append(time.process_time())
        began = time.perf_counter()
        settings = Settings(device="cpu", precision="fp32")
        report = embed_spread(surveyed, settings, CONFIG, num_workers=num_workers, kind=Worker)
        seconds = time.perf_counter() - began
    clocks.append(time.process_time())
    assert report.num_embedded == len(found.files)
    walk_s, survey_s, run_s = np.diff(clocks).tolist()
    return walk_s, survey_s, run_s, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, help="where to; default: a temporary one")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        make_library(folder / "library", asked.files)
        connect("local")
        print(
            f"CPU of the driver in seconds per 100,000 files, of {asked.files:,} files measured\n"
        )
        print("| workers | walk | survey | run | all | the run took |")
        print("|---|---|---|---|---|---|")
        for num_workers in asked.workers:
            *cpu, seconds = measure(folder / "library", folder, num_workers)
            each = [one * 100_000 / asked.files for one in (*cpu, sum(cpu))]
            cells = " | ".join(f"{one:.1f}" for one in each)
            print(f"| {num_workers} | {cells} | {seconds:.1f} s |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
