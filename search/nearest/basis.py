"""What sketches of segments have in common: components, and what asks by these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32
from indexer.store.schema import EMBEDDING_DIM
from search.nearest.bytes import Bytes

#: Of a question, bytes reach from minus this to this.
_REACH = 127
#: Steps of its finer bytes in one of the others.
FINER_STEPS = 2 * _REACH
#: Products that are held at a time, of all vectors that ask together: 4 MB.
MOST_PRODUCTS = 1 << 20


class Basis(NamedTuple):
    """Principal components of scenes, and of the roots of what is heard, each on its own.

    Attributes:
        scenes: (s, 768) float32, of length 1 and at right angles.
        roots: (t, 527) float32, likewise.
    """

    scenes: Float32
    roots: Float32

    @property
    def width(self) -> int:
        """How many components there are."""
        return len(self.scenes) + len(self.roots)

    @property
    def parts(self) -> tuple[slice, slice]:
        """Which of the components are of scenes, and which of roots."""
        return slice(len(self.scenes)), slice(len(self.scenes), None)

    def prepare(self, vectors: Float32) -> Prepared:
        """Prepare (q, 768) or (q, 1295) vectors to ask sketches of this basis."""
        # Each alone, as rounding would have it otherwise: it is the same whatever else is asked.
        each_alone = [self.project(one[None]) for one in vectors]
        components = np.concatenate([np.empty((0, self.width), np.float32), *each_alone])
        components[~np.isfinite(components)] = 0  # of what is damaged
        steps = np.abs(components).max(1) / _REACH
        steps[~(steps > 0)] = 1
        scaled = components / steps[:, None]
        codes = np.rint(scaled)
        finer = np.rint((scaled - codes) * FINER_STEPS)
        given = np.split(vectors, [EMBEDDING_DIM], axis=1)
        each = zip(range(len(given)), self.parts, map(_square, given), strict=True)
        asked = [
            Asked(
                number,
                part,
                np.sqrt(squares),
                _square(components[:, part]),
                codes[:, part].astype(np.int8, "C"),
                finer[:, part].astype(np.int8, "C"),
            )
            for number, part, squares in each
            if squares.any()  # scenes alone do not ask by roots
        ]
        sums = steps * codes.sum(1)
        return Prepared(components, steps, sums, sums + steps * finer.sum(1) / FINER_STEPS, asked)

    def project(self, vectors: Float32) -> Float32:
        """Return (q, s + t) float32 components of (q, 768) or (q, 1295) vectors."""
        found = np.zeros((len(vectors), self.width), np.float32)
        found[:, : len(self.scenes)] = vectors[:, :EMBEDDING_DIM] @ self.scenes.T
        if vectors.shape[1] > EMBEDDING_DIM:
            found[:, len(self.scenes) :] = vectors[:, EMBEDDING_DIM:] @ self.roots.T
        return found


class Asked(NamedTuple):
    """How is asked by scenes, or by roots.

    Attributes:
        number: 0 for scenes, 1 for roots.
        part: Which components.
        weights: (q, 1) float32 the length of what asks; of stored rows it is 1.
        squares: (q, 1) float32 the squared length of these components.
        codes: (q, c) int8 these components in steps of `Prepared.steps`.
        finer: (q, c) int8 what is left of them, in steps 254 times as fine.
    """

    number: int
    part: slice
    weights: Float32
    squares: Float32
    codes: Bytes
    finer: Bytes

    def take(self, some: slice) -> Asked:
        """Return some of the vectors."""
        weights, squares = self.weights[some], self.squares[some]
        codes, finer = self.codes[some], self.finer[some]
        return Asked(self.number, self.part, weights, squares, codes, finer)

    def away(self, products: Float32, squares: Float32) -> Float32:
        """Return (q, n) float32 the squared length of q - wc, by (q, n) products and (n,) c·c."""
        away = self.weights * (self.weights * squares - 2 * products)
        away += self.squares
        return np.maximum(away, 0, out=away)


class Prepared(NamedTuple):
    """What asks sketches of a basis.

    Attributes:
        components: (q, d) float32.
        steps: (q,) float32 of their codes.
        sums: (q,) float32 what the components add up to, as their codes say.
        finer_sums: (q,) float32 the same, as their codes and finer ones say.
        asked: By which parts is asked, one or both.
    """

    components: Float32
    steps: Float32
    sums: Float32
    finer_sums: Float32
    asked: Sequence[Asked]

    def split(self, number: int) -> Iterator[Prepared]:
        """Yield so many of the vectors at a time."""
        for first in range(0, len(self.steps), number):
            some = slice(first, first + number)
            components, steps = self.components[some], self.steps[some]
            sums, finer_sums = self.sums[some], self.finer_sums[some]
            asked = [one.take(some) for one in self.asked]
            yield Prepared(components, steps, sums, finer_sums, asked)


def _square(vectors: Float32) -> Float32:
    """Return (q, 1) squared lengths; 0 of what is damaged."""
    squares = np.einsum("qd,qd->q", vectors, vectors)[:, None]
    return np.where(np.isfinite(squares), squares, 0)
