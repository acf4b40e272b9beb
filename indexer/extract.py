"""The run: walk a library, embed what is new or changed, commit it part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from indexer.changes import Changes
from indexer.copies import Copies
from indexer.dataset import CRASH, Batch, Done, Failure, WindowKey, Work
from indexer.errors import SoundalikeError
from indexer.extractor import Embeddings, Extractor, package_versions
from indexer.files import FileList, FoundFile
from indexer.interrupts import undisturbed
from indexer.library import Walk, listed, look_again, walk
from indexer.paths import content_id
from indexer.progress import ExtractReport, FailedFile, Progress
from indexer.readers import READ_TIMEOUT_S, default_num_workers, load_windows
from indexer.store.ledger import ID_DTYPE
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.schema import LedgerRow, Origin
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter, remove_leftovers
from indexer.windows import SAMPLE_RATE_HZ, window_id

#: Windows in a batch: large ones make a CPU slower (page faults on big temporaries).
_CPU_BATCH = 4
_GPU_BATCH = 64
#: Commit after this many words on files, even where nothing is embedded: some 50 MB of them.
_MAX_LEDGER_ROWS = 1 << 16
_NOT_FINITE = "an embedding is not finite: the samples are too large, or the checkpoint is broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig:
    """How a run behaves; what shapes the numbers is in the store's identity instead.

    Attributes:
        include: Patterns of relative paths; if given, only these.
        exclude: Patterns of relative paths to leave out.
        files_from: A list of files (or a .csv of path, start, end) instead of a walk.
        num_workers: Processes that decode; None chooses by device.
        batch_size: Windows per forward pass; None chooses by device.
        strict: Stop at the first file that fails.
        retry_failed: Try files again that failed before and have not changed.
        allow_gone: Accept that more than half of a library has disappeared.
        max_hours: A file that decodes to more than this is a failure.
        timeout_s: A file on which reading makes no progress for this long is a failure.
        part_windows: Commit after this many windows …
        part_seconds: … or this many seconds, whichever comes first.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    files_from: Path | None = None
    num_workers: int | None = None
    batch_size: int | None = None
    strict: bool = False
    retry_failed: bool = False
    allow_gone: bool = False
    max_hours: float = 24.0
    timeout_s: float = READ_TIMEOUT_S
    part_windows: int = 4096
    part_seconds: float = 300.0


def find_files(
    library: Path, config: ExtractConfig, progress: Callable[[int], None] | None = None
) -> Walk:
    """Return the files of a library that a run would look at.

    Args:
        library: Folder of audio.
        config: What is asked for.
        progress: Called now and then with the number of files seen so far.

    Raises:
        LibraryError: If the library is missing or empty, or a list of files cannot be followed.
    """
    if config.files_from:
        return listed(library, config.files_from)
    return walk(library, config.include, config.exclude, progress)


