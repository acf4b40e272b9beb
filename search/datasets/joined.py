"""Captions joined with what a store holds of their sounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32
from indexer.errors import SoundalikeError
from indexer.library.names import ByName
from indexer.store.reader import Head, Store
from indexer.store.snapshot import Snapshot
from search.datasets.captions import Captioned
from search.datasets.clips import RecordingRows, StoredClips
from search.generation.missing import whole_snapshot

#: Clips that are read from the store at once; full frames of so many are 90 MB.
_BLOCK = 128


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
        name: "train", "val" or "test": the name of its file.
        present: Clips that the store has, in the order of the table.
        rows: (len(present),) rows of the snapshot; the first window of a clip that has several.
        missing: Clips that it does not have.
        of_several_windows: Names of those present that are longer than a window.
    """

    name: str
    present: tuple[Captioned, ...]
    rows: npt.NDArray[np.int64]
    missing: tuple[Captioned, ...]
    of_several_windows: tuple[str, ...]

    @property
    def num_of_several_windows(self) -> int:
        """How many of those present are longer than a window."""
        return len(self.of_several_windows)


class Finder(Protocol):
    """Finds the rows of a sound's windows."""

    def __call__(self, captioned: Captioned) -> npt.NDArray[np.int64]:
        """Return rows of the snapshot, in order of time; none if it is not there."""
        ...


class Source:
    """A store to export from."""

    def __init__(self, store: Store) -> None:
        """Open its live windows."""
        self.store = store
        self._snapshot: Snapshot = whole_snapshot(store)
        self._head: Head = store.head()
        self.has_frames = store.identity.frames != "none"

    def by_clip(self) -> Finder:
        """Return what finds sounds by YouTube id and start."""
        clips = StoredClips(self.store, self._snapshot)

        def find(captioned: Captioned) -> npt.NDArray[np.int64]:
            clip = clips.find(captioned.youtube_id or "", captioned.start_s)
            return np.empty(0, np.int64) if clip is None else clips.rows(clip)

        return find

    def by_file_name(self) -> Finder:
        """Return what finds sounds by the names of their files, whatever folder they lie in."""
        rows = RecordingRows(self._snapshot)
        recordings = ByName(
            (PurePosixPath(path).name, recording) for path, recording in self.store.live_files()
        )

        def find(captioned: Captioned) -> npt.NDArray[np.int64]:
            named = set(recordings[captioned.file_id])
            if len(named) > 1:
                raise SoundalikeError(
                    f"several files with different content are called {captioned.file_id}; export "
                    f"each split from a store of its own"
                )
            return rows.of(next(iter(named))) if named else np.empty(0, np.int64)

        return find

    def num_others(self, splits: Sequence[Split]) -> int:
        """Return how many recordings of the store are in none of the splits."""
        recordings = self._snapshot.windows.recording_id
        used = recordings[np.concatenate([split.rows for split in splits])]
        return len(np.unique(recordings)) - len(np.unique(used))

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


def join(name: str, captions: Sequence[Captioned], find: Finder) -> Split:
    """Look for the sounds of a table."""
    present, rows, missing, several = [], [], [], []
    for captioned in captions:
        windows = find(captioned)
        if not len(windows):
            missing.append(captioned)
            continue
        present.append(captioned)
        rows.append(int(windows[0]))
        if len(windows) > 1:
            several.append(captioned.file_id)
    return Split(name, tuple(present), np.array(rows, np.int64), tuple(missing), tuple(several))


def pooled(frames: npt.NDArray[np.float16]) -> Float32:
    """Return (T, 768) for (T, 768) or (T, 7, 768): averaged over frequency."""
    wide = frames.astype(np.float32)
    return wide if wide.ndim == 2 else wide.mean(1)
