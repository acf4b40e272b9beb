"""Windows made of real ones, as many as are wanted: each a mixture of neighbours.

Within a cluster of random vectors nothing is nearer than anything else, however many there are.
Real windows lie otherwise: of 497 (ESC-10 and the samples, network demo) the dimension is 14 by the
two nearest neighbours (Facco et al. 2017, doi:10.1038/s41598-017-11873-y), and 8 by ten. Mixtures
of 24 neighbours, each share as likely as any other, have 13 and 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from search_data import BLOCK_ROWS, FILTERS, TAGS, THRESHOLD, Filter

from indexer.store.reader import Store
from indexer.tags import TagVocabulary

#: How many neighbours a window is made of, itself among them.
_NUM_MIXED = 24
#: Share of a tag's windows that lie anywhere, and not where its others do.
_STRAY = 0.1
#: Windows by which it is told where tags begin, and among which questions are that match.
_SAMPLED = 200_000
_SEED = 20_260_103
#: Blocks of windows that are in no library.
_HELD_OUT = 1_000_000

Array = np.ndarray[Any, Any]


class Mixtures:
    """Mixtures of the windows of a store.

    Each tag of `TAGS` is heard at one end of a direction of its own, in as many windows as there:
    so windows that are alike have it together. All other tags are mixed as the scenes are.
    """

    def __init__(self, rows: Path) -> None:
        snapshot = Store.open(rows).snapshot()
        every = np.arange(len(snapshot))
        scenes = snapshot.scene(every)
        self._scenes = scenes / np.linalg.norm(scenes, axis=1, keepdims=True)
        self._tags = snapshot.tags(every).astype(np.float32)
        self._near = np.argsort(-(self._scenes @ self._scenes.T), axis=1)[:, :_NUM_MIXED]
        self._columns = [TagVocabulary.audioset().resolve(name).index or 0 for name in TAGS]
        rng = np.random.default_rng([_SEED, 0])
        self._directions = rng.standard_normal((scenes.shape[1], len(TAGS)), np.float32)
        self._shares = np.array(list(TAGS.values()))
        self._begins = np.full(len(TAGS), np.inf)
        ends = self._vectors(_SAMPLED, rng)[0] @ self._directions
        # What is rarer than a thousandth is drawn among the thousandth at its end.
        common = np.maximum(self._shares * (1 - _STRAY), 1e-3)
        self._begins = np.array(
            [np.quantile(one, 1 - share) for one, share in zip(ends.T, common, strict=True)]
        )
        self._chances = self._shares * (1 - _STRAY) / common

    def blocks(self, num_windows: int, first_block: int = 0) -> Iterator[tuple[int, Array, Array]]:
        """Yield first row, (n, 768) float32 vectors and (n, 527) float16 probabilities."""
        for number, first in enumerate(range(0, num_windows, BLOCK_ROWS), first_block):
            rng = np.random.default_rng([_SEED, 1, number])
            vectors, tags = self._vectors(min(BLOCK_ROWS, num_windows - first), rng)
            tags[:, self._columns] = self._probabilities(vectors, rng)
            yield first, vectors, tags.astype(np.float16)

    def questions(self, num_queries: int) -> dict[Filter, tuple[Array, Array]]:
        """Return for each filter windows of no library: every second one matches, if any.

        Of each filter (n, 768) vectors and (n, 527) float16 probabilities.

        Where fewer match than are wanted, these are asked with again.
        """
        vectors, tags = [], []
        for _, some, heard in self.blocks(_SAMPLED, first_block=_HELD_OUT):
            vectors.append(some)
            tags.append(heard)
        pool, heard = np.concatenate(vectors), np.concatenate(tags)
        columns = heard[:, self._columns].T
        asked = {}
        for condition in FILTERS:
            matching = np.flatnonzero(condition.mask(columns))
            chosen = np.arange(num_queries)
            if len(matching):
                chosen[::2] = np.resize(matching, len(chosen[::2]))
            asked[condition] = pool[chosen], heard[chosen]
        return asked

    def _vectors(self, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return (n, 768) float32 of length 1, and (n, 527) float32 probabilities."""
        middles = rng.integers(len(self._scenes), size=number)
        shares = rng.dirichlet(np.ones(_NUM_MIXED), number).astype(np.float32)
        vectors = np.empty((number, self._scenes.shape[1]), np.float32)
        tags = np.empty((number, self._tags.shape[1]), np.float32)
        for middle in np.unique(middles):
            at, near = np.flatnonzero(middles == middle), self._near[middle]
            vectors[at], tags[at] = shares[at] @ self._scenes[near], shares[at] @ self._tags[near]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), tags

    def _probabilities(self, vectors: Array, rng: np.random.Generator) -> Array:
        """Return (n, tags): low where a tag is not heard, though some just miss it."""
        size = len(vectors), len(self._shares)
        drawn = rng.random(size, np.float32)
        is_there = (vectors @ self._directions >= self._begins) & (rng.random(size) < self._chances)
        is_there |= rng.random(size) < self._shares * _STRAY
        heard = THRESHOLD + (1 - THRESHOLD) * drawn
        return np.where(is_there, heard, 0.99 * THRESHOLD * drawn**8)
