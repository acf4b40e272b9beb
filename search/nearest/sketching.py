"""Making sketches: lists of a segment's rows, their codes, and a FAISS index of the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.progress import Listen, Step
from search.generation.manifest import SketchEntry
from search.nearest.basis import Basis
from search.nearest.bytes import Bytes
from search.nearest.cells import FITTED_ROWS, Cells, draw_rows, find_cells
from search.nearest.clumps import CLUMP_ROWS, describe_clumps, order_rows
from search.nearest.sketch import FINER, MOST, PARTS, SKETCH_PREFIX, shapes_of, sketch_file

#: The FAISS index of a sketch: a linear transform to its components, inverted lists, and codes of
#: a byte for each component of what a row is away from its centre. `faiss.read_index` opens it, and
#: it answers alone; nothing here reads it.
FAISS_FILE = f"{SKETCH_PREFIX}.faiss"
#: What FAISS has as 0 is this, in bytes that are signed.
_LEAST = -128
#: In this share of the rows no component is further from its centre than codes reach. The others
#: are far from everything, and their codes may be wrong by more.
_REACHED = 0.999
#: Rows of a list, on average.
_ROWS_PER_LIST = 256
_BLOCK_ROWS = 8192


class _Trained(NamedTuple):
    """What rows are coded with.

    Attributes:
        lists: The cells that lists are of.
        half_width: Codes reach from minus this to this, from the centre of a list.
    """

    lists: Cells
    half_width: float


class _Coded(NamedTuple):
    """Rows of a segment as they are to be written.

    Attributes:
        lists: (num_rows,) the list of each; -1 of damaged rows, which are in none.
        squares: (num_rows, 2) float32 squared distances from its centre: of scenes, and of roots.
        codes: (num_rows, d) int8.
        finer: (num_rows, d) int8, see `quantise`.
    """

    lists: Integers
    squares: Float32
    codes: Bytes
    finer: Bytes

    def take(self, rows: Integers) -> _Coded:
        """Return some rows."""
        lists, squares = self.lists[rows], self.squares[rows]
        return _Coded(lists, squares, self.codes[rows], self.finer[rows])


def make_sketch(
    folder: Path, vectors: Float32, tags: Float16, listen: Listen, known: list[Basis]
) -> tuple[SketchEntry | None, Integers]:
    """Write the sketch of some rows.

    Args:
        folder: Of their segment.
        vectors: (n, 768) float32 of length 1.
        tags: (n, 527) float16 probabilities.
        listen: Hears how many rows are done, and why a GPU that is there is of no use, if it is
            not.
        known: Of other segments: one that is enough for these rows as well is taken, as what asks
            is prepared once for all that share it. Another is added.

    Returns:
        What a manifest says of it, None if nearly all rows are damaged, and nothing is written;
        and (n,) the order in which they are to be: list by list, the damaged ones at the end.
    """
    trained = _train(vectors, tags, listen, known)
    if trained is None:
        return None, np.arange(len(vectors))
    basis = trained.lists.basis
    if not any(one is basis for one in known):
        known.append(basis)
    coded = _encode(vectors, tags, trained, listen)
    order = _order_rows(coded, trained.lists)
    return _write(folder, trained, coded.take(order)), order


def _order_rows(coded: _Coded, lists: Cells) -> Integers:
    """Return the order of rows: list by list, clump by clump; the damaged ones at the end."""
    num_lists = len(lists.weighted)
    of = np.where(coded.lists < 0, num_lists, coded.lists)
    each = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of, minlength=num_lists)))
    sound = (rows[order_rows(coded.codes[rows] * lists.weights)] for rows in each[:num_lists])
    return np.concatenate([*sound, *each[num_lists:]])


def _train(
    vectors: Float32, tags: Float16, listen: Listen, known: Sequence[Basis]
) -> _Trained | None:
    """Find lists, and how far codes are to reach; None if nearly all rows are damaged."""
    num_lists = max(1, round(len(vectors) / _ROWS_PER_LIST))
    lists = find_cells(vectors, tags, num_lists, listen, known)
    if lists is None:
        return None
    some = draw_rows(len(vectors), FITTED_ROWS)
    of, away = lists.locate(vectors[some], tags[some])
    reaches = np.abs(away[of >= 0]).max(1)
    return _Trained(lists, float(np.quantile(reaches, _REACHED)) or 1.0)


def _encode(vectors: Float32, tags: Float16, trained: _Trained, listen: Listen) -> _Coded:
    """Return the codes of all rows, and the list of each: that of the centre nearest to it."""
    num_rows, (basis, weighted) = len(vectors), trained.lists
    coded = _Coded(
        np.empty(num_rows, np.int64),
        np.empty((num_rows, 2), np.float32),
        np.empty((num_rows, weighted.shape[1]), np.int8),
        np.empty((num_rows, weighted.shape[1]), np.int8),
    )
    for first in range(0, num_rows, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        coded.lists[block], away = trained.lists.locate(vectors[block], tags[block])
        parts = np.split(away, [len(basis.scenes)], axis=1)
        coded.squares[block] = np.stack([np.square(part).sum(1) for part in parts], axis=1)
        coded.codes[block], coded.finer[block] = quantise(away, trained.half_width)
        listen(Step("sketching", first + len(away), num_rows, "window"))
    return coded


def quantise(components: Float32, half_width: float) -> tuple[Bytes, Bytes]:
    """Return (n, d) int8 codes: which of 255 steps from -h to h, numbered from -128 on.

    And (n, d) int8 in which of 256 parts of its step each is, likewise.
    """
    scaled = (components + np.float32(half_width)) * np.float32(MOST / (2 * half_width))
    scaled = np.clip(scaled, 0, MOST)
    whole = np.floor(scaled)
    finer = np.floor((scaled - whole) * FINER)
    return (whole + _LEAST).astype(np.int8), (finer + _LEAST).astype(np.int8)


def _write(folder: Path, trained: _Trained, coded: _Coded) -> SketchEntry:
    """Write the sketch of rows that are in the order of their lists."""
    basis, half_width, centres = trained.lists.basis, trained.half_width, trained.lists.centres
    listed = coded.take(np.flatnonzero(coded.lists >= 0))
    sizes = np.bincount(listed.lists, minlength=len(centres))
    sums = [np.bincount(listed.lists, part, len(centres)) for part in listed.squares.T]
    middles = describe_clumps(listed.codes, sizes, 2 * half_width / MOST, basis.parts)
    entry = SketchEntry(
        num_scenes=len(basis.scenes),
        num_roots=len(basis.roots),
        num_lists=len(centres),
        num_listed=len(listed.codes),
        num_clumps=len(middles.codes),
        half_width=half_width,
    )
    # First, as it is the largest: the arrays are not there yet.
    content = faiss.serialize_index(_make_index(basis, half_width, centres, listed.codes, sizes))
    (folder / FAISS_FILE).write_bytes(content.data)
    del content
    arrays = {
        **basis._asdict(),
        "centres": centres,
        "spreads": np.sqrt(np.stack(sums) / np.maximum(sizes, 1)),
        "sizes": sizes,
        "clump_spreads": middles.spreads,
    }
    for name, part in zip(PARTS, basis.parts, strict=True):
        arrays[f"{name}_codes"] = np.pad(listed.codes[:, part], ((CLUMP_ROWS, 0), (0, 0)))
        arrays[f"{name}_finer"] = listed.finer[:, part]
        arrays[f"{name}_middles"] = middles.codes[:, part]
    for name, (dtype, _) in shapes_of(entry).items():
        sketch_file(folder, name).write_bytes(np.ascontiguousarray(arrays[name], dtype).data)
    return entry


def _make_index(
    basis: Basis, half_width: float, centres: Float32, codes: Bytes, sizes: Integers
) -> faiss.Index:
    """Return the FAISS index of rows: a linear transform, and lists of what is left, in bytes."""
    width, num_columns = len(centres[0]), sum(part.shape[1] for part in basis)
    matrix = np.zeros((width, num_columns), np.float32)
    matrix[: len(basis.scenes), : basis.scenes.shape[1]] = basis.scenes
    matrix[len(basis.scenes) :, basis.scenes.shape[1] :] = basis.roots
    transform = faiss.LinearTransform(num_columns, width)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    quantiser = faiss.IndexFlatIP(width)
    quantiser.add(np.ascontiguousarray(centres))
    kind, metric = faiss.ScalarQuantizer.QT_8bit_uniform, faiss.METRIC_INNER_PRODUCT
    lists = faiss.IndexIVFScalarQuantizer(quantiser, width, len(centres), kind, metric)
    lists.by_residual = True
    reach = np.array([-half_width, 2 * half_width], np.float32)
    faiss.copy_array_to_vector(reach, lists.sq.trained)
    lists.is_trained = True
    unsigned = codes.view(np.uint8) ^ np.uint8(-_LEAST)  # the sign apart, the bits are the same
    rows, ends = np.arange(len(codes)), np.cumsum(sizes).tolist()
    for number, (size, end) in enumerate(zip(sizes.tolist(), ends, strict=True)):
        if size:
            some = faiss.swig_ptr(rows[end - size :]), faiss.swig_ptr(unsigned[end - size :])
            lists.invlists.add_entries(number, size, *some)
    lists.ntotal = len(codes)
    index = faiss.IndexPreTransform(transform, lists)
    index.ntotal = len(codes)
    return index
