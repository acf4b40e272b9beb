"""The run: walk a library, embed what is new or changed, commit it part by part."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from indexer.embedding.cores import num_cores
from indexer.embedding.extractor import Extractor, package_versions
from indexer.library.changes import Changes
from indexer.library.walk import Walk, look_again, read_list, walk
from indexer.progress import Listen, ignore
from indexer.reading.dataset import Work
from indexer.reading.readers import load_windows
from indexer.run.clerk import Clerk
from indexer.run.config import ExtractConfig
from indexer.run.embed import Embedder, Read
from indexer.run.report import ExtractReport
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.schema import Origin
from indexer.store.writer import PartWriter, remove_leftovers

#: Windows in a batch: on a CPU, large ones are slower.
_CPU_BATCH = 4
_GPU_BATCH = 64


def find_files(library: Path, config: ExtractConfig, listen: Listen = ignore) -> Walk:
    """Return the files of a library that a run would look at.

    Args:
        library: Folder of audio.
        config: What is asked for.
        listen: Hears now and then how many files have been seen.

    Raises:
        LibraryError: If the library is missing or empty, or a list of files cannot be followed.
    """
    if config.files_from:
        return read_list(library, config.files_from)
    return walk(library, config.include, config.exclude, listen)


def extract(
    library: Path | Walk,
    store: Store,
    extractor: Extractor,
    config: ExtractConfig | None = None,
    listen: Listen = ignore,
    *,
    read: Read = load_windows,
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
        listen: Hears in a sentence what was found and who is waited for; after every batch, how far
            the run is.
        read: Gives the windows of the files.

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
        "Use the checkpoint and options of the store, or another store",
        about="store",
    )
    found = library if isinstance(library, Walk) else find_files(library, config, listen)
    with sole_writer(store.path, listen) as has_waited:
        if has_waited:
            found = look_again(found, config.include, config.exclude)
        report = _extract(found, store, extractor, config, listen, read)
    report.seconds["total"] = time.perf_counter() - started
    return report


def _extract(
    found: Walk,
    store: Store,
    extractor: Extractor,
    config: ExtractConfig,
    listen: Listen,
    read: Read,
) -> ExtractReport:
    remove_leftovers(store)
    parts = store.parts()
    ledger = store.ledger(parts)
    changes = Changes(store, ledger, found, retry_failed=config.retry_failed)
    listen(changes.summary())
    report = ExtractReport(
        num_unchanged=changes.num_unchanged,
        num_failed_before=changes.num_failed_before,
        num_skipped=found.num_skipped,
        num_excluded=found.num_excluded,
        device=extractor.device_name,
        precision=extractor.precision,
        num_cores=num_cores(),
    )
    origin = Origin(extractor.device_name, extractor.precision, package_versions(), _now())
    with PartWriter(store, origin) as writer:
        clerk = Clerk(config, changes, writer, report)
        embedder = Embedder(extractor, config, clerk, report, listen, read)
        try:
            clerk.record_unreadable(found.unreadable)
            embedder.embed(
                Work(
                    root=found.root,
                    items=changes.to_read,
                    geometry=store.identity.geometry,
                    batch_size=config.batch_size or _default_batch_size(extractor),
                    known=ledger.known,
                    partial=store.partial_windows(parts, ledger.known),
                    max_duration_s=config.max_hours * 3600,
                    defers=extractor.resamples,
                )
            )
            clerk.record_missing()
        finally:  # an error, an interrupt or a strict stop keeps what was computed
            clerk.commit()
    return report


def _default_batch_size(extractor: Extractor) -> int:
    return _GPU_BATCH if extractor.device.type == "cuda" else _CPU_BATCH


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
