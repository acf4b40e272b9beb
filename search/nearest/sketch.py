"""Sketches of rows: in lists around centres, and how far from these, a byte for each component.

A segment has one, which is a FAISS index of its own (`sketch.faiss`: a linear transform to the
leading principal components, inverted lists, codes of a byte for each component of what a row is
away from its centre) that `faiss.read_index` opens and that answers alone. It is asked with vectors
of 1,295 numbers, see `blend`. FAISS writes it; what is read here are its codes, where they lie in
the file, and arrays beside it, as a file that is parsed would be trusted. The rows of the segment
are in the order of the lists.

    index/segments/<segment>/sketch.faiss    transform, centres, lists of codes
    index/segments/<segment>/sketch-*.raw    arrays, see `shapes_of`
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers
from indexer.errors import DamagedStoreError, NotAsWrittenError
from indexer.store.disk import map_own, own_size
from indexer.store.part import reading
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.generation.manifest import SketchEntry
from search.generation.mapped import array_file, map_array
from search.nearest.basis import Basis
from search.nearest.bytes import MAX_COLUMNS, Bytes

#: Names of its files begin with this.
SKETCH_PREFIX = "sketch"
FAISS_FILE = f"{SKETCH_PREFIX}.faiss"
#: Arrays that are small, and held against their digest when a sketch is opened.
CHECKED = ("scenes", "roots", "centres", "spreads", "sizes")
#: Bytes of a row's number in a list of FAISS, and the unit in which places in the file are counted.
UNIT_BYTES = 8
#: Codes reach from 0 to this.
MOST = 255
#: Parts of the step of a code in which the second byte says where a row is.
FINER = 1 << 8


class Sketch:
    """The sketch of one segment, memory-mapped; threads may share it.

    Attributes:
        basis: Of its codes; segments that have the same may share it.
        half_width: Codes reach from minus this to this, from the centre of a list.
        centres: (num_lists, d) float32 components of the centres of the lists.
        spreads: (2, num_lists) float32 how far rows usually are from them, see `shapes_of`.
        sizes: (num_lists,) rows of each list.
        ends: (num_lists,) the row behind each list.
        sums: (num_listed,) uint16 what the bytes of each code add up to.
        finer: (num_listed, d) uint8 second bytes.
    """

    def __init__(self, folder: Path, entry: SketchEntry, num_rows: int) -> None:
        """Map a sketch; what is small in it must be known to be as it was written.

        Raises:
            DamagedStoreError: If a file is missing, or not of the size that it should have; or no
                sketch of so many rows is as the entry says.
        """
        is_width = 0 < entry.width <= MAX_COLUMNS and entry.width % UNIT_BYTES == 0
        if not is_width or entry.num_listed > num_rows or not entry.half_width > 0:
            raise DamagedStoreError(folder, "it cannot have the sketch that it is said to have")
        self._width, self.half_width = entry.width, np.float32(entry.half_width)
        arrays = {
            name: map_array(sketch_file(folder, name), dtype, shape, scattered=name == "finer")
            for name, (dtype, shape) in shapes_of(entry).items()
        }
        self.basis = Basis(arrays["scenes"], arrays["roots"])
        self.centres, self.spreads = arrays["centres"], arrays["spreads"]
        self.sums, self.finer, self.sizes = arrays["sums"], arrays["finer"], arrays["sizes"]
        if (self.sizes < 0).any() or sum(self.sizes.tolist()) != entry.num_listed:
            raise DamagedStoreError(sketch_file(folder, "sizes"), "not the sizes of its lists")
        self.ends = np.cumsum(self.sizes)
        self._file = _map_lists(folder / FAISS_FILE, entry)
        # For each unit of 8 bytes the code that begins there, if one does: they overlap.
        code = np.dtype((np.void, entry.width))
        num_units = max(0, (len(self._file) - entry.width) // UNIT_BYTES + 1)
        self._codes: Any = np.ndarray(num_units, code, self._file, 0, (UNIT_BYTES,))

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return len(self.sizes)

    @property
    def num_listed(self) -> int:
        """How many rows are in lists: all but those that are damaged, the last."""
        return len(self.sums)

    def blocks_of(self, lists: Integers) -> list[Bytes]:
        """Return of each of some lists (n, d) uint8 the codes of its rows, where they are."""
        return [self._blocks[one] for one in lists.tolist()]

    @cached_property
    def _blocks(self) -> list[Bytes]:
        """The same of all: to cut them out each time took a tenth of the time to read them."""
        # The numbers of a list, of 8 bytes, are behind its codes.
        begins = (self.ends - self.sizes) * (self._width + UNIT_BYTES)
        spans = zip(begins.tolist(), (begins + self.sizes * self._width).tolist(), strict=True)
        return [self._file[first:last].reshape(-1, self._width) for first, last in spans]

    def codes_of(self, rows: Integers, begins: Integers) -> Bytes:
        """Return (n, d) uint8 the codes of (n,) rows, of lists that begin with some rows."""
        codes: Bytes = self._codes[rows * (self._width // UNIT_BYTES) + begins].view(np.uint8)
        return codes.reshape(len(rows), self._width)

    def of_lists(self, column: npt.NDArray[Any], lists: Integers) -> npt.NDArray[Any]:
        """Return (n,) what a column of the segment says of all rows of some lists."""
        if not len(lists):
            return column[:0]
        lasts = self.ends[lists]
        firsts = lasts - self.sizes[lists]
        is_far = firsts[1:] != lasts[:-1]  # from the list before
        firsts, lasts = firsts[np.append(True, is_far)], lasts[np.append(is_far, True)]
        spans = zip(firsts.tolist(), lasts.tolist(), strict=True)
        return np.concatenate([column[first:last] for first, last in spans])

    def count_rows(self, rows: npt.NDArray[np.int32]) -> Integers:
        """Return (num_lists,) how many of (n,) rows, in order, each list holds."""
        # Of another type, all rows would be copied.
        return np.diff(np.searchsorted(rows, self.ends.astype(rows.dtype)), prepend=0)

    def find_rows(self, lists: Integers, rows: npt.NDArray[np.int32]) -> Integers:
        """Return which of some rows are in some lists, in order.

        Args:
            lists: (m,) lists, in order, each once.
            rows: (n,) rows, in order.
        """
        ends = self.ends[lists]
        starts = (ends - self.sizes[lists]).astype(rows.dtype)
        # Of another type, all rows would be copied.
        first = np.searchsorted(rows, starts)
        counts = np.searchsorted(rows, ends.astype(rows.dtype)) - first
        return rows[_runs(first, counts)].astype(np.int64)


def _runs(first: Integers, counts: Integers) -> Integers:
    """Return numbers that follow each other: as many as are counted from each of some firsts on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first + counts - ends, counts)


