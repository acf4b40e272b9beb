"""Where rows lie: cells around centres, by the leading components of what rows are.

Rows of a cell are like each other. The lists of a sketch are cells of its segment; segments that
are written together share their rows by cells of all of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import faiss
import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.progress import Listen
from indexer.store.schema import EMBEDDING_DIM
from search.nearest.basis import Basis
from search.nearest.blend import unit_roots, with_roots
from search.nearest.centres import TRAINING_ROWS_PER_LIST, find_centres
from search.nearest.limits import DEFAULT_TAG_WEIGHT

#: Components of scenes and of roots that are tried, the fewest first.
_WIDTHS = ((64, 32), (96, 32), (128, 48))
#: They are enough where this share of the true ten nearest is among so many proposed; or nearly
#: as many as with the most components that are tried.
_ENOUGH, _NUM_PROPOSED, _K = 0.999, 60, 10
_NEARLY = 0.999
#: A basis that is known is enough with this share: what asks is prepared, and lists are ranked, for
#: each basis anew. Of 10^7 windows 19 segments shared theirs, and the twentieth took a fifth of the
#: time of a question.
_ENOUGH_KNOWN = 0.995
#: Bases of other segments that are tried: each takes a tenth of a second.
_MOST_KNOWN = 4
#: Rows that the components are found with, and how many of them ask the others.
FITTED_ROWS, _NUM_QUESTIONS = 16_384, 100


class Cells(NamedTuple):
    """Cells of the space of rows: each row is in that whose centre is nearest to it.

    Attributes:
        basis: Components by which rows are compared.
        weighted: (num_cells, d) float32 centres, times `weights`. Each is followed by the nearest
            of those that are left, so that what is visited together lies together.
    """

    basis: Basis
    weighted: Float32

    @property
    def weights(self) -> Float32:
        """(d,) what components are multiplied with, so that near is what a blend says is."""
        weights = [1 - DEFAULT_TAG_WEIGHT, DEFAULT_TAG_WEIGHT]
        return np.asarray(np.sqrt(np.repeat(weights, list(map(len, self.basis)))), np.float32)

    @property
    def centres(self) -> Float32:
        """(num_cells, d) float32 components."""
        return np.asarray(self.weighted / self.weights)

    def locate(self, vectors: Float32, tags: Float16) -> tuple[Integers, Float32]:
        """Say where rows are.

        Args:
            vectors: (n, 768) float32 of length 1.
            tags: (n, 527) float16 probabilities.

        Returns:
            (n,) the cell of each row, -1 of damaged ones; and (n, d) float32 components of what
            it has more or less than the centre.
        """
        roots, is_sound = _finite(unit_roots(tags)), np.isfinite(vectors).all(axis=1, keepdims=True)
        scenes = np.where(is_sound, vectors, 0)
        parts = [scenes @ self.basis.scenes.T, roots @ self.basis.roots.T]
        components = np.concatenate(parts, axis=1)
        index = faiss.IndexFlatL2(self.weighted.shape[1])
        index.add(np.ascontiguousarray(self.weighted))
        cells = index.search(components * self.weights, 1)[1]
        away = components - self.centres[cells[:, 0]]
        return np.where(is_sound, cells, -1)[:, 0], away


def find_cells(
    vectors: Float32, tags: Float16, number: int, listen: Listen, known: Sequence[Basis] = ()
) -> Cells | None:
    """Find as many cells, or fewer, such that rows of each are alike.

    Args:
        vectors: (n, 768) float32 of length 1.
        tags: (n, 527) float16 probabilities.
        number: How many cells.
        listen: Hears why a GPU that is there is of no use, if it is not.
        known: Bases of other cells: one that is enough for these rows as well is taken.

    Returns:
        The cells; None if nearly all rows are damaged.
    """
    sample = _draw(vectors, tags, max(FITTED_ROWS, number * TRAINING_ROWS_PER_LIST))
    number = min(number, len(sample) // _K)
    if not number:
        return None
    cells = Cells(_choose_basis(sample[:FITTED_ROWS], known), np.empty(0, np.float32))
    weighted = cells.basis.project(sample) * cells.weights
    return cells._replace(weighted=_chained(find_centres(weighted, number, listen)))


def draw_rows(num_rows: int, number: int) -> Integers:
    """Return (n,) some rows at random, in order: so many, or all."""
    drawn = np.random.default_rng(0).choice(num_rows, min(number, num_rows), replace=False)
    return np.sort(drawn)


def _draw(vectors: Float32, tags: Float16, number: int) -> Float32:
    """Return (n, 1295) rows drawn at random, in that order; fewer than asked for may be there."""
    rows = draw_rows(len(vectors), number)
    rows = rows[np.isfinite(vectors[rows]).all(1)]  # damaged ones would spoil every centre
    rows = np.random.default_rng(1).permutation(rows)
    return _finite(with_roots(vectors[rows], tags[rows]))


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
        if shares[-1] >= _ENOUGH_KNOWN:
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
