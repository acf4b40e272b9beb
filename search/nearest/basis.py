"""What sketches of segments have in common: components, and what asks by these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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
        components = self.project(vectors)
        components[~np.isfinite(components)] = 0  # of what is damaged
        steps = np.abs(components).max(1) / _REACH
        steps[~(steps > 0)] = 1
        scaled = components / steps[:, None]
        whole = np.rint(scaled)
        rest = np.rint((scaled - whole) * FINER_STEPS)
        codes, finer = ((part + MIDDLE).astype(np.uint8) for part in (whole, rest))
        squares = [
            np.einsum("qd,qd->q", part, part) for part in np.split(vectors, [EMBEDDING_DIM], axis=1)
        ]
        lengths = np.sqrt(np.stack(squares, axis=1))
        lengths[~np.isfinite(lengths)] = 0
        return Prepared(components, codes, finer, steps, steps * whole.sum(1), lengths)

    def project(self, vectors: Float32) -> Float32:
        """Return (q, s + t) float32 components of (q, 768) or (q, 1295) vectors."""
        found = np.zeros((len(vectors), self.width), np.float32)
        found[:, : len(self.scenes)] = vectors[:, :EMBEDDING_DIM] @ self.scenes.T
        if vectors.shape[1] > EMBEDDING_DIM:
            found[:, len(self.scenes) :] = vectors[:, EMBEDDING_DIM:] @ self.roots.T
        return found


class Prepared(NamedTuple):
    """What asks sketches of a basis.

    Attributes:
        components: (q, d) float32.
        codes: (q, d) uint8: the same in steps of `steps`, around 128.
        finer: (q, d) uint8: what is left of them, in steps 254 times as fine, around 128.
        steps: (q,) float32.
        sums: (q,) float32 what the components add up to, as their codes say.
        lengths: (q, 2) float32 of scenes and of roots, which are the weights of the two: of stored
            rows, both are of length 1.
    """

    components: Float32
    codes: Bytes
    finer: Bytes
    steps: Float32
    sums: Float32
    lengths: Float32

    def split(self, number: int) -> Iterator[Prepared]:
        """Yield so many of the vectors at a time."""
        for first in range(0, len(self.codes), number):
            some: Any = slice(first, first + number)
            yield Prepared(*(column[some] for column in self))
