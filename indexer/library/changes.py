"""What changed in a library since it was last walked: what to read, what moved, what is gone."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import (
    ID_DTYPE,
    Ids,
    Integers,
    Mask,
    contains,
    id_bytes,
    ids_from_column,
)
from indexer.audio.content import look_ahead, require_name
from indexer.errors import LibraryError
from indexer.library.files import FileList, FoundFile
from indexer.library.packs import is_pack, pack_at, packs_no_more, packs_on_the_way
from indexer.library.walk import Walk
from indexer.paths import address_of, bytes_from_text, path_id
from indexer.store.ledger import Ledger
from indexer.store.reader import Store
from indexer.store.schema import FILES_SCHEMA, NO_FILE, STATUSES, LedgerRow
from indexer.store.words import last_words

#: A folder is taken for a library that moved if this share of its files is known from it.
_MOVED_SHARE = 0.5


#: As the ledger has them: what was there when last seen, embedded or failed.
_PRESENT = (STATUSES.index("ok"), STATUSES.index("failed"))
_NO_IDS: Ids = np.empty(0, ID_DTYPE)
#: Stage of a folder that could not be listed.
_FOLDER = "walk"


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
        num_unchanged: Files that are as they were when they were embedded, hidden ones too.
        num_failed_before: Files that are as they were when they failed, likewise.
        num_hidden: Hidden files that would be read if they were asked for.
        unreadable: (path, reason) of folders and packs that could not be listed: those of the walk,
            and files that were packs and are none.
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
        self.unreadable = list(found.unreadable)
        self.library_id = library_id_of(store, ledger, found)
        self._path_ids = _path_ids(self.library_id, found.files)
        size, mtime_ns = found.files.sizes, found.files.mtimes_ns
        embedded, failed = self._find_settled(found.files, self._path_ids)
        failed &= not retry_failed
        hidden = self._find_settled(found.hidden, _path_ids(self.library_id, found.hidden))
        self.num_unchanged = int(embedded.sum() + hidden[0].sum())
        self.num_failed_before = int(failed.sum() + hidden[1].sum())
        self.num_hidden = len(found.hidden) - int((hidden[0] | hidden[1]).sum())
        wanted = np.flatnonzero(~(embedded | failed))
        self.to_read = FileList(found.files[at] for at in wanted.tolist())
        was = _statuses(ledger, self._path_ids[wanted])
        is_new = ~np.isin(was, _PRESENT)
        self.num_new = int(is_new.sum())
        self.num_changed, self.num_retried = (int((was == one).sum()) for one in _PRESENT)
        self._missing, self._was_seen = self._find_missing()
        self._missing_recordings = np.unique(ledger.recording_id[self._missing])
        #: Those that are at a new path, by the look of it: nothing is read yet.
        looks = _look(ledger.size, ledger.mtime_ns)[self._missing]
        self._num_moved = int(np.isin(looks, _look(size, mtime_ns)[wanted[is_new]]).sum())

    def former(self) -> Former:
        """Return what the changed files were, those of which the samples have a digest."""
        if not self.num_changed:
            return Former()
        changed = np.sort(_path_ids(self.library_id, self.to_read))
        columns = ("path_id", "status", "audio_id", "recording_id")
        rows = self._store.rows_at(changed, columns)
        known = pc.and_(pc.equal(rows["status"], "ok"), pc.is_valid(rows["audio_id"]))
        path_ids, _, audio_ids, recordings = rows.filter(known).columns
        return Former(
            self.library_id,
            path_ids.to_numpy(),
            ids_from_column(audio_ids),
            ids_from_column(recordings),
        )

    def summary(self) -> str:
        """Say what a run will find to do, before anything is read."""
        counts = {
            "new": self.num_new,
            "changed": self.num_changed,
            "moved": self._num_moved,
            "gone": int(self._was_seen.sum()) - self._num_moved,
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

    def size_unread(self, file: FoundFile) -> int:
        """Return what the ledger has for the size of a file that could not be reached.

        It was found in no state, 0 bytes and no date, so that it is tried again; `NO_FILE` if a
        list names it, and nothing was there now or ever.
        """
        if not self._found.is_list or file.size or file.mtime_ns:
            return 0
        known = self._ledger.positions([self.row(file).path_id])[0]
        return NO_FILE if known < 0 or self._ledger.size[known] == NO_FILE else 0

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

    def missing(
        self, found_at: Mapping[bytes, str], *, allow_gone: bool
    ) -> Iterator[list[LedgerRow]]:
        """Return a row for every path of the library that is no longer there, some at a time.

        Args:
            found_at: Recordings that this run met at new paths, and where.
            allow_gone: Accept that more than half of the library is gone.

        Returns:
            "moved" where the content is at a new path, "gone" otherwise. Of the latter, those are
            of `NO_FILE` that never were there.

        Raises:
            LibraryError: If more than half is gone, or nothing is left, and that was not allowed.
        """
        self.require_library()
        at = np.array([bytes(one) for one in found_at], ID_DTYPE)
        is_moved = np.isin(self._ledger.recording_id[self._missing], at)
        num_gone = int((self._was_seen & ~is_moved).sum())
        num_present = len(self._ledger.present(self.library_id)) - int((~self._was_seen).sum())
        is_empty = not self._found.files and not self._found.hidden
        if num_gone > (0 if is_empty else max(1, num_present // 2)) and not allow_gone:
            raise LibraryError(
                f"{num_gone} of {num_present} files of this library are no longer in "
                f"{self._found.root}, and none of them was removed from the store; bring them "
                f"back, or allow them to be gone",
                about="allow_gone",
            )
        return self._departures(found_at)

    def _departures(self, found_at: Mapping[bytes, str]) -> Iterator[list[LedgerRow]]:
        path_ids = self._ledger.path_id[self._missing]
        for batch in last_words(self._store.parts(), FILES_SCHEMA.names) if len(path_ids) else ():
            is_missing = contains(path_ids, batch["path_id"].to_numpy())
            rows = [LedgerRow(**row) for row in batch.filter(pa.array(is_missing)).to_pylist()]
            is_absent = self._are_absent([row.path for row in rows])
            yield [
                _departure(row, found_at.get(row.recording_id or b""))
                for row, absent in zip(rows, is_absent, strict=True)
                if absent
            ]

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

    def _find_settled(self, files: FileList, path_ids: Integers) -> tuple[Mask, Mask]:
        """Return which files are as they were: (those embedded, those failed)."""
        return self._ledger.find_settled(path_ids, files.sizes, files.mtimes_ns)

    def _find_missing(self) -> tuple[Integers, Mask]:
        """Return the positions in the ledger of paths that are no longer there.

        And which of them were files that were seen: not folders that could not be listed, and can
        be now, nor names in a list.
        """
        if not self._found.is_complete:
            return np.empty(0, np.int64), np.empty(0, bool)
        present = self._ledger.present(self.library_id)
        unlisted = [*(path for path, _ in self._found.unreadable), *self._found.unlisted]
        folders = _path_ids(self.library_id, (FoundFile(path, 0, 0) for path in unlisted))
        known_now = np.append(self._path_ids, folders)
        suspects = present[~np.isin(self._ledger.path_id[present], known_now)]
        rows = self._store.rows_at(self._ledger.path_id[suspects], ("path_id", "path", "stage"))
        paths = rows["path"].to_pylist()
        self.unreadable += packs_no_more(self._found.root, paths, self._found.unreached)
        is_absent = self._are_absent(paths)
        is_folder = pc.is_in(rows["stage"], value_set=pa.array([_FOLDER])).to_numpy()
        missing = self._ledger.positions(rows["path_id"].to_numpy()[is_absent])
        return missing, (self._ledger.size[missing] != NO_FILE) & ~is_folder[is_absent]

    def _are_absent(self, paths: Sequence[str]) -> Mask:
        """Return which paths certainly are not files any more; one pack after the other.

        What is in a pack that is there, and could not be listed, or was not, may be there.
        """
        absent = np.zeros(len(paths), bool)
        closed = self._found.unreached.union(path for path, _ in self._found.unreadable)
        asked = [at for at in range(len(paths)) if closed.isdisjoint(packs_on_the_way(paths[at]))]
        asked.sort(key=paths.__getitem__)
        for at in look_ahead(asked, lambda at: self._local(paths[at])):
            absent[at] = _is_absent(self._local(paths[at]))
        return absent

    def _local(self, text: str) -> Path:
        return FoundFile(text, 0, 0).local(self._found.root)


def _is_absent(path: Path) -> bool:
    """Whether a path is certainly not a file any more, not merely filtered or locked."""
    try:
        require_name(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return path.is_dir() or is_pack(path)


def _statuses(ledger: Ledger, path_ids: Integers) -> npt.NDArray[np.int8]:
    """Return the positions in STATUSES of what became of some paths; -1 for one that is new."""
    at = ledger.positions(path_ids)
    if not len(ledger):
        return np.full(len(at), -1, np.int8)
    return np.where(at >= 0, ledger.status[at], np.int8(-1))


def _look(size: Integers, mtime_ns: Integers) -> Integers:
    """Return a number that files of one size and date share, and hardly any others."""
    return mtime_ns * 31 + size


def _departure(row: LedgerRow, new_path: str | None) -> LedgerRow:
    if new_path is None:
        size = NO_FILE if row.stage == _FOLDER else row.size  # 0.1.0 wrote 0 there
        return replace(row, status="gone", stage=None, reason=None, size=size)
    return replace(row, status="moved", stage=None, reason=f"now at {new_path}")


def library_id_of(store: Store, ledger: Ledger, found: Walk) -> str:
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
    if address_of(root):  # whether it does is not asked: it takes no name from what is here
        return True
    try:
        (pack_at(root) or root).stat()
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
