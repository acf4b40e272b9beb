"""What sketches of segments have in common: components, and what asks by these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32
from indexer.store.schema import EMBEDDING_DIM
from search.nearest.bytes import Bytes

#: Of a question, bytes reach from -127 to 127 around this.
MIDDLE, _REACH = 128, 127
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
        whole = np.rint(scaled)
        rest = np.rint((scaled - whole) * FINER_STEPS)
        codes, finer = ((part + MIDDLE).astype(np.uint8) for part in (whole, rest))
        given = np.split(vectors, [EMBEDDING_DIM], axis=1)
        each = zip(range(len(given)), self.parts, map(_square, given), strict=True)
        asked = [
            Asked(number, part, np.sqrt(squares), _square(components[:, part]))
            for number, part, squares in each
            if squares.any()  # scenes alone do not ask by roots
        ]
        return Prepared(components, codes, finer, steps, steps * whole.sum(1), asked)

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
    """

    number: int
    part: slice
    weights: Float32
    squares: Float32

    def away(self, products: Float32, squares: Float32) -> Float32:
        """Return (q, n) float32 the squared length of q - wc, by (q, n) products and (n,) c·c."""
        away = self.weights * (self.weights * squares - 2 * products)
        away += self.squares
        return np.maximum(away, 0, out=away)


class Prepared(NamedTuple):
    """What asks sketches of a basis.

    Attributes:
        components: (q, d) float32.
        codes: (q, d) uint8: the same in steps of `steps`, around 128.
        finer: (q, d) uint8: what is left of them, in steps 254 times as fine, around 128.
        steps: (q,) float32.
        sums: (q,) float32 what the components add up to, as their codes say.
        asked: By which parts is asked, one or both.
    """

    components: Float32
    codes: Bytes
    finer: Bytes
    steps: Float32
    sums: Float32
    asked: Sequence[Asked]

    def split(self, number: int) -> Iterator[Prepared]:
        """Yield so many of the vectors at a time."""
        for first in range(0, len(self.codes), number):
            some = slice(first, first + number)
            asked = [
                one._replace(weights=one.weights[some], squares=one.squares[some])
                for one in self.asked
            ]
            steps, sums = self.steps[some], self.sums[some]
            codes, finer = self.codes[some], self.finer[some]
            yield Prepared(self.components[some], codes, finer, steps, sums, asked)


def _square(vectors: Float32) -> Float32:
    """Return (q, 1) squared lengths; 0 of what is damaged."""
    squares = np.einsum("qd,qd->q", vectors, vectors)[:, None]
    return np.where(np.isfinite(squares), squares, 0)
