"""From a list of files to batches of windows; a file that cannot be read becomes a Failure."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import ProcessError
from multiprocessing.context import BaseContext
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from indexer.arrays import Ids, Integers, contains
from indexer.audio.content import fetch_ahead, recording_digest
from indexer.audio.deferred import is_deferrable, source_windows
from indexer.audio.stream import AudioStream, audio_digest, open_audio
from indexer.errors import AudioError
from indexer.library.changes import Former
from indexer.library.files import FileList, FoundFile
from indexer.paths import content_id
from indexer.reading.batches import Batch, Batchers
from indexer.reading.begun import Begun
from indexer.reading.events import CRASH, Done, Failure, WindowKey
from indexer.reading.interrupts import obey_parent_alone
from indexer.store.ledger import Aliases
from indexer.windows import SAMPLE_RATE_HZ, Cut, Geometry, window_id

#: From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
#: Parameters of `mallopt`, and the largest value that the second takes, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_MMAP_THRESHOLD_BYTES = 32 * 2**20
#: Files that a reader has fetched while it reads one: 10 MB decode in some 200 ms, and come in 50
#: ms and what the line takes. More would be kept from other readers at the end of a list. Of small
#: ones it has more, since 50 ms are longer than they take: so many, or all together so many bytes.
_AHEAD, _MOST_AHEAD, _MOST_AHEAD_BYTES = 3, 16, 16 << 20
#: Freed memory that a reader keeps: more than it uses for a chunk of samples, in bytes.
_KEPT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers need to know.

    Attributes:
        root: Of the library.
        items: Files to read.
        geometry: How they are cut.
        batch_size: Windows in a batch, at most.
        known: Sorted content ids that need no embedding.
        partial: Recording → sorted ids of its windows that a run cut short left in the store.
        max_duration_s: A file that decodes to more than this is a failure.
        channel: Which channel to read, counted from 1; None for the mean of all.
        aliases: Files that are recordings with other tags.
        former: What changed files were before.
        defers: Give windows at the rate of their file, where that is possible.
    """

    root: Path
    items: FileList
    geometry: Geometry
    batch_size: int
    known: Ids
    partial: Mapping[bytes, Integers]
    max_duration_s: float
    channel: int | None = None
    aliases: Aliases = field(default_factory=Aliases)
    former: Former = field(default_factory=Former)
    defers: bool = False


def reader_context() -> BaseContext:
    """Return how readers are started: forked on Linux, which Python does by itself up to 3.13.

    A fork has the work list and the code already. Otherwise each reader would load PyTorch anew,
    and a user's script would have to guard its own lines against being run once more.
    """
    context: BaseContext = torch.multiprocessing.get_context(
        "fork" if sys.platform == "linux" else None
    )
    return context


class Watch:
    """What every reader is at, and since when: shared memory between the readers and their owner.

    A reader that dies cannot say which file killed it, and one that hangs cannot say anything. With
    no reader but the process itself, nothing is shared.

    Attributes:
        pids: Process of each reader; 0 before it has started.
        items: What it reads: a position in the work list, or -1.
        beats: `time.monotonic()` of its last sign of life, in seconds; 0 while it waits for others.
    """

    def __init__(self, num_readers: int) -> None:
        self.pids: MutableSequence[int] = [0]
        self.items: MutableSequence[int] = [-1]
        self.beats: MutableSequence[float] = [0.0]
        if num_readers:
            context = reader_context()
            self.pids = context.RawArray("q", num_readers)
            self.items = context.RawArray("q", [-1] * num_readers)
            self.beats = context.RawArray("d", num_readers)

    def begin(self, reader: int, item: int) -> None:
        """Note that a reader takes a file; -1 for none."""
        self.items[reader] = item
        self.beat(reader)

    def beat(self, reader: int) -> None:
        """Note that a reader makes progress."""
        self.beats[reader] = time.monotonic()

    def rest(self, reader: int) -> None:
        """Note that a reader waits, which is no hang."""
        self.beats[reader] = 0.0


