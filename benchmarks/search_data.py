"""A made-up library of any size: clustered vectors, tags that go with the clusters, and questions.

Everything follows from a seed and is made block by block, so that a library can be gone through
again instead of being kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from indexer.tags import DEFAULT_THRESHOLD

DIMENSION = 768
#: Windows that a question asks for, unless told otherwise.
K = 10
THRESHOLD = DEFAULT_THRESHOLD
#: Rows that are made at a time; also the windows of a part of the store.
BLOCK_ROWS = 50_000
#: Questions of a batch, without a filter.
BATCH_QUERIES = 1_000

#: AudioSet tags with none below them → the share of windows that have them.
TAGS = {
    "Outside, rural or natural": 0.5,
    "Wind noise (microphone)": 0.2,
    "Chirp, tweet": 0.1,
    "Cricket": 0.01,
    "Croak": 0.001,
    "Howl": 0.0001,
    "Steam whistle": 0.00001,
}

_SEED = 20_260_101
_NUM_CLUSTERS = 2_000
_ZIPF = 0.8
#: The smallest clusters: a tag that is rarer than any cluster goes to one of them.
_NUM_SMALL = 100
#: Share of a tag's windows that lie anywhere; and of its clusters' windows, those that have it.
_STRAY = 0.1
_TYPICAL = 0.85
#: Held-out windows that are looked through for those that match a filter.
_POOL_ROWS = 1_000_000
#: What random numbers are drawn for, so that none depends on another's.
_STRUCTURE, _LABELS, _VECTORS, _POOL, _QUESTIONS, _BATCH = range(6)

Array = np.ndarray[Any, Any]


class Filter(NamedTuple):
    """A condition on tags, given by their positions in `TAGS`."""

    name: str
    all_of: tuple[int, ...] = ()
    any_of: tuple[int, ...] = ()
    none_of: tuple[int, ...] = ()

    @property
    def terms(self) -> tuple[int, ...]:
        return self.all_of + self.any_of + self.none_of

    def mask(self, columns: Array, heard: Any = THRESHOLD) -> Array:
        """Return which rows match.

        Of all tags the least, and of any the greatest, is held against the threshold: that takes
        fewer passes over the rows than a comparison for each tag.

        Args:
            columns: (tags, rows) probabilities, or codes in the same order.
            heard: From which of them on a tag is heard.
        """
        mask = np.ones(columns.shape[1], bool)
        if needed := [columns[tag] for tag in self.all_of] + self._any(columns, self.any_of):
            mask = reduce(np.minimum, needed) >= heard
        for most in self._any(columns, self.none_of):
            mask &= most < heard
        return mask

    @staticmethod
    def _any(columns: Array, tags: tuple[int, ...]) -> list[Array]:
        """Return the greatest of some columns, or nothing."""
        return [reduce(np.maximum, [columns[tag] for tag in tags])] if tags else []


FILTERS = (
    Filter("all"),
    Filter("50 %", (0,)),
    Filter("20 %", (1,)),
    Filter("10 %", (2,)),
    Filter("1 %", (3,)),
    Filter("0.1 %", (4,)),
    Filter("0.01 %", (5,)),
    Filter("0.001 %", (6,)),
    Filter("50 % and 20 %", (0, 1)),
    Filter("10 % and not 50 %", (2,), (), (0,)),
    Filter("10 % and 1 %", (2, 3)),
    Filter("any of 10, 1, 0.1, 0.01, 0.001 %", (), (2, 3, 4, 5, 6)),
    Filter("50 %, any of 20 and 10 %, not 1 and 0.1 %", (0,), (1, 2), (3, 4)),
)


def _rng(*purpose: int) -> np.random.Generator:
    return np.random.default_rng([_SEED, *purpose])


class Library:
    """Vectors and tags of a number of windows.

    Two windows of a cluster differ in 32 directions that all clusters share, as sounds of a kind
    differ in loudness, distance and noise, and a little in all others.
    """

    def __init__(self, num_windows: int) -> None:
        self.num_windows = num_windows
        rng = _rng(_STRUCTURE)
        sizes = np.arange(1, _NUM_CLUSTERS + 1) ** -_ZIPF
        self._shares = sizes / sizes.sum()
        centres = rng.normal(size=(_NUM_CLUSTERS, 48)) @ rng.normal(size=(48, DIMENSION)) / 7
        self._centres = centres.astype(np.float32)
        self._basis = (rng.normal(size=(32, DIMENSION)) / 5.6).astype(np.float32)
        chances = [_chances(share, self._shares, rng) for share in TAGS.values()]
        self._chances = np.array(chances, np.float32)

    def blocks(
        self, *, with_vectors: bool = True, first_block: int = 0
    ) -> Iterator[tuple[int, Array, Array]]:
        """Yield first row, (n, 768) float32 vectors and (tags, n) float16 probabilities.

        Without vectors, there are as many of them, of length 0. With another first block, they are
        other windows.
        """
        for number, first in enumerate(range(0, self.num_windows, BLOCK_ROWS), first_block):
            num_rows = min(BLOCK_ROWS, self.num_windows - first)
            rng = _rng(_LABELS, number)
            clusters, has_tag = self._labels(num_rows, rng)
            vectors = np.empty((num_rows, 0), np.float32)
            if with_vectors:
                vectors = self._vectors(clusters, _rng(_VECTORS, number))
            yield first, vectors, _probabilities(has_tag, rng)

    def questions(self, num_queries: int) -> Array:
        """Return (filters, queries, 768): every second one is itself a window that matches."""
        clusters, has_tag = self._labels(_POOL_ROWS, _rng(_POOL))
        pool = has_tag.astype(np.float32)
        asked = np.empty((len(FILTERS), num_queries, DIMENSION), np.float32)
        for number, condition in enumerate(FILTERS):
            rng = _rng(_QUESTIONS, number)
            chosen = rng.choice(clusters, num_queries)
            matching = clusters[condition.mask(pool)]
            if len(matching):
                chosen[::2] = rng.choice(matching, len(chosen[::2]))
            asked[number] = self._vectors(chosen, rng)
        return asked

    def batch(self) -> Array:
        """Return vectors to ask for all at once."""
        rng = _rng(_BATCH)
        return self._vectors(self._labels(BATCH_QUERIES, rng)[0], rng)

    def _labels(self, num_rows: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw clusters, and (tags, rows) which tags are heard."""
        clusters = rng.choice(_NUM_CLUSTERS, num_rows, p=self._shares)
        has_tag = [rng.random(num_rows, np.float32) < one[clusters] for one in self._chances]
        return clusters, np.array(has_tag)

    def _vectors(self, clusters: Array, rng: np.random.Generator) -> Array:
        vectors = 0.35 * rng.standard_normal((len(clusters), DIMENSION), np.float32)
        vectors += self._centres[clusters]
        vectors += 0.8 * rng.standard_normal((len(clusters), 32), np.float32) @ self._basis
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def _chances(share: float, shares: Array, rng: np.random.Generator) -> Array:
    """Return for each cluster the probability that a window of it has a tag."""
    in_clusters, held = (1 - _STRAY) * share, 0.0
    chosen = []
    for cluster in rng.permutation(_NUM_CLUSTERS):
        if held + shares[cluster] <= in_clusters / _TYPICAL:
            chosen.append(cluster)
            held += shares[cluster]
    if not chosen:
        chosen = [rng.integers(_NUM_CLUSTERS - _NUM_SMALL, _NUM_CLUSTERS)]
        held = shares[chosen[0]]
    chances = np.full(_NUM_CLUSTERS, _STRAY * share)
    chances[chosen] += min(in_clusters / held, 1 - _STRAY)
    return chances


