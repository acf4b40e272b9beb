"""Fail if extraction is not at least four times as fast as the published way of working.

    python benchmarks/check_ratio.py

Both embed 10-s WAV files at 32 kHz, by turns, three times each; what is compared is the median of
the ratios. No time of its own says anything on a machine that others use as well.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from extract_library import write_checkpoint, write_library
from extract_ways import rate, timed

LEAST = 4.0
TURNS = 3
#: The published way takes longer for its few.
NUM_FILES = {"published": 12, "soundalike": 128}


def ratios(library: Path, checkpoint: Path) -> list[tuple[float, float]]:
    """Return windows per second of both, published first, for each turn."""
    found = []
    for _ in range(TURNS):
        published, ours = (
            rate(timed(way, library, checkpoint, num_files)) for way, num_files in NUM_FILES.items()
        )
        print(f"published {published:.2f}, soundalike {ours:.2f} windows/s: {ours / published:.2f}")
        found.append((published, ours))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ratio-") as name:
        folder = Path(name)
        library = write_library(folder, "wav", max(NUM_FILES.values()))
        found = ratios(library, write_checkpoint(folder))
    ratio = statistics.median(ours / published for published, ours in found)
    print(f"ratio {ratio:.2f}, at least {LEAST:g} is asked for")
    sys.exit(ratio < LEAST)


if __name__ == "__main__":
    main()
