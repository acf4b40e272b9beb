"""Hits that are nearly the same sound: the best stands for them, and says for how many."""

from __future__ import annotations

import numpy as np

from indexer.arrays import Float32, Integers
from search.asking.sound_index import SoundIndex
from search.nearest.enough import Near

#: Vectors that are compared at a time: 13 MB.
_BLOCK_ROWS = 4096
#: How far the product of two equal float32 vectors of length 1 may be from 1.
_ROUNDING = 1e-6


def collapse(index: SoundIndex, near: Near, least: float, most: int) -> Near:
    """Return the hits that are like no better one, each with how many it stands for.

    They are chosen from the best to the worst: a hit is collapsed into the first that was chosen
    whose scene embedding has at least that cosine similarity to its own. It counts if it comes
    before the last one that is returned, so that what is returned of the best hits is the same,
    whatever comes after them.

    Args:
        index: What the rows belong to.
        near: The hits of some questions, question by question; those of each in order, the best
            first.
        least: From which cosine similarity on they are taken for copies.
        most: How many are chosen for each question, at most.
    """
    chosen, stands_for = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for at in np.split(np.arange(len(near.rows)), np.flatnonzero(np.diff(near.asked)) + 1):
        first_of_each = _first_alike(index, near.rows[at], least, most)
        originals, counts = np.unique(first_of_each, return_counts=True)
        chosen.append(at[originals])
        stands_for.append(counts)
    return near.take(np.concatenate(chosen))._replace(stands_for=np.concatenate(stands_for))


def _first_alike(index: SoundIndex, rows: Integers, least: float, most: int) -> Integers:
    """Return (m,) which hit stands for each of the first m: up to the last that is chosen."""
    stands = np.full(len(rows), -1)
    chosen: list[int] = []
    for first in range(0, len(rows), _BLOCK_ROWS):
        scenes, block = index.scenes(rows[first : first + _BLOCK_ROWS]), stands[first:]
        block = block[: len(scenes)]  # a view: what is written there is seen
        for one, scene in zip(chosen, index.scenes(rows[chosen]), strict=True):
            _claim(block, scenes, scene, one, least)
        while len(free := np.flatnonzero(block < 0)):
            chosen.append(first + int(free[0]))
            block[free[0]] = chosen[-1]
            if len(chosen) == most:
                return stands[: chosen[-1] + 1]
            _claim(block, scenes, scenes[free[0]], chosen[-1], least)
    return stands


def _claim(block: Integers, scenes: Float32, scene: Float32, one: int, least: float) -> None:
    """Let a hit stand for those that are like it and that none stands for yet."""
    # Not `@`, which sums as the shape suits it: equal vectors must have equal products.
    products = np.einsum("ij,j->i", scenes, scene)
    block[(block < 0) & (products >= least - _ROUNDING)] = one
