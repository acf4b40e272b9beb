"""What the benchmarks of extraction work on: recordings of 10 s, and a network of the full size.

The network's weights are random: speed does not depend on what it has learned.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from indexer.arrays import ID_DTYPE
from indexer.library.walk import walk
from indexer.model.convnext import ConvNeXt
from indexer.reading.dataset import Work
from indexer.reading.readers import load_windows
from indexer.windows import Geometry

SECONDS = 10
#: Suffix → container for libsndfile, rate in Hz, channels: the files that people have. The first is
#: what the network takes as it is.
FORMATS = {
    "wav": ("WAV", 32_000, 1),
    "44k.wav": ("WAV", 44_100, 2),
    "flac": ("FLAC", 44_100, 2),
    "ogg": ("OGG", 44_100, 2),
    "mp3": ("MP3", 44_100, 2),
}


def write_library(folder: Path, kind: str, num_files: int) -> Path:
    """Return a folder of recordings of one of `FORMATS`, no two alike; write it if need be."""
    library = folder / kind
    if library.exists():
        return library
    library.mkdir()
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write, library, kind), range(num_files), chunksize=8))
    return library


def _write(library: Path, kind: str, number: int) -> None:
    container, rate, channels = FORMATS[kind]
    time_s = np.arange(SECONDS * rate) / rate
    random = np.random.default_rng(number)
    # Three tones that come and go over noise: codecs have something to do.
    signal = random.normal(0, 0.02, (len(time_s), channels))
    for pitch_hz in random.uniform(100, 8000, 3):
        swell = np.sin(np.pi * random.uniform(0.1, 2) * time_s) ** 2
        signal += (0.2 * swell * np.sin(2 * np.pi * pitch_hz * time_s))[:, None]
    soundfile.write(library / f"{number}.{kind}", signal, rate, format=container)


def read_alone(library: Path, num_workers: int, batch_size: int, *, defers: bool) -> int:
    """Read a library as a run does, and return the number of its windows; none is embedded."""
    work = Work(
        root=library,
        items=walk(library).files,
        geometry=Geometry(),
        batch_size=batch_size,
        known=np.empty(0, ID_DTYPE),
        partial={},
        max_duration_s=3600,
        defers=defers,
    )
    batches = load_windows(work, num_workers=num_workers, timeout_s=120)
    return sum(len(batch.keys) for batch in batches)


def write_checkpoint(folder: Path) -> Path:
    """Write a ConvNeXt-Tiny with random weights, and return its file."""
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    save_file(ConvNeXt().state_dict(), path)
    return path
