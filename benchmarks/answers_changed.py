"""What clips find that are cut, quieter, or have silence after them: tables of `answers.py`.

All is asked as users ask: with files, by `soundalike.open`. Intervals are of 95 %, over resampled
clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

import soundalike
from search.asking.terms import DEFAULT_TAG_WEIGHT
from search.evaluation.bootstrap import estimates

K = 10
NUM_RESAMPLES, SEED = 2000, 0
WEIGHTS = (0.0, DEFAULT_TAG_WEIGHT)
#: Recordings of a kind in a library of cuts: as many hits as there are others of it are looked at.
OF_EACH_KIND = 8
SHORT_S = 1
QUIETER_DB = (0, 20, 40)
FORMS = {"PCM_16": "16 bit", "FLOAT": "float"}
SILENCE_S = 7
#: Silent files that lie beside the recordings: their lengths in seconds, and the level of what is
#: in them in dBFS; None is digital silence.
SILENT_S, SILENT_DBFS = (0.3, 1, 3, 5, 12), (None, -92)


class Clip(NamedTuple):
    """A recording of a set."""

    path: Path
    kind: str


def clips_of(folder: Path) -> list[Clip]:
    """Return the recordings of a set, by kind and name."""
    folder = folder.absolute()
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [Clip(file, file.relative_to(folder).parts[0]) for file in files]


def write(path: Path, samples: Any, rate_hz: int, form: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, form)
    return path


def store_at(path: Path, library: Path, **settings: Any) -> soundalike.Sounds:
    """Index a folder."""
    sounds = soundalike.open(path, checkpoint="demo")
    sounds.index(library, frames="none", num_workers=0, **settings)
    return sounds


def told(values: Sequence[Any], clusters: Any = None) -> str:
    """Say a mean with its interval; what has a cluster in common is drawn together."""
    column = np.array(values, np.float64)[:, None]
    of = np.arange(len(column)) if clusters is None else np.asarray(clusters)
    found = estimates(column, of, NUM_RESAMPLES, SEED)[0]
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def said(weight: float) -> str:
    return f"w = {weight:g}" if weight else "scenes"


# --- length --------------------------------------------------------------------------------------


def loudest(samples: Any, num_samples: int) -> Any:
    """Cut the stretch with the most energy."""
    mono = samples if samples.ndim == 1 else samples.mean(1)
    energy = np.append(0, np.cumsum(np.square(mono, dtype=np.float64)))
    start = int(np.argmax(energy[num_samples:] - energy[:-num_samples]))
    return samples[start : start + num_samples]


class Cut(NamedTuple):
    """A clip as it is in one of the libraries of cuts."""

    path: Path
    kind: str
    is_short: bool
    clip: int
    library: str


def write_cuts(folder: Path, target: Path) -> list[Cut]:
    """Deal the recordings into libraries, in which every other one of a kind is cut.

    Each library is there twice: what is cut in one is whole in the other. They are dealt at random:
    in order, those from one source would be of other lengths more often than of their own.
    """
    random, cuts = np.random.default_rng(SEED), []
    clips = clips_of(folder)
    places = [
        int(at)
        for _, group in groupby(clips, lambda one: one.kind)
        for at in random.permutation(len(list(group)))
    ]
    for number, (clip, place) in enumerate(zip(clips, places, strict=True)):
        samples, rate_hz = soundfile.read(clip.path)
        for turn in (0, 1):
            library = f"{place // OF_EACH_KIND}-{turn}"
            is_short = (place + turn) % 2 == 0
            some = loudest(samples, SHORT_S * rate_hz) if is_short else samples
            path = target / library / clip.kind / f"{clip.path.stem}.wav"
            cuts.append(Cut(write(path, some, rate_hz), clip.kind, is_short, number, library))
    return cuts


def length_lines(folder: Path, work: Path) -> Iterator[str]:
    """Whether cuts of a second and whole clips find each other, in one library."""
    library = (work / "cuts").absolute()
    cuts = {cut.path: cut for cut in write_cuts(folder, library)}
    of_library = {cut.library: 0 for cut in cuts.values()}
    for cut in cuts.values():
        of_library[cut.library] += 1
    chance = np.mean([(n / 2 - 1) / (n - 1) for n in of_library.values()])
    yield f"| padding | score | of its own length among ten (chance {chance:.3f}) | P@7 |"
    yield "|---|---|---|---|"
    for padding, weight in product(("zero", "repeat"), WEIGHTS):
        sounds = store_at(work / f"cuts-{padding}.soundalike", library, padding=padding)
        own, right, asked = [], [], []
        for name in of_library:
            asking = [cut for cut in cuts.values() if cut.library == name]
            answers = sounds.search_many(
                [cut.path for cut in asking], k=K, where=f"path like '{name}/%'", tag_weight=weight
            )
            for cut, hits in zip(asking, answers, strict=True):
                found = [cuts[hit.path] for hit in hits]
                own.append(np.mean([one.is_short == cut.is_short for one in found]))
                right.append(np.mean([one.kind == cut.kind for one in found[: OF_EACH_KIND - 1]]))
                asked.append(cut.clip)
        yield f"| {padding} | {said(weight)} | {told(own, asked)} | {told(right, asked)} |"


# --- level ---------------------------------------------------------------------------------------


def own_and_others(clip: Clip, hits: soundalike.Answer, kinds: dict[Path, str]) -> tuple[Any, Any]:
    """Return whether the first hit is the original, and which of ten others are of its kind."""
    others = [kinds[hit.path] == clip.kind for hit in hits if hit.path != clip.path][:K]
    return hits[0].path == clip.path, np.array(others, np.float64)


def level_lines(folder: Path, work: Path) -> Iterator[str]:
    """Whether quieter copies find their original, and others of its kind."""
    clips = clips_of(folder)
    kinds = {clip.path: clip.kind for clip in clips}
    sounds = store_at(work / "recordings.soundalike", folder)
    yield "| what asks | score | asked as | own original first | first other | P@10 of others |"
    yield "|---|---|---|---|---|---|"
    asking = {}
    for quieter_db, form in product(QUIETER_DB, FORMS):
        files = []
        for clip in clips:
            samples, rate_hz = soundfile.read(clip.path)
            path = work / f"{quieter_db}-{form}" / clip.kind / f"{clip.path.stem}.wav"
            files.append(write(path, samples * 10 ** (-quieter_db / 20), rate_hz, form))
        asking[f"{-quieter_db} dB, {FORMS[form]}"] = files
    for (name, files), weight in product(asking.items(), WEIGHTS):
        ten = {}
        for level in (True, False):
            answers = sounds.search_many(
                files, k=K + 1, include_self=True, tag_weight=weight, level=level
            )
            each = [own_and_others(*one, kinds) for one in zip(clips, answers, strict=True)]
            first = told([others[0] for _, others in each])
            ten[level] = np.array([others.mean() for _, others in each])
            yield (
                f"| {name} | {said(weight)} | {'it is and louder' if level else 'it is'} "
                f"| {told([is_first for is_first, _ in each])} | {first} | {told(ten[level])} |"
            )
        yield f"| {name} | {said(weight)} | difference | | | {told(ten[True] - ten[False])} |"


# --- silence -------------------------------------------------------------------------------------


def write_silences(folder: Path) -> Path:
    """Write the silent files."""
    random, rate_hz = np.random.default_rng(0), 44_100
    for length_s, level_db in product(SILENT_S, SILENT_DBFS):
        samples = np.zeros(round(length_s * rate_hz))
        if level_db is not None:
            samples += 10 ** (level_db / 20) * random.standard_normal(len(samples))
        write(folder / f"{length_s} s, {level_db}.wav", samples, rate_hz, "FLOAT")
    return folder


def silence_lines(folder: Path, work: Path) -> Iterator[str]:
    """Whether clips with silence after them find what they find alone, with silent files there."""
    clips = clips_of(folder)
    kinds = {clip.path: clip.kind for clip in clips}
    silences = write_silences((work / "silent").absolute())
    store_at(work / "recordings.soundalike", folder)
    store_at(work / "silent.soundalike", silences)
    sounds = soundalike.open(work / "recordings.soundalike", work / "silent.soundalike")
    longer = []
    for clip in clips:
        samples, rate_hz = soundfile.read(clip.path)
        silent = np.zeros((SILENCE_S * rate_hz, *samples.shape[1:]))
        path = work / "with-silence" / clip.kind / f"{clip.path.stem}.wav"
        longer.append(write(path, np.concatenate([samples, silent]), rate_hz))
    found: list[list[Any]] = []
    silent_hits = []
    for files in ([clip.path for clip in clips], longer):
        answers = sounds.search_many(files, k=K + 1, include_self=True)
        others = [
            [kinds.get(hit.path) for hit in hits if hit.path != clip.path][:K]
            for clip, hits in zip(clips, answers, strict=True)
        ]
        found.append(others)
        silent_hits.append(sum(one is None for hits in others for one in hits))
    yield (
        f"| kind (hits that are silence: {silent_hits[0]}, {silent_hits[1]}) | alone: first other "
        f"| P@10 | with {SILENCE_S} s of silence: first other | P@10 |"
    )
    yield "|---|---|---|---|---|"
    every = sorted(set(kinds.values()))
    for name, some in [*((kind, {kind}) for kind in every), ("all", set(every))]:
        cells = [name]
        for hits in found:
            right = [
                [one == clip.kind for one in line]
                for clip, line in zip(clips, hits, strict=True)
                if clip.kind in some
            ]
            cells += [told([line[0] for line in right]), told(np.mean(right, axis=1))]
        yield f"| {' | '.join(cells)} |"
