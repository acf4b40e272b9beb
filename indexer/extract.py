"""The run: walk a library, embed what is new or changed, commit it part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from indexer.changes import Changes
from indexer.dataset import (
    Batch,
    Done,
    Failure,
    WindowKey,
    Work,
    default_num_workers,
    load_windows,
)
from indexer.errors import SoundalikeError
from indexer.extractor import Embeddings, Extractor, package_versions
from indexer.library import FoundFile, Walk, listed, walk
from indexer.paths import content_id
from indexer.progress import ExtractReport, FailedFile, Progress
from indexer.store.ledger import ID_DTYPE
from indexer.store.reader import Store
from indexer.store.schema import LedgerRow, Origin
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter, remove_leftovers
from indexer.windows import SAMPLE_RATE_HZ, window_id

#: Windows in a batch: large ones make a CPU slower (page faults on big temporaries).
_CPU_BATCH = 4
_GPU_BATCH = 64
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
) -> ExtractReport:
    """Embed what is new or changed in a library.

    A file that cannot be read becomes a row of the ledger, and the run goes on. What was computed
    is committed as it goes; interrupted, the run commits what it has and can be started again.

    Args:
        library: Folder of audio, or what `find_files` found in it.
        store: Where to; its identity must be the extractor's.
        extractor: Model and device.
        config: How to go about it.
        progress: Called after every batch.

    Returns:
        What was done; failures are in it.

    Raises:
        LibraryError: If the library is missing or empty, or more than half of it disappeared.
        IdentityError: If the store was made with another checkpoint or other settings.
        SoundalikeError: With `strict`, at the first file that fails; or if a reading process died.
    """
    config = config or ExtractConfig()
    started = time.perf_counter()
    store.identity.require(
        extractor.identity(store.identity.geometry),
        f"the store {store.path} was made in another way",
        "Use the checkpoint and options of the store, or another --store",
    )
    found = library if isinstance(library, Walk) else find_files(library, config)
    remove_leftovers(store)
    parts = store.parts()
    ledger = store.ledger(parts)
    changes = Changes(store, ledger, found, retry_failed=config.retry_failed)
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
            report.seconds["total"] = time.perf_counter() - started
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
        self._items: Sequence[FoundFile] = ()
        self._owner: dict[bytes, int] = {}  # content → the file that is embedded for all copies
        self._finished: set[bytes] = set()
        self._waiting: dict[bytes, list[Done]] = {}  # copies that ended before their owner did
        self._spoiled: set[int] = set()  # files with an embedding that is not finite
        self._found_at: dict[bytes, str] = {}  # recordings known from before → their new path
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
            # A copy whose owner failed (it alone was unreadable, say) gets a turn of its own.
            copies = [
                self._items[done.item] for waiting in self._waiting.values() for done in waiting
            ]
            work = replace(work, items=copies)
            self._owner, self._waiting, self._spoiled = {}, {}, set()

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
        for batch in load_windows(work, num_workers=num_workers, pin_memory=pin_memory):
            self._report.seconds["read"] += time.perf_counter() - clock
            self._report.seconds["decode"] += batch.read_s
            yield batch
            clock = time.perf_counter()

    def _take(self, batch: Batch) -> None:
        """Embed and write what a batch brings."""
        clock = time.perf_counter()
        rows = [row for row, key in enumerate(batch.keys) if self._is_ours(key)]
        embeddings = self._extractor(batch.waveforms[rows]) if rows else None
        embedded = time.perf_counter()
        if embeddings:
            self._write_windows([batch.keys[row] for row in rows], embeddings)
        for event in batch.events:
            self._handle(event)
        is_late = embedded - self._last_commit >= self._config.part_seconds
        if is_late or self._writer.num_windows >= self._config.part_windows:
            self.commit()
        self._report.seconds["model"] += embedded - clock
        self._report.seconds["write"] += time.perf_counter() - embedded

    def _content(self, item: int, recording_id: bytes) -> bytes:
        return content_id(recording_id, self._items[item].span)

    def _is_ours(self, key: WindowKey) -> bool:
        """Whether a window is to be embedded: not if a copy of its file is, or was."""
        content = self._content(key.item, key.recording_id)
        if content in self._finished:
            return False
        return self._owner.setdefault(content, key.item) == key.item

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
        if done.info is None or content in self._finished:
            self._report.num_known += 1
            self._found_at[done.recording_id] = file.path
        elif self._owner.get(content, done.item) == done.item:
            self._finished.add(content)
            self._report.num_embedded += 1
            copies = self._waiting.pop(content, [])
        else:
            self._waiting.setdefault(content, []).append(done)
            return
        self._report.num_warnings += bool(done.warnings)
        self._num_done += 1
        row = self._changes.row(file)
        info = done.info
        self._writer.add_ledger(
            [
                replace(
                    row,
                    recording_id=done.recording_id,
                    num_samples=done.num_samples,
                    sample_rate=info.sample_rate if info else None,
                    channels=info.channels if info else None,
                    codec=info.codec if info else None,
                    warnings="; ".join(done.warnings) or None,
                )
            ]
        )
        for copy in copies:
            self._finish(copy)

    def _fail(self, failure: Failure) -> None:
        file = self._items[failure.item]
        self._num_done += 1
        self._report.failures.append(FailedFile(file.path, failure.stage, failure.reason))
        self._writer.add_ledger([_failed(self._changes.row(file), failure)])
        if self._config.strict:
            raise SoundalikeError(
                f"stopped at {file.path} ({failure.stage}): {failure.reason}; "
                f"without --strict this is recorded and the run goes on"
            )

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
