"""What changed in a library since it was last walked: what to read, what moved, what is gone."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import ID_DTYPE, Ids, Integers, contains, id_bytes
from indexer.errors import LibraryError
from indexer.library.files import FileList, FoundFile
from indexer.library.walk import Walk
from indexer.paths import bytes_from_text, path_id
from indexer.store.ledger import Ledger
from indexer.store.reader import Store
from indexer.store.schema import STATUSES, LedgerRow

#: A folder is taken for a library that moved if this share of its files is known from it.
_MOVED_SHARE = 0.5


#: As the ledger has them: what was there when last seen, embedded or failed.
_PRESENT = (STATUSES.index("ok"), STATUSES.index("failed"))
_NO_IDS: Ids = np.empty(0, ID_DTYPE)


class Former(NamedTuple):
    """What changed files were when they were embedded.

    Attributes:
        library_id: Of all of them.
        path_id: (n,) int64, sorted.
        audio_id: (n,) 16-byte ids: digests of their samples.
        recording_id: (n,) 16-byte ids.
    """

    library_id: str = ""
    path_id: Integers = np.empty(0, np.int64)
    audio_id: Ids = _NO_IDS
    recording_id: Ids = _NO_IDS

    def of(self, file: FoundFile) -> tuple[bytes, bytes] | None:
        """Return the digest of the samples and the recording of a file; None if it is new."""
        if file.span is not None or not len(self.path_id):
            return None
        wanted = path_id(self.library_id, file.path)
        at = int(np.searchsorted(self.path_id, wanted))
        if at == len(self.path_id) or self.path_id[at] != wanted:
            return None
        return id_bytes(self.audio_id[at]), id_bytes(self.recording_id[at])


class Changes:
    """A walk held against the ledger.

    Attributes:
        library_id: Of the library, old or new.
        to_read: New or changed files, and failed ones to be tried again.
        num_new: Files at paths where nothing was before.
        num_changed: Files that are not as they were when they were embedded.
        num_retried: Files that failed before and are tried again.
        num_unchanged: Files that are as they were when they were embedded.
        num_failed_before: Files that are as they were when they failed.
    """

    def __init__(self, store: Store, ledger: Ledger, found: Walk, *, retry_failed: bool) -> None:
        """Decide what has to be read.

        Args:
            store: Whose ledger it is; nothing is written to it.
            ledger: The last word on every path.
            found: What is in the library now.
            retry_failed: Read files again that failed before and have not changed.
        """
        self._store, self._ledger, self._found = store, ledger, found
        self.library_id = _library_id(store, ledger, found)
        self._path_ids = _path_ids(self.library_id, found.files)
        size, mtime_ns = found.files.sizes, found.files.mtimes_ns
        embedded, failed = ledger.find_settled(self._path_ids, size, mtime_ns)
        failed &= not retry_failed
        self.num_unchanged = int(embedded.sum())
        self.num_failed_before = int(failed.sum())
        wanted = np.flatnonzero(~(embedded | failed))
        self.to_read = FileList(found.files[at] for at in wanted.tolist())
        was = _statuses(ledger, self._path_ids[wanted])
        is_new = ~np.isin(was, _PRESENT)
        self.num_new = int(is_new.sum())
        self.num_changed, self.num_retried = (int((was == one).sum()) for one in _PRESENT)
        self._missing, self._num_folders = self._find_missing()
        self._missing_recordings = np.unique(ledger.recording_id[self._missing])
        #: Those that are at a new path, by the look of it: nothing is read yet.
        looks = _look(ledger.size, ledger.mtime_ns)[self._missing]
        self._num_moved = int(np.isin(looks, _look(size, mtime_ns)[wanted[is_new]]).sum())

    def former(self) -> Former:
        """Return what the changed files were, those of which the samples have a digest."""
        if not self.num_changed:
            return Former()
        changed = np.sort(_path_ids(self.library_id, self.to_read))
        rows = [row for row in self._store.files_at(changed) if row.status == "ok" and row.audio_id]
        return Former(
            self.library_id,
            np.array([row.path_id for row in rows], np.int64),
            np.array([row.audio_id for row in rows], ID_DTYPE),
            np.array([row.recording_id for row in rows], ID_DTYPE),
        )

    def summary(self) -> str:
        """Say what a run will find to do, before anything is read."""
        counts = {
            "new": self.num_new,
            "changed": self.num_changed,
            "moved": self._num_moved,
            "gone": len(self._missing) - self._num_folders - self._num_moved,
            "unchanged": self.num_unchanged,
            "failed before": self.num_failed_before,
            "tried again": self.num_retried,
        }
        return f"{self._found.root}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items())

    def row(self, file: FoundFile) -> LedgerRow:
        """Return what every ledger row of a file has in common."""
        start, length = file.span or (None, None)
        name = bytes_from_text(file.path)
        return LedgerRow(
            path_id=path_id(self.library_id, file.path, file.span),
            library_id=self.library_id,
            path=file.path,
            path_bytes=None if _is_utf8(name) else name,
            span_start=start,
            span_samples=length,
            size=file.size,
            mtime_ns=file.mtime_ns,
            status="ok",
        )

    def describe(self, rows: Sequence[LedgerRow]) -> list[LedgerRow]:
        """Return rows of known content with what the store says of it."""
        return self._store.describe(rows)

    def new_failures(self, failures: Sequence[LedgerRow]) -> list[LedgerRow]:
        """Return those rows whose path the ledger does not list as failed in the same state."""
        ledger, at = self._ledger, self._ledger.positions([row.path_id for row in failures])
        return [
            row
            for row, place in zip(failures, at.tolist(), strict=True)
            if place < 0
            or ledger.status_of(place) != "failed"
            or (ledger.size[place], ledger.mtime_ns[place]) != (row.size, row.mtime_ns)
        ]

    def missing(self, found_at: Mapping[bytes, str], *, allow_gone: bool) -> list[LedgerRow]:
        """Return a row for every path of the library that is no longer there.

        Args:
            found_at: Recordings that this run met at new paths, and where.
            allow_gone: Accept that more than half of the library is gone.

        Returns:
            "moved" where the content is at a new path, "gone" otherwise.

        Raises:
            LibraryError: If more than half is gone, and that was not allowed.
        """
        self.require_library()
        missing = [row for row in self._missing_rows() if self._is_absent(row)]
        rows = [_departure(row, found_at.get(row.recording_id or b"")) for row in missing]
        num_present = len(self._ledger.present(self.library_id))
        num_gone = sum(
            row.status == "gone" and not _was_folder(before)
            for row, before in zip(rows, missing, strict=True)
        )
        if num_gone > max(1, num_present // 2) and not allow_gone:
            raise LibraryError(
                f"{num_gone} of {num_present} files of this library are no longer in "
                f"{self._found.root}, and none of them was removed from the store; bring them "
                f"back, or allow them to be gone",
                about="allow_gone",
            )
        return rows

    def is_missing(self, recording_id: bytes) -> bool:
        """Whether a recording was at a path that is no longer there."""
        wanted = np.array([recording_id], ID_DTYPE)
        return bool(contains(self._missing_recordings, wanted)[0])

    def require_library(self) -> None:
        """Raise unless the library still is where it was walked.

        Without this, a disk that is unplugged would make a failure of every file that is left.

        Raises:
            LibraryError: If it is not.
        """
        if not self._found.is_there():
            raise LibraryError(
                f"the library {self._found.root} vanished while it was read; what was embedded is "
                f"kept: run again when it is back"
            )

    def _find_missing(self) -> tuple[Integers, int]:
        """Return the positions in the ledger of paths that are no longer there.

        And how many of them were folders that could not be listed, and can be now.
        """
        if not self._found.is_complete:
            return np.empty(0, np.int64), 0
        present = self._ledger.present(self.library_id)
        known_now = np.append(self._path_ids, _path_ids(self.library_id, self._unreadable()))
        suspects = present[~np.isin(self._ledger.path_id[present], known_now)]
        rows = [
            row
            for row in self._store.files_at(self._ledger.path_id[suspects])
            if self._is_absent(row)
        ]
        missing = self._ledger.positions([row.path_id for row in rows])
        return missing, sum(_was_folder(row) for row in rows)

    def _missing_rows(self) -> list[LedgerRow]:
        return self._store.files_at(self._ledger.path_id[self._missing])

    def _unreadable(self) -> list[FoundFile]:
        return [FoundFile(path, 0, 0) for path, _ in self._found.unreadable]

    def _is_absent(self, row: LedgerRow) -> bool:
        """Whether a path is certainly not a file any more, not merely filtered or locked."""
        path = FoundFile(row.path, 0, 0).local(self._found.root)
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return path.is_dir()


def _statuses(ledger: Ledger, path_ids: Integers) -> npt.NDArray[np.int8]:
    """Return the positions in STATUSES of what became of some paths; -1 for one that is new."""
    at = ledger.positions(path_ids)
    if not len(ledger):
        return np.full(len(at), -1, np.int8)
    return np.where(at >= 0, ledger.status[at], np.int8(-1))


def _look(size: Integers, mtime_ns: Integers) -> Integers:
    """Return a number that files of one size and date share, and hardly any others."""
    return mtime_ns * 31 + size


def _was_folder(row: LedgerRow) -> bool:
    """Whether a row is of a folder that could not be listed, not of a file."""
    return row.stage == "walk"


def _departure(row: LedgerRow, new_path: str | None) -> LedgerRow:
    if new_path is None:
        return replace(row, status="gone", stage=None, reason=None)
    return replace(row, status="moved", stage=None, reason=f"now at {new_path}")


def _library_id(store: Store, ledger: Ledger, found: Walk) -> str:
    """Return the library at a root, be it known, moved there, or new."""
    known = {root: library_id for library_id, root in store.libraries().items()}
    return known.get(found.root) or _moved_library(store, ledger, found) or uuid.uuid4().hex


def _moved_library(store: Store, ledger: Ledger, found: Walk) -> str | None:
    """Return the library that was renamed or moved to the root that is walked now, if one was."""
    roots = store.libraries()
    if found.root in roots.values() or not found.files:
        return None
    for library_id, root in roots.items():
        if not _may_exist(root):
            at = ledger.positions(_path_ids(library_id, found.files))
            same = (at >= 0) & (ledger.size[at] == found.files.sizes) if len(ledger) else at >= 0
            if same.mean() >= _MOVED_SHARE:
                return library_id
    return None


def _may_exist(root: Path) -> bool:
    """Whether a folder is there, or on a disk that does not say."""
    try:
        root.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _path_ids(library_id: str, files: Iterable[FoundFile]) -> Integers:
    ids = (path_id(library_id, file.path, file.span) for file in files)
    return np.fromiter(ids, np.int64)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
