"""How many different sounds are among ten hits where one is there nine times, and what that costs.

    python benchmarks/copies_among_ten.py esc10_seen DIR [CHECKPOINT]

Subfolders of the folder are the kinds. Two recordings of each are written nine times: as they are,
louder and quieter, earlier and later, with noise. Each asks all recordings and its own variants,
which count as one sound; how often that is among the ten is told as well. Then every recording asks all others, and a hit is right if it is of its
kind. Plain, with `diverse` and with `unique`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

import soundalike
from indexer.audio.stream import open_audio
from indexer.windows import SAMPLE_RATE_HZ

EVERY, OF_EACH_KIND = 12, 2
WAYS = {"plain": {}, "diverse": {"diverse": True}, "unique": {"unique": True}}


def write_variants(source: Path, folder: Path, random: np.random.Generator) -> None:
    """Write a recording nine times, each a little different."""
    with open_audio(source) as audio:
        samples = np.concatenate(list(audio.blocks()))
    noise = np.sqrt(np.mean(samples**2)) * random.normal(0, 1, len(samples))
    made = {"as it is": samples, "cut by 50 ms": samples[1600:]}
    made |= {f"{db} dB": samples * 10 ** (db / 20) for db in (3, -3, -6)}
    made |= {f"noise {db} dB": samples + noise * 10 ** (db / 20) for db in (-40, -30)}
    for ms in (50, 200):
        later = np.concatenate([np.zeros(32 * ms), samples])
        made[f"{ms} ms later"] = later[: len(samples)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in made.items():
        soundfile.write(folder / f"{name}.wav", np.clip(one, -1, 1), SAMPLE_RATE_HZ, "PCM_16")


def main(folder: Path, work: Path, checkpoint: str) -> None:
    random, folder = np.random.default_rng(0), folder.absolute()
    kinds = [sorted(one.iterdir()) for one in sorted(folder.iterdir()) if one.is_dir()]
    asking = [file for files in kinds for file in files[::EVERY][:OF_EACH_KIND]]
    variants = (work / "variants").absolute()
    for number, file in enumerate(asking):
        write_variants(file, variants / f"{number}", random)
    stores = work / "recordings.soundalike", work / "variants.soundalike"
    for store, library in zip(stores, (folder, variants), strict=True):
        soundalike.open(store, checkpoint=checkpoint).index(library, frames="none")
    alone, both = soundalike.open(stores[0]), soundalike.open(*stores)
    print("         sounds among ten  the sound itself  once at most  precision at 10")
    for name, how in WAYS.items():
        sounds, times = [], []
        for number, file in enumerate(asking):
            where = f"library = '{folder}' or path like '{number}/%'"
            hits = both.search(file, where=where, **how)
            times.append(sum(variants in hit.path.parents for hit in hits))
            sounds.append(len({None if variants in hit.path.parents else hit.path for hit in hits}))
        right = [
            np.mean([hit.path.parent == file.parent for hit in alone.search(file, **how)])
            for files in kinds
            for file in files
        ]
        once = np.mean(np.array(times) <= 1)
        print(
            f"{name:8} {np.mean(sounds):16.2f}  {np.mean(times):16.2f}  {once:12.0%}  "
            f"{np.mean(right):15.3f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:] or ["demo"])
