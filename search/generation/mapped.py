"""Arrays on disk, as files of nothing but their bytes; and rows by what they are of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from indexer.arrays import Ids, Integers
from indexer.errors import NotAsWrittenError
from indexer.store.disk import map_own, own_size
from indexer.store.part import reading


def array_file(segment: Path, name: str) -> Path:
    """Return the file of one of a segment's arrays: nothing but its bytes."""
    return segment / f"{name}.raw"


def map_array(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], *, scattered: bool = False
) -> npt.NDArray[Any]:
    """Map a file that holds nothing but an array: whatever its bytes, it opens or is refused.

    Args:
        path: The file.
        dtype: Of the array.
        shape: Of the array.
        scattered: See `map_own`.
    """
    with reading(path):
        expected = math.prod(shape) * dtype.itemsize
        if own_size(path) != expected:
            raise NotAsWrittenError(f"{own_size(path)} bytes, written as {expected}")
        # Not np.memmap: that keeps a descriptor open for each array.
        return np.frombuffer(map_own(path, scattered=scattered), dtype).reshape(shape)


class Lookup(NamedTuple):
    """Rows of a segment in the order of a number that each has: what is looked up by halving.

    Attributes:
        keys: (num_rows,) int64 the numbers, in order.
        rows: (num_rows,) int32 the row of each; of equal ones, the lowest first.
    """

    keys: Integers
    rows: npt.NDArray[np.int32]

    @classmethod
    def of(cls, numbers: Integers) -> Self:
        """Put the (num_rows,) numbers of rows in order."""
        order = np.argsort(numbers, kind="stable")
        return cls(numbers[order].astype("<i8"), order.astype("<i4"))

    @classmethod
    def open(cls, segment: Path, name: str, num_rows: int) -> Self:
        """Map what a segment has of it.

        Raises:
            DamagedStoreError: If an array is missing or not of the expected size.
        """
        keys, rows = (array_file(segment, one) for one in cls.array_names(name))
        shape = (num_rows,)
        return cls(map_array(keys, np.dtype("<i8"), shape), map_array(rows, np.dtype("<i4"), shape))

    @staticmethod
    def array_names(name: str) -> tuple[str, str]:
        """Return the names of its arrays in a segment, in the order of its fields."""
        return f"sorted_{name}", f"row_of_{name}"

    def find(self, numbers: Integers) -> Integers:
        """Return (n,) a row of each of some numbers; -1 for those that are not there."""
        if not len(self.keys):
            return np.full(len(numbers), -1)
        at = np.minimum(np.searchsorted(self.keys, numbers), len(self.keys) - 1)
        return np.where(self.keys[at] == numbers, self.rows[at], np.int64(-1))

    def find_all(self, number: int) -> Integers:
        """Return (n,) all rows that have a number."""
        first, end = (np.searchsorted(self.keys, number, side) for side in ("left", "right"))
        return self.rows[first:end].astype(np.int64)


def number_of(recording_ids: Ids) -> Integers:
    """Return (n,) int64 the first eight bytes of ids of recordings: hardly two have the same."""
    halves = np.ascontiguousarray(recording_ids).view(">i8").reshape(-1, 2)
    return halves[:, 0].astype(np.int64)