def extract(
    library: Path | Walk,
    store: Store,
    extractor: Extractor,
    config: ExtractConfig | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> ExtractReport:
    """Embed what is new or changed in a library.

    A file that cannot be read becomes a row of the ledger, and the run goes on. What was computed
    is committed as it goes; interrupted, the run commits what it has and can be started again. Only
    one run writes to a store at a time: another waits for it.

    Args:
        library: Folder of audio, or what `find_files` found in it.
        store: Where to; its identity must be the extractor's.
        extractor: Model and device.
        config: How to go about it.
        progress: Called after every batch.
        tell: Called with a sentence for people: what was found, and what is waited for.

    Returns:
        What was done; failures are in it.

    Raises:
        LibraryError: If the library is missing or empty, disappears, or lost more than half.
        IdentityError: If the store was made with another checkpoint or other settings.
        StoreError: If the store cannot be written: a full disk, for one.
        SoundalikeError: With `strict`, at the first file that fails.
    """
    config = config or ExtractConfig()
    started = time.perf_counter()
    store.identity.require(
        extractor.identity(store.identity.geometry),
        f"the store {store.path} was made in another way",
        "Use the checkpoint and options of the store, or another --store",
    )
    found = library if isinstance(library, Walk) else find_files(library, config)
    with sole_writer(store.path, tell) as has_waited:
        if has_waited:
            found = look_again(found, config.include, config.exclude)
        report = _extract(found, store, extractor, config, progress, tell)
    report.seconds["total"] = time.perf_counter() - started
    return report


def _extract(
    found: Walk,
    store: Store,
    extractor: Extractor,
    config: ExtractConfig,
    progress: Callable[[Progress], None] | None,
    tell: Callable[[str], None] | None,
) -> ExtractReport:
    remove_leftovers(store)
    parts = store.parts()
    ledger = store.ledger(parts)
    changes = Changes(store, ledger, found, retry_failed=config.retry_failed)
    if tell:
        tell(changes.summary())
    report = ExtractReport(
        num_unchanged=changes.num_unchanged,
        num_failed_before=changes.num_failed_before,
        num_skipped=found.num_skipped,
        num_excluded=found.num_excluded,
        device=extractor.device_name,
        precision=extractor.precision,
    )
    origin = Origin(extractor.device_name, extractor.precision, package_versions(), _now())
    with PartWriter(store, origin) as writer:
        run = _Run(extractor, config, changes, writer, report, progress)
        try:
            run.record_unreadable(found.unreadable)
            run.embed(
                Work(
                    root=found.root,
                    items=changes.to_read,
                    geometry=store.identity.geometry,
                    batch_size=config.batch_size or _default_batch_size(extractor),
                    known=ledger.known,
                    partial=store.partial_windows(parts, ledger.known),
                    max_duration_s=config.max_hours * 3600,
                )
            )
            run.record_missing()
        finally:  # an error, an interrupt or a strict stop keeps what was computed
            run.commit()
    return report


class _Run:
    """Reads, embeds and commits the files of one run."""

    def __init__(
        self,
        extractor: Extractor,
        config: ExtractConfig,
        changes: Changes,
        writer: PartWriter,
        report: ExtractReport,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._extractor, self._config, self._changes = extractor, config, changes
        self._writer, self._report, self._progress = writer, report, progress
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
        while work.items:
            self._items = work.items
            for batch in self._batches(work):
                self._take(batch)
                self._show(num_files)
            work = replace(work, items=self._again)
            self._again, self._spoiled = FileList(), set()
            self._copies.begin_again()

    def _show(self, num_files: int) -> None:
        if self._progress:
            failed = len(self._report.failures)
            self._progress(Progress(self._num_done, num_files, self._report.audio_s, failed))

    def _batches(self, work: Work) -> Iterator[Batch]:
        device_type = self._extractor.device.type
        num_workers = self._config.num_workers
        if num_workers is None:
            num_workers = min(default_num_workers(device_type), len(work.items))
        clock = time.perf_counter()
        pin_memory = device_type == "cuda"
        timeout_s = self._config.timeout_s
        for batch in load_windows(
            work, num_workers=num_workers, pin_memory=pin_memory, timeout_s=timeout_s
        ):
            self._report.seconds["read"] += time.perf_counter() - clock
            self._report.seconds["decode"] += batch.read_s
            yield batch
            clock = time.perf_counter()

    def _take(self, batch: Batch) -> None:
        """Embed and write what a batch brings."""
        clock = time.perf_counter()
        rows = [
            row
            for row, key in enumerate(batch.keys)
            if self._copies.takes(self._content(key.item, key.recording_id), key.item)
        ]
        embeddings = self._extractor(batch.waveforms[rows]) if rows else None
        embedded = time.perf_counter()
        with undisturbed():  # half of it would be words without windows
            if embeddings:
                self._write_windows([batch.keys[row] for row in rows], embeddings)
            for event in batch.events:
                self._handle(event)
        if self._is_due():
            self.commit()
        self._report.seconds["model"] += embedded - clock
        self._report.seconds["write"] += time.perf_counter() - embedded

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


def _window_table(keys: Sequence[WindowKey]) -> WindowTable:
    return WindowTable(
        np.array([window_id(*key[1:]) for key in keys], np.int64),
        np.array([key.recording_id for key in keys], ID_DTYPE),
        np.array([key.start_sample for key in keys], np.int64),
        np.array([key.num_samples for key in keys], np.int32),
    )


def _default_batch_size(extractor: Extractor) -> int:
    return _GPU_BATCH if extractor.device.type == "cuda" else _CPU_BATCH


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
