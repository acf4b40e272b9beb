"""Inverted lists: a segment's rows by their nearest centre, as codes that are quick to scan.

Centres and quantiser are trained once, on a sample, and shared by all segments. A segment's lists
are one memory-mapped file of nothing but codes and rows: a flipped byte there may change what is
found, never crash. FAISS scans them where they lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import faiss
import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from indexer.errors import DamagedStoreError
from indexer.progress import Listen, ignore
from indexer.store.disk import open_own, own_size, read_own, replacing, sync_file, write_whole
from indexer.store.part import reading
from indexer.store.schema import EMBEDDING_DIM
from search.generation.manifest import Kind
from search.nearest.centres import ITERATIONS, find_centres

#: Bytes of a vector in a list.
CODE_BYTES: dict[Kind, int] = {"sq8": EMBEDDING_DIM, "pq": EMBEDDING_DIM // 8}
#: FAISS maps no lists on Windows: there every answer is exact, and no lists are made.
CAN_MAP_LISTS = hasattr(faiss, "OnDiskInvertedLists")
_BLOCK_ROWS = 16384
_ROW_BYTES = 8
#: Codes that one core scans in some 10 ms. Below, one core does it: to wait for a second, which
#: other programs may be using, took 8 to 30 ms where the scan takes one.
_ROWS_WORTH_SHARING = 1 << 17

TRAINED_FILE = "trained.raw"
SIZES_PREFIX = "sizes-"
_LISTS_NAME = re.compile(r"(?:lists|sizes)-[0-9a-f]{32}\.raw")
#: float32 numbers of the quantiser, before the centres in `TRAINED_FILE`: the lowest value and the
#: range of each dimension; or 256 pieces of 8 dimensions for each byte of a code.
_QUANTISER_FLOATS: dict[Kind, int] = {"sq8": 2 * EMBEDDING_DIM, "pq": 256 * EMBEDDING_DIM}


def num_lists_for(num_rows: int) -> int:
    """Return how many lists suit a number of rows: twice its square root.

    FAISS advises four to sixteen times. Among 200,000 rows, two found as much in the same time as
    four: fewer centres to compare, longer lists to scan. It halves what training takes.
    """
    return max(1, round(2 * math.sqrt(num_rows)))


class Probes(NamedTuple):
    """Lists to visit, for some vectors.

    Attributes:
        lists: (q, n) int64 numbers of lists, the nearest first; -1 for none.
        scores: (q, n) float32 products with their centres.
    """

    lists: Integers
    scores: Float32

    def between(self, first: int, last: int) -> Probes:
        """Return some of them: nearer ones have been visited, further ones need not be."""
        some = slice(first, last)
        return Probes(self.lists[:, some].copy(), self.scores[:, some].copy())


#: Eight rows to a byte.
Bits = npt.NDArray[np.uint8]


def pack(mask: Mask) -> Bits | None:
    """Return which rows may be found as the scan takes it; None if all may."""
    return None if mask.all() else np.packbits(mask, bitorder="little")


class Trained:
    """Centres and quantiser: what all lists of an index have in common."""

    def __init__(self, index: Any) -> None:
        """Take a FAISS inverted-file index without rows."""
        self._index = index
        self._centres = faiss.downcast_index(index.quantizer)

    @classmethod
    def train(cls, sample: Float32, kind: Kind, num_lists: int, listen: Listen = ignore) -> Self:
        """Find centres, and the range or codebook of the codes.

        Args:
            sample: (n, 768) float32 of length 1; 40 rows for each list are enough.
            kind: How vectors are to be kept.
            num_lists: How many lists.
            listen: Hears why a GPU that is there is of no use, if it is not.
        """
        sample = np.ascontiguousarray(sample, np.float32)
        centres = faiss.IndexFlatIP(EMBEDDING_DIM)
        index = _make_empty(kind, centres, num_lists)
        if kind == "pq":
            index.pq.cp.niter = ITERATIONS
            index.pq.cp.min_points_per_centroid = 1
        centres.add(find_centres(sample, num_lists, listen))
        index.train(sample)  # what is left of it
        return cls(index)

    @classmethod
    def open(cls, path: Path, kind: Kind) -> Self:
        """Read what `write` wrote.

        Numbers, and nothing that has to be parsed: a file of FAISS's own would be trusted by it.

        Raises:
            DamagedStoreError: If it has not the size of a quantiser and some centres.
        """
        with reading(path), open_own(path) as file:
            numbers = np.frombuffer(file.read(), np.uint8)
        num_floats, num_bytes = _QUANTISER_FLOATS[kind], 4 * EMBEDDING_DIM
        if len(numbers) % num_bytes or len(numbers) <= 4 * num_floats:
            raise DamagedStoreError(path, f"{len(numbers)} bytes hold no centres")
        floats = numbers.view("<f4")
        centres = faiss.IndexFlatIP(EMBEDDING_DIM)
        centres.add(np.ascontiguousarray(floats[num_floats:].reshape(-1, EMBEDDING_DIM)))
        index = _make_empty(kind, centres, centres.ntotal)
        faiss.copy_array_to_vector(floats[:num_floats].copy(), _quantiser(index))
        index.is_trained = True
        return cls(index)

    def write(self, path: Path) -> None:
        """Write the quantiser and the centres to a file, as little-endian float32."""
        centres = faiss.rev_swig_ptr(self._centres.get_xb(), self.num_lists * EMBEDDING_DIM)
        quantiser = faiss.vector_to_array(_quantiser(self._index))
        np.concatenate([quantiser, centres]).astype("<f4").tofile(path)
        sync_file(path)

    @property
    def kind(self) -> Kind:
        """How vectors are kept."""
        return "sq8" if isinstance(self._index, faiss.IndexIVFScalarQuantizer) else "pq"

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    @property
    def code_bytes(self) -> int:
        """Bytes of a vector in a list."""
        return int(self._index.code_size)

    def nearest(self, vectors: Float32, num: int) -> Probes:
        """Return the lists with the nearest centres to (q, 768) vectors, the nearest first."""
        scores, lists = self._centres.search(vectors, min(num, self.num_lists))
        return Probes(lists, scores)

    def all_after(self, vectors: Float32, first: Probes) -> Probes:
        """Return all lists, the nearest first, beginning with those that `nearest` gave."""
        centres = faiss.rev_swig_ptr(self._centres.get_xb(), self.num_lists * EMBEDDING_DIM)
        near = np.empty((len(vectors), self.num_lists), np.float32)
        if len(vectors) == 1:  # on one core: BLAS would wait for a second that may be busy
            faiss.fvec_inner_products_ny(
                faiss.swig_ptr(near),
                faiss.swig_ptr(vectors),
                faiss.swig_ptr(centres),
                EMBEDDING_DIM,
                self.num_lists,
            )
        else:
            np.matmul(vectors, centres.reshape(-1, EMBEDDING_DIM).T, out=near)
        np.put_along_axis(near, first.lists, -np.inf, 1)  # in place already
        rest = np.argsort(-near, axis=1)[:, : self.num_lists - first.lists.shape[1]]
        return Probes(
            np.concatenate([first.lists, rest], 1),
            np.concatenate([first.scores, np.take_along_axis(near, rest, 1)], 1),
        )

    def distances(self, vectors: Float32) -> Float32:
        """Return (n,) how far vectors of length 1 are from their centres, as 1 - cosine."""
        return np.asarray(1 - self._centres.search(vectors, 1)[0][:, 0])

    def encode(self, vectors: Float32) -> tuple[Integers, npt.NDArray[np.uint8]]:
        """Return (n,) the list of each vector, and (n, code_bytes) its code there."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        lists = np.ascontiguousarray(self._centres.search(vectors, 1)[1][:, 0])
        lists = np.maximum(lists, 0)
        codes = np.empty((len(vectors), self.code_bytes), np.uint8)
        self._index.encode_vectors(
            len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(lists), faiss.swig_ptr(codes)
        )
        return lists, codes

    def scanner(self) -> Any:
        """Return a FAISS index with this quantiser, and no rows yet."""
        index = _make_empty(self.kind, self._centres, self.num_lists)
        if self.kind == "sq8":
            index.sq = self._index.sq
        else:
            index.pq = self._index.pq
        index.is_trained = True
        return index


