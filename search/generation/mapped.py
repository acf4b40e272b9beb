"""Arrays on disk, as files of nothing but their bytes; and windows by their ids."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers
from indexer.errors import NotAsWrittenError
from indexer.store.disk import map_own, own_size
from indexer.store.part import reading


def array_file(segment: Path, name: str) -> Path:
    """Return the file of one of a segment's arrays: nothing but its bytes."""
    return segment / f"{name}.raw"


def map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Map a file that holds nothing but an array: whatever its bytes, it opens or is refused."""
    with reading(path):
        expected = math.prod(shape) * dtype.itemsize
        if own_size(path) != expected:
            raise NotAsWrittenError(f"{own_size(path)} bytes, written as {expected}")
        # Not np.memmap: that keeps a descriptor open for each array.
        return np.frombuffer(map_own(path), dtype).reshape(shape)


class RowsById(NamedTuple):
    """Rows of a segment in the order of their windows' ids: what is looked up by halving.

    Attributes:
        sorted_id: (num_rows,) int64 window ids, in order.
        row_of_id: (num_rows,) int32 the row of each.
    """

    sorted_id: Integers
    row_of_id: npt.NDArray[np.int32]

    @classmethod
    def of(cls, window_ids: Integers) -> Self:
        """Put (num_rows,) ids in order."""
        order = np.argsort(window_ids, kind="stable")
        return cls(window_ids[order], order.astype("<i4"))

    @classmethod
    def open(cls, segment: Path, num_rows: int) -> Self:
        """Map what a segment has of it.

        Raises:
            DamagedStoreError: If an array is missing or not of the expected size.
        """
        dtypes = np.dtype("<i8"), np.dtype("<i4")
        files = (array_file(segment, name) for name in cls._fields)
        return cls(*(map_array(*one, (num_rows,)) for one in zip(files, dtypes, strict=True)))

    def find(self, window_ids: Integers) -> Integers:
        """Return (n,) the row of each of some windows; -1 for those that are not there."""
        if not len(self.sorted_id):
            return np.full(len(window_ids), -1)
        at = np.minimum(np.searchsorted(self.sorted_id, window_ids), len(self.sorted_id) - 1)
        return np.where(self.sorted_id[at] == window_ids, self.row_of_id[at], np.int64(-1))
