"""Reading objects beside reading files: does fetching ahead hide the latency of a network?

    python benchmarks/remote.py --objects 24 --delay 0.05

Reads the same files, of 10 MB, from a folder and from a server on loopback that adds a delay to
each request, by turns: hashed, decoded and cut into windows, which nothing embeds. Prints the rate
of each turn and the ratio of their sums. The server takes part of the same cores. With --packed the
files are members of an archive, here and there; to list it is no part of the rates, and is printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import soundfile

from indexer.arrays import ID_DTYPE
from indexer.audio.remote.objects import objects
from indexer.library.walk import walk
from indexer.paths import as_place
from indexer.reading.dataset import Work
from indexer.reading.readers import load_windows
from indexer.windows import Geometry

RATE_HZ = 44_100


def write_objects(folder: Path, number: int, kind: str, seconds: float | None) -> None:
    """Write files of 10 MB: two channels of noise, which compresses to two thirds."""
    rng = np.random.default_rng(1)
    length = int((seconds or (57 if kind == "wav" else 76)) * RATE_HZ)
    for one in range(number):
        noise = rng.normal(0, 0.05, (length, 2)).astype(np.float32)
        soundfile.write(folder / f"{one:03}.{kind}", noise, RATE_HZ, subtype="PCM_16")


def pack(folder: Path, kind: str) -> None:
    """Put all files of a folder into an archive in their place."""
    files = sorted(folder.iterdir())
    if kind == "tar":
        with tarfile.open(folder / "all.tar", "w") as tar:
            for file in files:
                tar.add(file, file.name)
    else:
        with zipfile.ZipFile(folder / "all.zip", "w") as found:
            for file in files:
                found.write(file, file.name)
    for file in files:
        file.unlink()


def read(root: Path, num_workers: int) -> float:
    """Return the seconds that it takes to read all below a root."""
    began = time.perf_counter()
    found = walk(root)
    listed_s = time.perf_counter() - began
    began = time.perf_counter()
    work = Work(found.root, found.files, Geometry(), 16, np.empty(0, ID_DTYPE), {}, 3600.0)
    num_windows = sum(
        len(batch.keys) for batch in load_windows(work, num_workers=num_workers, timeout_s=120)
    )
    seconds = time.perf_counter() - began
    size = found.files.sizes.sum() / 1e6
    name = "objects" if root == as_place(root) and "://" in str(root) else "files"
    rate = f"{size / seconds:7.1f} MB/s in {seconds:5.2f} s"
    print(f"{name:8}{num_windows:6} windows, {rate}; listed in {listed_s:5.2f} s", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=24)
    parser.add_argument("--delay", type=float, default=0.05, help="of each request, in seconds")
    parser.add_argument("--kind", choices=("flac", "wav"), default="flac")
    parser.add_argument("--packed", choices=("tar", "zip"))
    parser.add_argument("--seconds", type=float, help="length of each, in place of that of 10 MB")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    tests = Path(__file__).parent.parent / "tests"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as caches:
        os.environ["XDG_CACHE_HOME"] = caches  # where listings of archives are kept
        write_objects(Path(folder), asked.objects, asked.kind, asked.seconds)
        if asked.packed:
            pack(Path(folder), asked.packed)
        code = (
            f"import sys, time; sys.path.insert(0, {str(tests)!r})\n"
            "from pathlib import Path; from object_server import serving\n"
            f"with serving(Path({folder!r})) as server:\n"
            f"    server.faults.delay_s = {asked.delay}\n"
            "    print(server.endpoint, flush=True)\n"
            "    sys.stdin.read()"
        )
        server = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout
        endpoint = server.stdout.readline().strip()
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x"}
        os.environ |= {"AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
        try:
            read(Path(folder), asked.workers)  # files are in memory from here on
            local = remote = 0.0
            for _ in range(asked.turns):
                local += read(Path(folder), asked.workers)
                remote += read(as_place("s3://sounds"), asked.workers)
                objects.close()
            print(f"objects at {local / remote:.3f} of the rate of files")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
