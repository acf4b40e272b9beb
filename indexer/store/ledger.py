"""The ledger in memory: what happened to every path, as sorted arrays rather than objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import ID_DTYPE, Ids, Integers, Mask, id_bytes, ids_from_column, last_of_each
from indexer.paths import content_id
from indexer.store.schema import STATUSES, Status

#: What opening a ledger reads of files.parquet.
LEDGER_COLUMNS = (
    "path_id",
    "library_id",
    "size",
    "mtime_ns",
    "status",
    "recording_id",
    "span_start",
    "span_samples",
    "file_digest",
)
#: What is collected of the rows: columns, which of them are the "ok" of a whole file, the content
#: ids of the spans that are "ok", and of files with other tags their digests and recordings.
_DTYPES: dict[str, np.dtype[Any]] = {
    "path_id": np.dtype(np.int64),
    "library": np.dtype(np.int32),
    "size": np.dtype(np.int64),
    "mtime_ns": np.dtype(np.int64),
    "status": np.dtype(np.int8),
    "recording_id": ID_DTYPE,
    "is_whole": np.dtype(bool),
    "spans": ID_DTYPE,
    "file_digest": ID_DTYPE,
    "aliased": ID_DTYPE,
}
#: In place of the first sample of a span, where a row is about the whole file.
_NO_SPAN = -1
#: In place of an id; it comes before all others.
_NO_ID = np.zeros((), ID_DTYPE)
_NO_IDS: Ids = np.empty(0, ID_DTYPE)
_OK = STATUSES.index("ok")
_FAILED = STATUSES.index("failed")


def _distinct(ids: Ids) -> Ids:
    """Return the distinct ones of some ids, sorted; the array itself is sorted on the way."""
    ids.sort()  # np.unique would make two copies
    is_first = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
    return ids if is_first.all() else ids[is_first]


class Aliases(NamedTuple):
    """Files that hold a recording's samples, and other tags.

    Attributes:
        file_digest: (n,) 16-byte ids, sorted.
        recording_id: (n,) 16-byte ids.
    """

    file_digest: Ids = _NO_IDS
    recording_id: Ids = _NO_IDS

    def recording_of(self, digest: bytes) -> bytes:
        """Return the recording that a file holds, by the digest of its bytes."""
        wanted = np.array(digest, ID_DTYPE)
        at = int(np.searchsorted(self.file_digest, wanted))
        is_alias = at < len(self.file_digest) and self.file_digest[at] == wanted
        return id_bytes(self.recording_id[at]) if is_alias else digest


class Ledger:
    """The last word on every path of a store.

    Attributes:
        path_id: (num_paths,) int64, sorted.
        library: (num_paths,) int32, positions in `library_ids`.
        size: (num_paths,) int64, bytes.
        mtime_ns: (num_paths,) int64.
        status: (num_paths,) int8, positions in `indexer.store.schema.STATUSES`.
        recording_id: (num_paths,) 16-byte ids; zeros where the content was never read.
        library_ids: Names of the libraries.
        known: Sorted content ids of everything that was ever embedded: whole files and spans.
        aliases: Files that were "ok" because their samples were those of a recording.
    """

    __slots__ = (
        "aliases",
        "known",
        "library",
        "library_ids",
        "mtime_ns",
        "path_id",
        "recording_id",
        "size",
        "status",
    )

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Keep the last row of every path.

        Args:
            batches: Ledger rows of all parts, oldest first, with at least `LEDGER_COLUMNS`. Each is
                let go before the next is taken.
        """
        libraries: dict[str, int] = {}
        rows = {name: bytearray() for name in _DTYPES}  # they grow without being copied
        for batch in batches:
            for name, array in _arrays(batch, libraries).items():
                rows[name] += array.data

        def take(name: str) -> Any:  # column by column: only one at a time is in memory twice
            return np.frombuffer(rows.pop(name), _DTYPES[name])

        path_id = take("path_id")
        last = last_of_each(path_id).astype(np.int32)
        self.path_id: Integers = path_id[last]
        del path_id
        embedded = rows.pop("recording_id")
        ids = np.frombuffer(embedded, ID_DTYPE)
        self.recording_id: Ids = ids[last]
        self.size: Integers = take("size")[last]
        self.mtime_ns: Integers = take("mtime_ns")[last]
        self.status: npt.NDArray[np.int8] = take("status")[last]
        self.library_ids: tuple[str, ...] = tuple(sorted(libraries))
        numbers = np.array([self.library_ids.index(name) for name in libraries], np.int32)
        self.library = numbers[take("library")[last]]
        del last
        self.aliases = _aliases(take("file_digest"), take("aliased"))
        # What was ever embedded takes the place of the ids of all rows.
        ids[~take("is_whole")] = _NO_ID
        del ids
        embedded += rows.pop("spans")
        known = _distinct(np.frombuffer(embedded, ID_DTYPE))
        self.known: Ids = known[np.searchsorted(known, _NO_ID, "right") :]

    def __len__(self) -> int:
        return len(self.path_id)

    def positions(self, path_ids: Sequence[int] | Integers) -> Integers:
        """Return where each path stands in the arrays; -1 for a path that is new."""
        wanted = np.asarray(path_ids, np.int64)
        if not len(self):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(self.path_id, wanted), len(self) - 1)
        return np.where(self.path_id[at] == wanted, at, -1)

    def find_settled(
        self, path_ids: Integers, size: Integers, mtime_ns: Integers
    ) -> tuple[Mask, Mask]:
        """Return which paths are as they were when last read: (those embedded, those failed).

        What could not be reached has neither size nor date: it never is as it was.

        Args:
            path_ids: (n,) keys of the paths.
            size: (n,) bytes, now.
            mtime_ns: (n,) now.
        """
        at = self.positions(path_ids)
        if not len(self):
            return at >= 0, at >= 0
        same = (at >= 0) & (self.size[at] == size) & (self.mtime_ns[at] == mtime_ns)
        was_reached = (self.size[at] != 0) | (self.mtime_ns[at] != 0)
        failed = same & (self.status[at] == _FAILED) & was_reached
        return same & (self.status[at] == _OK), failed

    def status_of(self, position: int) -> Status:
        """Return the status of one path in words."""
        return STATUSES[int(self.status[position])]

    def live_recordings(self) -> Ids:
        """Return the sorted ids of the recordings that at least one path still names."""
        return _distinct(self.recording_id[self.status == _OK])

    def present(self, library_id: str) -> Integers:
        """Return the positions of a library's paths that were there when last seen."""
        if library_id not in self.library_ids:
            return np.empty(0, np.int64)
        mine = self.library == self.library_ids.index(library_id)
        there = (self.status == _OK) | (self.status == _FAILED)
        return np.flatnonzero(mine & there)


