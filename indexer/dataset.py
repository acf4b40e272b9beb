"""From a list of files to a DataLoader of windows; a file that cannot be read becomes a Failure."""

from __future__ import annotations

import hashlib
import os
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from indexer.audio import AudioInfo, open_audio
from indexer.audio.decode import open_regular
from indexer.errors import AudioError, SoundalikeError
from indexer.library import FoundFile
from indexer.paths import content_id
from indexer.store.ledger import Ids, contains
from indexer.windows import Cut, Geometry, window_id

_HASH_BLOCK_BYTES = 1 << 20


class Done(NamedTuple):
    """A file was read to its end, or its content is known already.

    Attributes:
        item: Position in the work list.
        recording_id: Digest of its bytes.
        num_samples: Length as decoded at 32 kHz; None if it was not decoded.
        info: What the decoder says of it; None if it was not decoded.
        warnings: What a listener should know.
    """

    item: int
    recording_id: bytes
    num_samples: int | None = None
    info: AudioInfo | None = None
    warnings: tuple[str, ...] = ()


class Failure(NamedTuple):
    """A file could not be embedded.

    Attributes:
        item: Position in the work list.
        stage: "open", "decode", "samples" or "embed".
        reason: In words, without the path.
        recording_id: Digest of its bytes, if they could be read.
    """

    item: int
    stage: str
    reason: str
    recording_id: bytes | None = None


class WindowKey(NamedTuple):
    """Which window a row of a batch is.

    Attributes:
        item: Position in the work list.
        recording_id: Digest of the file's bytes.
        start_sample: At 32 kHz.
        num_samples: Real audio, at 32 kHz.
    """

    item: int
    recording_id: bytes
    start_sample: int
    num_samples: int


class Batch(NamedTuple):
    """Windows of one length, and what happened to files up to here.

    Attributes:
        waveforms: (B, num_samples) float32; B is 0 in a batch that only carries events.
        keys: B of them.
        events: Files that ended; a file's windows are in this batch or an earlier one.
        read_s: Seconds that its worker spent on reading, hashing and decoding.
    """

    waveforms: Tensor
    keys: list[WindowKey]
    events: list[Done | Failure]
    read_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers need to know.

    Attributes:
        root: Of the library.
        items: Files to read.
        geometry: How they are cut.
        batch_size: Windows in a batch, at most.
        known: Sorted content ids that need no embedding.
        partial: Recording → ids of its windows that a run cut short left in the store.
        max_duration_s: A file that decodes to more than this is a failure.
    """

    root: Path
    items: Sequence[FoundFile]
    geometry: Geometry
    batch_size: int
    known: Ids
    partial: Mapping[bytes, frozenset[int]]
    max_duration_s: float


class WindowDataset(IterableDataset[Batch]):
    """Windows of a list of files, in batches.

    The workers take files from one shared counter, so that a long file keeps only one of them busy.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._next = torch.multiprocessing.get_context().Value("q", 0)

    def __iter__(self) -> Iterator[Batch]:
        batcher = _Batcher(self._work.batch_size)
        while (item := self._take()) is not None:
            yield from self._read(item, batcher)
        yield from batcher.rest()

    def _take(self) -> int | None:
        with self._next.get_lock():
            item: int = self._next.value
            self._next.value += 1
        return item if item < len(self._work.items) else None

    def _read(self, item: int, batcher: _Batcher) -> Iterator[Batch]:
        """Read one file; whatever is wrong with it ends here."""
        file = self._work.items[item]
        path = file.local(self._work.root)
        recording_id = None
        try:
            recording_id = recording_digest(path)
            if self._is_known(recording_id, file):
                batcher.events.append(Done(item, recording_id))
                return
            yield from self._decode(item, path, recording_id, batcher)
        except AudioError as error:
            batcher.events.append(Failure(item, error.stage, error.reason, recording_id))
        except Exception as error:  # noqa: BLE001 - an unforeseen error costs its file, never the run
            reason = f"{type(error).__name__}: {error}"
            batcher.events.append(Failure(item, "decode", reason, recording_id))

    def _is_known(self, recording_id: bytes, file: FoundFile) -> bool:
        wanted = np.array([content_id(recording_id, file.span)], self._work.known.dtype)
        return bool(contains(self._work.known, wanted)[0])

    def _decode(
        self, item: int, path: Path, recording_id: bytes, batcher: _Batcher
    ) -> Iterator[Batch]:
        file = self._work.items[item]
        start, length = file.span or (0, None)
        stored = self._work.partial.get(recording_id, frozenset())
        audio = open_audio(
            path, start_sample=start, num_samples=length, max_duration_s=self._work.max_duration_s
        )
        is_empty = True
        with audio:
            for cut in self._work.geometry.cut(audio.blocks()):
                is_empty = False
                key = WindowKey(item, recording_id, start + cut.start_sample, cut.num_samples)
                if window_id(*key[1:]) not in stored:
                    yield from batcher.add(key, cut)
            _require_unchanged(path, file)
            if is_empty:  # a whole file without a sample is refused by the decoder already
                raise AudioError("samples", "the span that is asked for begins after the end")
            done = Done(item, recording_id, audio.num_samples, audio.info, audio.warnings)
        batcher.events.append(done)


