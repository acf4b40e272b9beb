"""How near the rows of a list may be, by its centre and how far they are from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32
from search.nearest.basis import MOST_PRODUCTS, Asked, Prepared
from search.nearest.bytes import Bytes, multiply_bytes

#: How many times w e² rows may be nearer, as a sphere is curved: see `Ranking.rank`. With 1, 2, 4
#: and 8 about as many rows of a million were looked at, with none half as many again.
_CURVATURE = 2
#: Codes of centres reach from minus this to this.
_MOST = 127


class Ranking(NamedTuple):
    """The lists of a sketch, to be put in order.

    Attributes:
        scenes: Their centres, by the components of scenes.
        roots: And by those of roots.
    """

    scenes: _Centres
    roots: _Centres

    @classmethod
    def of(cls, centres: Float32, spreads: Float32, parts: Sequence[slice]) -> Ranking:
        """Prepare lists for it.

        Args:
            centres: (num_lists, d) float32 components.
            spreads: (2, num_lists) float32 how far rows usually are from them, see `Sketch`.
            parts: Which components are of scenes, and which of roots.
        """
        pairs = zip(parts, spreads, strict=True)
        return cls(*(_Centres.of(centres[:, part], spread) for part, spread in pairs))

    def rank(self, prepared: Prepared, reach: float) -> Float32:
        """Return (num_lists,) float32 how near the nearest rows of each list may be.

        What asks, q, has with a row that is e away from its centre c the product q·c + (q - wc)·e +
        wc·e, w being the weight of scenes or roots. The first is known. Of the second the most is
        the length of q - wc times that of e: what lies around the question itself is hardly nearer
        than its centre. The third would be nothing, if what is of length 1 lay on a plane; as it
        lies on a sphere, it is of the order of w times the square of the length of e.

        Args:
            prepared: What asks.
            reach: Which share of that, with e as long as is usual in the list, rows are taken to be
                nearer than their centre.
        """
        num_lists = len(self.scenes.codes)
        some = prepared.split(max(1, MOST_PRODUCTS // max(1, num_lists)))
        return reduce(np.maximum, (self._rank(one, np.float32(reach)) for one in some))

    def _rank(self, prepared: Prepared, reach: np.float32) -> Float32:
        """Do so for some of the vectors."""
        products, around = np.zeros((len(prepared.steps), len(self.scenes.codes)), np.float32), []
        for asked in prepared.asked:
            centres = self[asked.number]
            near = centres.multiply(prepared, asked)
            products += near
            away = asked.away(near, centres.squares)
            around.append(Around(asked.weights, away, centres.spreads))
        return bound_products(products, around, reach)


class Around(NamedTuple):
    """What is around some centres, by scenes or by roots.

    Attributes:
        weights: (q, 1) float32 of what asks.
        away: (q, n) float32 squared lengths of q - wc, see `Ranking.rank`.
        spreads: (n,) float32 mean squared distances of the rows from their centre.
    """

    weights: Float32
    away: Float32
    spreads: Float32


def bound_products(products: Float32, around: Sequence[Around], reach: np.float32) -> Float32:
    """Return (n,) float32 how near the nearest rows around some centres may be: `Ranking.rank`.

    Args:
        products: (q, n) of what asks with the centres.
        around: By each part that is asked by.
        reach: See `Ranking.rank`.
    """
    further, curved = np.zeros((2, *products.shape), np.float32)
    for weights, away, spreads in around:
        further += away * spreads
        curved += weights * spreads
    further = np.sqrt(further) + _CURVATURE * curved
    return np.asarray((products + reach * further).max(0))


class _Centres(NamedTuple):
    """Centres of lists, by the components of scenes or of roots alone.

    They are in bytes: what says which lists are near need not be exact, and of 10^7 rows float32
    took a tenth of the time of a question.

    Attributes:
        codes: (num_lists, c) int8 how far each is from the middle, in steps.
        step: Of the codes.
        middle: (c,) float32 the mean of all.
        squares: (num_lists,) float32 squared lengths.
        spreads: (num_lists,) float32 mean squared distances of the rows of each from it.
    """

    codes: Bytes
    step: np.float32
    middle: Float32
    squares: Float32
    spreads: Float32

    @classmethod
    def of(cls, centres: Float32, spreads: Float32) -> _Centres:
        """Encode (num_lists, c) centres."""
        middle = centres.sum(0) / max(1, len(centres))
        away = centres - middle
        step = np.float32(np.abs(away).max(initial=0) / _MOST) or np.float32(1)
        codes = np.rint(away / step).astype(np.int8)
        squares = np.einsum("ld,ld->l", centres, centres)
        return cls(codes, step, middle, squares, np.square(spreads))

    def multiply(self, prepared: Prepared, asked: Asked) -> Float32:
        """Return (q, num_lists) float32 products of what asks with the centres, about."""
        near = multiply_bytes(asked.codes, self.codes)
        near *= (prepared.steps * self.step)[:, None]
        near += (prepared.components[:, asked.part] @ self.middle)[:, None]
        return near
