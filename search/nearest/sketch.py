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

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from indexer.errors import DamagedStoreError, NotAsWrittenError
from indexer.store.disk import map_own, own_size
from indexer.store.part import reading
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.generation.manifest import SketchEntry
from search.generation.mapped import array_file, map_array
from search.nearest.bytes import MAX_COLUMNS, Bytes, multiply_bytes

#: Names of its files begin with this.
SKETCH_PREFIX = "sketch"
FAISS_FILE = f"{SKETCH_PREFIX}.faiss"
#: Arrays that are small, and held against their digest when a sketch is opened.
CHECKED = ("scenes", "roots", "centres", "spreads", "sizes")
#: Bytes of a row's number in a list of FAISS, and the unit in which places in the file are counted.
UNIT_BYTES = 8
#: Codes reach from 0 to this.
MOST = 255
#: Of a question, bytes reach from -127 to 127 around this.
_MIDDLE, _REACH = 128, 127


class Basis(NamedTuple):
    """Principal components of scenes, and of the roots of what is heard, each on its own.

    Attributes:
        scenes: (s, 768) float32, of length 1 and at right angles.
        roots: (t, 527) float32, likewise.
    """

    scenes: Float32
    roots: Float32

    def prepare(self, vectors: Float32) -> Prepared:
        """Prepare (q, 768) or (q, 1295) vectors to ask sketches of this basis."""
        components = self.project(vectors)
        components[~np.isfinite(components)] = 0  # of what is damaged
        steps = np.abs(components).max(1) / _REACH
        steps[~(steps > 0)] = 1
        whole = np.rint(components / steps[:, None])
        length = float(np.sqrt(np.square(components).sum(1).max(initial=0)))
        codes = (whole + _MIDDLE).astype(np.uint8)
        return Prepared(components, codes, steps, steps * whole.sum(1), length)

    def project(self, vectors: Float32) -> Float32:
        """Return (q, s + t) float32 components of (q, 768) or (q, 1295) vectors."""
        found = np.zeros((len(vectors), len(self.scenes) + len(self.roots)), np.float32)
        found[:, : len(self.scenes)] = vectors[:, :EMBEDDING_DIM] @ self.scenes.T
        if vectors.shape[1] > EMBEDDING_DIM:
            found[:, len(self.scenes) :] = vectors[:, EMBEDDING_DIM:] @ self.roots.T
        return found


class Prepared(NamedTuple):
    """What asks sketches of a basis.

    Attributes:
        components: (q, d) float32.
        codes: (q, d) uint8: the same in steps of `steps`, around 128.
        steps: (q,) float32.
        sums: (q,) float32 what the components add up to, as their codes say.
        length: Of the longest.
    """

    components: Float32
    codes: Bytes
    steps: Float32
    sums: Float32
    length: float


class Asked(NamedTuple):
    """What asks a sketch.

    Attributes:
        prepared: By its basis.
        products: (q, num_lists) float32 of that with the centres of the lists.
    """

    prepared: Prepared
    products: Float32


class Some(NamedTuple):
    """Some rows of a segment, and their codes.

    Attributes:
        rows: (n,) rows.
        lists: (n,) the list of each.
        sums: (n,) uint16 what the bytes of each code add up to.
        codes: (n, d) uint8.
    """

    rows: Integers
    lists: Integers
    sums: npt.NDArray[np.uint16]
    codes: Bytes


