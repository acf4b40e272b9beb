"""The arrays that all of this is made of: their types by name, and ids of 16 bytes among them."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Bytes of a recording's id.
RECORDING_ID_BYTES = 16
#: 16-byte ids as NumPy compares and sorts them: fixed width, so trailing zero bytes are kept.
ID_DTYPE = np.dtype(f"S{RECORDING_ID_BYTES}")

#: Looked up at a time: what that takes beside the answer is 24 bytes each.
_BLOCK_IDS = 1 << 18

Ids = npt.NDArray[np.bytes_]
Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def ids_from_column(column: pa.ChunkedArray | pa.Array) -> Ids:
    """Return a column of 16-byte ids as a (num_rows,) array; a null becomes 16 zero bytes."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    filled = pc.fill_null(whole, b"\0" * RECORDING_ID_BYTES) if whole.null_count else whole
    ids = np.frombuffer(filled.buffers()[1] or b"", ID_DTYPE)
    return ids[filled.offset : filled.offset + len(filled)]


def id_bytes(value: np.bytes_ | bytes) -> bytes:
    """Return all 16 bytes of an id: NumPy drops trailing zero bytes when it hands one out."""
    return bytes(value).ljust(RECORDING_ID_BYTES, b"\0")


def contains(sorted_ids: Ids | Integers, wanted: Ids | Integers) -> Mask:
    """Return which of `wanted` are in a sorted array of ids, 16-byte ones or numbers."""
    found = np.zeros(len(wanted), bool)
    if not len(sorted_ids):
        return found
    for first in range(0, len(wanted), _BLOCK_IDS):
        some = wanted[first : first + _BLOCK_IDS]
        at = np.minimum(np.searchsorted(sorted_ids, some), len(sorted_ids) - 1)
        found[first : first + _BLOCK_IDS] = sorted_ids[at] == some
    return found


def widened(numbers: Float16) -> Float32:
    """Return float16 as float32, looked up by their bits: that takes a third of the time."""
    return _all_float16().take(numbers.view(np.uint16))


@cache
def _all_float16() -> Float32:
    """Return (65536,) all float16 as float32, by their bits."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def last_of_each(keys: Integers) -> Integers:
    """Return the position of the last row of every distinct key, in the order of the keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)[: len(keys)]
    return order if is_last.all() else order[is_last]


def components(num_nodes: int, one: Integers, other: Integers) -> Integers:
    """Return what is linked with what, directly or by others.

    Args:
        num_nodes: Nodes are numbered from 0 on.
        one: (n,) an end of each link.
        other: (n,) its other end.

    Returns:
        (num_nodes,) for each node the lowest that it is linked with; itself, if there is none.
    """
    lowest = np.arange(num_nodes)
    while True:
        ends = lowest[one], lowest[other]
        if np.array_equal(*ends):
            return lowest
        lower = np.minimum(*ends)
        for end in ends:
            np.minimum.at(lowest, end, lower)
        while not np.array_equal(lowest[lowest], lowest):
            lowest = lowest[lowest]
