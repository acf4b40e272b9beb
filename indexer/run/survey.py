"""Before anything is embedded: a library is held against its store, and what is gone is recorded.

Neither the network nor PyTorch is loaded for it: most runs find nothing new.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from indexer.library.changes import Changes, library_id_of
from indexer.library.packs import library_root
from indexer.library.walk import Walk, look_again, read_list, walk
from indexer.progress import Listen, ignore
from indexer.run.clerk import Clerk
from indexer.run.config import ExtractConfig
from indexer.run.outlook import told_of_frames
from indexer.run.report import ExtractReport
from indexer.store.creation import library_at
from indexer.store.ledger import Ledger
from indexer.store.lock import sole_writer
from indexer.store.part import Part
from indexer.store.reader import Store
from indexer.store.schema import STORE_FILE, Origin
from indexer.store.stage import Stage
from indexer.store.staging import clear_leftovers
from indexer.store.writer import PartWriter

#: Device, and precision, where nothing was read: nothing was computed.
_NOWHERE = "none"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a run finds to do.

    Attributes:
        store: Where its results go: a store, or a stage beside one.
        found: What is in the library.
        parts: Of the store, oldest first.
        ledger: What became of every path so far.
        changes: The library held against the ledger.
        report: What is known of the run so far.
        seconds: How long it took to walk and to compare.
    """

    store: Store
    found: Walk
    parts: list[Part]
    ledger: Ledger
    changes: Changes
    report: ExtractReport
    seconds: float

    @property
    def has_files_to_read(self) -> bool:
        """Whether files are new or changed, or to be tried again."""
        return bool(self.changes.to_read)

    @contextmanager
    def keep_books(self, config: ExtractConfig, device: str, precision: str) -> Iterator[Clerk]:
        """Record what the library has lost, and whatever is embedded meanwhile.

        An error, an interrupt or a strict stop keeps what was computed. What was waited for between
        the survey and this, the network, is not in the report's total.

        Args:
            config: How the run behaves.
            device: Where the network runs.
            precision: At which precision.

        Raises:
            LibraryError: If the library disappears, or lost more than half.
            StoreError: If the store cannot be written: a full disk, for one.
        """
        started_s = time.perf_counter()
        library_at(self.store, self.found.root, self.changes.library_id)
        with PartWriter(self.store, origin_now(device, precision)) as writer:
            stage = self.store if isinstance(self.store, Stage) else None
            if stage:
                stage.unseal()
            clerk = Clerk(config, self.changes, writer, self.report, claims_apart=bool(stage))
            try:
                clerk.record_unreadable(self.changes.unreadable)
                yield clerk
                clerk.record_missing()
            finally:
                clerk.commit()
            if stage:
                stage.seal(self.changes.library_id, self.found.root)
        self.report.seconds["total"] = self.seconds + time.perf_counter() - started_s

    def settle(self, config: ExtractConfig) -> ExtractReport:
        """Do the same where there is nothing to read."""
        with self.keep_books(config, _NOWHERE, _NOWHERE):
            pass
        return self.report


def find_files(
    library: Path, config: ExtractConfig, listen: Listen = ignore, *, store: Path | None = None
) -> Walk:
    """Return the files of a library that a run would look at.

    Args:
        library: Folder of audio.
        config: What is asked for.
        listen: Hears now and then how many files have been seen.
        store: Directory of a store. There need be no audio left in a library that it knows.

    Raises:
        LibraryError: If the library is missing or empty, or a list of files cannot be followed.
        StoreError: If there is a store, and it cannot be read.
    """
    started_s = time.perf_counter()
    if config.files_from:
        found = read_list(library, config.files_from)
    else:
        found = walk(
            library,
            config.include,
            config.exclude,
            listen,
            hidden=config.hidden,
            may_be_empty=_knows(store, library),
        )
    found.seconds = time.perf_counter() - started_s
    return found


def _knows(store: Path | None, library: Path) -> bool:
    """Whether there is a store that knows a library at its place."""
    if store is None or not (store / STORE_FILE).exists():
        return False
    return library_root(library) in Store.open(store).libraries().values()


@contextmanager
def survey(
    library: Path | Walk, store: Store, config: ExtractConfig, listen: Listen = ignore
) -> Iterator[Survey]:
    """Find out what is new in a library, and be the only one who writes to its store meanwhile.

    Args:
        library: Folder of audio, or what `find_files` found in it.
        store: Where embeddings go: a store, or a stage beside one.
        config: What is asked for.
        listen: Hears in a sentence what was found, and who is waited for.

    Raises:
        LibraryError: If the library is missing or empty.
        StoreError: If the store cannot be read or written.
    """
    found = (
        library
        if isinstance(library, Walk)
        else find_files(library, config, listen, store=store.path)
    )
    with sole_writer(store.path, listen) as has_waited:
        if has_waited:
            found = look_again(found, config.include, config.exclude, hidden=config.hidden)
        started_s = time.perf_counter()
        clear_leftovers(store)
        parts = store.parts()
        ledger = store.ledger(parts)
        if isinstance(store, Stage):  # all shards have to call their library the same
            library_id = library_id_of(store, ledger, found)
            store.require_of(library_id)
            library_at(store.base, found.root, library_id)
        changes = Changes(store, ledger, found, retry_failed=config.retry_failed)
        listen(changes.summary())
        if told := told_of_frames(store.identity, changes.to_read):
            listen(told)
        report = ExtractReport(
            device=None,
            precision=None,
            num_unchanged=changes.num_unchanged,
            num_failed_before=changes.num_failed_before,
            num_skipped=found.num_skipped,
            num_excluded=found.num_excluded,
            num_hidden=changes.num_hidden,
        )
        seconds = found.seconds + time.perf_counter() - started_s
        yield Survey(store, found, parts, ledger, changes, report, seconds)


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that shape the numbers."""
    names = ("soundalike", "torch", "torchaudio", "numpy", "av", "soundfile", "pyarrow")
    return {name: version(name) for name in names}


def origin_now(device: str = _NOWHERE, precision: str = _NOWHERE) -> Origin:
    """Return how a part is computed that is written now; without a device, nothing is."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Origin(device, precision, package_versions(), created)
