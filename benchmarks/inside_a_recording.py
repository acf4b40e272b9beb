"""How well a clip finds its own place in a long recording, by the clip's length and the hop.

    python benchmarks/inside_a_recording.py esc10_heldout DIR

Joins 120 recordings of a folder in random order, indexes the whole with windows every 10 s and
every second, and asks with clips of it from random places, as users do. A hit is right if it has at least half
of the clip in it. The demo checkpoint listens.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

import soundalike
from indexer.audio.stream import open_audio
from indexer.windows import SAMPLE_RATE_HZ

NUM_RECORDINGS, NUM_CLIPS = 120, 60
HOPS_S, LENGTHS_S = (10, 1), (1, 2, 5, 10)


def join(folder: Path, target: Path, random: np.random.Generator) -> float:
    """Write the recordings of a folder one after the other; return the length in seconds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pieces: list[np.ndarray] = []
    for path in random.permutation(np.array(files, object))[:NUM_RECORDINGS]:
        with open_audio(path) as audio:
            pieces.extend(audio.blocks())
    joined = np.concatenate(pieces)
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, joined, SAMPLE_RATE_HZ)
    return len(joined) / SAMPLE_RATE_HZ


def main(folder: Path, work: Path) -> None:
    random = np.random.default_rng(0)
    recording = work / "joined" / "joined.flac"
    end_s = join(folder, recording, random)
    stores = {}
    for hop_s in HOPS_S:
        stores[hop_s] = soundalike.open(work / f"hop-{hop_s}.soundalike", checkpoint="demo")
        stores[hop_s].index(recording.parent, hop_s=hop_s)
    print("clip, s  hop, s  first  among ten  median score of the best right hit")
    for length_s in LENGTHS_S:
        starts_s = random.uniform(0, end_s - length_s, NUM_CLIPS)
        for hop_s, sounds in stores.items():
            right = []
            for start_s in starts_s:
                hits = sounds.search(
                    recording,
                    start=start_s,
                    duration=length_s,
                    k=sounds.num_windows,
                    include_self=True,
                )
                found = (
                    (rank, hit.score)
                    for rank, hit in enumerate(hits, start=1)
                    if min(hit.end_s, start_s + length_s) - max(hit.start_s, start_s)
                    >= 0.5 * length_s
                )
                right.append(next(found, (np.inf, np.nan)))  # a better place may lie just beside
            ranks, scores = np.array(right).T
            first, ten = np.mean(ranks == 1), np.mean(ranks <= 10)
            print(f"{length_s:7} {hop_s:7} {first:6.0%} {ten:10.0%} {np.nanmedian(scores):7.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