def _make_empty(kind: Kind, centres: Any, num_lists: int) -> Any:
    product = faiss.METRIC_INNER_PRODUCT
    if kind == "sq8":
        byte = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(centres, EMBEDDING_DIM, num_lists, byte, product)
    return faiss.IndexIVFPQ(centres, EMBEDDING_DIM, num_lists, CODE_BYTES["pq"], 8, product)


def _quantiser(index: Any) -> Any:
    """Return FAISS's vector of the numbers of a quantiser."""
    is_scalar = isinstance(index, faiss.IndexIVFScalarQuantizer)
    return index.sq.trained if is_scalar else index.pq.centroids


@dataclass(frozen=True, slots=True)
class ListFiles:
    """Where the lists of one segment are: `sizes` is small, and checked before it is read."""

    codes: Path
    sizes: Path

    @classmethod
    def of(cls, folder: Path, segment: str) -> Self:
        """Return the files for a segment in a trained structure's folder."""
        return cls(folder / f"lists-{segment}.raw", folder / f"{SIZES_PREFIX}{segment}.raw")


def is_lists_file(name: str) -> bool:
    """Whether a file of that name in a trained structure's folder may be one of its lists."""
    return _LISTS_NAME.fullmatch(name) is not None


def write_lists(
    trained: Trained,
    vectors: Float32,
    files: ListFiles,
    advance: Callable[[int], None],
) -> None:
    """Sort a segment's rows into lists, and write these: of each, its codes, then its rows.

    The codes of the whole segment are held in memory.

    Args:
        trained: Centres and quantiser.
        vectors: (n, 768) float32, the segment's.
        files: To be written.
        advance: Called with the number of rows done since the last call.
    """
    lists = np.empty(len(vectors), np.int64)
    codes = np.empty((len(vectors), trained.code_bytes), np.uint8)
    for block in _blocks(len(vectors)):
        lists[block], codes[block] = trained.encode(vectors[block])
        lists[block][~np.isfinite(vectors[block]).all(1)] = -1  # damaged rows are in no list
        advance(len(lists[block]))
    order = np.argsort(lists, kind="stable")
    order = order[np.searchsorted(lists[order], 0) :]
    sizes = np.bincount(lists[order], minlength=trained.num_lists)
    ends = np.cumsum(sizes)
    with replacing(files.codes) as file:  # one of this name may be mapped by a reader
        for first, last in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
            rows = order[first:last]
            file.write(codes[rows].data)
            file.write(rows.data)
    write_whole(files.sizes, sizes.astype("<i8").tobytes())


