"""The processes that read: a DataLoader that outlives whatever a file does to its readers.

A reader that dies, hangs or meets an error that nobody foresaw costs its file and nothing else. The
file is tried once more, alone; then it is a `Failure`. The loader is started anew for the others,
and goes on after the last window that it gave of each.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from indexer.errors import SoundalikeError, SoundalikeWarning
from indexer.reading.batches import Batch
from indexer.reading.dataset import Watch, WindowDataset, Work, reader_context
from indexer.reading.events import CRASH, Failure
from indexer.reading.interrupts import blocked
from indexer.windows import SAMPLE_RATE_HZ

#: How often the readers are looked after.
_LOOK_S = 1.0
#: Readers that were told to end have ended by then.
_END_S = 20.0
#: If nobody looked for this long, this process was stopped, and the readers with it, it may be.
_ASLEEP_S = 10.0
#: Loaders in a row that may die without a file to blame, and without giving anything.
_MAX_BARREN = 3
#: Locks that a loader makes, with each of its readers and beside: those of multiprocessing's Queue,
#: Event and Value.
_LOCKS_EACH, _LOCKS_BESIDE = 3, 9


def num_startable(num_workers: int) -> int:
    """Return how many processes can be started to read: as many, or none where nothing is shared.

    Locks between processes lie in /dev/shm, which may be read-only or full. A warning says so.
    """
    context = reader_context()
    try:
        if num_workers:
            context.RawArray("q", num_workers)
            number = _LOCKS_EACH * num_workers + _LOCKS_BESIDE
            _ = [context.Lock() for _ in range(number)]  # all at once
    except OSError as error:
        warnings.warn(
            SoundalikeWarning(
                f"/dev/shm cannot be used ({error.strerror}), so this process reads the audio "
                f"itself: a decoder that crashes would end it",
                about="shared_memory",
            ),
            stacklevel=2,
        )
        return 0
    return num_workers


def load_windows(work: Work, *, num_workers: int, timeout_s: float) -> Iterator[Batch]:
    """Read a work list, and return its windows in batches, in no particular order.

    Every file ends in one event, and its windows come before that.

    Args:
        work: What to read, and how.
        num_workers: Processes that read; 0 reads in this one, unprotected.
        timeout_s: A reader that makes no progress for so long is stopped, in seconds.

    Raises:
        SoundalikeError: If readers die again and again, whatever they read.
    """
    return _Reading(work, num_workers, timeout_s).batches()


#: Files that gave cause for suspicion: position in the work list → what happened.
_Suspects = dict[int, Failure]


class _Reading:
    """One work list on its way through as many loaders as it takes."""

    def __init__(self, work: Work, num_workers: int, timeout_s: float) -> None:
        self._work, self._num_workers, self._timeout_s = work, num_workers, timeout_s
        self._has_ended = np.zeros(len(work.items), bool)
        self._given: dict[int, int] = {}  # of files that have not ended: start of the last window
        self._is_barren = True

    def batches(self) -> Iterator[Batch]:
        num_barren = 0
        while len(todo := np.flatnonzero(~self._has_ended)):
            self._is_barren = True
            suspects = yield from self._read(todo.tolist(), self._num_workers)
            for item in suspects:
                yield from self._read_alone(item)
            has_got_on = not self._is_barren or self._has_ended[todo].any()
            num_barren = 0 if has_got_on else num_barren + 1
            if num_barren == _MAX_BARREN:
                raise SoundalikeError(
                    "the processes that read audio die before they read anything; what was "
                    "embedded is kept: run again with one such process if memory is short, or "
                    "with none to see why",
                    about="num_workers",
                )

    def _read_alone(self, item: int) -> Iterator[Batch]:
        suspects = yield from self._read([item], min(1, self._num_workers))
        if item in suspects:
            self._has_ended[item] = True
            self._given.pop(item, None)
            failure = suspects[item]
            again = failure._replace(reason=f"{failure.reason}; tried twice")
            yield Batch(torch.empty(0, 0), SAMPLE_RATE_HZ, [], [again], 0.0)

    def _read(self, todo: Sequence[int], num_workers: int) -> Generator[Batch, None, _Suspects]:
        """Read files until all have ended or a reader has died; return those to be tried alone."""
        dataset = WindowDataset(self._work, todo, self._given, num_workers)
        suspects: _Suspects = {}
        readers = _Readers(dataset, num_workers, self._timeout_s)
        try:
            for batch in readers.batches():
                suspects |= _suspects_in(batch)
                yield self._note(batch, suspects)
        finally:
            readers.stop()
        return suspects | readers.blamed

    def _note(self, batch: Batch, suspects: _Suspects) -> Batch:
        """Remember how far each file is, and hold back what is to be tried once more."""
        self._is_barren = False
        for key in batch.keys:
            self._given[key.item] = key.start_sample
        events = [event for event in batch.events if event.item not in suspects]
        for event in events:
            self._has_ended[event.item] = True
            self._given.pop(event.item, None)
        return batch._replace(events=events)


def _suspects_in(batch: Batch) -> _Suspects:
    return {
        event.item: event
        for event in batch.events
        if isinstance(event, Failure) and event.stage == CRASH
    }


class _Readers:
    """The processes of one DataLoader.

    Attributes:
        blamed: What the readers that died were reading.
    """

    def __init__(self, dataset: WindowDataset, num_workers: int, timeout_s: float) -> None:
        self._watch: Watch = dataset.watch
        self._timeout_s = timeout_s
        self._looked_at = self._awake_since = time.monotonic()
        self.blamed: _Suspects = {}
        others = set(multiprocessing.active_children())
        on_child = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        with warnings.catch_warnings():
            # More readers than cores may be right, on a slow network disk for one.
            warnings.filterwarnings("ignore", "This DataLoader will create")
            loader: DataLoader[Batch] = DataLoader(
                dataset,
                batch_size=None,
                num_workers=num_workers,
                multiprocessing_context=reader_context() if num_workers else None,
                collate_fn=_as_it_is,
                in_order=False,
                timeout=_LOOK_S if num_workers else 0,
            )
            with blocked():  # in a reader until it can ignore them: it would print a trace
                self._loader = iter(loader)
        if on_child is not None and signal.getsignal(signal.SIGCHLD) is not on_child:
            # PyTorch's handler raises wherever this process happens to be, in the middle of a
            # commit for one. Without it, a reader that died is noticed when it is looked after.
            signal.signal(signal.SIGCHLD, on_child)
        self._processes = set(multiprocessing.active_children()) - others

    def batches(self) -> Iterator[Batch]:
        """Give batches until there are no more, or until a reader has died.

        Raises:
            SoundalikeError: If reading fails though all readers live.
        """
        while not self._has_lost_one():
            try:
                batch = next(self._loader, None)
            except Exception as error:  # noqa: BLE001 - a dying reader's last words may be anything
                if "timed out" in str(error) or self._loses_one():
                    continue
                # Without its trace, which would keep the loader and its processes alive.
                raise SoundalikeError(
                    f"reading audio failed ({error}); what was embedded is kept: run again, "
                    f"with one process that reads if memory or open files are short",
                    about="num_workers",
                ) from error.with_traceback(None)
            if batch is None:
                return
            yield _received(batch)

    def _has_lost_one(self) -> bool:
        """Look after the readers: stop those that hang, and blame the files of those that died."""
        now = time.monotonic()
        if now - self._looked_at > _ASLEEP_S:
            self._awake_since = now
        self._looked_at = now
        has_lost_one = False
        for process in self._processes:
            reader = self._reader(process)
            beat = self._watch.beats[reader] if reader is not None else 0.0
            is_stalled = beat and now - max(beat, self._awake_since) > self._timeout_s
            if is_stalled and process.exitcode is None:
                process.kill()
                process.join(_LOOK_S)  # not for ever: a disk that does not answer outlasts a signal
                self._blame(reader, f"no progress for {self._timeout_s:g} s")
                has_lost_one = True
            elif process.exitcode or (process.exitcode == 0 and self._item(reader) >= 0):
                self._blame(reader, _death(process.exitcode))
                has_lost_one = True
        return has_lost_one

    def _loses_one(self) -> bool:
        """Whether a reader has died, or is about to: its connections break before it has ended."""
        ready = connection.wait([process.sentinel for process in self._processes], _LOOK_S)
        for process in self._processes:
            if process.sentinel in ready:  # its files are closed a moment before it has ended
                process.join(_LOOK_S)
        return self._has_lost_one()

    def _reader(self, process: BaseProcess) -> int | None:
        pids = list(self._watch.pids)
        return pids.index(process.pid) if process.pid in pids else None

    def _item(self, reader: int | None) -> int:
        return -1 if reader is None else int(self._watch.items[reader])

    def _blame(self, reader: int | None, reason: str) -> None:
        item = self._item(reader)
        if item >= 0:
            self.blamed.setdefault(item, Failure(item, CRASH, reason))

    def stop(self) -> None:
        """End the readers; what they hold is read again."""
        # The loader tells them, waits for them, and frees what it shares with them, when nobody
        # holds it any more. For that it takes a lock that a reader may have died with.
        held = [self._loader]
        del self._loader
        ending = threading.Thread(target=held.clear, daemon=True)
        ending.start()
        ending.join(_END_S)
        if ending.is_alive():
            for process in self._processes:
                process.kill()
                process.join(_LOOK_S)


def _received(batch: Batch) -> Batch:
    """Return a batch as it was before a pipe took it, if one did."""
    if not isinstance(batch.waveforms, np.ndarray):
        return batch
    warnings.warn(
        SoundalikeWarning(
            "/dev/shm is full, so audio comes from the processes that read through pipes: nothing "
            "is lost, it takes a little longer",
            about="shared_memory",
        ),
        stacklevel=2,
    )
    return batch._replace(waveforms=torch.from_numpy(batch.waveforms))


def _death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"the process that read it ended with code {exit_code}"
    names = {one.value: one.name for one in signal.Signals}
    name = names.get(-exit_code, f"signal {-exit_code}")
    hint = ", as it is when memory runs out" if name == "SIGKILL" else ""
    return f"the process that read it was ended by {name}{hint}"


def _as_it_is(batch: Any) -> Any:
    """Stand in for PyTorch's own conversion, which would turn tuples into lists."""
    return batch
