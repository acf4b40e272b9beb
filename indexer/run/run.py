"""One run on its way: windows are read, embedded side by side, and committed part by part."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from indexer.arrays import ID_DTYPE
from indexer.audio.deferred import SourceWindows
from indexer.embedding.cores import default_num_workers
from indexer.embedding.extractor import Embeddings, Extractor, Timed
from indexer.embedding.lanes import Lanes
from indexer.errors import SoundalikeError
from indexer.library.changes import Changes
from indexer.library.files import FileList, FoundFile
from indexer.paths import content_id
from indexer.progress import Listen, Step
from indexer.reading.batches import CRASH, Batch, Done, Failure, WindowKey
from indexer.reading.dataset import Work
from indexer.reading.readers import load_windows
from indexer.run.config import ExtractConfig
from indexer.run.copies import Copies
from indexer.run.interrupts import undisturbed
from indexer.run.report import ExtractReport, FailedFile
from indexer.store.schema import LedgerRow
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter
from indexer.windows import SAMPLE_RATE_HZ, window_id

#: Commit after this many words on files, even where nothing is embedded: some 50 MB of them.
_MAX_LEDGER_ROWS = 1 << 16
_NOT_FINITE = "an embedding is not finite: the samples are too large, or the checkpoint is broken"


class _Ahead(NamedTuple):
    """What was read and submitted, and has not been written yet."""

    events: list[Done | Failure]
    keys: list[WindowKey]
    timed: Future[Timed] | None

    @property
    def is_ready(self) -> bool:
        """Whether it can be written without waiting."""
        return self.timed is None or self.timed.done()


class Run:
    """Reads, embeds and commits the files of one run."""

    def __init__(
        self,
        extractor: Extractor,
        config: ExtractConfig,
        changes: Changes,
        writer: PartWriter,
        report: ExtractReport,
        listen: Listen,
    ) -> None:
        self._extractor, self._config, self._changes = extractor, config, changes
        self._writer, self._report, self._listen = writer, report, listen
        self._items = FileList()
        self._copies = Copies()
        self._again = FileList()  # copies of a file that failed: they may be readable
        self._known: list[LedgerRow] = []  # of content that was not decoded: described later
        self._spoiled: set[int] = set()  # files with an embedding that is not finite
        self._found_at: dict[bytes, str] = {}  # recordings that moved → their new path
        self._num_done = 0
        self._last_commit = time.perf_counter()

    def embed(self, work: Work) -> None:
        """Read, embed and commit all files of a work list."""
        num_files = len(work.items)
        started = time.perf_counter()
        while work.items:
            self._items = work.items
            self._embed_side_by_side(work, num_files)
            work = replace(work, items=self._again)
            self._again, self._spoiled = FileList(), set()
            self._copies.begin_again()
        self._report.seconds["embed"] += time.perf_counter() - started

    def _embed_side_by_side(self, work: Work, num_files: int) -> None:
        """Keep every lane busy; take what they give in the order in which it was read."""
        ahead: deque[_Ahead] = deque()
        with Lanes(self._extractor) as lanes:
            self._report.num_lanes, self._report.num_devices = lanes.count, lanes.num_devices
            for batch in self._batches(work):
                ahead.append(self._submitted(batch, lanes, work.geometry.window_samples))
                while ahead and (len(ahead) >= lanes.depth or ahead[0].is_ready):
                    self._take(ahead.popleft())
                    self._show(num_files)
            while ahead:
                self._take(ahead.popleft())
                self._show(num_files)
            self._report.batch_size = work.batch_size
            self._report.most_windows = min(work.batch_size, lanes.most_windows)

    def _submitted(self, batch: Batch, lanes: Lanes, window_samples: int) -> _Ahead:
        """Hand to the lanes what of a batch is to be embedded, and no copy of something else."""
        rows = [
            row
            for row, key in enumerate(batch.keys)
            if self._copies.takes(self._content(key.item, key.recording_id), key.item)
        ]
        keys = [batch.keys[row] for row in rows]
        if not rows:
            return _Ahead(batch.events, keys, None)
        waveforms = batch.waveforms if len(rows) == len(batch.keys) else batch.waveforms[rows]
        windows = _windows(waveforms, batch.rate_hz, keys, window_samples)
        return _Ahead(batch.events, keys, lanes.submit(windows))

    def _show(self, num_files: int) -> None:
        report = self._report
        self._listen(
            Step(
                "embedding",
                self._num_done,
                num_files,
                "file",
                audio_s=report.audio_s,
                num_failed=len(report.failures),
            )
        )

    def _batches(self, work: Work) -> Iterator[Batch]:
        device_type = self._extractor.device.type
        num_workers = self._config.num_workers
        if num_workers is None:
            num_workers = min(default_num_workers(device_type), len(work.items))
        self._report.num_workers = num_workers
        pin_memory = device_type == "cuda"
        timeout_s = self._config.timeout_s
        for batch in load_windows(
            work, num_workers=num_workers, pin_memory=pin_memory, timeout_s=timeout_s
        ):
            self._report.seconds["decode"] += batch.read_s
            yield batch

    def _take(self, ahead: _Ahead) -> None:
        """Write what became of a batch, once it is embedded."""
        seconds = self._report.seconds
        timed = ahead.timed.result() if ahead.timed else None
        clock = time.perf_counter()
        with undisturbed():  # half of it would be words without windows
            if timed:
                seconds["to_device"] += timed.to_device_s
                seconds["network"] += timed.network_s
                seconds["to_host"] += timed.to_host_s
                self._write_windows(ahead.keys, timed.embeddings)
            for event in ahead.events:
                self._handle(event)
        if self._is_due():
            self.commit()
        seconds["write"] += time.perf_counter() - clock

    def _is_due(self) -> bool:
        return (
            time.perf_counter() - self._last_commit >= self._config.part_seconds
            or self._writer.num_windows >= self._config.part_windows
            or self._writer.num_ledger_rows + len(self._known) >= _MAX_LEDGER_ROWS
        )

    def _content(self, item: int, recording_id: bytes) -> bytes:
        return content_id(recording_id, self._items[item].span)

    def _write_windows(self, keys: list[WindowKey], embeddings: Embeddings) -> None:
        scene, frames, tags = embeddings
        finite = np.isfinite(scene).all(1) & np.isfinite(tags).all(1)
        if frames is not None:
            finite &= np.isfinite(frames.reshape(len(frames), -1)).all(1)
        self._spoiled.update(keys[row].item for row in np.flatnonzero(~finite))
        kept = [keys[row] for row in np.flatnonzero(finite)]
        if kept:
            windows = _window_table(kept)
            block = Block(windows, scene[finite], tags[finite].astype(np.float16))
            self._writer.add_windows(block, None if frames is None else frames[finite])
            self._report.num_windows += len(kept)
            self._report.bytes_written += sum(
                array.nbytes for array in (scene, tags, frames) if array is not None
            )
            self._report.audio_s += float(windows.num_samples.sum()) / SAMPLE_RATE_HZ

    def _handle(self, event: Done | Failure) -> None:
        if isinstance(event, Done) and event.item in self._spoiled:
            event = Failure(event.item, "embed", _NOT_FINITE, event.recording_id)
        if isinstance(event, Failure):
            self._fail(event)
        else:
            self._finish(event)

    def _finish(self, done: Done) -> None:
        """Record a file that was read to its end, unless it waits for the copy that is embedded."""
        content = self._content(done.item, done.recording_id)
        file = self._items[done.item]
        copies: list[Done] = []
        if done.info is None or self._copies.is_finished(content):
            self._report.num_known += 1
            if self._changes.is_missing(done.recording_id):
                self._found_at[done.recording_id] = file.path
        elif failure := self._copies.failure(content):
            self._fail(failure._replace(item=done.item))
            return
        elif self._copies.owns(content, done.item):
            self._report.num_embedded += 1
            copies = self._copies.finish(done.item)
        else:
            if not self._copies.waits(content, done):  # its owner failed, its windows are dropped
                self._again.append(file)
            return
        self._report.num_warnings += bool(done.warnings)
        self._num_done += 1
        row = replace(self._changes.row(file), recording_id=done.recording_id)
        if done.info is None:
            self._known.append(row)
        else:
            row = replace(
                row,
                num_samples=done.num_samples,
                sample_rate=done.info.sample_rate,
                channels=done.info.channels,
                codec=done.info.codec,
                warnings="; ".join(done.warnings) or None,
            )
            self._writer.add_ledger([row])
        for copy in copies:
            self._finish(copy)

    def _fail(self, failure: Failure) -> None:
        file = self._items[failure.item]
        rows = [_failed(self._changes.row(file), failure)]
        if failure.stage == "access":
            self._changes.require_library()
            # Not a word on the file itself: as it was found in no state, the next run tries again.
            rows = self._changes.new_failures([replace(row, size=0, mtime_ns=0) for row in rows])
        self._num_done += 1
        self._report.failures.append(FailedFile(file.path, failure.stage, failure.reason))
        self._writer.add_ledger(rows)
        if self._config.strict:
            raise SoundalikeError(
                f"stopped at {file.path} ({failure.stage}): {failure.reason}; "
                f"without --strict this is recorded and the run goes on"
            )
        # The same bytes end in the same way, but for another path or another moment.
        is_of_content = failure.stage not in ("access", CRASH)
        for copy in self._copies.fail(failure, is_of_content=is_of_content):
            if is_of_content:
                self._fail(failure._replace(item=copy.item))
            else:
                self._again.append(self._items[copy.item])

    def record_unreadable(self, folders: Sequence[tuple[str, str]]) -> None:
        """Record the folders that could not be listed; the ledger hears of each only once."""
        rows = []
        for path, reason in folders:
            self._report.failures.append(FailedFile(path, "walk", reason))
            failure = Failure(-1, "walk", reason)
            rows.append(_failed(self._changes.row(FoundFile(path, 0, 0)), failure))
        self._writer.add_ledger(self._changes.new_failures(rows))

    def record_missing(self) -> None:
        """Record the paths that are no longer there: moved, if their content is elsewhere."""
        rows = self._changes.missing(self._found_at, allow_gone=self._config.allow_gone)
        self._writer.add_ledger(rows)
        self._report.num_moved = sum(row.status == "moved" for row in rows)
        self._report.num_gone = len(rows) - self._report.num_moved

    def commit(self) -> None:
        """Publish what was added since the last time."""
        with undisturbed():
            self._writer.add_ledger(self._changes.described(self._known))
            self._known = []
            self._writer.commit()
        self._last_commit = time.perf_counter()


def _failed(row: LedgerRow, failure: Failure) -> LedgerRow:
    return replace(
        row,
        status="failed",
        stage=failure.stage,
        reason=failure.reason,
        recording_id=failure.recording_id,
    )


def _windows(
    waveforms: Tensor, rate_hz: int, keys: Sequence[WindowKey], window_samples: int
) -> Tensor | SourceWindows:
    """Return a batch's windows as an extractor takes them."""
    if rate_hz == SAMPLE_RATE_HZ:
        return waveforms
    places = [(key.start_sample % SAMPLE_RATE_HZ, key.num_samples) for key in keys]
    offsets, lengths = torch.tensor(places).unbind(1)
    return SourceWindows(waveforms, rate_hz, offsets, lengths, window_samples)


def _window_table(keys: Sequence[WindowKey]) -> WindowTable:
    return WindowTable(
        np.array([window_id(*key[1:]) for key in keys], np.int64),
        np.array([key.recording_id for key in keys], ID_DTYPE),
        np.array([key.start_sample for key in keys], np.int64),
        np.array([key.num_samples for key in keys], np.int32),
    )
