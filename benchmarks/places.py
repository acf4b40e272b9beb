"""How often a short sound is found inside longer windows, and where: by scene and by place.

    python benchmarks/places.py esc10_heldout esc10_seen --windows 5000

Of each clip of the first folder its loudest 2 s are an event; it is mixed into 10 s of sounds of
other classes from the second, 10 or 0 dB above them. Beside these windows the library has others,
which are made of the second folder alone: there is nothing in them that asks, but all its classes
are; or, with --rest, of a third folder. Each event asks for the window that it is in (the same
sound), and where its like is in the window of another event of its class (its kind). The events are
in the library as files of their own, so that nothing is embedded to ask, and are no hits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from tqdm import tqdm

import soundalike
from indexer.audio.stream import open_audio
from indexer.errors import AudioError
from indexer.windows import SAMPLE_RATE_HZ, Geometry
from search.evaluation.bootstrap import Estimate, estimates

Samples = npt.NDArray[np.float32]
EVENT_S, WINDOW_S = 2, 10
EVENT, WINDOW = EVENT_S * SAMPLE_RATE_HZ, WINDOW_S * SAMPLE_RATE_HZ
#: What is silent asks nothing, and is no background.
LEAST_RMS = 1e-4
K = 10
SEED, NUM_RESAMPLES = 0, 2000
#: What may be a hit.
WINDOWS = "path like 'windows/%'"


class Clip(NamedTuple):
    """A recording of a set: its class, and its samples at 32 kHz."""

    kind: str
    samples: Samples


class Mixture(NamedTuple):
    """A window with an event in it: which, its class, and where it begins, in seconds."""

    event: int
    kind: str
    start_s: float


def read(folder: Path, least: int = EVENT) -> list[Clip]:
    """Read the clips of a folder whose subfolders are classes, if they have so many samples."""
    clips = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            with open_audio(file) as audio:
                cuts = [cut.waveform[: cut.num_samples] for cut in audio.windows(Geometry())]
        except AudioError as error:
            print(f"left out: {file.name}: {error}", file=sys.stderr)
            continue
        samples = np.concatenate(cuts)
        if len(samples) >= least and rms(samples) > LEAST_RMS:
            clips.append(Clip(file.parent.name, samples))
    return clips


def rms(samples: Samples) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def loudest(samples: Samples) -> Samples:
    """Return the 2 s with the most energy."""
    energy = np.concatenate([[0], np.cumsum(samples.astype(np.float64) ** 2)])
    starts = np.arange(0, len(samples) - EVENT + 1, SAMPLE_RATE_HZ // 10)
    start = starts[np.argmax(energy[starts + EVENT] - energy[starts])]
    return samples[start : start + EVENT]


class Library:
    """Windows on disk, made of two folders of clips."""

    def __init__(
        self, folder: Path, events: Sequence[Clip], others: Sequence[Clip], rest: Sequence[Clip]
    ) -> None:
        self.folder, self.events, self._others, self._rest = folder, events, others, rest
        self._rng = np.random.default_rng(SEED)
        self.mixtures: list[Mixture] = []

    def make(self, num_windows: int, snr_db: float) -> None:
        """Write one window for each event, and others up to a number."""
        for name in ("windows", "events"):
            (self.folder / "sounds" / name).mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(self.events):
            event = loudest(clip.samples)
            mixed = self._background(clip.kind)
            mixed *= rms(event) / rms(mixed) / 10 ** (snr_db / 20)
            start = int(self._rng.integers(0, WINDOW - EVENT + 1))
            mixed[start : start + EVENT] += event
            self._write(f"windows/{number:05d}", mixed)
            self._write(f"events/{number:05d}", event)
            self.mixtures.append(Mixture(number, clip.kind, start / SAMPLE_RATE_HZ))
        for number in tqdm(range(len(self.events), num_windows), "windows", disable=None):
            self._write(f"windows/{number:05d}", self._other())

    def event(self, number: int) -> Path:
        """Return the file of an event."""
        return self.folder / f"sounds/events/{number:05d}.flac"

    def _other(self) -> Samples:
        """Return a window without an event: of the classes of events, or of the rest."""
        if not self._rest:
            return self._background(None)
        samples = np.empty(0, np.float32)
        while len(samples) < WINDOW:
            one = self._rest[int(self._rng.integers(len(self._rest)))]
            samples = np.concatenate([samples, one.samples])
        return samples[:WINDOW]

    def _background(self, unlike: str | None) -> Samples:
        clips = [clip for clip in self._others if clip.kind != unlike]
        while True:
            chosen = self._rng.choice(len(clips), 2, replace=False)
            samples = np.concatenate([clips[one].samples for one in chosen])
            samples = np.resize(samples, WINDOW).astype(np.float32)
            if rms(samples) > LEAST_RMS:
                return samples

    def _write(self, name: str, samples: Samples) -> None:
        samples = samples / max(1.0, float(np.abs(samples).max()))
        file = self.folder / f"sounds/{name}.flac"
        if not file.exists():  # made by an earlier run from the same seed
            soundfile.write(file, samples, SAMPLE_RATE_HZ)


def share(is_so: npt.NDArray[np.bool_]) -> Estimate:
    """Return a share with its interval."""
    columns = is_so.astype(np.float64)[:, None]
    return estimates(columns, np.arange(len(is_so)), NUM_RESAMPLES, SEED)[0]


class Found(NamedTuple):
    """Of each event: the rank of its own window, from 0 on, and 10 where it is not among ten."""

    ranks: npt.NDArray[np.int64]
    cpu_s: float

    def line(self, name: str) -> str:
        """Return a row of the table."""
        among, first = self.ranks < K, self.ranks == 0
        _, low, high = share(among)
        return (
            f"| {name} | {among.mean():.2f} [{low:.2f}, {high:.2f}] | {first.mean():.2f} | "
            f"{1e3 * self.cpu_s:.0f} |"
        )


def ask(sounds: soundalike.Sounds, library: Library, **terms: object) -> Found:
    """Ask with each event for the window that it is in."""
    ranks, cpu_s = [], []
    for number in tqdm(range(len(library.events)), str(terms), disable=None):
        began = time.process_time()
        answer = sounds.search(library.event(number), k=K, where=WINDOWS, **terms)
        cpu_s.append(time.process_time() - began)
        names = [hit.path.stem for hit in answer if hit.path]
        own = f"{number:05d}"
        ranks.append(names.index(own) if own in names else K)
    return Found(np.array(ranks), float(np.median(cpu_s)))


def share_of_candidates(
    sounds: soundalike.Sounds, library: Library, most: int, **terms: object
) -> float:
    """Return how many of the windows that events are in are among so many."""
    found = ask_names(sounds, library, most, terms)
    return float(np.mean([f"{number:05d}" in some for number, some in enumerate(found)]))


def ask_names(
    sounds: soundalike.Sounds, library: Library, k: int, terms: Mapping[str, object]
) -> Iterator[set[str]]:
    """Yield the names of the best windows for each event."""
    for number in range(len(library.events)):
        answer = sounds.search(library.event(number), k=k, where=WINDOWS, **terms)
        yield {hit.path.stem for hit in answer if hit.path}


def places(sounds: soundalike.Sounds, library: Library, *, same: bool) -> str:
    """Ask where events are, in their own windows or in that of another of their kind."""
    rng, errors = np.random.default_rng(SEED), []
    for mixture in tqdm(library.mixtures, "places", disable=None):
        alike = [
            one.event
            for one in library.mixtures
            if one.kind == mixture.kind and one.event != mixture.event
        ]
        asks = mixture.event if same else int(rng.choice(alike))
        (hit,) = sounds.search(
            library.event(asks),
            k=1,
            where=f"path = 'windows/{mixture.event:05d}.flac'",
        )
        assert hit.match_start_s is not None
        assert hit.match_end_s is not None
        middle = (hit.match_start_s + hit.match_end_s) / 2
        errors.append(abs(middle - mixture.start_s - EVENT_S / 2))
    inside = np.array(errors) <= EVENT_S / 2
    _, low, high = share(inside)
    return f"{inside.mean():.2f} [{low:.2f}, {high:.2f}] | {np.median(errors):.2f}"


def main() -> None:
    """Make the library, index it, ask, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("events", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("--rest", type=Path, help="What other windows are made of instead.")
    parser.add_argument("--windows", type=int, default=5000)
    parser.add_argument("--snr-db", type=float, default=10.0)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--store", type=Path, help="Where windows and store stay. Default: gone.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.store or Path(temporary)
        folder.mkdir(exist_ok=True)
        rest = read(given.rest, least=1) if given.rest else ()
        library = Library(folder, read(given.events), read(given.others), rest)
        library.make(given.windows, given.snr_db)
        sounds = soundalike.open(folder / "store", checkpoint=given.checkpoint)
        sounds.index(folder / "sounds")
        print(f"{len(library.events)} events at {given.snr_db:g} dB, {given.windows:,} windows\n")
        print("| ranked by | own window among ten | first | ms CPU |\n|---|---|---|---|")
        print(ask(sounds, library).line("scene"))
        print(ask(sounds, library, by="place").line("place, of the best 200"))
        print(ask(sounds, library, by="place", exact=True).line("place, of all"), "\n")
        for most in (200, 1000):
            scene = share_of_candidates(sounds, library, most, locate=False)
            print(f"own window among the best {most:,} by scene: {scene:.2f}")
            looked = share_of_candidates(sounds, library, most, by="place")
            print(f"among {most:,} that are looked into: {looked:.2f}")
        print("\n| in the window | middle inside the event | median error, s |\n|---|---|---|")
        print(f"| the same sound | {places(sounds, library, same=True)} |")
        print(f"| its kind | {places(sounds, library, same=False)} |")


if __name__ == "__main__":
    main()
