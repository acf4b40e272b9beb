"""Placing windows among landmarks: each lies between those that it is most like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers

#: Landmarks that a window is placed between: of 3, 5 and 10 these keep the most neighbours.
NUM_NEAREST = 3
#: The farthest of them weighs e to the power of minus this, beside 1 of the nearest.
_DECAY = 4.0
#: What two landmarks may differ by and still be as near, as 1 minus the cosine.
_AS_NEAR = 1e-6


class Placed(NamedTuple):
    """Windows on a map.

    Attributes:
        xy: (n, 2) float32 from 0 to 1.
        nearest: (n,) which landmark each is most like.
        cosine: (n,) float32 cosine similarity to it.
    """

    xy: Float32
    nearest: Integers
    cosine: Float32


def place(vectors: Float32, landmarks: Float32, places: Float32, own: Integers) -> Placed:
    """Put windows between the landmarks that they are most like.

    The weight of a landmark falls from 1 for the nearest to nearly nothing for the farthest of
    `NUM_NEAREST`, with its distance. A window that is a landmark is where the landmark is, and its
    nearest is another one.

    Args:
        vectors: (n, 768) float32 of length 1.
        landmarks: (m, 768) float32 of length 1.
        places: (m, 2) float32 where these are.
        own: (n,) which landmark each window is; -1 for none.
    """
    cosines = vectors @ landmarks.T
    is_own = np.flatnonzero(own >= 0)
    cosines[is_own, own[is_own]] = -np.inf
    number = min(NUM_NEAREST, len(landmarks) - 1)
    some = np.argpartition(-cosines, number - 1, axis=1)[:, :number]
    near = np.take_along_axis(cosines, some, axis=1)
    order = np.argsort(-near, axis=1, kind="stable")
    some, near = np.take_along_axis(some, order, axis=1), np.take_along_axis(near, order, axis=1)
    behind = near[:, :1] - near  # half of how much the squared distance grows
    weights = np.exp(-_DECAY * behind / np.maximum(behind[:, -1:], _AS_NEAR))
    weights /= weights.sum(axis=1, keepdims=True)
    xy = np.einsum("nk,nkd->nd", weights, places[some])
    xy[is_own] = places[own[is_own]]
    return Placed(np.asarray(xy, np.float32), some[:, 0], near[:, 0])
