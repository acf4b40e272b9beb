"""Making sketches: components and centres of a segment's rows, and the FAISS index of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.progress import Listen, Step
from indexer.store.schema import EMBEDDING_DIM
from search.generation.manifest import SketchEntry
from search.nearest.basis import Basis
from search.nearest.blend import unit_roots, with_roots
from search.nearest.bytes import Bytes
from search.nearest.centres import TRAINING_ROWS_PER_LIST, find_centres
from search.nearest.limits import DEFAULT_TAG_WEIGHT
from search.nearest.sketch import FAISS_FILE, FINER, MOST, UNIT_BYTES, shapes_of, sketch_file

#: Components of scenes and of roots that are tried, the fewest first.
_WIDTHS = ((64, 32), (96, 32), (128, 48))
#: They are enough where this share of the true ten nearest is among so many proposed; or nearly
#: as many as with the most components that are tried.
_ENOUGH, _NUM_PROPOSED, _K = 0.999, 60, 10
_NEARLY = 0.999
#: Bases of other segments that are tried: each takes a tenth of a second.
_MOST_KNOWN = 4
#: In this share of the rows no component is further from its centre than codes reach. The others
#: are far from everything, and their codes may be wrong by more.
_REACHED = 0.999
#: Rows that the components are found with, and how many of them ask the others.
_FITTED_ROWS, _NUM_QUESTIONS = 16_384, 100
#: Rows of a list, on average.
_ROWS_PER_LIST = 256
_BLOCK_ROWS = 8192


class _Trained(NamedTuple):
    """What rows are coded with.

    Attributes:
        basis: Their components.
        half_width: Codes reach from minus this to this, from the centre of a list.
        centres: (num_lists, d) float32, weighted.
        weights: (d,) float32, see `_weights`.
    """

    basis: Basis
    half_width: float
    centres: Float32
    weights: Float32


class _Coded(NamedTuple):
    """Rows of a segment as they are to be written.

    Attributes:
        lists: (num_rows,) the list of each; -1 of damaged rows, which are in none.
        squares: (num_rows, 2) float32 squared distances from its centre: of scenes, and of roots.
        codes: (num_rows, d) uint8.
        finer: (num_rows, d) uint8, see `quantise`.
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
    if not any(one is trained.basis for one in known):
        known.append(trained.basis)
    coded = _encode(vectors, tags, trained, listen)
    order = np.argsort(np.where(coded.lists < 0, len(trained.centres), coded.lists), kind="stable")
    return _write(folder, trained, coded.take(order)), order


