"""Sketches of rows: in lists around centres, and how far from these, a byte for each component.

A segment has one, which is a FAISS index of its own (`sketch.faiss`: a linear transform to the
leading principal components, inverted lists, codes of a byte for each component of what a row is
away from its centre) that `faiss.read_index` opens and that answers alone. It is asked with vectors
of 1,295 numbers, see `blend`. FAISS writes it; what is read here are its codes, where they lie in
the file, and arrays beside it, as a file that is parsed would be trusted. The rows of the segment
are in the order of the lists, and within these in that of their clumps: see `clumps`.

    index/segments/<segment>/sketch.faiss    transform, centres, lists of codes
    index/segments/<segment>/sketch-*.raw    arrays, see `shapes_of`
"""

from __future__ import annotations

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
from search.nearest.clumps import CLUMP_ROWS, count_clumps, follow

#: Names of its files begin with this.
SKETCH_PREFIX = "sketch"
FAISS_FILE = f"{SKETCH_PREFIX}.faiss"
#: Arrays that are small, and held against their digest when a sketch is opened.
CHECKED = ("scenes", "roots", "centres", "spreads", "sizes", "clump_spreads")
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
        finer: (num_listed, d) uint8 second bytes.
        clump_spreads: (2, num_clumps) float32 how far rows usually are from the middle of each.
    """

    def __init__(self, folder: Path, entry: SketchEntry, num_rows: int) -> None:
        """Map a sketch; what is small in it must be known to be as it was written.

        Raises:
            DamagedStoreError: If a file is missing, or not of the size that it should have; or no
                sketch of so many rows is as the entry says.
        """
        is_width = 0 < entry.width <= MAX_COLUMNS and entry.width % UNIT_BYTES == 0
        is_head = entry.head_bytes >= CLUMP_ROWS * entry.width  # its transform alone is longer
        if not (is_width and is_head) or entry.num_listed > num_rows or not entry.half_width > 0:
            raise DamagedStoreError(folder, "it cannot have the sketch that it is said to have")
        self._width, self.half_width = entry.width, np.float32(entry.half_width)
        arrays = {
            name: map_array(sketch_file(folder, name), dtype, shape, scattered=name == "finer")
            for name, (dtype, shape) in shapes_of(entry).items()
        }
        self.basis = Basis(arrays["scenes"], arrays["roots"])
        self.centres, self.spreads = arrays["centres"], arrays["spreads"]
        self.finer, self.sizes = arrays["finer"], arrays["sizes"]
        self.clump_spreads = arrays["clump_spreads"]
        self._clump_sums = arrays["clump_sums"]
        self._middles = _items_at_each(arrays["clumps"].ravel(), entry.width, entry.width)
        is_sized = (self.sizes >= 0).all() and sum(self.sizes.tolist()) == entry.num_listed
        if not is_sized or count_clumps(self.sizes).sum() != entry.num_clumps:
            raise DamagedStoreError(sketch_file(folder, "sizes"), "not the sizes of its lists")
        self.num_listed, self.ends = entry.num_listed, np.cumsum(self.sizes)
        file = _map_lists(folder / FAISS_FILE, entry)
        codes = file[entry.head_bytes :]
        self._codes = _items_at_each(codes, entry.width, UNIT_BYTES)
        # Sixteen rows that end with the first are read in part from before it.
        before = file[entry.head_bytes - CLUMP_ROWS * entry.width :]
        self._sixteens = _items_at_each(before, CLUMP_ROWS * entry.width, UNIT_BYTES)
        sums = arrays["sums"]
        self._sums = sums[CLUMP_ROWS:]
        self._sums_of_sixteens = _items_at_each(
            sums.view(np.uint8), CLUMP_ROWS * sums.itemsize, sums.itemsize
        )

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return len(self.sizes)

    def codes_of(self, rows: Integers, begins: Integers) -> tuple[Bytes, npt.NDArray[np.uint16]]:
        """Return the codes of some rows, and what the bytes of each add up to.

        Args:
            rows: (n,) rows.
            begins: (n,) the first row of the list of each.

        Returns:
            (n, d) uint8 and (n,) uint16.
        """
        # The numbers of a list, of 8 bytes, are behind its codes.
        codes = self._codes[rows * (self._width // UNIT_BYTES) + begins]
        return codes.view(np.uint8).reshape(len(rows), self._width), self._sums[rows]

    def codes_before(
        self, ends: Integers, begins: Integers
    ) -> tuple[Bytes, npt.NDArray[np.uint16]]:
        """Return the same of the sixteen rows that end before each of some rows.

        What is said of rows before the first of their list is anything.

        Args:
            ends: (n,) rows.
            begins: (n,) the first row of the list of the one before each.

        Returns:
            (16 n, d) uint8 and (16 n,) uint16.
        """
        codes = self._sixteens[ends * (self._width // UNIT_BYTES) + begins]
        sums = self._sums_of_sixteens[ends].view(self._sums.dtype)
        return codes.view(np.uint8).reshape(CLUMP_ROWS * len(ends), self._width), sums

    def middles_of(self, clumps: Integers) -> tuple[Bytes, npt.NDArray[np.uint16]]:
        """Return (n, d) uint8 codes of the middles of (n,) clumps, and (n,) uint16 their sums."""
        codes = self._middles[clumps].view(np.uint8)
        return codes.reshape(len(clumps), self._width), self._clump_sums[clumps]

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
        return rows[follow(first, counts)].astype(np.int64)


def _items_at_each(content: Bytes, num_bytes: int, step: int) -> Any:
    """Return for each place, so many bytes apart, what begins there: they overlap."""
    number = max(0, (len(content) - num_bytes) // step + 1)
    return np.ndarray(number, np.dtype((np.void, num_bytes)), content, 0, (step,))


def sketch_file(segment: Path, name: str) -> Path:
    """Return the file of one of the arrays of a segment's sketch."""
    return array_file(segment, f"{SKETCH_PREFIX}-{name}")


