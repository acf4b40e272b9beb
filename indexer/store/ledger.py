"""The ledger in memory: what happened to every path, as sorted arrays rather than objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.paths import content_id
from indexer.store.schema import RECORDING_ID_BYTES, STATUSES, Status

#: 16-byte ids as NumPy compares and sorts them: fixed width, so trailing zero bytes are kept.
ID_DTYPE = np.dtype(f"S{RECORDING_ID_BYTES}")
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
)
_OK = STATUSES.index("ok")
_FAILED = STATUSES.index("failed")

Ids = npt.NDArray[np.bytes_]
Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def ids_from_column(column: pa.ChunkedArray | pa.Array) -> Ids:
    """Return a column of 16-byte ids as a (num_rows,) array; a null becomes 16 zero bytes."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    filled = pc.fill_null(whole, b"\0" * RECORDING_ID_BYTES)
    ids = np.frombuffer(filled.buffers()[1] or b"", ID_DTYPE)
    return ids[filled.offset : filled.offset + len(filled)]


def id_bytes(value: np.bytes_ | bytes) -> bytes:
    """Return all 16 bytes of an id: NumPy drops trailing zero bytes when it hands one out."""
    return bytes(value).ljust(RECORDING_ID_BYTES, b"\0")


def contains(sorted_ids: Ids | Integers, wanted: Ids | Integers) -> Mask:
    """Return which of `wanted` are in a sorted array of ids, 16-byte ones or numbers."""
    if not len(sorted_ids):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return np.asarray(sorted_ids[at] == wanted)


def last_of_each(keys: Integers) -> Integers:
    """Return the position of the last row of every distinct key, in the order of the keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    return order[np.append(ordered[1:] != ordered[:-1], True)] if len(order) else order


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
        known: Sorted content ids of everything that was ever embedded whole.
    """

    __slots__ = (
        "known",
        "library",
        "library_ids",
        "mtime_ns",
        "path_id",
        "recording_id",
        "size",
        "status",
    )

    def __init__(self, rows: pa.Table) -> None:
        """Keep the last row of every path.

        Args:
            rows: Ledger rows of all parts, oldest first, with at least `LEDGER_COLUMNS`.
        """
        path_id = rows["path_id"].to_numpy()
        last = last_of_each(path_id)
        status = _codes(rows["status"], STATUSES)
        recording_id = ids_from_column(rows["recording_id"])
        self.library_ids: tuple[str, ...] = tuple(sorted(pc.unique(rows["library_id"]).to_pylist()))
        self.path_id: Integers = path_id[last]
        self.library = _codes(rows["library_id"], self.library_ids)[last]
        self.size: Integers = rows["size"].to_numpy()[last]
        self.mtime_ns: Integers = rows["mtime_ns"].to_numpy()[last]
        self.status = status[last].astype(np.int8)
        self.recording_id: Ids = recording_id[last]
        self.known: Ids = _embedded(rows, recording_id, status == _OK)

    def __len__(self) -> int:
        return len(self.path_id)

    def positions(self, path_ids: Sequence[int] | Integers) -> Integers:
        """Return where each path stands in the arrays; -1 for a path that is new."""
        wanted = np.asarray(path_ids, np.int64)
        if not len(self):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(self.path_id, wanted), len(self) - 1)
        return np.where(self.path_id[at] == wanted, at, -1)

    def settled(self, path_ids: Integers, size: Integers, mtime_ns: Integers) -> tuple[Mask, Mask]:
        """Return which paths are as they were when last read: (those embedded, those failed).

        Args:
            path_ids: (n,) keys of the paths.
            size: (n,) bytes, now.
            mtime_ns: (n,) now.
        """
        at = self.positions(path_ids)
        if not len(self):
            return at >= 0, at >= 0
        same = (at >= 0) & (self.size[at] == size) & (self.mtime_ns[at] == mtime_ns)
        return same & (self.status[at] == _OK), same & (self.status[at] == _FAILED)

    def status_of(self, position: int) -> Status:
        """Return the status of one path in words."""
        return STATUSES[int(self.status[position])]

    def live_recordings(self) -> Ids:
        """Return the sorted ids of the recordings that at least one path still names."""
        return np.unique(self.recording_id[self.status == _OK])

    def present(self, library_id: str) -> Integers:
        """Return the positions of a library's paths that were there when last seen."""
        if library_id not in self.library_ids:
            return np.empty(0, np.int64)
        mine = self.library == self.library_ids.index(library_id)
        there = (self.status == _OK) | (self.status == _FAILED)
        return np.flatnonzero(mine & there)


def _codes(column: pa.ChunkedArray, values: Sequence[str]) -> npt.NDArray[np.int32]:
    found = pc.index_in(column, value_set=pa.array(values, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int32)


def _embedded(rows: pa.Table, recording_id: Ids, is_ok: Mask) -> Ids:
    """Return the sorted content ids of all rows that were ever ok."""
    is_span = ~rows["span_start"].is_null().to_numpy()
    whole = recording_id[is_ok & ~is_span]
    chosen = np.flatnonzero(is_ok & is_span)
    starts, lengths = (
        rows[name].take(chosen).to_pylist() for name in ("span_start", "span_samples")
    )
    spans = [
        content_id(id_bytes(recording_id[row]), (start, length))
        for row, start, length in zip(chosen, starts, lengths, strict=True)
    ]
    return np.unique(np.concatenate([whole, np.array(spans, ID_DTYPE)]))