def sketch_file(segment: Path, name: str) -> Path:
    """Return the file of one of the arrays of a segment's sketch."""
    return array_file(segment, f"{SKETCH_PREFIX}-{name}")


def shapes_of(entry: SketchEntry) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return name → dtype and shape of the arrays beside the index.

    Of each list `spreads` says how far rows usually are from its centre, by the mean of squares:
    their scenes, and what is heard. Of each row `sums` says what the bytes of its code add up to,
    and `finer` where it is within the step of each of them, in 256 parts of it.
    """
    floats, width = np.dtype("<f4"), entry.width
    return {
        "scenes": (floats, (entry.num_scenes, EMBEDDING_DIM)),
        "roots": (floats, (entry.num_roots, NUM_TAGS)),
        "centres": (floats, (entry.num_lists, width)),
        "spreads": (floats, (2, entry.num_lists)),
        "sizes": (np.dtype("<i8"), (entry.num_lists,)),
        "sums": (np.dtype("<u2"), (entry.num_listed,)),
        "finer": (np.dtype(np.uint8), (entry.num_listed, width)),
    }


def _map_lists(file: Path, entry: SketchEntry) -> Bytes:
    """Map the lists at the end of a FAISS index: of each its codes, and then as many numbers."""
    num_bytes = entry.num_listed * (entry.width + UNIT_BYTES)
    with reading(file):
        if own_size(file) != entry.head_bytes + num_bytes:
            raise NotAsWrittenError(
                f"{own_size(file)} bytes, written as {entry.head_bytes + num_bytes}"
            )
        return np.frombuffer(map_own(file), np.uint8, offset=entry.head_bytes)
