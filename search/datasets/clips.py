"""Which YouTube clip a recording is, by its file's name: how AudioSet and AudioCaps are kept."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from indexer.arrays import ID_DTYPE, Integers
from indexer.store.reader import Store
from indexer.store.snapshot import Snapshot

#: A YouTube id has 11 characters, `_` and `-` among them, wherever they like. After it may stand
#: the start in whole seconds, or start and end in milliseconds; before it a Y (PANNs, WavCaps).
_NAME = re.compile(r"Y?(?P<id>[\w-]{11})(?:_(?P<start>\d+)(?:_(?P<end>\d+))?)?", re.ASCII)


class Clip(NamedTuple):
    """A span of a video.

    Attributes:
        youtube_id: 11 characters.
        start_ms: Where it begins, in milliseconds; None if the name does not say.
    """

    youtube_id: str
    start_ms: int | None


def clip_of(path: str) -> Clip | None:
    """Return the clip that a file's name speaks of.

    Args:
        path: `FOLDER/{id}.wav`, `Y{id}.wav`, `{id}_{start in s}.flac`, `Y{id}_{start in s}.wav` or
            `{id}_{start in ms}_{end in ms}.wav`, with any suffix.

    Returns:
        None for any other name.
    """
    found = _NAME.fullmatch(PurePosixPath(path).stem)
    if found is None:
        return None
    start, end = found["start"], found["end"]
    if start is None:
        return Clip(found["id"], None)
    return Clip(found["id"], int(start) if end else 1000 * int(start))


class RecordingRows:
    """Where the windows of each recording are in a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Sort them."""
        windows = snapshot.windows
        self._order = np.lexsort((windows.start_sample, windows.recording_id))
        self._sorted_ids = windows.recording_id[self._order]

    def of(self, recording: bytes) -> Integers:
        """Return the rows of a recording, in order of time; none if it is not there."""
        wanted = np.array(recording, ID_DTYPE)
        first, last = (
            np.searchsorted(self._sorted_ids, wanted, side) for side in ("left", "right")
        )
        return self._order[first:last]


class StoredClips:
    """The clips of a store, and the windows of each.

    Attributes:
        num_unnamed: Live files whose name is that of no clip.
    """

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        """Look at the names of all live files."""
        self.num_unnamed = 0
        self._recordings: dict[Clip, bytes] = {}
        for path, recording in store.live_files():
            clip = clip_of(path)
            if clip is None:
                self.num_unnamed += 1
            else:  # of several files for one clip, the first by name counts
                self._recordings.setdefault(clip, recording)
        self._of_video: dict[str, list[Clip]] = defaultdict(list)
        for clip in self._recordings:
            self._of_video[clip.youtube_id].append(clip)
        self._rows = RecordingRows(snapshot)

    def __len__(self) -> int:
        return len(self._recordings)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self._recordings)

    def find(self, youtube_id: str, start_s: float | None) -> Clip | None:
        """Return the clip as it is kept.

        A name without a start stands for whichever is meant; and if no start is asked for, the
        video's only clip is meant.
        """
        if start_s is None:
            of_video = self._of_video.get(youtube_id, [])
            return of_video[0] if len(of_video) == 1 else None
        for start_ms in (round(1000 * start_s), None):
            clip = Clip(youtube_id, start_ms)
            if clip in self._recordings:
                return clip
        return None

    def rows(self, clip: Clip) -> Integers:
        """Return the rows of a clip's windows in the snapshot, in order of time."""
        return self._rows.of(self._recordings[clip])