def _train(
    vectors: Float32, tags: Float16, listen: Listen, known: Sequence[Basis]
) -> _Trained | None:
    """Find components and centres with some of the rows; None if nearly all are damaged."""
    num_lists = max(1, round(len(vectors) / _ROWS_PER_LIST))
    sample = _draw(vectors, tags, max(_FITTED_ROWS, num_lists * TRAINING_ROWS_PER_LIST))
    num_lists = min(num_lists, len(sample) // _K)
    if not num_lists:
        return None
    basis = _choose_basis(sample[:_FITTED_ROWS], known)
    components, weights = basis.project(sample), _weights(basis)
    centres = _chained(find_centres(components * weights, num_lists, listen))
    some = components[:_FITTED_ROWS]
    lists = _index_of(centres).search(some * weights, 1)[1][:, 0]
    reaches = np.abs(some - (centres / weights)[lists]).max(1)
    half_width = float(np.quantile(reaches, _REACHED)) or 1.0
    return _Trained(basis, half_width, centres, weights)


def _draw(vectors: Float32, tags: Float16, number: int) -> Float32:
    """Return (n, 1295) rows drawn at random, in that order; fewer than asked for may be there."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(vectors), min(number, len(vectors)), replace=False))
    scenes = vectors[rows]
    is_sound = np.isfinite(scenes).all(1)  # damaged ones would spoil every centre
    sample = _finite(with_roots(scenes[is_sound], tags[rows[is_sound]]))
    return np.asarray(sample[rng.permutation(len(sample))])


def _finite(rows: Float32) -> Float32:
    """Return rows with zeros for those in which anything is damaged."""
    rows[~np.isfinite(rows.sum(1))] = 0
    return rows


def _choose_basis(sample: Float32, known: Sequence[Basis]) -> Basis:
    """Return the latest that is known and enough, or else the fewest components that are.

    They are those of the second moment, not of what is left of rows without their mean: products
    with any question, of scenes alone or of a blend, are to be kept.
    """
    latest = known[::-1][:_MOST_KNOWN]
    shares = []
    for basis in latest:
        shares.append(_share_proposed(basis, sample))
        if shares[-1] >= _ENOUGH:
            return basis
    whole = Basis(*(_components(part) for part in np.split(sample, [EMBEDDING_DIM], axis=1)))
    *fewer, most = (
        Basis(whole.scenes[:num_scenes].copy(), whole.roots[:num_roots].copy())
        for num_scenes, num_roots in _WIDTHS
    )
    wanted = min(_ENOUGH, _NEARLY * _share_proposed(most, sample))
    for basis, share in zip(latest, shares, strict=True):
        if share >= wanted:
            return basis
    return next((one for one in fewer if _share_proposed(one, sample) >= wanted), most)


def _components(rows: Float32) -> Float32:
    """Return (d, d) float32 eigenvectors of the second moment, the greatest eigenvalue first."""
    vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))[1]
    return np.asarray(vectors.T[::-1], np.float32)


def _share_proposed(basis: Basis, sample: Float32) -> float:
    """Return which share of the true ten is among those proposed, by scenes alone and by a blend.

    Of ten rows one asks, which is itself the nearest; what counts is the worse of the two.
    """
    asking, components = sample[:_NUM_QUESTIONS], basis.project(sample)
    shares = []
    for tag_weight in (0.0, DEFAULT_TAG_WEIGHT):
        weights = np.ones(sample.shape[1], np.float32)
        weights[:EMBEDDING_DIM], weights[EMBEDDING_DIM:] = 1 - tag_weight, tag_weight
        questions = asking * weights
        true, near = questions @ sample.T, basis.project(questions) @ components.T
        best = np.argpartition(-true, _K - 1, axis=1)[:, :_K]
        num_proposed = min(_NUM_PROPOSED, len(sample))
        least = np.partition(near, -num_proposed, axis=1)[:, -num_proposed, None]
        shares.append(float((np.take_along_axis(near, best, 1) >= least).mean()))
    return min(shares)


def _weights(basis: Basis) -> Float32:
    """Return (d,) what components are multiplied with, so that near is what a blend says is."""
    weights = np.repeat([1 - DEFAULT_TAG_WEIGHT, DEFAULT_TAG_WEIGHT], list(map(len, basis)))
    return np.asarray(np.sqrt(weights), np.float32)


def _chained(centres: Float32) -> Float32:
    """Return centres in an order in which each is followed by the nearest that is left.

    Lists that are visited together lie together then, and so does what is read of them.
    """
    left = np.ones(len(centres), bool)
    lengths = np.square(centres).sum(1)
    at, order = 0, np.empty(len(centres), np.int64)
    for number in range(len(centres)):
        order[number], left[at] = at, False
        at = int(np.where(left, lengths - 2 * (centres @ centres[at]), np.inf).argmin())
    return np.asarray(centres[order])


def _encode(vectors: Float32, tags: Float16, trained: _Trained, listen: Listen) -> _Coded:
    """Return the codes of all rows, and the list of each: that of the centre nearest to it."""
    basis, half_width, centres, weights = trained
    index, num_rows = _index_of(centres), len(vectors)
    coded = _Coded(
        np.empty(num_rows, np.int64),
        np.empty((num_rows, 2), np.float32),
        np.empty((num_rows, centres.shape[1]), np.uint8),
        np.empty((num_rows, centres.shape[1]), np.uint8),
    )
    for first in range(0, num_rows, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        scenes, roots = vectors[block], _finite(unit_roots(tags[block]))
        is_sound = np.isfinite(scenes).all(axis=1, keepdims=True)
        scenes = np.where(is_sound, scenes, 0)
        components = np.concatenate([scenes @ basis.scenes.T, roots @ basis.roots.T], axis=1)
        lists = index.search(components * weights, 1)[1]
        coded.lists[block] = np.where(is_sound, lists, -1)[:, 0]
        away = components - (centres / weights)[lists[:, 0]]
        parts = np.split(away, [len(basis.scenes)], axis=1)
        coded.squares[block] = np.stack([np.square(part).sum(1) for part in parts], axis=1)
        coded.codes[block], coded.finer[block] = quantise(away, half_width)
        listen(Step("sketching", first + len(scenes), num_rows, "window"))
    return coded


def _index_of(centres: Float32) -> faiss.Index:
    """Return what finds the nearest of some centres."""
    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    return index


def quantise(components: Float32, half_width: float) -> tuple[Bytes, Bytes]:
    """Return (n, d) uint8 codes, as FAISS makes and reads them: 255 steps from -h to h.

    And (n, d) uint8 in which of 256 parts of its step each is.
    """
    scaled = (components + np.float32(half_width)) * np.float32(MOST / (2 * half_width))
    scaled = np.clip(scaled, 0, MOST)
    codes = scaled.astype(np.uint8)
    return codes, ((scaled - codes) * FINER).astype(np.uint8)


def _write(folder: Path, trained: _Trained, coded: _Coded) -> SketchEntry:
    """Write the sketch of rows that are in the order of their lists."""
    basis, half_width, centres = (
        trained.basis,
        trained.half_width,
        trained.centres / trained.weights,
    )
    listed = coded.take(np.flatnonzero(coded.lists >= 0))
    sizes = np.bincount(listed.lists, minlength=len(centres))
    sums = [np.bincount(listed.lists, part, len(centres)) for part in listed.squares.T]
    num_listed, width = listed.codes.shape
    content = faiss.serialize_index(_make_index(basis, half_width, centres, listed.codes, sizes))
    entry = SketchEntry(
        num_scenes=len(basis.scenes),
        num_roots=len(basis.roots),
        num_lists=len(centres),
        num_listed=num_listed,
        half_width=half_width,
        head_bytes=len(content) - num_listed * (width + UNIT_BYTES),
    )
    arrays = {
        **basis._asdict(),
        "centres": centres,
        "spreads": np.sqrt(np.stack(sums) / np.maximum(sizes, 1)),
        "sizes": sizes,
        "finer": listed.finer,
        "sums": listed.codes.sum(1, dtype=np.uint16),
    }
    (folder / FAISS_FILE).write_bytes(content.data)
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
    rows, ends = np.arange(len(codes)), np.cumsum(sizes).tolist()
    for number, (size, end) in enumerate(zip(sizes.tolist(), ends, strict=True)):
        if size:
            some = faiss.swig_ptr(rows[end - size :]), faiss.swig_ptr(codes[end - size :])
            lists.invlists.add_entries(number, size, *some)
    lists.ntotal = len(codes)
    index = faiss.IndexPreTransform(transform, lists)
    index.ntotal = len(codes)
    return index