def _probabilities(has_tag: Array, rng: np.random.Generator) -> Array:
    """Return float16 probabilities: low where a tag is not heard, though some just miss it."""
    drawn = rng.random(has_tag.shape, np.float32)
    heard = THRESHOLD + (1 - THRESHOLD) * drawn
    return np.where(has_tag, heard, 0.99 * THRESHOLD * drawn**8).astype(np.float16)


class Data:
    """A library in a work folder: its arrays, questions and their true answers.

    Attributes:
        folder: Where all of it is, and the engines keep their indexes.
        has_vectors: Whether the vectors are kept as one array; else they are made again.
        k: How many windows a question asks for.
    """

    def __init__(
        self, work: Path, num_windows: int, num_queries: int, *, has_vectors: bool, k: int
    ) -> None:
        self.folder = work / f"{num_windows}"
        self.num_windows = num_windows
        self.num_queries = num_queries
        self.has_vectors = has_vectors
        self.k = k

    def prepare(self) -> None:
        """Make what is not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._columns_path.exists():
            self._write_columns()
        if not self._truth_path.exists():
            self._write_truth()

    @property
    def _columns_path(self) -> Path:
        return self.folder / "probabilities.npy"

    @property
    def _truth_path(self) -> Path:
        depth = "" if self.k == K else f"-{self.k}"
        return self.folder / f"truth-{self.num_queries}{depth}.npz"

    @property
    def vectors(self) -> Array:
        """(windows, 768) float32, memory-mapped."""
        return np.load(self.folder / "vectors.npy", mmap_mode="r")

    @property
    def probabilities(self) -> Array:
        """(tags, windows) float16."""
        return np.load(self._columns_path)

    def questions(self) -> tuple[Array, Array, Array]:
        """Return (filters, queries, 768) vectors, their true rows, -1 where none is left, and how
        many windows match each filter.
        """
        with np.load(self._truth_path) as file:
            return file["questions"], file["rows"], file["num_matching"]

    def blocks(self) -> Iterator[tuple[int, Array, Array]]:
        """Yield first row, vectors and probabilities, made again if they are not kept."""
        if not self.has_vectors:
            yield from Library(self.num_windows).blocks()
            return
        vectors, probabilities = self.vectors, self.probabilities
        for first in range(0, self.num_windows, BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            yield first, np.array(vectors[block]), probabilities[:, block]

    def _write_columns(self) -> None:
        shape = (self.num_windows, DIMENSION)
        vectors = None
        if self.has_vectors:
            vectors = np.lib.format.open_memmap(
                self.folder / "vectors.npy", "w+", np.float32, shape
            )
        columns = np.empty((len(TAGS), self.num_windows), np.float16)
        library = Library(self.num_windows)
        for first, block, probabilities in library.blocks(with_vectors=self.has_vectors):
            columns[:, first : first + len(block)] = probabilities
            if vectors is not None:
                vectors[first : first + len(block)] = block
        np.save(self._columns_path, columns)  # last: where it is, the vectors are complete

    def _write_truth(self) -> None:
        questions = Library(self.num_windows).questions(self.num_queries)
        shape = (len(FILTERS), self.num_queries, self.k)
        scores, rows = np.full(shape, -np.inf, np.float32), np.full(shape, -1)
        num_matching = np.zeros(len(FILTERS), int)
        for first, vectors, probabilities in self.blocks():
            wide = probabilities.astype(np.float32)
            for number, condition in enumerate(FILTERS):
                at = np.flatnonzero(condition.mask(wide))
                num_matching[number] += len(at)
                near = questions[number] @ vectors[at].T
                best = _best(scores[number], rows[number], near, first + at)
                scores[number], rows[number] = best
        np.savez(self._truth_path, questions=questions, rows=rows, num_matching=num_matching)


def _best(scores: Array, rows: Array, near: Array, at: Array) -> tuple[Array, Array]:
    """Merge the best so far with the products of more rows."""
    k = scores.shape[1]
    both = np.concatenate([scores, near], 1)
    names = np.concatenate([rows, np.broadcast_to(at, near.shape)], 1)
    top = np.argpartition(-both, k - 1, axis=1)[:, :k]
    return np.take_along_axis(both, top, 1), np.take_along_axis(names, top, 1)


def recall(found: Sequence[Array], true: Array) -> float:
    """Return the share of the true rows that were found, -1 among these not counted."""
    wanted = [set(row[row >= 0].tolist()) for row in true[: len(found)]]
    hits = sum(len(set(rows.tolist()) & one) for rows, one in zip(found, wanted, strict=True))
    return hits / max(1, sum(map(len, wanted)))
