"""Sketches of rows: their leading principal components, a byte each, in lists around centres.

A segment has one, which is a FAISS index of its own (`index.faiss`: a linear transform, inverted
lists, codes of a byte for each component) that `faiss.read_index` opens and that answers alone. It
is asked with vectors of 1,295 numbers, see `blend`. FAISS writes it; what is read here are its
codes, where they lie in the file, and arrays beside it, as a file that is parsed would be trusted.
The rows of the segment are in the order of the lists.

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
from search.generation.manifest import MENDED_ANEW, SketchEntry
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

    def project(self, vectors: Float32) -> Float32:
        """Return (q, s + t) float32 components of (q, 768) or (q, 1295) vectors."""
        found = np.zeros((len(vectors), len(self.scenes) + len(self.roots)), np.float32)
        found[:, : len(self.scenes)] = vectors[:, :EMBEDDING_DIM] @ self.scenes.T
        if vectors.shape[1] > EMBEDDING_DIM:
            found[:, len(self.scenes) :] = vectors[:, EMBEDDING_DIM:] @ self.roots.T
        return found


class Asked(NamedTuple):
    """What asks a sketch.

    Attributes:
        codes: (q, d) uint8: its components, in steps of `steps`, around 128.
        steps: (q,) float32.
        shifts: (q,) float32 what the product of each has to be shifted by.
        length: Of the longest.
    """

    codes: Bytes
    steps: Float32
    shifts: Float32
    length: float


class Some(NamedTuple):
    """Some rows of a segment, and their codes.

    Attributes:
        rows: (n,) rows.
        sums: (n,) uint16 what the bytes of each code add up to.
        codes: (n, d) uint8.
    """

    rows: Integers
    sums: npt.NDArray[np.uint16]
    codes: Bytes


class Sketch:
    """The sketch of one segment, memory-mapped; threads may share it.

    Attributes:
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
            name: map_array(sketch_file(folder, name), dtype, shape)
            for name, (dtype, shape) in shapes_of(entry).items()
        }
        self.basis = Basis(arrays["scenes"], arrays["roots"])
        centres, self._spreads = arrays["centres"], arrays["spreads"]
        self._centres = Some(np.arange(len(centres)), centres.sum(1, dtype=np.uint16), centres)
        self._units, self._sums, self.sizes = arrays["units"], arrays["sums"], arrays["sizes"]
        if (self.sizes < 0).any() or sum(self.sizes.tolist()) != entry.num_listed:
            raise DamagedStoreError(sketch_file(folder, "sizes"), "not the sizes of its lists")
        self._ends = np.cumsum(self.sizes)
        self._lists = _map_lists(folder / FAISS_FILE, entry)
        # For each unit of 8 bytes the code that begins there, if one does: they overlap.
        code = np.dtype((np.void, entry.width))
        num_units = max(0, (len(self._lists) - entry.width) // UNIT_BYTES + 1)
        self._codes: Any = np.ndarray(num_units, code, self._lists, 0, (UNIT_BYTES,))

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return len(self.sizes)

    def ask(self, vectors: Float32) -> Asked:
        """Prepare (q, 768) or (q, 1295) vectors for `rank` and `multiply`."""
        components = self.basis.project(vectors)
        components[~np.isfinite(components)] = 0  # of what is damaged
        steps = np.abs(components).max(1) / _REACH
        steps[~(steps > 0)] = 1
        whole = np.rint(components / steps[:, None])
        length = float(np.sqrt(np.square(components).sum(1).max(initial=0)))
        # A code c stands for (2 c + 1) h / 255 - h, h being half the width of what they reach.
        shifts = steps * whole.sum(1) * self._half_width * np.float32(1 / MOST - 1)
        return Asked((whole + _MIDDLE).astype(np.uint8), steps, shifts, length)

    def rank(self, asked: Asked, reach: float) -> Float32:
        """Return (num_lists,) float32 how near the nearest rows of each list may be.

        That is how near its centre is, and more where its rows are further from it.

        Args:
            asked: What asks.
            reach: How many times their spread rows are taken to be nearer than their centre.
        """
        near = self.multiply(asked, self._centres)
        near += self._spreads * np.float32(reach * asked.length)
        return near

    def in_lists(self, lists: Integers, mask: Mask | None) -> Some:
        """Return what some lists hold.

        Args:
            lists: (n,) numbers of lists, each once.
            mask: (num_rows,) which rows count; None for all.

        Raises:
            DamagedStoreError: If it says that they are where nothing is.
        """
        if mask is None:
            return self._all_in(lists)
        lists = np.sort(lists)
        is_first = np.append(True, np.diff(lists) > 1)  # of lists that lie together
        begins = (self._ends - self.sizes)[lists[is_first]]
        ends = self._ends[lists[np.append(is_first[1:], True)]]
        spans = zip(begins.tolist(), ends.tolist(), strict=True)
        at = np.flatnonzero(np.concatenate([mask[first:last] for first, last in spans]))
        places = np.cumsum(ends - begins)
        counts = np.diff(np.searchsorted(at, places), prepend=0)
        return self.at(at + np.repeat(ends - places, counts))

    def _all_in(self, lists: Integers) -> Some:
        ends, sizes = self._ends[lists], self.sizes[lists]
        spans = list(zip((ends - sizes).tolist(), ends.tolist(), strict=True))
        rows = np.arange(int(sizes.sum())) + np.repeat(ends - np.cumsum(sizes), sizes)
        sums = np.concatenate([self._sums[first:last] for first, last in spans])
        return Some(rows, sums, np.concatenate([self._codes_of(*span) for span in spans]))

    def among(self, mask: Mask) -> Some:
        """Return what is known of the rows of a mask, but for those that are damaged.

        Raises:
            DamagedStoreError: As of `in_lists`.
        """
        return self.at(np.flatnonzero(mask[: len(self._units)]))

    def at(self, rows: Integers) -> Some:
        """Return what is known of (n,) rows, none of them damaged; see `in_lists`."""
        try:
            codes = self._codes[self._units.take(rows)]
        except IndexError:
            file, reason = sketch_file(self._folder, "units"), "it names places that there are not"
            store = self._folder.parents[2]
            raise DamagedStoreError(file, reason, MENDED_ANEW, about="anew", value=store) from None
        codes = codes.view(np.uint8).reshape(len(rows), self._width)
        return Some(rows, self._sums.take(rows), codes)

    def _codes_of(self, first: int, last: int) -> Bytes:
        """Return (n, d) the codes of one list, where they lie."""
        place = first * (self._width + UNIT_BYTES)
        return np.ndarray((last - first, self._width), np.uint8, self._lists, place)

    def multiply(self, asked: Asked, some: Some) -> Float32:
        """Return (n,) float32 the best product of what asks with each row, going by its code."""
        products = multiply_bytes(asked.codes, some.codes)
        products -= some.sums * np.float32(_MIDDLE)  # exact: whole numbers below 2^24
        products *= (asked.steps * self._half_width * np.float32(2 / MOST))[:, None]
        products += asked.shifts[:, None]
        return products[0] if len(products) == 1 else np.asarray(products.max(0))


def sketch_file(segment: Path, name: str) -> Path:
    """Return the file of one of the arrays of a segment's sketch."""
    return array_file(segment, f"{SKETCH_PREFIX}-{name}")


def shapes_of(entry: SketchEntry) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return name → dtype and shape of the arrays beside the index.

    Of each row `units` says where in the file its code begins, and `sums` what its bytes add up to.
    """
    floats, width = np.dtype("<f4"), entry.width
    return {
        "scenes": (floats, (entry.num_scenes, EMBEDDING_DIM)),
        "roots": (floats, (entry.num_roots, NUM_TAGS)),
        "centres": (np.dtype(np.uint8), (entry.num_lists, width)),
        "spreads": (floats, (entry.num_lists,)),
        "sizes": (np.dtype("<i8"), (entry.num_lists,)),
        "units": (np.dtype("<u4"), (entry.num_listed,)),
        "sums": (np.dtype("<u2"), (entry.num_listed,)),
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
