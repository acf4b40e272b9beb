"""What a command costs from a cold start: CPU seconds of whole processes.

    python benchmarks/bench_start.py [--repeats 5] [--only WORD]

A store of the bundled sounds is made in a temporary folder, with the bundled small network. Then
every command runs by turns with the others, each time in a new process, beside bare Python, Python
with Typer, and `import torch`. Seconds are of the processor, user and system, over all threads and
children: what else the machine does counts less so than on a clock. Its load is printed as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "data" / "samples"
#: Of the bundled sounds, one is left out of the library: no store knows it.
NEW_CLIP = "animals/dog.ogg"
KNOWN_CLIP = SAMPLES / "birds" / "crow.ogg"

#: What each is compared with.
_BARE = "bare Python"
_TYPER = "Python with Typer"
_TORCH = "import torch"


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """Run a process to its end; return the seconds of processor that it and its children took."""
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'said').read_text()}")
    return used.ru_utime + used.ru_stime


def make_store(folder: Path) -> Path:
    """Copy the sounds but one, and index them."""
    for sound in SAMPLES.rglob("*"):
        if sound.is_file() and sound != SAMPLES / NEW_CLIP:
            copy = folder / "library" / sound.relative_to(SAMPLES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(sound.read_bytes())
    store = folder / "library.soundalike"
    cpu_seconds(
        [*_soundalike(), "index", "library", "--store", str(store), "--checkpoint", "demo"], folder
    )
    return store


def commands(store: Path) -> dict[str, list[str]]:
    """Return what is measured: its name, and the command."""
    python, program = [sys.executable, "-c"], _soundalike()
    return {
        _BARE: [*python, "pass"],
        _TYPER: [*python, "import typer"],
        _TORCH: [*python, "import torch"],
        "--help": [*program, "--help"],
        "tags": [*program, "tags"],
        "tags STORE": [*program, "tags", str(store)],
        "info": [*program, "info", str(store)],
        "search by window id": [*program, "search", str(store), a_window_of(store)],
        "search by tag": [*program, "search", str(store), "--tag", "Bird"],
        "search by a known clip": [*program, "search", str(store), str(KNOWN_CLIP)],
        "search by a new clip": [*program, "search", str(store), str(SAMPLES / NEW_CLIP)],
        "tag FILE": [*program, "tag", str(SAMPLES / NEW_CLIP), "--checkpoint", "demo"],
        "index, nothing new": [*program, "index", "library", "--store", str(store)],
    }


def a_window_of(store: Path) -> str:
    """Return the id of some window, as the command prints it."""
    asked = [*_soundalike(), "search", str(store), "--tag", "Bird", "--format", "json"]
    said = subprocess.run(asked, capture_output=True, check=True).stdout
    return str(json.loads(said)["hits"][0]["window_id"])


def _soundalike() -> list[str]:
    return [sys.executable, "-m", "soundalike"]


def measure(chosen: dict[str, list[str]], folder: Path, repeats: int) -> dict[str, float]:
    """Return the median of each, in CPU seconds; the first turn fills the caches and is dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(repeats + 1):
        for name, command in chosen.items():
            used = cpu_seconds(command, folder)
            if turn:
                seconds[name].append(used)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns that count (default 5)")
    parser.add_argument("--only", default="", help="only the commands with this in their name")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        every = commands(make_store(folder))
        references = {_BARE, _TYPER, _TORCH}
        chosen = {
            name: command
            for name, command in every.items()
            if name in references or given.only in name
        }
        before = os.getloadavg()[0]
        median = measure(chosen, folder, given.repeats)
    print(f"{os.cpu_count()} cores, load {before:.2f} before and {os.getloadavg()[0]:.2f} after;")
    print(f"median of {given.repeats}, CPU seconds\n")
    print("| | CPU s | over Python with Typer | over import torch |\n|---|--:|--:|--:|")
    for name, used in median.items():
        over = (used - median[reference] for reference in (_TYPER, _TORCH))
        print(f"| {name} | {used:.2f} |", " | ".join(f"{one:+.2f}" for one in over), "|")


if __name__ == "__main__":
    main()
