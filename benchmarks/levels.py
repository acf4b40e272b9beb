"""How loud a clip must be: when to ask louder, what of a clip is silence, and what window is.

    python benchmarks/levels.py esc10_seen

The set is a folder whose subfolders are its classes. Everything is embedded with the bundled
checkpoint, and ranked exactly by the blend. Three tables: clips that ask at other levels, with and
without the same at full scale, and all brought to one loudness; clips at lower and lower peaks, as
floats and as 16 bits hold them; and pieces of 1 s, by how far their peak is below that of the
loudest piece of their clip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.embedding.levelling import CutWindows
from indexer.library.walk import walk
from indexer.model.checkpoint import load_checkpoint
from indexer.windows import SAMPLE_RATE_HZ, Geometry, Samples, decibels
from search.asking.terms import DEFAULT_TAG_WEIGHT
from search.generation.writing import normalise
from search.nearest.blend import blended, with_roots

Floats = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
K = 10
HEADS = ("own first", "first other of its kind", "P@10")
GAINS_DB = (0, -10, -20, -40)
QUIET_DBFS = (-np.inf, -20, -12, -6, -3, np.inf)
PEAKS_DBFS = (0, -20, -40, -50, -60, -70, -80, -90)
BELOW_DB = (0, 10, 20, 30, 40, 50, 60, np.inf)
#: Clips of the second table, and pieces of each line of the third, at most.
NUM_CLIPS, NUM_PIECES = 40, 40
_GEOMETRY = Geometry(padding="repeat")
_BATCH = 8


class Asked:
    """What the network makes of sounds: what asks with them, and what they are found by."""

    def __init__(self, extractor: Extractor, sounds: Sequence[Samples], told: str) -> None:
        scenes, tags = [], []
        for first in tqdm(range(0, len(sounds), _BATCH), told, disable=None):
            some = [
                _GEOMETRY.pad(one[: _GEOMETRY.window_samples]) for one in sounds[first:][:_BATCH]
            ]
            lengths = torch.tensor([len(one) for one in sounds[first:][:_BATCH]])
            embedded = extractor(CutWindows(torch.from_numpy(np.stack(some)), lengths))
            scenes.append(normalise(embedded.scene))
            tags.append(embedded.tags)
        self.scenes, self.tags = np.concatenate(scenes), np.concatenate(tags)
        self.asking = blended(self.scenes, self.tags, DEFAULT_TAG_WEIGHT)

    @property
    def stored(self) -> Floats:
        """(n, 1295) rows of a library."""
        return with_roots(self.scenes, self.tags)


class Library(NamedTuple):
    """Clips, the class of each, and what the network makes of them."""

    sounds: list[Samples]
    classes: Classes
    heard: Asked


def read(folder: Path) -> tuple[list[Samples], Classes]:
    """Decode the clips of a set; and the class of each."""
    files = [one.path for one in walk(folder).files]
    sounds = []
    for file in files:
        with open_audio(folder / file) as audio:
            sounds.append(np.concatenate(list(audio.blocks())))
    return sounds, np.unique([file.split("/")[0] for file in files], return_inverse=True)[1]


def peaks(sounds: Sequence[Samples]) -> Floats:
    """(n,) highest peak of each, in dBFS."""
    return decibels([np.abs(one).max() for one in sounds])


def judged(scores: Floats, own: Classes, classes: Classes) -> tuple[float, float, float]:
    """Share whose own original is first; and of the others, how many are of its kind."""
    rows = np.arange(len(own))
    first = float((scores.argmax(1) == own).mean())
    others = scores.copy()
    others[rows, own] = -np.inf
    best = np.argsort(-others, axis=1, kind="stable")[:, :K]
    of_kind = classes[best] == classes[own, None]
    return first, float(of_kind[:, 0].mean()), float(of_kind.mean())


def louder(extractor: Extractor, library: Library) -> Iterator[str]:
    """A line for each gain, and each peak below which clips ask at full scale, too."""
    heads = ("clips ask at", "and louder below a peak of", "so many", *HEADS)
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    sounds, classes, heard = library
    stored = heard.stored
    levels, own = peaks(sounds), np.arange(len(sounds))
    full = [one / np.abs(one).max() for one in sounds]
    at_full = Asked(extractor, full, "full scale").asking @ stored.T
    for gain_db in GAINS_DB:
        gain = np.float32(10 ** (gain_db / 20))
        changed = [gain * one for one in sounds]
        asked = Asked(extractor, changed, f"{gain_db} dB") if gain_db else heard
        as_is = asked.asking @ stored.T
        for quiet in QUIET_DBFS:
            is_quiet = levels + gain_db < quiet
            scores = np.where(is_quiet[:, None], np.maximum(as_is, at_full), as_is)
            figures = " | ".join(f"{one:.3f}" for one in judged(scores, own, classes))
            bound = {-np.inf: "never", np.inf: "always"}.get(quiet, f"{quiet:g} dBFS")
            yield f"| {gain_db} dB | {bound} | {is_quiet.mean():.0%} | {figures} |"
    yield levelled(extractor, library)


def levelled(extractor: Extractor, library: Library) -> str:
    """A line for a library of one loudness, where the level of what asks does not matter."""
    bringing = Extractor(
        extractor.checkpoint, precision=extractor.precision, frames="none", level="rms"
    )
    heard = Asked(bringing, library.sounds, "one loudness")
    scores = heard.asking @ heard.stored.T
    figures = judged(scores, np.arange(len(scores)), library.classes)
    return f"| any | level rms | - | {' | '.join(f'{one:.3f}' for one in figures)} |"


def quieter(extractor: Extractor, library: Library) -> Iterator[str]:
    """A line for each peak that some clips are brought to, as floats and as 16 bits hold them."""
    yield f"| {' | '.join(('peak', 'samples', 'cosine to itself at full scale', *HEADS))} |"
    yield "|---|---|---|---|---|---|"
    sounds, classes, heard = library
    stored = heard.stored
    own = np.arange(len(sounds))[:: max(len(sounds) // NUM_CLIPS, 1)]
    full = [sounds[at] / np.abs(sounds[at]).max() for at in own]
    loud = Asked(extractor, full, "full scale").scenes
    for peak_db in PEAKS_DBFS:
        made = [np.float32(10 ** (peak_db / 20)) * one for one in full]
        rounded = [np.round(one * 2**15).astype(np.float32) / np.float32(2**15) for one in made]
        for name, some in (("float", made), ("16 bit", rounded)):
            asked = Asked(extractor, some, f"{peak_db} dBFS {name}")
            cosine = float(np.median((asked.scenes * loud).sum(1)))
            figures = " | ".join(
                f"{one:.3f}" for one in judged(asked.asking @ stored.T, own, classes)
            )
            yield f"| {peak_db} dBFS | {name} | {cosine:.3f} | {figures} |"


def pieces(extractor: Extractor, library: Library) -> Iterator[str]:
    """A line for each range of levels that pieces of 1 s have, below the loudest of their clip."""
    yield "| below the loudest | pieces | of these zeros | P@10 of some others |"
    yield "|---|---|---|---|"
    sounds, classes, heard = library
    stored = heard.stored
    cut, own, below = [], [], []
    for at, sound in enumerate(sounds):
        some = [sound[first:][:SAMPLE_RATE_HZ] for first in range(0, len(sound), SAMPLE_RATE_HZ)]
        some = [one for one in some if len(one) >= SAMPLE_RATE_HZ // 2]
        levels = peaks(some)
        cut, own, below = cut + some, own + [at] * len(some), [*below, *(levels.max() - levels)]
    random = np.random.default_rng(0)
    for least, most in pairwise(BELOW_DB):
        here = np.flatnonzero((least <= np.array(below)) & (np.array(below) < most))
        zeros = int(np.isinf(below).sum()) if most == np.inf else 0
        chosen = random.permutation(here)[:NUM_PIECES]
        told, figure = f"{least:g} to {most:g} dB", "-"
        if len(chosen):
            scores = Asked(extractor, [cut[at] for at in chosen], told).asking @ stored.T
            figure = f"{judged(scores, np.array(own)[chosen], classes)[2]:.3f} ({len(chosen)})"
        yield f"| {told} | {len(here) + zeros:,} | {zeros:,} | {figure} |"


def main(words: Sequence[str]) -> None:
    """Embed a set, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args(words)
    extractor = Extractor(load_checkpoint("demo"), precision=given.precision, frames="none")
    sounds, classes = read(given.folder)
    quantiles = np.quantile(peaks(sounds), [0, 0.05, 0.25, 0.5, 0.75, 1]).round(1).tolist()
    print(f"{len(sounds)} clips; peaks, from the lowest over quartiles to the highest: {quantiles}")
    library = Library(sounds, classes, Asked(extractor, sounds, "library"))
    for table in (louder, quieter, pieces):
        print()
        for line in table(extractor, library):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
