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
#: the start, or start and end; before it a Y (PANNs, WavCaps).
_ID = r"Y?(?P<id>[\w-]{11})"
_TIME = r"\d{1,9}(?:\.\d{1,9})?"
_NAME = re.compile(rf"{_ID}(?:_(?P<start>{_TIME})(?:[_-](?P<end>{_TIME}))?)?", re.ASCII)
#: A clip lasts some 10 s. What is shorter than this, as it is written, is in seconds, and what is
#: longer in milliseconds: halfway between 10 and 10,000, as times are apart by factors.
_SECONDS_BELOW = 316


class Clip(NamedTuple):
    """A span of a video.

    Attributes:
        youtube_id: 11 characters.
        start_ms: Where it begins, in milliseconds; None if the name does not say.
    """

    youtube_id: str
    start_ms: int | None


def youtube_id_of(text: str) -> str:
    """Return a YouTube id as tables have it, without the Y that some put before it."""
    found = re.fullmatch(_ID, text, re.ASCII)
    return found["id"] if found else text


def clip_of(path: str) -> Clip | None:
    """Return the clip that a file's name speaks of.

    Args:
        path: `FOLDER/{id}.wav`, or with a start, `{id}_{start}.wav`, or with an end as well,
            `{id}_{start}_{end}.wav` or `{id}_{start}-{end}.wav`; any of them with a Y before it,
            and with any suffix. A start alone is in seconds; of two times, those of a clip that
            would last minutes are in milliseconds, unless they have a decimal point.

    Returns:
        None for any other name.
    """
    found = _NAME.fullmatch(PurePosixPath(path).stem)
    if found is None:
        return None
    start, end = found["start"], found["end"]
    if start is None:
        return Clip(found["id"], None)
    if end is not None and float(end) <= float(start):
        return None
    is_in_seconds = end is None or "." in start + end or float(end) - float(start) < _SECONDS_BELOW
    return Clip(found["id"], round(float(start) * (1000 if is_in_seconds else 1)))


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

    def recording(self, clip: Clip) -> bytes:
        """Return the id of a clip's recording."""
        return self._recordings[clip]

    def rows(self, clip: Clip) -> Integers:
        """Return the rows of a clip's windows in the snapshot, in order of time."""
        return self._rows.of(self._recordings[clip])