def shapes_of(entry: SketchEntry) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return name → dtype and shape of the arrays beside the index.

    Of each list `spreads` says how far rows usually are from its centre, by the mean of squares:
    their scenes, and what is heard; and `clump_spreads` of each clump from its middle, the code of
    which is in `clumps`, and what the bytes of that add up to in `clump_sums`. Of each row `sums`
    says what the bytes of its code add up to, behind sixteen zeros, and `finer` where it is within
    the step of each of them, in 256 parts of it.
    """
    floats, width = np.dtype("<f4"), entry.width
    return {
        "scenes": (floats, (entry.num_scenes, EMBEDDING_DIM)),
        "roots": (floats, (entry.num_roots, NUM_TAGS)),
        "centres": (floats, (entry.num_lists, width)),
        "spreads": (floats, (2, entry.num_lists)),
        "sizes": (np.dtype("<i8"), (entry.num_lists,)),
        "clumps": (np.dtype(np.uint8), (entry.num_clumps, width)),
        "clump_sums": (np.dtype("<u2"), (entry.num_clumps,)),
        "clump_spreads": (floats, (2, entry.num_clumps)),
        "sums": (np.dtype("<u2"), (CLUMP_ROWS + entry.num_listed,)),
        "finer": (np.dtype(np.uint8), (entry.num_listed, width)),
    }


def _map_lists(file: Path, entry: SketchEntry) -> Bytes:
    """Map a FAISS index; at its end are lists: of each its codes, and then as many numbers."""
    num_bytes = entry.head_bytes + entry.num_listed * (entry.width + UNIT_BYTES)
    with reading(file):
        if own_size(file) != num_bytes:
            raise NotAsWrittenError(f"{own_size(file)} bytes, written as {num_bytes}")
        return np.frombuffer(map_own(file), np.uint8)