class _Batcher:
    """Collects windows of one length; a full batch waits for what comes next.

    It waits so that the news of a file's end travels with its last window, not after it.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._keys: list[WindowKey] = []
        self._waveforms: list[Tensor] = []
        self._since = time.perf_counter()
        self.events: list[Done | Failure] = []

    def add(self, key: WindowKey, cut: Cut) -> Iterator[Batch]:
        """Take one window, first giving the batch that it no longer fits into."""
        other_length = self._waveforms and len(self._waveforms[0]) != len(cut.waveform)
        if len(self._keys) >= self._batch_size or other_length:
            yield from self.rest()
        self._keys.append(key)
        self._waveforms.append(torch.from_numpy(cut.waveform))

    def rest(self) -> Iterator[Batch]:
        """Give what is held, if anything is."""
        if self._keys or self.events:
            waveforms = torch.stack(self._waveforms) if self._waveforms else torch.empty(0, 0)
            yield Batch(waveforms, self._keys, self.events, time.perf_counter() - self._since)
        self._keys, self._waveforms, self.events = [], [], []
        self._since = time.perf_counter()  # after the yield: the time away was not ours


def recording_digest(path: Path) -> bytes:
    """Return the 16-byte BLAKE2b of a file's bytes.

    Raises:
        AudioError: If it is not a regular file that can be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()


def _require_unchanged(path: Path, file: FoundFile) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise AudioError("decode", "the file vanished while it was read") from error
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise AudioError("decode", "the file changed while it was read; run again")


def load_windows(work: Work, *, num_workers: int, pin_memory: bool) -> Iterator[Batch]:
    """Start a DataLoader on a work list, and return its batches, in no particular order.

    A reading process that was killed or crashed ends the iteration with a SoundalikeError.

    Args:
        work: What to read, and how.
        num_workers: Processes that read; 0 reads in this one.
        pin_memory: Put waveforms into page-locked memory, for a GPU.
    """
    on_child = signal.getsignal(signal.SIGCHLD)
    with warnings.catch_warnings():
        # More readers than cores may be right, on a slow network disk for one.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader: DataLoader[Batch] = DataLoader(
            WindowDataset(work),
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            pin_memory=pin_memory,
            in_order=False,
        )
        batches = iter(loader)
    if on_child is not None and signal.getsignal(signal.SIGCHLD) is not on_child:
        # PyTorch's handler raises wherever this process happens to be, in the middle of a commit
        # for one. Without it, a reader that died is noticed while waiting for the next batch.
        signal.signal(signal.SIGCHLD, on_child)
    return _watched(batches)


def _watched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Pass batches on; a reading process that died is one line.

    Raises:
        SoundalikeError: If one was killed or crashed.
    """
    try:
        while (batch := next(batches, None)) is not None:
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        raise SoundalikeError(
            f"a process that reads audio ended ({error}); what was embedded is kept: run again, "
            f"with --workers 1 if memory is short"
        ) from error
    finally:
        del batches  # ends the readers, also while a traceback holds on to this frame


def _as_it_is(batch: Any) -> Any:
    """Stand in for PyTorch's own conversion, which would turn tuples into lists."""
    return batch


def default_num_workers(device_type: str) -> int:
    """Return how many reading processes suit a device: on a CPU the network needs the cores."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return cores if device_type == "cuda" else max(1, cores // 4)
