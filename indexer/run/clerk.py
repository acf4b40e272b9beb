"""What a run records: windows and what became of files, committed part by part."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from indexer.arrays import ID_DTYPE, id_bytes
from indexer.errors import SoundalikeError
from indexer.library.changes import Changes
from indexer.library.files import FileList, FoundFile
from indexer.paths import content_id
from indexer.reading.events import CRASH, Done, Failure, WindowKey
from indexer.reading.interrupts import undisturbed
from indexer.run.config import ExtractConfig
from indexer.run.copies import Copies
from indexer.run.report import ExtractReport, FailedFile
from indexer.store.publishing import Arrived
from indexer.store.schema import NO_FILE, LedgerRow
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter
from indexer.windows import SAMPLE_RATE_HZ, window_id

if TYPE_CHECKING:  # it imports PyTorch, which a run that finds nothing new does not need
    from indexer.embedding.extractor import Embeddings

#: Commit after this many words on files, even where nothing is embedded: some 50 MB of them.
_MAX_LEDGER_ROWS = 1 << 16


class Clerk:
    """Keeps the books of one run: windows, the ledger, the report, and who is a copy of whom.

    Attributes:
        num_done: Files of which it is known what became of them.
    """

    def __init__(
        self,
        config: ExtractConfig,
        changes: Changes,
        writer: PartWriter,
        report: ExtractReport,
        *,
        claims_apart: bool = False,
    ) -> None:
        """Begin the books of a run.

        Args:
            config: How the run behaves.
            changes: The library held against the store.
            writer: Where to.
            report: What is counted.
            claims_apart: Whether what is said of content that was known before is a part of its
                own, as whoever publishes it has to look at it again.
        """
        self._claims_apart = claims_apart
        self._config, self._changes, self._writer, self._report = config, changes, writer, report
        self._items = FileList()
        self._copies = Copies()
        self._again = FileList()  # copies of a file that failed: they may be readable
        self._known: list[LedgerRow] = []  # of content that was not decoded: described later
        self._found_at: dict[bytes, str] = {}  # recordings that moved → their new path
        self._heard_to: dict[int, int] = {}  # of files under way: where their last window ended
        self._last_commit = time.perf_counter()
        self.num_done = 0

    def begin(self, items: FileList) -> None:
        """Take a work list: what comes next names files by their positions in it."""
        self._items, self._again, self._heard_to = items, FileList(), {}
        self._copies.begin_again()

    def wants(self, key: WindowKey) -> bool:
        """Whether a window is to be embedded, and is no copy of another's."""
        return self._copies.takes(self._content(key.item, key.recording_id), key.item)

    def record(
        self,
        keys: Sequence[WindowKey],
        embeddings: Embeddings | None,
        events: Sequence[Done | Failure],
    ) -> None:
        """Record what became of a batch, all of it or nothing; commit if it is time to.

        Args:
            keys: Windows that were embedded.
            embeddings: Finite ones, of as many windows; None if there is no window.
            events: Files that ended; all their windows were recorded before, or are now.

        Raises:
            SoundalikeError: With `strict`, at the first file that failed.
            LibraryError: If the library is no longer there.
            StoreError: If the store cannot be written.
        """
        with undisturbed():  # half of it would be words without windows
            if embeddings is not None:
                self._add_windows(keys, embeddings)
            for event in events:
                self._heard_to.pop(event.item, None)
                if isinstance(event, Failure):
                    self._fail(event)
                else:
                    self._finish(event)
        if self._is_due():
            self.commit()

    def note_published(self, arrived: Arrived, num_files: int) -> None:
        """Take note of a shard of the library that another process embedded.

        Args:
            arrived: What came into the store with it.
            num_files: Files that it was to read.
        """
        self.num_done += num_files
        for recording_id, path in zip(arrived.recording_id, arrived.paths, strict=True):
            if self._changes.is_missing(id_bytes(recording_id)):
                self._found_at[id_bytes(recording_id)] = path

    def read_again(self) -> FileList:
        """Return the files that have to be read once more: copies of one that failed."""
        return self._again

    def record_unreadable(self, folders: Sequence[tuple[str, str]]) -> None:
        """Record the folders that could not be listed; the ledger hears of each only once."""
        rows = []
        for path, reason in folders:
            self._report.failures.append(FailedFile(path, "walk", reason))
            failure = Failure(-1, "walk", reason)
            rows.append(_failed_row(self._changes.row(FoundFile(path, NO_FILE, 0)), failure))
        self._writer.add_ledger(self._changes.new_failures(rows))

    def record_missing(self) -> None:
        """Record the paths that are no longer there: moved, if their content is elsewhere."""
        missing = self._changes.missing(self._found_at, allow_gone=self._config.allow_gone)
        for rows in missing:
            self._writer.add_ledger(rows)
            self._report.num_moved += sum(row.status == "moved" for row in rows)
            self._report.num_gone += sum(
                row.status == "gone" and row.size != NO_FILE for row in rows
            )
            if self._is_due():
                self.commit()

    def commit(self) -> None:
        """Publish what was added since the last time."""
        with undisturbed():
            if self._claims_apart:
                self._writer.commit()
            self._writer.add_ledger(self._changes.describe(self._known))
            self._known = []
            self._writer.commit(is_claim=self._claims_apart)
        self._last_commit = time.perf_counter()

    def _is_due(self) -> bool:
        return (
            time.perf_counter() - self._last_commit >= self._config.part_seconds
            or self._writer.num_windows >= self._config.part_windows
            or self._writer.num_ledger_rows + len(self._known) >= _MAX_LEDGER_ROWS
        )

    def _content(self, item: int, recording_id: bytes) -> bytes:
        return content_id(recording_id, self._items[item].span)

    def _add_windows(self, keys: Sequence[WindowKey], embeddings: Embeddings) -> None:
        scene, frames, tags, levels = embeddings
        windows = _window_table(keys)
        self._writer.add_windows(Block(windows, scene, tags.astype(np.float16), levels), frames)
        self._report.num_windows += len(keys)
        self._report.bytes_written += sum(
            array.nbytes for array in (scene, tags, frames) if array is not None
        )
        self._report.audio_s += sum(map(self._hear, keys)) / SAMPLE_RATE_HZ

    def _hear(self, key: WindowKey) -> int:
        """Return how much of a window lies in no earlier one of its file, in samples at 32 kHz."""
        end = key.start_sample + key.num_samples
        before, self._heard_to[key.item] = self._heard_to.get(key.item, 0), end
        return end - max(before, key.start_sample)

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
        self.num_done += 1
        row = replace(
            self._changes.row(file), recording_id=done.recording_id, file_digest=done.file_digest
        )
        if done.info is None:
            self._known.append(row)
        else:
            self._writer.add_ledger([_decoded_row(row, done)])
        for copy in copies:
            self._finish(copy)

    def _fail(self, failure: Failure) -> None:
        file = self._items[failure.item]
        rows = [_failed_row(self._changes.row(file), failure)]
        if failure.stage == "access":
            self._changes.require_library()
            # Not a word on the file itself, so that the next run tries again.
            size = self._changes.size_unread(file)
            rows = self._changes.new_failures([replace(row, size=size, mtime_ns=0) for row in rows])
        self.num_done += 1
        self._report.failures.append(FailedFile(file.path, failure.stage, failure.reason))
        self._writer.add_ledger(rows)
        if self._config.strict:
            raise SoundalikeError(
                f"stopped at {file.path} ({failure.stage}): {failure.reason}; mend it, leave it "
                f"out, or do not be strict",
                about="strict",
            )
        # The same bytes end in the same way, but for another path or another moment.
        is_of_content = failure.stage not in ("access", CRASH)
        for copy in self._copies.fail(failure, is_of_content=is_of_content):
            if is_of_content:
                self._fail(failure._replace(item=copy.item))
            else:
                self._again.append(self._items[copy.item])


def _decoded_row(row: LedgerRow, done: Done) -> LedgerRow:
    """Return the row of a file with what its decoder said."""
    assert done.info is not None  # it was decoded
    return replace(
        row,
        num_samples=done.num_samples,
        sample_rate=done.info.sample_rate,
        channels=done.info.channels,
        codec=done.info.codec,
        first_sample=done.info.first_sample or None,
        warnings="; ".join(done.warnings) or None,
        audio_id=done.audio_id,
    )


def _failed_row(row: LedgerRow, failure: Failure) -> LedgerRow:
    return replace(
        row,
        status="failed",
        stage=failure.stage,
        reason=failure.reason,
        recording_id=failure.recording_id,
    )


def _window_table(keys: Sequence[WindowKey]) -> WindowTable:
    return WindowTable(
        np.array([window_id(*key[1:]) for key in keys], np.int64),
        np.array([key.recording_id for key in keys], ID_DTYPE),
        np.array([key.start_sample for key in keys], np.int64),
        np.array([key.num_samples for key in keys], np.int32),
    )
