"""Sketches of rows: in lists around centres, and how far from these, a byte for each component.

A segment has one: leading principal components of its rows, lists around centres, and codes of a
byte for each component of what a row is away from its centre; of scenes, and of the roots of what
is heard, each in files of their own: who asks by scenes alone reads no others. The rows of the
segment are in the order of the lists, and within these in that of their clumps: see `clumps`. It is
asked with vectors of 768 or 1,295 numbers, see `blend`. Nothing here parses a file.

    index/segments/<segment>/sketch-*.raw    arrays, see `shapes_of`
    index/segments/<segment>/sketch.faiss    the same as a FAISS index, for others: see `sketching`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers
from indexer.errors import DamagedStoreError
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.generation.manifest import SketchEntry
from search.generation.mapped import array_file, map_array
from search.nearest.basis import Basis
from search.nearest.bytes import MAX_COLUMNS, Bytes
from search.nearest.clumps import CLUMP_ROWS, count_clumps, follow

#: Names of its files begin with this.
SKETCH_PREFIX = "sketch"
#: What those of scenes begin with, and those of roots.
PARTS = "scene", "root"
#: Arrays that are small, and held against their digest when a sketch is opened.
CHECKED = ("scenes", "roots", "centres", "spreads", "sizes", "clump_spreads")
#: What is small in a sketch is of rows of length 1, so that no number is larger than 2. From larger
#: ones, and what is none, products would be made that cannot be put in order.
_LARGEST = 1e3
#: Steps of a code, from minus the half width of what codes reach to it.
MOST = 255
#: Parts of the step of a code in which the second byte says where a row is.
FINER = 1 << 8


class Part(NamedTuple):
    """What is kept of rows by their scenes, or by the roots of what is heard.

    Attributes:
        codes: (num_listed, c) int8.
        finer: (num_listed, c) int8 second bytes.
        middles: (num_clumps, c) int8 the mean code of each clump.
        sixteens: At each row, the codes of the sixteen that end before it; of rows before the first
            they are 0.
    """

    codes: Bytes
    finer: Bytes
    middles: Bytes
    sixteens: Any

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, Bytes]) -> Part:
        """Take those that the arrays beside a sketch have of it."""
        codes = arrays[f"{name}_codes"]
        num_bytes = CLUMP_ROWS * codes.shape[1]
        sixteens: Any = np.ndarray(
            len(codes) + 1 - CLUMP_ROWS,
            np.dtype((np.void, num_bytes)),
            codes,
            strides=(codes.shape[1],),
        )  # these overlap
        finer, middles = arrays[f"{name}_finer"], arrays[f"{name}_middles"]
        return cls(codes[CLUMP_ROWS:], finer, middles, sixteens)

    def codes_before(self, ends: Integers) -> Bytes:
        """Return (16 n, c) int8 the codes of the sixteen rows that end before each of (n,) rows."""
        codes = self.sixteens[ends].view(np.int8)
        return np.asarray(codes.reshape(CLUMP_ROWS * len(ends), self.codes.shape[1]))


class Sketch:
    """The sketch of one segment, memory-mapped; threads may share it.

    Attributes:
        basis: Of its codes; segments that have the same may share it.
        step: Of its codes.
        centres: (num_lists, d) float32 components of the centres of the lists.
        spreads: (2, num_lists) float32 how far rows usually are from them, see `shapes_of`.
        sizes: (num_lists,) rows of each list.
        ends: (num_lists,) the row behind each list.
        parts: Codes by scenes, and by roots.
        clump_spreads: (2, num_clumps) float32 how far rows usually are from the middle of each.
    """

    def __init__(self, folder: Path, entry: SketchEntry, num_rows: int) -> None:
        """Map a sketch; what is small in it must be known to be as it was written.

        Raises:
            DamagedStoreError: If a file is missing, or not of the size that it should have, or says
                what no sketch does; or no sketch of so many rows is as the entry says.
        """
        is_width = min(entry.num_scenes, entry.num_roots) > 0 and entry.width <= MAX_COLUMNS
        if not is_width or entry.num_listed > num_rows or not entry.half_width > 0:
            raise DamagedStoreError(folder, "it cannot have the sketch that it is said to have")
        self.step = np.float32(2 * entry.half_width / MOST)
        arrays = {
            name: map_array(sketch_file(folder, name), dtype, shape, scattered="finer" in name)
            for name, (dtype, shape) in shapes_of(entry).items()
        }
        for name in CHECKED:
            array = arrays[name]
            if array.dtype.kind == "f" and not np.abs(array).max(initial=0) <= _LARGEST:
                raise DamagedStoreError(sketch_file(folder, name), "not the numbers of a sketch")
        self.basis = Basis(arrays["scenes"], arrays["roots"])
        self.centres, self.spreads = arrays["centres"], arrays["spreads"]
        self.sizes, self.clump_spreads = arrays["sizes"], arrays["clump_spreads"]
        self.parts = tuple(Part.of(name, arrays) for name in PARTS)
        is_sized = (self.sizes >= 0).all() and sum(self.sizes.tolist()) == entry.num_listed
        if not is_sized or count_clumps(self.sizes).sum() != entry.num_clumps:
            raise DamagedStoreError(sketch_file(folder, "sizes"), "not the sizes of its lists")
        self.num_listed, self.ends = entry.num_listed, np.cumsum(self.sizes)

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return len(self.sizes)

    def count_rows(self, rows: npt.NDArray[np.int32] | Integers) -> Integers:
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


def sketch_file(segment: Path, name: str) -> Path:
    """Return the file of one of the arrays of a segment's sketch."""
    return array_file(segment, f"{SKETCH_PREFIX}-{name}")


def shapes_of(entry: SketchEntry) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return name → dtype and shape of the arrays of a sketch.

    Of each list `spreads` says how far rows usually are from its centre, by the mean of squares:
    their scenes, and what is heard; and `clump_spreads` of each clump from its middle. Of each row
    codes, which are behind those of sixteen zeros, say what it is away from its centre by scenes
    and by roots, and finer ones where it is within the step of each of them, in 256 parts of it; of
    each clump, middles say where the mean of its codes is.
    """
    floats = np.dtype("<f4")
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "scenes": (floats, (entry.num_scenes, EMBEDDING_DIM)),
        "roots": (floats, (entry.num_roots, NUM_TAGS)),
        "centres": (floats, (entry.num_lists, entry.width)),
        "spreads": (floats, (2, entry.num_lists)),
        "sizes": (np.dtype("<i8"), (entry.num_lists,)),
        "clump_spreads": (floats, (2, entry.num_clumps)),
    }
    for name, width in zip(PARTS, (entry.num_scenes, entry.num_roots), strict=True):
        shapes[f"{name}_codes"] = np.dtype(np.int8), (CLUMP_ROWS + entry.num_listed, width)
        shapes[f"{name}_finer"] = np.dtype(np.int8), (entry.num_listed, width)
        shapes[f"{name}_middles"] = np.dtype(np.int8), (entry.num_clumps, width)
    return shapes
