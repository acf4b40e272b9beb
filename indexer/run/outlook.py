"""How far a run is, in seconds of audio, and about how much there is in all."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from indexer.audio.file import AUDIO_EXTENSIONS
from indexer.library.files import FileList
from indexer.reading.events import Done
from indexer.store.schema import Identity, frame_shape
from indexer.windows import SAMPLE_RATE_HZ

if TYPE_CHECKING:  # it imports PyTorch, which takes seconds
    from indexer.reading.batches import Batch

#: Bytes of a second of audio, where no file of an ending was opened yet. A compact disc's, and half
#: of that where nothing is lost; a video of 2 Mbit/s; of all others 128 kbit/s.
_RAW, _LOSSLESS, _VIDEO, _LOSSY = 176_400.0, 88_200.0, 250_000.0, 16_000.0
_BYTES_PER_S = (
    dict.fromkeys((".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".au", ".caf"), _RAW)
    | dict.fromkeys((".flac", ".ape", ".wv", ".tta"), _LOSSLESS)
    | dict.fromkeys((".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".ts", ".m4v"), _VIDEO)
)
#: A longer span is one to the end of its file, 10 years.
_FOREVER_S = 3e8
#: In the place of an ending, for spans: their length is known.
_SPAN = "span"
#: In the place of an ending that is not of audio.
_OTHER = "other"


#: Frame embeddings of a second, and bytes that are not worth a word: 58 hours of audio.
_FRAMES_PER_S, _LITTLE_BYTES = 3.1, 1e9


def told_of_frames(identity: Identity, items: FileList) -> str | None:
    """Say what the frame embeddings of files will take; None if there are none, or hardly any.

    Args:
        identity: How a store keeps them.
        items: Files that are to be embedded.
    """
    if identity.frames == "none":
        return None
    outlook = Outlook()
    outlook.begin(items)
    num_frames = round(_FRAMES_PER_S * identity.geometry.window_s)
    window_bytes = 2 * math.prod(frame_shape(identity.frames, num_frames))
    total_bytes = outlook.total_s / identity.geometry.hop_s * window_bytes
    if total_bytes < _LITTLE_BYTES:
        return None
    return (
        f"frame embeddings are kept: {window_bytes / 1e3:.0f} kB a window, about "
        f"{total_bytes / 1e9:,.0f} GB for about {outlook.total_s / 3600:,.0f} hours of audio; a "
        f"store that is made without them takes 4 kB a window"
    )


class Outlook:
    """What is known of the audio of a work list while it is read.

    A file that is open tells how long it is. The others are estimated by their size, at the seconds
    per byte of the files with their ending that were opened so far.

    Attributes:
        audio_s: Seconds of audio that were gone through.
        name: Of the file that was read last.
    """

    def __init__(self) -> None:
        self.audio_s = 0.0
        self.name = ""
        self._seconds: defaultdict[str, float] = defaultdict(
            float
        )  # of the files that were opened, by ending
        self._bytes: defaultdict[str, float] = defaultdict(float)  # likewise

    def begin(self, items: FileList) -> None:
        """Take a work list: what comes next names files by their positions in it."""
        self._items = items
        self._at_s: dict[int, float] = {}  # of files that are open: how far they were read
        self._length_s: dict[int, float] = {}  # likewise: how long they are
        # Of files to be opened: bytes by ending, or seconds.
        self._left: defaultdict[str, float] = defaultdict(float)
        for item in range(len(items)):
            kind, amount = self._amount(item)
            self._left[kind] += amount

    def note(self, batch: Batch) -> None:
        """Take what a batch says of its files."""
        told_s = dict(batch.begun)
        for item in (*told_s, *(one.item for one in (*batch.keys, *batch.events))):
            if item not in self._at_s:  # a reader that died begins once more
                self._open(item, told_s.get(item, 0.0))
        for key in batch.keys:
            span = self._items[key.item].span
            begin = span[0] if span else 0
            self._reach(key.item, (key.start_sample + key.num_samples - begin) / SAMPLE_RATE_HZ)
        for event in batch.events:
            if isinstance(event, Done) and event.num_samples:
                self._reach(event.item, event.num_samples / SAMPLE_RATE_HZ)
            del self._at_s[event.item], self._length_s[event.item]

    @property
    def total_s(self) -> float:
        """About how many seconds of audio there are, those gone through included."""
        open_s = sum(max(self._length_s[item] - at_s, 0.0) for item, at_s in self._at_s.items())
        left_s = sum(amount * self._seconds_per(kind) for kind, amount in self._left.items())
        return self.audio_s + open_s + left_s

    def _open(self, item: int, length_s: float) -> None:
        kind, amount = self._amount(item)
        self._left[kind] -= amount
        self._at_s[item] = 0.0
        self._length_s[item] = length_s or amount * self._seconds_per(kind)
        if length_s and kind != _SPAN:
            self._seconds[kind] += length_s
            self._bytes[kind] += amount

    def _reach(self, item: int, at_s: float) -> None:
        self.name = PurePosixPath(self._items[item].path).name
        self.audio_s += max(at_s - self._at_s[item], 0.0)
        self._at_s[item] = max(at_s, self._at_s[item])

    def _amount(self, item: int) -> tuple[str, float]:
        """Return the ending of a file and its bytes; of a span, how many seconds it has."""
        file = self._items[item]
        if file.span and file.span[1] < _FOREVER_S * SAMPLE_RATE_HZ:
            return _SPAN, file.span[1] / SAMPLE_RATE_HZ
        ending = f".{file.path.rpartition('.')[2].lower()}"
        return ending if ending in AUDIO_EXTENSIONS else _OTHER, file.size

    def _seconds_per(self, kind: str) -> float:
        """Return the seconds of audio in a byte of an ending."""
        if kind == _SPAN:
            return 1.0
        if self._bytes[kind]:
            return self._seconds[kind] / self._bytes[kind]
        return 1 / _BYTES_PER_S.get(kind, _LOSSY)
