"""The work that `torture.py` disturbs: one run or one compaction, by a user without rights.

    python benchmarks/torture_work.py run STORE LIBRARY
    python benchmarks/torture_work.py compact STORE

Prints "ready", does it, and prints a report as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import bad_files
import numpy as np
import torch

from indexer.embedding.extractor import Extractor, Timed
from indexer.errors import SoundalikeError
from indexer.model.checkpoint import load_checkpoint
from indexer.run.extract import ExtractConfig, extract
from indexer.store.creation import create_store
from indexer.windows import Geometry
from search.upkeep.compact import compact

NOBODY = 65534
#: Windows in a part: small, so that there are many, and a kill falls into each stage of one.
PART_WINDOWS = 32
#: A decoder that hangs is given up after this, in seconds.
TIMEOUT_S = 6.0
#: What is imported at its first use, from places that root alone may read.
_LATE = [
    *("encodings.ascii", "pandas", "multiprocessing.popen_fork", "multiprocessing.queues"),
    *("multiprocessing.resource_sharer", "multiprocessing.sharedctypes"),
    *("multiprocessing.synchronize", "multiprocessing.util"),
]


class Counting(Extractor):
    """An extractor that counts its windows in a mapped file, which a kill does not undo."""

    def __init__(self, count_file: Path) -> None:
        super().__init__(load_checkpoint("demo"), device="cpu")
        if not count_file.exists():
            np.zeros(1, np.int64).tofile(count_file)
        self._count = np.memmap(count_file, np.int64, "r+")
        self._turn = threading.Lock()

    def embed_and_time(self, waveforms: torch.Tensor) -> Timed:
        timed = super().embed_and_time(waveforms)
        with self._turn:
            self._count[0] += len(waveforms)
        return timed


def count_file(store: Path) -> Path:
    """Where the number of windows is that were computed for a store."""
    return store.with_name(f"{store.name}.count")


def embed(extractor: Extractor, store_path: Path, library: Path) -> dict[str, Any]:
    """Bring a store up to date with a library."""
    store = create_store(
        store_path,
        extractor.identity(Geometry(native=True)),
        extractor.head(),
        checkpoint="demo",
        written_by="torture",
    )
    config = ExtractConfig(
        num_workers=2,
        part_windows=PART_WINDOWS,
        max_hours=bad_files.MAX_HOURS,
        timeout_s=TIMEOUT_S,
        allow_gone=True,
    )
    done = extract(library, store, extractor, config)
    return {"windows": done.num_windows, "moved": done.num_moved, "gone": done.num_gone}


def main(what: str, store: str, library: str = "") -> None:
    extractor = Counting(count_file(Path(store)))
    for name in _LATE:
        import_module(name)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    bad_files.arm()
    print("ready", flush=True)
    try:
        if what == "compact":
            compact(Path(store))
            report: dict[str, Any] = {}
        else:
            report = embed(extractor, Path(store), Path(library))
    except SoundalikeError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        peak_mb = resource.getrusage(who).ru_maxrss / 1024
        report["peak_mb"] = max(peak_mb, report.get("peak_mb", 0.0))
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