class _Alone:
    """A number that nobody shares, in the place of one that readers share."""

    value = 0

    def get_lock(self) -> contextlib.AbstractContextManager[None]:
        """Return what stands for its lock."""
        return contextlib.nullcontext()


class WindowDataset(IterableDataset[Batch]):
    """Windows of a list of files, in batches.

    The workers take files from one shared counter, so that a long file keeps only one of them busy.
    """

    def __init__(
        self, work: Work, todo: Sequence[int], given: Mapping[int, int], num_readers: int
    ) -> None:
        """Prepare to read some files of a work list.

        Args:
            work: The list, and how to read.
            todo: Positions in it.
            given: Position → start of the last window that was given of it before, in samples.
            num_readers: Processes that will read; 0 if this one will.
        """
        self._work, self._todo, self._given = work, todo, given
        self._next = reader_context().Value("q", 0) if num_readers else _Alone()
        self.watch = Watch(num_readers)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        reader = info.id if info else 0
        if info:
            _obey_parent()
            keep_freed_memory()
        self.watch.pids[reader] = os.getpid()
        since = time.perf_counter()
        for batch in self._batches(reader):
            self.watch.rest(reader)
            yield batch._replace(read_s=time.perf_counter() - since)
            self.watch.beat(reader)
            since = time.perf_counter()
        self.watch.rest(reader)

    def _batches(self, reader: int) -> Iterator[Batch]:
        batchers = Batchers(self._work.batch_size)
        for item in self._taken(reader):
            self.watch.begin(reader, item)
            yield from self._read(item, batchers, lambda: self.watch.beat(reader))
            self.watch.begin(reader, -1)
            yield from batchers.news()
        yield from batchers.rest()

    def _taken(self, reader: int) -> Iterator[int]:
        """Yield what this reader reads; of what has to be fetched it takes some in advance."""
        taken: deque[int] = deque()
        while True:
            self.watch.rest(reader)  # to say what is fetched, archives may have to be listed
            while self._takes_more(taken) and (item := self._take()) is not None:
                taken.append(item)
                if not fetch_ahead(self._work.items[item].local(self._work.root)):
                    break
            if not taken:
                return
            yield taken.popleft()

    def _takes_more(self, taken: Sequence[int]) -> bool:
        if _AHEAD < len(taken) <= _MOST_AHEAD:
            return sum(self._work.items[item].size for item in taken) < _MOST_AHEAD_BYTES
        return len(taken) <= _AHEAD

    def _take(self) -> int | None:
        with self._next.get_lock():
            place: int = self._next.value
            self._next.value += 1
        return self._todo[place] if place < len(self._todo) else None

    def _read(self, item: int, batchers: Batchers, beat: Callable[[], None]) -> Iterator[Batch]:
        """Read one file; whatever is wrong with it ends here."""
        file = self._work.items[item]
        begun = Begun.of(file.local(self._work.root), file)
        recording_id = None
        try:
            recording_id = recording_digest(begun.path, beat)
            if done := self._known(item, recording_id, begun, beat):
                batchers.tell(done)
                return
            yield from self._decode(item, recording_id, begun, batchers, beat)
        except AudioError as error:
            cause = error if error.stage == "access" else begun.disturbance() or error
            batchers.tell(Failure(item, cause.stage, cause.reason, recording_id))
        except Exception as error:  # noqa: BLE001 - an unforeseen error costs its file, never the run
            reason = f"{type(error).__name__}: {error}"
            batchers.tell(Failure(item, CRASH, reason, recording_id))

    def _known(
        self, item: int, digest: bytes, begun: Begun, beat: Callable[[], None]
    ) -> Done | None:
        """Return a file as done if the store has its bytes, or its samples under other bytes."""
        file = begun.file
        if self._is_known(digest, file):
            return Done(item, digest)
        if file.span is not None:
            return None
        recording_id = self._work.aliases.recording_of(digest)
        if recording_id == digest and (former := self._work.former.of(file)):
            # Tags may be all that has changed. To find out is to decode once more than to embed.
            audio_id, recording_id = former
            if audio_digest(begun.path, self._work.max_duration_s, beat) != audio_id:
                return None
            begun.require_unchanged()
        if not self._is_known(recording_id, file):
            return None
        return Done(item, recording_id, file_digest=digest)

    def _is_known(self, recording_id: bytes, file: FoundFile) -> bool:
        wanted = np.array([content_id(recording_id, file.span)], self._work.known.dtype)
        return bool(contains(self._work.known, wanted)[0])

    def _decode(
        self,
        item: int,
        recording_id: bytes,
        begun: Begun,
        batchers: Batchers,
        beat: Callable[[], None],
    ) -> Iterator[Batch]:
        file = begun.file
        audio = self._open(begun.path, file, recording_id, beat)
        is_empty = True
        with audio:
            if file.span is None:
                audio.identify()
            rate_hz, cuts = self._cuts(audio, is_whole=file.span is None, beat=beat)
            batchers.begin(item, audio.length_s, rate_hz)
            for cut in cuts:
                is_empty = False
                begun.require_unchanged()  # or its windows would be of other bytes than hashed
                key = WindowKey(
                    item, recording_id, audio.start_sample + cut.start_sample, cut.num_samples
                )
                if not self._is_given(key):
                    yield from batchers.add(key, cut)
            begun.require_unchanged()
            if is_empty:  # a whole file without a sample is refused by the decoder already
                raise AudioError(
                    "samples", f"there is no audio in the span that is asked for: {audio.absence()}"
                )
            done = Done(
                item,
                recording_id,
                audio.num_samples,
                replace(audio.info, first_sample=audio.first_sample),
                audio.warnings,
                audio.peak,
                audio.audio_id,
            )
        batchers.tell(done)

    def _open(
        self, path: Path, file: FoundFile, recording_id: bytes, beat: Callable[[], None]
    ) -> AudioStream:
        start, length = file.span or (0, None)
        opened = partial(
            open_audio,
            path,
            start_sample=start,
            num_samples=length,
            max_duration_s=self._work.max_duration_s,
            channel=self._work.channel,
            beat=beat,
        )
        audio = opened()
        first = WindowKey(-1, recording_id, 0, self._work.geometry.window_samples)
        if not audio.first_sample or not self._is_stored(first):
            return audio
        # A run of version 0.1.0 began it, on a time line that begins with the sound: it goes on so.
        audio.close()
        return opened(first_sample=0)

    def _cuts(
        self, audio: AudioStream, *, is_whole: bool, beat: Callable[[], None]
    ) -> tuple[int, Iterator[Cut]]:
        """Return the windows of a file, and their rate in Hz."""
        geometry, rate_hz = self._work.geometry, audio.info.sample_rate
        # Those that are deferred are counted in whole seconds from the first sample.
        is_timely = is_whole and not audio.first_sample
        if self._work.defers and is_timely and is_deferrable(rate_hz, geometry):
            return rate_hz, source_windows(audio, geometry, beat)
        return SAMPLE_RATE_HZ, audio.windows(geometry, beat)

    def _is_given(self, key: WindowKey) -> bool:
        """Whether a window is in the store already, or on its way there."""
        if key.start_sample <= self._given.get(key.item, -1):
            return True
        return self._is_stored(key)

    def _is_stored(self, key: WindowKey) -> bool:
        stored = self._work.partial.get(key.recording_id)
        wanted = np.array([window_id(*key[1:])], np.int64)
        return stored is not None and bool(contains(stored, wanted)[0])


def _obey_parent() -> None:
    """Let this process end when the one that started it ends, or says so, be it in a decoder."""
    obey_parent_alone()
    sys.excepthook = _tell_unless_left
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def keep_freed_memory() -> None:
    """Let this process use freed memory again rather than give it back, where the C library can.

    Every chunk of samples is a few new arrays. Fresh pages for them would cost a tenth of decoding.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _tell_unless_left(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error that nobody caught, unless it is that the parent has hung up.

    A thread of multiprocessing hands over what is shared, and would print a trace whenever the
    parent is told to stop while it takes a batch.
    """
    if not issubclass(kind, (OSError, EOFError, ProcessError)):
        sys.__excepthook__(kind, error, trace)
