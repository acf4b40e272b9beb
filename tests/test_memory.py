"""Memory does not depend on the length of a recording."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY

RATE_HZ = 44_100
#: One window with its embeddings and row groups is about 10 MB; an hour of audio is 460 MB.
TOLERANCE_MB = 40


def write_noise(path: Path, minutes: int) -> None:
    """Write quiet stereo noise, a minute at a time."""
    noise = np.random.default_rng(minutes).normal(0, 1e-3, (60 * RATE_HZ, 2)).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "PCM_16", format="FLAC") as file:
        for _ in range(minutes):
            file.write(noise)


def peaks_mb(library: Path, store: Path) -> tuple[int, int]:
    """Return the peak memory of a process that indexes a library, and of its reader, in MB."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "sys.path.insert(0, 'tests')\n"
        "import torch\n"
        "from indexer.model.checkpoint import Checkpoint, state_digest\n"
        "from indexer.model.convnext import ConvNeXt\n"
        "from indexer.embedding.extractor import Extractor\n"
        "from indexer.run.extract import ExtractConfig\n"
        "from test_extract import new_store, run\n"
        "torch.set_num_threads(1); torch.manual_seed(0)\n"
        "model = ConvNeXt((1, 1, 1, 1), (8, 8, 8, 768)).eval()\n"
        "extractor = Extractor(Checkpoint('tiny', Path('x'), state_digest(model), model))\n"
        f"store = new_store(Path({str(store)!r}), extractor)\n"
        f"report = run(Path({str(library)!r}), store, extractor, ExtractConfig(num_workers=1))\n"
        "assert not report.failures, report.failures\n"
        # Not getrusage: a process has the peak of the one that started it from the beginning.
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "own = next(line.split()[1] for line in lines if line.startswith('VmHWM'))\n"
        "reader = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(report.num_windows, int(own) // 1024, reader // 1024)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        # Blocks from 64 kB on go back to the system at once: what is measured is what is in use.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    num_windows, own, reader = map(int, result.stdout.split())
    assert num_windows == int(library.name) * 6
    return own, reader


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_extract_an_hour_needs_the_memory_of_ten_minutes(tmp_path: Path) -> None:
    peaks = []
    for minutes in (10, 60):
        library = tmp_path / str(minutes)
        library.mkdir()
        write_noise(library / "noise.flac", minutes)
        peaks.append(peaks_mb(library, tmp_path / f"store{minutes}"))
    for short, long in zip(*peaks, strict=True):
        assert long - short < TOLERANCE_MB, peaks