def _aliases(digests: Ids, recordings: Ids) -> Aliases:
    """Return the last recording of each digest."""
    order = np.argsort(digests, kind="stable")
    digests, recordings = digests[order], recordings[order]
    is_last = np.append(digests[1:] != digests[:-1], True)[: len(digests)]
    return Aliases(digests[is_last], recordings[is_last])


def _arrays(batch: pa.RecordBatch, libraries: dict[str, int]) -> dict[str, npt.NDArray[Any]]:
    """Return ledger rows as arrays.

    Args:
        batch: The rows.
        libraries: library_id → its number; new ones are added.
    """
    library, names = _encode(batch["library_id"])
    numbers = [libraries.setdefault(name, len(libraries)) for name in names]
    said, words = _encode(batch["status"])
    status = np.array([STATUSES.index(word) for word in words], np.int8)[said]
    recording_id = ids_from_column(batch["recording_id"])
    start = pc.fill_null(batch["span_start"], _NO_SPAN).to_numpy()
    is_span = start != _NO_SPAN
    digest = ids_from_column(batch["file_digest"])
    is_alias = (
        (status == _OK) & ~is_span & batch["file_digest"].is_valid().to_numpy(zero_copy_only=False)
    )
    return {
        "path_id": batch["path_id"].to_numpy(),
        "library": np.array(numbers, np.int32)[library],
        "size": batch["size"].to_numpy(),
        "mtime_ns": batch["mtime_ns"].to_numpy(),
        "status": status,
        "recording_id": recording_id,
        "is_whole": (status == _OK) & ~is_span,
        "spans": content_ids(batch.filter(pa.array((status == _OK) & is_span))),
        "file_digest": digest[is_alias],
        "aliased": recording_id[is_alias],
    }


def content_ids(batch: pa.RecordBatch) -> Ids:
    """Return (n,) ids of the contents that ledger rows are about: see `indexer.paths.content_id`.

    Zeros where the content was never read.
    """
    ids = ids_from_column(batch["recording_id"]).copy()
    start, length = (
        pc.fill_null(batch[name], _NO_SPAN).to_numpy() for name in ("span_start", "span_samples")
    )
    for row in np.flatnonzero(start != _NO_SPAN):
        ids[row] = content_id(id_bytes(ids[row]), (int(start[row]), int(length[row])))
    return ids


def _encode(column: pa.Array) -> tuple[npt.NDArray[np.int32], list[Any]]:
    """Return a column of few distinct values as positions in a list, and the list."""
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