def _blocks(num_rows: int) -> Iterator[slice]:
    for first in range(0, num_rows, _BLOCK_ROWS):
        yield slice(first, min(first + _BLOCK_ROWS, num_rows))


class SegmentLists:
    """The lists of one segment, memory-mapped, ready to be scanned.

    Attributes:
        num_rows: Rows of the segment.
    """

    def __init__(self, trained: Trained, files: ListFiles, num_rows: int) -> None:
        """Map the lists; `files.sizes` must be known to be as it was written.

        Raises:
            DamagedStoreError: If a file is missing or not of the size that it should have.
        """
        self._trained = trained  # it owns the centres that the scanner refers to
        self.num_rows = num_rows
        row_bytes = trained.code_bytes + _ROW_BYTES
        with reading(files.codes):
            if own_size(files.sizes) != trained.num_lists * 8:
                raise DamagedStoreError(files.sizes, "not a number for each list")
            sizes = np.frombuffer(read_own(files.sizes), "<i8")
            found, expected = own_size(files.codes), sum(sizes.tolist()) * row_bytes
            if found != expected or (sizes < 0).any():
                raise DamagedStoreError(files.codes, f"{found} bytes, written as {expected}")
            self._lists = _map_lists(files.codes, sizes, trained.code_bytes)
        self._index = trained.scanner()
        self._index.ntotal = num_rows
        self._index.replace_invlists(self._lists, False)  # noqa: FBT003

    def search(
        self, vectors: Float32, probes: Probes, k: int, allowed: Bits | None
    ) -> tuple[Float32, Integers]:
        """Scan some lists for the rows that are nearest to each vector, going by their codes.

        Args:
            vectors: (q, 768) float32 of length 1.
            probes: Lists to scan.
            k: How many rows for each vector.
            allowed: Which rows may be found, as `pack` gives it; None for all.

        Returns:
            (q, n) float32 approximate scores, the highest first, and (q, n) rows of the segment,
            n being min(k, num_rows); negative where there are fewer.
        """
        k = min(k, self.num_rows)
        vectors = np.ascontiguousarray(vectors, np.float32)
        scores = np.empty((len(vectors), k), np.float32)
        rows = np.empty((len(vectors), k), np.int64)
        settings = faiss.SearchParametersIVF(nprobe=probes.lists.shape[1])
        if allowed is not None:
            settings.sel = selector = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(allowed))
            assert selector is not None  # FAISS keeps no reference to it
        # Many queries are shared out among the cores; of one query, its lists, if that is worth it.
        num_scanned = probes.lists.shape[1] * self.num_rows / self._index.nlist
        is_long = len(vectors) == 1 and num_scanned > _ROWS_WORTH_SHARING
        self._index.parallel_mode = 1 if is_long else 0
        self._index.search_preassigned_c(
            len(vectors),
            faiss.swig_ptr(vectors),
            k,
            faiss.swig_ptr(probes.lists),
            faiss.swig_ptr(probes.scores),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(rows),
            False,  # noqa: FBT003
            settings,
        )
        rows[rows >= self.num_rows] = -1  # a damaged row number
        return scores, rows


def _map_lists(path: Path, sizes: Integers, code_bytes: int) -> Any:
    """Let FAISS map a file of lists."""
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size, lists.read_only = len(sizes), code_bytes, True
    lists.prefetch_nthread = 0  # it would start 32 threads for every query
    entries = np.empty((len(sizes), 3), np.uint64)  # size, capacity, offset: an OnDiskOneList
    entries[:, 0] = entries[:, 1] = sizes
    ends = np.cumsum(sizes * (code_bytes + _ROW_BYTES))
    entries[:, 2] = np.concatenate([[0], ends[:-1]])
    lists.lists.resize(len(sizes))
    faiss.memcpy(lists.lists.data(), faiss.swig_ptr(entries), entries.nbytes)
    lists.totsize = int(ends[-1])
    with open_own(path) as file:  # by its descriptor: FAISS takes no name that is not UTF-8
        lists.filename = f"/dev/fd/{file.fileno()}"
        lists.do_mmap()
    return lists
