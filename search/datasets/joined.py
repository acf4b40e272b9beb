"""Captions joined with what a store holds of their sounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Ids, Integers, id_bytes
from indexer.errors import SoundalikeError
from indexer.store.head import Head
from indexer.store.reader import Store
from indexer.store.snapshot import Snapshot
from search.datasets.captions import Captioned
from search.datasets.clips import RecordingRows
from search.datasets.finding import PATHS_ARE, Dataset, Finder, finder
from search.datasets.matches import matched
from search.generation.frames import pooled
from search.generation.missing import whole_snapshot

#: Clips that are read from the store at once; full frames of so many are 90 MB.
_BLOCK = 128
#: Share of a table from which on it is told what was looked for, and how many names are told.
_MUCH, TOLD = 0.1, 3
_NO_ROWS: Integers = np.empty(0, np.int64)


class Sound(NamedTuple):
    """One clip as it is exported.

    Attributes:
        captioned: Names and captions.
        scene: (768,) float32.
        tags: (527,) float32 probabilities.
        frames: (T, 768) float32, averaged over frequency; None if the store keeps none.
    """

    captioned: Captioned
    scene: Float32
    tags: Float32
    frames: Float32 | None


@dataclass(frozen=True, slots=True)
class Split:
    """One table of captions, and the windows of its sounds.

    Attributes:
        dataset: Whose table it is.
        name: "train", "val" or "test": the name of its file.
        present: Clips that the store has, in the order of the table.
        rows: (len(present),) rows of the snapshot; the first window of a clip that has several.
        missing: Clips that it does not have.
        of_several_windows: Names of those present that are longer than a window.
        num_empty: Empty captions of the table, which are left out.
        num_without_words: Clips that have no others; they are neither present nor missing.
    """

    dataset: Dataset
    name: str
    present: tuple[Captioned, ...]
    rows: npt.NDArray[np.int64]
    missing: tuple[Captioned, ...]
    of_several_windows: tuple[str, ...]
    num_empty: int = 0
    num_without_words: int = 0

    @property
    def num_of_several_windows(self) -> int:
        """How many of those present are longer than a window."""
        return len(self.of_several_windows)

    @property
    def names(self) -> list[str]:
        """What those present are called."""
        return [one.file_id for one in self.present]

    @property
    def num_captions(self) -> int:
        """Of the clips that are present."""
        return sum(len(one.captions) for one in self.present)

    @property
    def num_wanted(self) -> int:
        """Clips of the table that have captions."""
        return len(self.present) + len(self.missing)

    @property
    def misses_much(self) -> bool:
        """Whether more is missing than a few videos that are no longer there."""
        return len(self.missing) > _MUCH * self.num_wanted


class Source:
    """A store to export from."""

    def __init__(self, store: Store) -> None:
        """Open its live windows."""
        self.store = store
        self._snapshot: Snapshot = whole_snapshot(store)
        self._head: Head = store.head()
        self.has_frames = store.identity.frames != "none"

    def join(
        self,
        dataset: Dataset,
        tables: Mapping[str, Sequence[Captioned]],
        matches: Mapping[str, str],
    ) -> list[Split]:
        """Look for the sounds of some tables.

        Args:
            dataset: Whose tables they are.
            tables: Name of a split → its sounds.
            matches: What sounds are called → their paths, where somebody has said so.

        Raises:
            SoundalikeError: If it cannot be told which of several files a sound is.
        """
        find = finder(self.store, self._snapshot, dataset, matches)
        rows = RecordingRows(self._snapshot)
        return [_split(dataset, name, sounds, find, rows) for name, sounds in tables.items()]

    def scenes(self, split: Split) -> Float32:
        """Return (n, 768) float32: the scene embeddings of the sounds of a split, in order."""
        return self._snapshot.scene(split.rows)

    def recordings(self, split: Split) -> Ids:
        """Return (n,) the ids of the recordings of the sounds of a split, in order."""
        return self._snapshot.windows.recording_id[split.rows]

    def scenes_of(self, recordings: Ids) -> Float32:
        """Return (m, 768) float32: the first windows of some recordings, of those that it has."""
        rows = RecordingRows(self._snapshot)
        found = [rows.of(one)[:1] for one in recordings.tolist()]
        return self._snapshot.scene(np.concatenate([_NO_ROWS, *found]))

    def others(self, splits: Sequence[Split]) -> tuple[int, list[str]]:
        """Return how many recordings of the store are in none of the splits, and their paths."""
        recordings = self._snapshot.windows.recording_id
        used = recordings[np.concatenate([split.rows for split in splits])]
        others = set(map(id_bytes, np.setdiff1d(recordings, used)))
        return len(others), [path for path, one in self.store.live_files() if one in others]

    def sounds(self, split: Split) -> Iterator[Sound]:
        """Read the sounds of a split, in order and in bounded memory."""
        for first in range(0, len(split.rows), _BLOCK):
            rows = split.rows[first : first + _BLOCK]
            scenes = self._snapshot.scene(rows)
            # Computed again: the stored ones are float16.
            tags = self._head.tags(scenes)
            frames: Sequence[Float32 | None] = [None] * len(rows)
            if self.has_frames:
                frames = [pooled(one) for one in self._snapshot.frames(rows)]
            some = split.present[first : first + _BLOCK]
            yield from map(Sound, some, scenes, tags, frames)


class Shared(NamedTuple):
    """Sounds that are in two tables.

    Attributes:
        tables: Names of the two.
        number: Of the sounds: those of one name, and those that are the same recording.
        example: Name of one, in the first.
    """

    tables: tuple[str, str]
    number: int
    example: str


def shared(tables: Sequence[tuple[str, Sequence[str], Ids]]) -> tuple[Shared, ...]:
    """Return which tables have sounds in common: a model would be measured on what it knows.

    Args:
        tables: Of each its name, and n ids and recordings of its sounds.
    """
    found = []
    for (first, ids, recordings), (second, names, others) in combinations(tables, 2):
        is_shared = np.isin(recordings, others) | np.isin(ids, names)
        if is_shared.any():
            example = ids[int(is_shared.argmax())]
            found.append(Shared((first, second), int(is_shared.sum()), example))
    return tuple(found)


def require_sounds(source: Source, splits: Sequence[Split], matches: Mapping[str, str]) -> None:
    """Make sure that a sound of some table is there.

    Raises:
        SoundalikeError: If none is; says what was looked for, and what there is.
    """
    if any(split.present for split in splits):
        return
    empty = [
        f"all {split.num_empty:,} captions of {split.name} are empty"
        if split.num_empty > 1
        else f"the only caption of {split.name} is empty"
        for split in splits
        if not split.num_wanted
    ]
    if names := ", ".join(looked_for(splits, matches, TOLD)):
        there = ", ".join(source.others(splits)[1][:TOLD]) or "nothing"
        are_paths = any(split.missing and split.dataset == "paths" for split in splits)
        how = f", each {PATHS_ARE}" if are_paths else ""
        told = f"{source.store.path} has none of the sounds; looked for {names}{how}"
        empty = [told, f"there is {there}", *empty]
    raise SoundalikeError("; ".join(empty))


def looked_for(splits: Iterable[Split], matches: Mapping[str, str], most: int) -> tuple[str, ...]:
    """Return names of some sounds that are missing, as they were looked for."""
    missing = (one for split in splits for one in split.missing)
    return tuple(matched(one, matches) or one.file_id for one in islice(missing, most))


def _split(
    dataset: Dataset,
    name: str,
    sounds: Sequence[Captioned],
    find: Finder,
    rows_of: RecordingRows,
) -> Split:
    present, rows, missing, several = [], [], [], []
    described = [one for one in sounds if one.captions]
    for captioned in described:
        recording = find(captioned, name)
        windows = _NO_ROWS if recording is None else rows_of.of(recording)
        if not len(windows):  # or it was embedded since the snapshot was taken
            missing.append(captioned)
            continue
        present.append(captioned)
        rows.append(int(windows[0]))
        if len(windows) > 1:
            several.append(captioned.file_id)
    return Split(
        dataset,
        name,
        tuple(present),
        np.array(rows, np.int64),
        tuple(missing),
        tuple(several),
        num_empty=sum(one.num_empty for one in sounds),
        num_without_words=len(sounds) - len(described),
    )
