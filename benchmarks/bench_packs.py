"""What reading costs from a pack, and from the same clips as files: digest, decoding, windows.

    python benchmarks/bench_packs.py

CPU time of one process, in rounds that take turns, so that what else runs matters little.
"""

from __future__ import annotations

import io
import itertools
import shutil
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from indexer.audio.content import recording_digest, state_of
from indexer.audio.stream import open_audio
from indexer.library.walk import walk
from indexer.reading.dataset import keep_freed_memory
from indexer.windows import SAMPLE_RATE_HZ, Geometry

NUM_CLIPS, NUM_ROUNDS = 50, 21


def main() -> None:
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        roots = make(Path(folder))
        taken: dict[str, list[float]] = {name: [] for name in roots}
        for _ in range(NUM_ROUNDS):
            for name, root in roots.items():
                taken[name].append(read_ms(root))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    print("| the same 10-s clips | CPU ms a clip | to files |\n|---|---|---|")
    for name, median in medians.items():
        files = medians[f"{name.split()[0]} files"] if "FLAC" in name else medians["WAV files"]
        print(f"| {name} | {median:.2f} | {median / files:.2f} |")


def make(folder: Path) -> dict[str, Path]:
    """Write the clips in every form; return where each is."""
    rng, times = np.random.default_rng(0), np.arange(10 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    clips = [
        np.round(
            (
                0.3
                * np.sin(2 * np.pi * (200 + 37 * clip) * times)
                * np.exp(-(((times - 5) / 3) ** 2))
            )
            * 32767
            + rng.normal(0, 600, len(times))
        ).astype(np.int16)
        for clip in range(NUM_CLIPS)
    ]
    roots = {"WAV files": folder / "wav", "HDF5 of waveforms": folder / "hdf5"}
    roots |= {"WAV in Parquet": folder / "wav-pq", "FLAC files": folder / "flac"}
    roots |= {"FLAC in Parquet": folder / "flac-pq"}
    for kind, ending in itertools.product(("WAV", "FLAC"), ("tar", "zip")):
        roots[f"{kind} in {ending}"] = folder / f"{kind.lower()}-{ending}"
    for root in roots.values():
        root.mkdir()
    for kind in ("WAV", "FLAC"):
        rows = []
        for number, clip in enumerate(clips):
            content = io.BytesIO()
            soundfile.write(content, clip, SAMPLE_RATE_HZ, format=kind)
            name = f"{number}.{kind.lower()}"
            (folder / kind.lower() / name).write_bytes(content.getvalue())
            rows.append({"bytes": content.getvalue(), "path": name})
        column = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        table = pa.table({"audio": column})
        pq.write_table(table, folder / f"{kind.lower()}-pq" / "clips.parquet", row_group_size=100)
        with tarfile.open(folder / f"{kind.lower()}-tar" / "clips.tar", "w") as tar:
            tar.add(folder / kind.lower(), arcname="clips")
        shutil.make_archive(
            str(folder / f"{kind.lower()}-zip" / "clips"), "zip", folder / kind.lower()
        )
    with h5py.File(folder / "hdf5" / "eval.h5", "w") as file:
        file["audio_name"] = [f"{number}.wav".encode() for number in range(NUM_CLIPS)]
        file["waveform"] = np.array(clips)
    return roots


def read_ms(root: Path) -> float:
    """Read a library as a run does; return the CPU time for a clip, in ms."""
    found = walk(root)
    started = time.process_time()
    for file in found.files:
        path = file.local(root)
        recording_digest(path)
        with open_audio(path) as audio:
            audio.identify()
            for _ in audio.windows(Geometry()):
                state_of(path)
            state_of(path)
    return (time.process_time() - started) / len(found.files) * 1000


if __name__ == "__main__":
    main()