class Sketch:
    """The sketch of one segment, memory-mapped; threads may share it.

    Attributes:
        basis: Of its codes; segments that have the same may share it.
        sizes: (num_lists,) rows of each list.
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
        self._folder, self._width = folder, entry.width
        self._half_width = np.float32(entry.half_width)
        arrays = {
            name: map_array(sketch_file(folder, name), dtype, shape, scattered=name == "finer")
            for name, (dtype, shape) in shapes_of(entry).items()
        }
        self.basis = Basis(arrays["scenes"], arrays["roots"])
        self._centres, self._spreads = arrays["centres"], arrays["spreads"]
        self._sums, self._finer, self.sizes = arrays["sums"], arrays["finer"], arrays["sizes"]
        if (self.sizes < 0).any() or sum(self.sizes.tolist()) != entry.num_listed:
            raise DamagedStoreError(sketch_file(folder, "sizes"), "not the sizes of its lists")
        self._ends = np.cumsum(self.sizes)
        self._starts = self._ends - self.sizes
        self._file = _map_lists(folder / FAISS_FILE, entry)
        # For each unit of 8 bytes the code that begins there, if one does: they overlap.
        code = np.dtype((np.void, entry.width))
        num_units = max(0, (len(self._file) - entry.width) // UNIT_BYTES + 1)
        self._codes: Any = np.ndarray(num_units, code, self._file, 0, (UNIT_BYTES,))

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return len(self.sizes)

    def ask(self, prepared: Prepared) -> Asked:
        """Begin to ask: how near the centres of the lists are."""
        return Asked(prepared, prepared.components @ self._centres.T)

    def rank(self, asked: Asked, reach: float) -> Float32:
        """Return (num_lists,) float32 how near the nearest rows of each list may be.

        That is how near its centre is, and more where its rows are further from it.

        Args:
            asked: What asks.
            reach: How many times their spread rows are taken to be nearer than their centre.
        """
        further = self._spreads * np.float32(reach * asked.prepared.length)
        return np.asarray(asked.products.max(0) + further)

    def in_lists(self, lists: Integers, mask: Mask | None) -> Some:
        """Return what some lists hold.

        Args:
            lists: (n,) numbers of lists, in order, each once.
            mask: (num_rows,) which rows count; None for all.
        """
        starts, ends = self._starts[lists], self._ends[lists]
        if mask is None:
            return self._at(_runs(starts, ends - starts), np.repeat(lists, ends - starts))
        is_first = np.append(True, np.diff(lists) > 1)  # of lists that lie together
        begins, stops = starts[is_first], ends[np.append(is_first[1:], True)]
        spans = zip(begins.tolist(), stops.tolist(), strict=True)
        at = np.flatnonzero(np.concatenate([mask[first:last] for first, last in spans]))
        places = np.cumsum(stops - begins)
        counts = np.diff(np.searchsorted(at, places), prepend=0)
        rows = at + np.repeat(stops - places, counts)
        return self._at(rows, np.repeat(lists, np.diff(np.searchsorted(rows, ends), prepend=0)))

    def of_rows(self, lists: Integers, rows: npt.NDArray[np.int32]) -> Some:
        """Return what some lists hold of some rows.

        Args:
            lists: (n,) numbers of lists, in order, each once.
            rows: (m,) rows, in order.
        """
        # Of another type, all rows would be copied.
        starts, ends = (of[lists].astype(rows.dtype) for of in (self._starts, self._ends))
        first = np.searchsorted(rows, starts)
        counts = np.searchsorted(rows, ends) - first
        return self._at(rows[_runs(first, counts)].astype(np.int64), np.repeat(lists, counts))

    def among(self, rows: Integers) -> Some:
        """Return what is known of (n,) rows, in order, but for those that are damaged."""
        rows = rows[: np.searchsorted(rows, len(self._sums))]
        if len(rows) < self.num_lists:
            return self._at(rows, np.searchsorted(self._ends, rows, side="right"))
        counts = np.diff(np.searchsorted(rows, self._ends), prepend=0)
        return self._at(rows, np.repeat(np.arange(self.num_lists), counts))

    def _at(self, rows: Integers, lists: Integers) -> Some:
        """Return what is known of (n,) rows, and the (n,) list of each."""
        # The numbers of a list, of 8 bytes, are behind its codes.
        units = rows * (self._width // UNIT_BYTES) + self._starts[lists]
        codes = self._codes[units].view(np.uint8).reshape(len(rows), self._width)
        return Some(rows, lists, self._sums[rows], codes)

    def multiply(self, asked: Asked, some: Some) -> Float32:
        """Return (n,) float32 the best product of what asks with each row, going by its code."""
        given, products = asked
        near = multiply_bytes(given.codes, some.codes)
        near -= some.sums * np.float32(_MIDDLE)  # exact: whole numbers below 2^24
        near *= (given.steps * self._half_width * np.float32(2 / MOST))[:, None]
        # A code c stands for (2 c + 1) h / 255 - h, h being half the width of what they reach.
        near += (given.sums * self._half_width * np.float32(1 / MOST - 1))[:, None]
        near += products[:, some.lists]
        return near[0] if len(near) == 1 else np.asarray(near.max(0))

    def refine(self, asked: Asked, rows: Integers) -> Float32:
        """Return (n,) float32 the best product of what asks with each row, by its finer code.

        Args:
            asked: What asks.
            rows: (n,) rows, in order, none of them damaged.
        """
        some = self.among(rows)
        away = (self._finer[rows] + np.float32(0.5)) / np.float32(1 << 8)
        away += some.codes
        away *= self._half_width * np.float32(2 / MOST)
        away -= self._half_width
        near = asked.prepared.components @ away.T
        near += asked.products[:, some.lists]
        return np.asarray(near.max(0))


def _runs(first: Integers, counts: Integers) -> Integers:
    """Return numbers that follow each other: as many as are counted from each of some firsts on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first + counts - ends, counts)


def sketch_file(segment: Path, name: str) -> Path:
    """Return the file of one of the arrays of a segment's sketch."""
    return array_file(segment, f"{SKETCH_PREFIX}-{name}")


def shapes_of(entry: SketchEntry) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return name → dtype and shape of the arrays beside the index.

    Of each row `sums` says what the bytes of its code add up to, and `finer` where it is within
    the step of each of them, in 256 parts of it.
    """
    floats, width = np.dtype("<f4"), entry.width
    return {
        "scenes": (floats, (entry.num_scenes, EMBEDDING_DIM)),
        "roots": (floats, (entry.num_roots, NUM_TAGS)),
        "centres": (floats, (entry.num_lists, width)),
        "spreads": (floats, (entry.num_lists,)),
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
