"""What changed in a library since it was last walked: what to read, what moved, what is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from indexer.errors import LibraryError
from indexer.library import FoundFile, Walk
from indexer.paths import bytes_from_text, path_id
from indexer.store.creation import library_at
from indexer.store.ledger import Ledger
from indexer.store.reader import Store
from indexer.store.schema import LedgerRow

#: A folder is taken for a library that moved if this share of its files is known from it.
_MOVED_SHARE = 0.5


class Changes:
    """A walk held against the ledger.

    Attributes:
        library_id: Of the library, old or new.
        to_read: New or changed files, and failed ones to be tried again.
        num_unchanged: Files that are as they were when they were embedded.
        num_failed_before: Files that are as they were when they failed.
    """

    def __init__(self, store: Store, ledger: Ledger, found: Walk, *, retry_failed: bool) -> None:
        """Decide what has to be read.

        Args:
            store: Whose ledger it is; a new library's root is remembered there.
            ledger: The last word on every path.
            found: What is in the library now.
            retry_failed: Read files again that failed before and have not changed.
        """
        self._store, self._ledger, self._found = store, ledger, found
        self.library_id = library_at(store, found.root, _moved_library(store, ledger, found))
        self._path_ids = _path_ids(self.library_id, found.files)
        size = np.array([file.size for file in found.files], np.int64)
        mtime_ns = np.array([file.mtime_ns for file in found.files], np.int64)
        embedded, failed = ledger.settled(self._path_ids, size, mtime_ns)
        failed &= not retry_failed
        self.num_unchanged = int(embedded.sum())
        self.num_failed_before = int(failed.sum())
        self.to_read = [found.files[at] for at in np.flatnonzero(~(embedded | failed))]

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

    def new_failures(self, failures: Sequence[LedgerRow]) -> list[LedgerRow]:
        """Return those rows whose path the ledger does not list as failed already."""
        at = self._ledger.positions([row.path_id for row in failures])
        return [
            row
            for row, place in zip(failures, at, strict=True)
            if place < 0 or self._ledger.status_of(place) != "failed"
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
        if not self._found.is_complete:
            return []
        present = self._ledger.present(self.library_id)
        known_now = np.append(self._path_ids, _path_ids(self.library_id, self._unreadable()))
        suspects = present[~np.isin(self._ledger.path_id[present], known_now)]
        rows = [
            _departed(row, found_at.get(row.recording_id or b""))
            for row in self._store.files_at(self._ledger.path_id[suspects])
            if self._is_absent(row)
        ]
        num_gone = sum(row.status == "gone" for row in rows)
        if num_gone > max(1, len(present) // 2) and not allow_gone:
            raise LibraryError(
                f"{num_gone} of {len(present)} files of this library are no longer in "
                f"{self._found.root}, and none of them was removed from the store; if they were "
                f"deleted on purpose, say --allow-gone"
            )
        return rows

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


def _departed(row: LedgerRow, new_path: str | None) -> LedgerRow:
    if new_path is None:
        return replace(row, status="gone", stage=None, reason=None)
    return replace(row, status="moved", stage=None, reason=f"now at {new_path}")


def _moved_library(store: Store, ledger: Ledger, found: Walk) -> str | None:
    """Return the library that was renamed or moved to the root that is walked now, if one was."""
    roots = store.libraries()
    if found.root in roots.values() or not found.files:
        return None
    for library_id, root in roots.items():
        if not root.exists():
            at = ledger.positions(_path_ids(library_id, found.files))
            size = np.array([file.size for file in found.files], np.int64)
            same = (at >= 0) & (ledger.size[at] == size) if len(ledger) else at >= 0
            if same.mean() >= _MOVED_SHARE:
                return library_id
    return None


def _path_ids(library_id: str, files: Sequence[FoundFile]) -> npt.NDArray[np.int64]:
    return np.array([path_id(library_id, file.path, file.span) for file in files], np.int64)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
